"""No override line, however odd, makes a command do more than refuse it in a sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from hypothesis import strategies as st
from omegaconf import DictConfig

import runners.run
from runners.cli.problems import guarded
from runners.config.compose import ComposedCell, register
from runners.config.loader import SweepLoader
from runners.store.records import Store
from runners.sweep.execute import Played, build_cell, unplayed
from runners.sweep.plan import deferred, make_plan
from tests.fuzz.tiers import Sandbox, both, gauntlet, hold, quietly

OPTIONS = {
    "threat": ["leakage_dlg", "leakage_control_mean", "poison_alie", "evasion_fgsm", "member_lira", "shift_natural"],
    "defense": ["none", "dp_sgd", "krum", "[gradient_noise,gradient_clipping]", "rmt", "argmax_only"],
    "dataset": ["digits", "npz"],
    "model": ["mlp", "lenet"],
    "scale": ["smoke", "full"],
}
KEYS = [
    *("threat.iterations", "threat.adaptive", "threat.restarts", "threat.fraction", "threat.eps", "threat.shadows"),
    *("setting.rounds", "setting.lr", "setting.fraction", "setting.victims", "setting.momentum", "setting.partition"),
    *("dataset.sizes", "dataset.sizes.owner", "dataset.sizes.test", "dataset.path", "dataset.sha256", "model.hidden"),
    *("defense.dp_sgd.delta", "defense.krum.f_assumed", "defense.gradient_noise.std", "defense.dp_sgd.max_norm"),
    "precision",
    *("seed", "device", "threads", "time_limit", "logger", "cache", "data.root", "trusted", "jobs", "scale.name"),
]
STRANGE = [
    *("threat._target_", "threat._args_", "defense.krum._partial_", "threat.x", "x.y", "lists", "sweep", "hydra"),
    *("only.threat", "only.seed", "only.defense.krum.f_assumed", "hydra.mode", "hydra.launcher", "hydra/launcher"),
    *("hydra.run.dir", "hydra.output_subdir", "hydra.callbacks.x._target_", "hydra.searchpath", "hydra.job.name"),
    *("threat@defense", "threat@hydra.job", "hydra/job_logging", "dataset.sizes.", ".threat", "threat..x", "a/b@c.d"),
    *("threat.iterations.x", "setting.measures.x.y", "defense.none", "defense", "é", "a b", "store.x", "hydra.sweeper"),
]
VALUES = [
    *("", "null", "true", "no", "0", "-1", "1", "2.5", "1e400", "-1e400", "nan", "-inf", "1_000", "0x10", "1e-320"),
    *("9" * 30, "9" * 400, "9" * 5000, f"-{'9' * 40}", "00", "1.", "é", "٣", "x" * 5000, "/etc/passwd", "../..", "~"),
    *("'", '"', "'a", "a'b", "\\", "\\,", "[", "]", "[]", "{}", "{a:", "{a:1,a:2}", "[[],{}]", "[" * 200, "(" * 90),
    *("${seed}", "${", "$", "${nowhere}", "${oc.env:HOME}", "${oc.env:HOME,1}", "${by_scale:1,2}", "${by_scale:1,2,3}"),
    *("${threat}", "${threat.iterations}", "${.}", "${..x}", "\\${seed}", "${oc.create:{_target_:os.system}}", "$x"),
    *("${oc.select:a}", "${hydra:runtime.cwd}", "${${seed}}", "${oc.decode:'['}", "${oc.deprecated:seed}", "${a:b:c}"),
    *("range(0,3)", "range(3)", "range(0,1000000000000)", "range(0,1e300,1)", "range(0,1,0)", "range(0,1,0.0)"),
    *("range(0,nan)", "range(0,inf)", "range(0,3,-1)", "range(-1e308,1e308,1e-300)", "shuffle(range(0,999999999999))"),
    *("choice()", "choice(1,2)", "choice(null)", "choice([],{})", "sort(3,1,2)", "interval(0,1)", "glob(*)", "glob([)"),
    *("glob(lea*,exclude=*)", "int(x)", "int(1e400)", "float('nan')", "str([1])", "json_str({a:1})", "extend_list(1)"),
    *(
        "1,2",
        "1,",
        ",",
        "a=b",
        "=",
        "a:b",
        "a;b",
        "`id`",
        "$(id)",
        "#",
        "%s",
        "{0}",
        "\t",
        "\n",
        "a\nb",
        "\x00",
        "\x1b",
    ),
    *("{owner:3}", "{owner:-3}", "{owner:x,test:null}", "{_target_:os.system}", "[-1,2]", "[x,[y]]", "on(uploads)"),
]
FLAGS = [
    *("--help", "-h", "--hydra-help", "--version", "--cfg", "--cfg=job", "-c", "--info", "--info=x", "--resolve"),
    *("--package=x", "--config-name=../x", "--config-name=sweeps", "--config-dir=/nowhere", "--config-path=/nowhere"),
    *("-m", "--multirun", "--run", "--experimental-rerun=/nowhere", "--experimental-rerun=mine", "-x", "--", "-"),
    *("--shell-completion", "-sc", "-sc=x", "--json", "--cfg=all"),
]
WRITES = re.compile(r"hydra.(run|output_subdir|job_logging|hydra_logging|sweep|verbose)|^\W*(store|logger)")
"""Lines by which a user may send Hydra's own files, or the store, anywhere."""

