"""Composing a cell runs nobody's code, whoever wrote the options or the record; building it runs trusted code alone.

Every hostile file below would leave the file ``ran`` if a line of it were run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module

from benchmark.errors import ConfigError, GauntletError
from runners.cli.explain import command as explained
from runners.cli.problems import sentence
from runners.config.build import build
from runners.config.compose import ComposedCell, cell_of, register
from runners.config.gate import check_search_path, trusted_prefixes
from runners.config.yaml_limits import expanded
from tests.runners.conftest import FAKE_CELL, ROOT, Command, composed, main, records
from tests.runners.synthetic import keyed, store

Inside = Callable[..., subprocess.CompletedProcess[str]]
SMALL = ("dataset=digits", "threat=leakage_control_mean", "defense=none", "setting.rounds=1")


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A folder of options beside a package ``evil_package`` that leaves ``ran`` when it is imported."""
    package = tmp_path / "evil_package"
    package.mkdir()
    code = f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
    code += "class Evil:\n    def __init__(self, **_): ...\n"
    (package / "__init__.py").write_text(code)
    (package / "conf").mkdir()
    (tmp_path / "conf").mkdir()
    return tmp_path


def option(evil: Path, path: str, text: str) -> None:
    place = evil / "conf" / f"{path}.yaml"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def start(evil: Path, what: str, *arguments: str, search: bool = True) -> subprocess.CompletedProcess[str]:
    place = (f"hydra.searchpath=[file://{evil}/conf]",) if search else ()
    words = [sys.executable, "-m", *what.split(), *arguments, *place]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{evil}", "EVIL_SECRET": "hunter2"}
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=environment)


