# Everything that a user or CI does. `make help` lists it.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
UV_INSTALL := pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt -e
SWEEP ?= demo
STORE ?= outputs
RARE := slow or accelerator or gpu or crosscheck or notebook or fuzz
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test fuzz lint audit-dependencies types docs notebooks sweep table leaderboard site check smoke speed bench device

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.stamp ## build .venv with everything that demo and test need

# With uv where there is one; else pip fetches uv into the environment, for it is many times faster; else plain pip.
$(VENV)/.stamp: pyproject.toml constraints.txt
	@if command -v uv >/dev/null; then \
		uv venv --quiet --allow-existing --python $(PYTHON) $(VENV) && uv $(UV_INSTALL) '.[dev]'; \
	else \
		$(PYTHON) -m venv $(VENV) && \
		if $(BIN)/pip install --quiet uv; then $(BIN)/uv $(UV_INSTALL) '.[dev]'; \
		else $(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'; fi; \
	fi
	@touch $@

demo: setup ## a sweep of gradient leakage on digits, with its leaderboard
	$(BIN)/python -m runners.sweep sweep=demo store=$(STORE)

test: setup ## the default tests, minutes; TESTS=ci adds what takes some seconds each; `ARGS='-m slow'` for others
	$(BIN)/python -m pytest -n 2 --dist worksteal $(if $(filter ci,$(TESTS)),-m 'not ($(RARE))') $(ARGS)

fuzz: setup ## twenty thousand made-up inputs, about half an hour on one core
	$(BIN)/python -m pytest -m fuzz tests/fuzz $(ARGS)

lint: setup ## style, words and links
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m tests.prose

# Asks a public database for known faults of what constraints.txt pins; needs a network, so CI does not call it.
audit-dependencies: setup ## known faults of the pinned dependencies (needs a network)
	@$(BIN)/python -c 'import pip_audit' 2>/dev/null || $(BIN)/pip install --quiet pip-audit
	$(BIN)/python -m pip_audit --requirement constraints.txt --no-deps --disable-pip

types: setup ## static types
	$(BIN)/mypy

# The tools of the docs are an extra of their own, so that `make setup` stays quick; they are installed at the first call.
docs: setup ## the docs site into build/docs, without a network
	@$(BIN)/python -c 'import material, mkdocstrings_handlers.python' 2>/dev/null \
		|| PATH="$$PATH:$(BIN)" uv $(UV_INSTALL) '.[docs]' 2>/dev/null \
		|| $(BIN)/pip install --quiet -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Begin at build/docs/index.html; the search needs a server: $(BIN)/python -m http.server -d build/docs"

notebooks: setup ## every notebook of examples/notebooks, executed in minutes
	@$(BIN)/python -c 'import ipykernel, nbclient, nbformat' 2>/dev/null \
		|| PATH="$$PATH:$(BIN)" uv $(UV_INSTALL) '.[notebooks]' 2>/dev/null \
		|| $(BIN)/pip install --quiet -c constraints.txt -e '.[notebooks]'
	$(BIN)/python -m pytest -m notebook tests/test_notebooks.py

sweep: setup ## the cells of SWEEP=name into STORE=folder
	$(BIN)/python -m runners.sweep sweep=$(SWEEP) store=$(STORE) $(ARGS)

table: setup ## all records of STORE as table.parquet and table.csv
	$(BIN)/gauntlet table --store $(STORE) --write $(STORE)/table

leaderboard: setup ## the published boards (Markdown and CSV) anew from the published records
	$(BIN)/gauntlet leaderboard --store results

site: setup ## the web site of the published records, in site/
	$(BIN)/gauntlet site --store results --to site

check: setup ## the published records against reported and accepted numbers
	$(BIN)/gauntlet check --store results $(ARGS)

smoke: setup ## play CI's smoke tier anew, in minutes, and hold its numbers against the accepted ones
	rm -rf outputs/check
	$(BIN)/python -m runners.sweep sweep=check store=outputs/check
	$(BIN)/gauntlet check --store outputs/check --scale smoke

# Builds no environment: it is for machines without a network. PYTHON has torch; what else is missing travels as wheels.
DEVICE ?= cpu
MINUTES ?= 8
device: ## tests, bench and cells at full scale on DEVICE=cuda, until MINUTES=8 are over (docs/accelerator.md)
	$(or $(wildcard $(BIN)/python),$(PYTHON)) -m runners.device play --device $(DEVICE) --minutes $(MINUTES) $(ARGS)

# Not in CI, whose busy machines and unknown processors would fail it: see docs/speed.md.
speed: setup ## hot paths against their accepted ratios to the plain form
	$(BIN)/gauntlet bench --check

bench: setup ## speed of each hot path against a plain reference
	$(BIN)/gauntlet bench --store $(STORE) $(ARGS)