values = st.one_of(st.sampled_from(VALUES), st.text(max_size=12), st.integers().map(str), st.floats().map(repr))
known, strange = st.sampled_from(KEYS), st.one_of(st.sampled_from(STRANGE), st.text(max_size=8))
signs = st.sampled_from(["", "+", "++", "~"])
set_ = st.builds("{}={}".format, known, values)
chosen = st.sampled_from([f"{group}={name}" for group, names in OPTIONS.items() for name in names])
odd = st.one_of(
    st.builds("{}{}={}".format, signs, st.one_of(known, strange), values),
    st.builds("{}={}".format, st.sampled_from([*OPTIONS, "setting", "sweep"]), values),
    st.one_of(st.text(max_size=10), strange, known.map("~{}".format)),
)
usual = st.lists(st.one_of(set_, set_, chosen), min_size=1, max_size=4)
"""Lines of cells whose components are composed once for all examples, so that one costs milliseconds."""
wild = st.lists(st.one_of(odd, odd, set_, chosen), min_size=1, max_size=3)


@pytest.fixture
def planner() -> Iterator[tuple[SweepLoader, DictConfig]]:
    """Return the loader of a sweep without a name, and its master config, which costs a second to compose."""
    register()
    with initialize_config_module("conf", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        yield SweepLoader(loader), loader.load_configuration("config", [], RunMode.MULTIRUN)


@both
def test_planning_refuses_or_composes(tier: str, sandbox: Sandbox, planner: tuple[SweepLoader, DictConfig]) -> None:
    loader, master = planner

    def plans(given: list[str]) -> None:
        found = []
        with sandbox.untouched():
            code, _ = quietly(
                lambda: guarded(lambda: found.append(make_plan(loader, master, deferred(given), Store(sandbox.store))))
            )
        for plan in found:
            json.dumps(plan.summary(), allow_nan=False)
            for planned in plan.to_run:
                assert shell_safe(planned.command())
        assert (code == 0) == bool(found)

    hold(tier, (6, 3000), plans, usual)
    hold(tier, (1, 500), plans, wild)


def shell_safe(command: str) -> bool:
    """Return whether a printed command stays one command."""
    import shlex

    return len(shlex.split(command)) >= 3


@both
def test_a_command_line_is_refused_or_obeyed(tier: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way of ``run`` and ``plan``, but that cells are built and not played."""
    monkeypatch.setattr(runners.run, "execute", built)

    def answered(command: str, given: list[str], flags: list[str]) -> None:
        with sandbox.untouched():
            gauntlet(command, *flags, *given, f"store={sandbox.store}")
        assert sound(sandbox)

    sweeps = st.just(["sweep=demo"])
    flags = st.one_of(st.just([]), st.just([]), st.lists(st.sampled_from(FLAGS), max_size=2), sweeps)
    given = st.one_of(usual, wild).filter(lambda lines: not any(map(WRITES.search, lines)))
    hold(tier, (2, 250), answered, st.sampled_from(["run", "plan"]), given, flags)


def built(cell: ComposedCell, *, refuse: bool) -> Played:
    """Build the cell in place of playing it."""
    assert refuse
    build_cell(cell)
    return Played(unplayed(cell, "diverged", "it was not played", 0.0))


def sound(sandbox: Sandbox) -> bool:
    """Return whether every record in the store passes the gate."""
    store = Store(sandbox.store)
    return all(store.sound(key) is not None for key in store.loose())