@pytest.fixture
def inside(evil: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Inside:
    """Return ``inside("plan", "sweep=demo")``, which does in this process what ``start`` does, without its seconds."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "evil_package"]:
        monkeypatch.delitem(sys.modules, name)  # another test's: whoever imports it now must leave a trace again
    monkeypatch.syspath_prepend(evil)
    monkeypatch.setenv("EVIL_SECRET", "hunter2")
    monkeypatch.chdir(ROOT)

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        code = main(monkeypatch, *words)
        return subprocess.CompletedProcess(words, code, *capfd.readouterr())

    return call


def refused(evil: Path, done: subprocess.CompletedProcess[str], words: str = "") -> None:
    """The command ended with a sentence, and nothing of the stranger ran."""
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stdout + done.stderr
    assert words in done.stderr, done.stderr
    assert not (evil / "ran").exists()
    assert "hunter2" not in done.stdout + done.stderr


CALL = "${oc.create:{_target_:evil_package.Evil}}"
ESCAPED = "\\" + CALL
GLOBAL = "# @package _global_\n"
CALLBACK = "hydra:\n  callbacks:\n    evil:\n      _target_: evil_package.Evil\n"

HOSTILE = {
    "a class of its own": ("threat/evil", "_target_: evil_package.Evil\n", "not allowed"),
    "a class made by an interpolation": ("threat/evil", f"_target_: benchmark.x.Y\nx: {CALL}\n", "not allowed"),
    "a second resolution": (
        "threat/evil",
        f"defaults: [leakage_control_mean]\nfamily: '{ESCAPED}'\n",
        "interpolation after all were resolved",
    ),
    "a call of a library": (
        "threat/evil",
        "_target_: torchvision.datasets.utils.download_url\nurl: x\nroot: /\n",
        "not allowed",
    ),
    "a callback": ("threat/evil", GLOBAL + CALLBACK, "sets 'hydra'"),
    "a callback by a package": (
        "threat/evil",
        "# @package hydra.callbacks\nevil:\n  _target_: evil_package.Evil\n",
        "sets 'hydra'",
    ),
    "a callback of a group": (
        "threat/evil",
        "defaults:\n  - /hydra/evil@_global_.hydra.callbacks: evil\n_target_: x\n",
        "sets 'hydra'",
    ),
    "a component as a callback": (
        "threat/evil",
        "defaults:\n  - /threat@_global_.hydra.callbacks.x: leakage_dlg\n_target_: x\n",
        "sets 'hydra'",
    ),
    "no class": ("threat/evil", "x: 1\n", "lacks `_target_`"),
    "trust in itself": (
        "threat/evil",
        GLOBAL + "trusted: [evil_package.]\nthreat: {_target_: evil_package.Evil}\n",
        "sets 'trusted'",
    ),
    "a store": ("threat/evil", GLOBAL + "store: /elsewhere\n", "sets 'store'"),
    "the environment": (
        "threat/evil",
        "defaults: [leakage_control_mean]\nx: ${oc.env:EVIL_SECRET}\n",
        "environment variable EVIL_SECRET",
    ),
    "the environment, decoded": (
        "threat/evil",
        "defaults: [leakage_control_mean]\nx: ${oc.decode:${oc.env:EVIL_SECRET}}\n",
        "environment variable EVIL_SECRET",
    ),
    "a file elsewhere": ("threat/evil", "defaults: [../../elsewhere/x]\n", "is no name"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("what", ["runners.run", "runners.cli.main plan"])
def test_an_option_of_a_search_path_runs_nothing(evil: Path, name: str, what: str) -> None:
    path, text, words = HOSTILE[name]
    option(evil, path, text)
    option(evil, "hydra/evil/evil", "evil:\n  _target_: evil_package.Evil\n")
    option(evil, "sweep/one", "description: one cell\nblocks:\n  - {threat: evil}\n")
    cell = "threat=evil" if what == "runners.run" else "sweep=one"
    done = start(evil, what, cell, f"store={evil / 'store'}")
    refused(evil, done, words)


@pytest.mark.slow
@pytest.mark.parametrize(
    "block",
    [
        "{threat: evil, trusted: [[evil_package.]]}",
        "{threat: leakage_control_mean, +hydra.callbacks.evil._target_: evil_package.Evil}",
        "{threat: leakage_control_mean, store: /elsewhere}",
        "{threat: leakage_control_mean, hydra/launcher: joblib}",
    ],
)
def test_a_sweep_of_a_search_path_sets_nothing_but_cells(evil: Path, block: str) -> None:
    option(evil, "threat/evil", "_target_: evil_package.Evil\n")
    option(evil, "sweep/evil", f"description: x\nblocks:\n  - {block}\n")
    for what in ("plan", "sweep"):
        refused(
            evil,
            start(evil, f"runners.cli.main {what}", "sweep=evil", f"store={evil / 'store'}"),
            "A block of the sweep",
        )


def from_search_path(evil: Path, *overrides: str) -> ComposedCell:
    register()
    with initialize_config_module("conf", version_base="1.3"):
        lines = [*overrides, f"hydra.searchpath=[file://{evil}/conf]"]
        config = compose("config", lines, return_hydra_config=True)
    return cell_of(config, config.hydra.runtime.choices)


def doubled(first: str, line: str) -> str:
    """Text of an option of forty entries, each of which stands for twice the one before it."""
    return "\n".join(["defaults: [leakage_control_mean]", first, *(line.format(i, i - 1) for i in range(1, 40))])


BOMBS = {
    "aliases": (doubled("l0: &a0 [x, x]", "l{0}: &a{0} [*a{1}, *a{1}]"), "once its aliases are written out"),
    "merged aliases": (doubled("l0: &a0 {x: 1}", "l{0}: &a{0} {{x: *a{1}, y: *a{1}}}"), "aliases are written out"),
    "a circle": ("a: &a [*a]", "stands inside of what it names"),
    "interpolations": (doubled("l0: lol", "l{0}: ${{.l{1}}}${{.l{1}}}"), "more than 1000 interpolations"),
    "interpolated mappings": (
        doubled("l0: 1", "l{0}: {{a: '${{threat.l{1}}}', b: '${{threat.l{1}}}'}}"),
        "more than 1000 interpolations",
    ),
    "depth": (f"a: {'[' * 400}{']' * 400}", "levels deep"),
    "size": (f"a: {'x' * 1_000_001}", "has 1000004 bytes"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_of_a_search_path_is_refused_at_once(evil: Path, name: str) -> None:
    text, words = BOMBS[name]
    option(evil, "threat/bomb", text)
    with pytest.raises(Exception, match=words):
        from_search_path(evil, "threat=bomb")


def test_aliases_within_reason_are_read(evil: Path) -> None:
    option(evil, "threat/mine", "defaults: [leakage_control_mean]\na: &a [1, 2]\nb: *a\n")
    assert from_search_path(evil, "threat=mine").config["threat"]["b"] == [1, 2]
    assert expanded("a: &a [1, 2]\nb: [*a, *a]") == 1 + 2 + 3 + 1 + 3 + 3


@pytest.mark.parametrize("values", ["range(0,1000000000)", "range(0,1,1e-12)", "shuffle(range(0,1000000000))"])
def test_a_range_without_end_is_refused_at_once(evil: Path, inside: Inside, values: str) -> None:
    done = inside("plan", "sweep=demo", f"seed={values}", f"store={evil / 's'}")
    refused(evil, done, "names more than 1000000 values")


def test_a_block_of_a_sweep_has_not_endlessly_many_cells(command: Command) -> None:
    code, _, error = command("sweep", "sweep=fake", "seed=range(0,2000)", "threat.risk=range(0,1,0.001)")
    assert code == 2 and "has more than 1000000 cells: " in error and "seed (2000)" in error


@pytest.mark.ci
def test_the_code_of_a_search_path_runs_only_when_it_is_trusted(evil: Path, inside: Inside) -> None:
    option(evil, "threat/evil", "_target_: evil_package.Evil\n")
    place = f"hydra.searchpath=[file://{evil}/conf]"
    for trust in ("trusted=evil_package.", "trusted=[evil_package]", "trusted=[evil.]", "trusted=['']", "trusted=null"):
        refused(evil, inside("run", "threat=evil", trust, f"store={evil / 'store'}", place))
    start(evil, "runners.run", "threat=evil", "trusted=[evil_package.]", f"store={evil / 'store'}")
    assert (evil / "ran").exists()


def test_a_package_of_options_is_imported_only_when_it_is_trusted(evil: Path, inside: Inside) -> None:
    place = "hydra.searchpath=[pkg://evil_package.conf]"
    refused(evil, inside("plan", "sweep=demo", place), "trusted=[evil_package.]")
    refused(evil, inside("run", place, "trusted=[evil.]"), "imports the package evil_package")
    with pytest.raises(
        ConfigError, match="no package nobodys is installed here; install it, e.g. pip install -e nobodys"
    ):
        check_search_path(["hydra.searchpath=[pkg://nobodys.conf]", "trusted=[nobodys.]"])
    with pytest.raises(ConfigError, match="does not exist"):
        check_search_path([f"hydra.searchpath=[file://{evil}/typo]"])
    check_search_path([place, "trusted=[evil_package.]"])


@pytest.mark.parametrize("name", ["../../evil/dataset/x", "/etc/x", "..", "a/../b", "a b", "x;y"])
@pytest.mark.parametrize("group", ["dataset", "defense", "sweep"])
def test_an_option_is_no_path(evil: Path, inside: Inside, name: str, group: str) -> None:
    option(evil, "dataset/x", GLOBAL + CALLBACK)
    value = f"[{name}]" if group == "defense" else name
    done = inside("run", f"{group}={value}", f"store={evil / 'store'}")
    assert done.returncode == 2 and "Traceback" not in done.stderr and not (evil / "ran").exists()


# -- a record ---------------------------------------------------------------------------------------------------------
def hostile(**changes: Any) -> dict[str, Any]:
    """A record under its right key whose cell is that of :data:`SMALL` with ``changes`` of its parts."""
    from tests.runners.synthetic import record

    cell: ComposedCell = composed(*SMALL)
    config: dict[str, Any] = {**cell.config}
    for part, change in changes.items():
        config[part] = change if not isinstance(change, Mapping) else {**config[part], **change}
    return keyed(record() | {"config": config, "seed": config["seed"]})


def secret_sizes(value: Any) -> dict[str, Any]:
    return {"dataset": {"sizes": {**composed(*SMALL).config["dataset"]["sizes"], "owner": value}}}


RECORDS = {
    "a second resolution": lambda: hostile(**secret_sizes(ESCAPED)),
    "an interpolation": lambda: hostile(**secret_sizes(CALL)),
    "the environment": lambda: hostile(**secret_sizes("${oc.env:EVIL_SECRET}")),
    "a dataset elsewhere": lambda: hostile(dataset={"name": "../../../evil/dataset/x"}),
    "a scale elsewhere": lambda: hostile(scale={"name": "../../../evil/scale/x"}),
    "a defense elsewhere": lambda: hostile(defense=[{"name": "../x", "provider": "benchmark", "version": 1}]),
    "overrides in a name": lambda: hostile(scale={"name": "smoke,hydra.callbacks.x=1"}),
    "a key that is an override": lambda: hostile(dataset={"x hydra.callbacks.evil._target_": "evil_package.Evil"}),
    "a class": lambda: hostile(threat={"_target_": "evil_package.Evil"}),
    "a nested class": lambda: hostile(threat={"x": {"_target_": "evil_package.Evil"}}),
    "a command in a name": lambda: hostile(threat={"name": "x;touch ran"}),
}


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("what", ["again", "explain"])
def test_a_hostile_record_runs_nothing_when_it_is_played_again(
    evil: Path, inside: Inside, name: str, what: str
) -> None:
    made = RECORDS[name]()
    there = store(evil / "store", [made])
    done = inside(what, made["key"], "--store", str(there))
    refused(evil, done, "cannot be read as a record")


@pytest.mark.parametrize(
    "value", ["a'b", "a\\", "x y", "a,b", "[1]", "{a:1}", "x=1", "$HOME", "`id`", "; id", "${", "10", "é"]
)
def test_a_text_of_a_record_stays_a_text(value: str) -> None:
    """Also past the gate of records: what ``again`` writes is quoted."""
    cell = composed("dataset=npz", "dataset.path=x", "threat=leakage_control_mean")
    config = {**cell.config, "dataset": {**cell.config["dataset"], "path": value}}
    if "${" in value:
        with pytest.raises(GauntletError, match="interpolation"):
            explained(config)
        return
    import shlex

    line, changed = explained(config)
    assert changed == []
    again = composed(*shlex.split(line)[3:])
    assert again.config["dataset"]["path"] == value and again.key == composed(*shlex.split(line)[3:]).key


@pytest.mark.slow
def test_an_honest_record_is_played_again(evil: Path) -> None:
    done = start(evil, "runners.run", *SMALL, f"store={evil / 'store'}", search=False)
    assert done.returncode == 0, done.stderr
    (one,) = records(evil / "store")
    done = start(evil, f"runners.cli.main again {one['key']} --store {evil / 'store'}", search=False)
    assert done.returncode == 0 and "The same cell" in done.stdout, done.stdout + done.stderr


# -- building ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("text", [CALL, "x${", "${oc.env:EVIL_SECRET}"])
def test_nothing_is_resolved_while_a_component_is_built(text: str) -> None:
    node = {"_target_": "tests.runners.fakes.FakeData", "sizes": {"owner": [text]}}
    with pytest.raises(ConfigError, match="interpolation"):
        build(node, "dataset", ("tests.runners.",))
    with pytest.raises(ConfigError, match="interpolation"):
        build({"_target_": "tests.runners.fakes.FakeData", "sizes": {text: 1}}, "dataset", ("tests.runners.",))


@pytest.mark.parametrize("value", ["torch_ext.", ["torch"], [""], ["."], [3], None, ["a b."], {"a.": 1}])
def test_trust_is_a_list_of_packages(value: Any) -> None:
    with pytest.raises(ConfigError, match="trusted must be a list of package names that end in a dot"):
        trusted_prefixes(value)
    assert trusted_prefixes(["my_package.", "other.part."]) == ("my_package.", "other.part.")


# -- the machine room -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("cache=no", "cache must be true or false, got 'no'"), ("cache=off", "cache must be"), ("cache=1", "cache"),
        ("threads=1.9", "threads must be a whole number from 1 up, got 1.9"), ("threads=0", "threads"),
        ("threads=abc", "threads"), ("threads=true", "threads"), ("time_limit=-1", "time_limit must be"),
        ("time_limit=0", "time_limit"), ("time_limit=nan", "time_limit"), ("time_limit=inf", "time_limit"),
        ("time_limit=true", "time_limit"), ("seed=1.5", "seed must be"), ("seed=null", "seed"), ("seed='1'", "seed"),
        ("seed=true", "seed"), ("data.root=5", "data.root must be"), ("store=null", "store must be"),
        ("store=''", "The store is empty"), ("dataset=null", "names no option of dataset"),
        ("defense=null", "names no option of defense"), ("scale=null", "names no option of scale"),
        ("model=5", "names no option of model"), ("setting=true", "names no option of setting"),
        ("threat=null", "names no option of threat"),
    ],
)  # fmt: skip
def test_an_option_of_the_machine_has_its_type(override: str, words: str) -> None:
    with pytest.raises(Exception, match=words):
        composed(*SMALL, override)


@pytest.mark.parametrize("group", ["dataset", "model", "setting", "threat", "defense", "scale"])
@pytest.mark.parametrize("what", ["run", "sweep"])
def test_a_group_without_an_option_is_a_mistake(command: Command, what: str, group: str) -> None:
    chosen = [line for line in FAKE_CELL if not line.startswith(f"{group}=")] if what == "run" else ["sweep=fake"]
    code, _, error = command(what, *chosen, f"{group}=null")
    assert code == 2 and error.startswith(f"{group}=null names no option of {group}") and "Traceback" not in error


@pytest.mark.parametrize(("key", "words"), [("sweep", "names no option of sweep"), ("store", "store must be")])
def test_a_sweep_without_a_name_or_a_store_is_a_mistake(evil: Path, inside: Inside, key: str, words: str) -> None:
    lines = {"sweep": "sweep=demo", "store": f"store={evil / 'store'}"} | {key: f"{key}=null"}
    refused(evil, inside("plan", *lines.values()), words)


def test_the_machine_may_be_told_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GAUNTLET_DATA", str(tmp_path))
    assert composed(*SMALL, "store=${oc.env:GAUNTLET_DATA}").options.store == tmp_path
    assert composed(*SMALL).options.data_root == tmp_path
    monkeypatch.delenv("GAUNTLET_DATA")
    assert composed(*SMALL).options.data_root is None
    with pytest.raises(Exception, match="environment variable GAUNTLET_DATA, which is not set") as caught:
        composed(*SMALL, "store=${oc.env:GAUNTLET_DATA}")
    assert (sentence(caught.value) or "").startswith("store needs")


@pytest.mark.parametrize("jobs", ["0", "-1", "1.5", "many", "true"])
def test_jobs_is_a_whole_number(evil: Path, inside: Inside, jobs: str) -> None:
    done = inside("sweep", "sweep=demo", f"jobs={jobs}", f"store={evil / 'store'}")
    refused(evil, done, "jobs")


def test_keys_are_what_they_were() -> None:
    """Neither gate is part of what a cell is."""
    assert composed(*FAKE_CELL).key == "f6bfd7a7097bb13d2661be3d847241d8d39051ec1207b5e68c94a4231a6da5e5"


# -- what Hydra has no words for --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "line",
    [f"seed={'9' * 5000}", f"threat.iterations={'9' * 5000}", "setting=1.5", "model={a:1}", "++threat._target_=", "+="],
)
def test_a_value_on_which_python_stumbles_is_refused_in_a_sentence(command: Command, line: str) -> None:
    for name in ("run", "plan"):
        code, _, error = command(name, *SMALL, line)
        assert code == 2 and "Traceback" not in error and error.strip()


@pytest.mark.parametrize("flag", ["--resolve", "--experimental-rerun=/nowhere"])
def test_a_flag_that_hydra_cannot_obey_is_a_mistake(command: Command, flag: str) -> None:
    code, _, error = command("run", *SMALL, flag)
    assert code == 2 and "Traceback" not in error and error.strip()
