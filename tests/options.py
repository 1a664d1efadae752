"""Cells of one option each, as Hydra composes them, once a run of the tests: its workers share what they compose."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

from runners.config.compose import ComposedCell, cell_of, options_of, part_of, register
from runners.config.loader import SweepLoader
from runners.store.records import write_atomically


def kept() -> Path:
    """Return the folder of this run's compositions, which its workers share."""
    return Path(tempfile.gettempdir()) / f"gauntlet-compositions-{os.environ['GAUNTLET_TEST_RUN']}"


def forget() -> None:
    shutil.rmtree(kept(), ignore_errors=True)


def need_library(kind: Any) -> None:
    """Skip the test where the class adapts a library that is not installed."""
    library = getattr(kind, "library", None)
    if library and (lacking := library.missing()):
        pytest.skip(f"{kind.__name__} {lacking}")


def cell(*choices: str, scale: str = "smoke") -> ComposedCell:
    """Return the cell of these choices at ``scale``, which is the last word on numbers ``${by_scale:...}``."""
    config = at(scale, choices)
    return cell_of(config, config.hydra.runtime.choices)


def node(group: str, option: str, *choices: str, scale: str = "smoke") -> dict[str, Any]:
    """Return the resolved node of one option."""
    config = at(scale, (f"{group}={option}", *choices))
    chosen = config.hydra.runtime.choices
    found = part_of(config, group, chosen, options_of(config, chosen).data_root).node
    return dict(found[option] if group == "defense" else found)


def at(scale: str, choices: tuple[str, ...]) -> DictConfig:
    """Return the config of these choices, with nothing resolved yet."""
    register()  # the resolvers; another worker may have composed these choices
    config: DictConfig = pickle.loads(composition(choices))
    config.scale.name = scale
    return config


def configured(*overrides: str) -> DictConfig:
    """Return the config that ``overrides`` compose, with Hydra's own node; what several share is composed once."""
    loader, master = begun(*(line for line in overrides if line.startswith("hydra.")))
    return loader.cell(master, tuple(line for line in overrides if not line.startswith("hydra.")))


@cache
def begun(*hydra: str) -> tuple[SweepLoader, DictConfig]:
    """Return a loader of cells and the config that it begins from, with these settings of Hydra."""
    register()
    with initialize_config_module("conf", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        return SweepLoader(loader), loader.load_configuration("config", list(hydra), RunMode.MULTIRUN)


@cache
def composition(choices: tuple[str, ...]) -> bytes:
    """Return the pickled config of these choices."""
    path = kept() / hashlib.sha256("\n".join(choices).encode()).hexdigest()
    if not path.is_file():
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_atomically(path, pickle.dumps(configured(*choices)))
    return path.read_bytes()
