"""A cell is composed as Hydra composes it, from whatever the command line and a sweep say."""

from __future__ import annotations

import errno
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_module
from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from benchmark.errors import ConfigError
from runners.config import catalogue
from runners.config import cells as joiner
from runners.config import loader as loaders
from runners.config.cells import Cells
from runners.config.compose import SINGLE, ComposedCell, cell_of, part_of, register
from runners.config.loader import SweepLoader
from tests.runners.conftest import FAKE_CELL, composed

CELLS = [
    ("threat=leakage_dlg", "defense=none", "seed=0"),
    ("threat=leakage_dlg", "defense=none", "seed=7", "threat.adaptive=true"),
    ("threat=leakage_dlg", "defense=[gradient_noise,gradient_clipping]", "defense.gradient_noise.std=0.25", "seed=1"),
    ("threat=leakage_dlg", "defense=gradient_noise", "+defense.gradient_noise.extra=1", "seed=1"),
    ("threat=poison_alie", "defense=krum", "setting.dirichlet_alpha=null", "threat.fraction=0.4", "seed=1"),
    ("threat=poison_alie", "defense=krum", "setting.dirichlet_alpha=0.5", "+threat.extra={a: 1}", "seed=1"),
    ("threat=leakage_dlg", "scale=cpu", "threat.restarts=${by_scale:1,2,3}", "model=mlp", "model.hidden=[8,4]"),
]


WITHIN = [
    ("threat=reconstruction_model_inversion", "setting.epochs=7", "seed=1"),
    ("threat=member_participant", "defense=secure_aggregation", "scale=full"),
    ("threat=attribute_density_gap", "model.hidden=[${seed},${setting.epochs}]", "seed=2"),
    ("threat=attribute_density_gap", "dataset=digits_writers", "defense=[]"),
    ("threat=leakage_dlg", "threat.iterations=${oc.select:setting.rounds}", "setting.rounds=${by_scale:${seed},1,2}"),
    ("model=factory", "model.call=torch.nn:Linear", "+threat.call=${..model.call}", "threads=2", "scale.name=cpu"),
    ("+preset@setting=small_shares", "setting.parties=3", "sweep=check"),
    ("threat=leakage_dlg", "threat.iterations=0x10", "defense.none.x=1"),
    ("threat=leakage_dlg", "threat.iterations=${nowhere}"),
    ("threat=leakage_dlg", "~defense", "seed=-1"),
    ("+threat=leakage_dlg",),
    ("threat=leakage_dlg,leakage_idlg",),
    ("threat={iterations: 5}", "dataset.sizes.owner=9"),
]
"""Cells whose parts refer to each other, or that Hydra refuses."""


@pytest.fixture(scope="module")
def hydra() -> ConfigLoader:
    register()
    with initialize_config_module("conf", version_base="1.3"):
        return GlobalHydra.instance().config_loader()


@pytest.fixture(scope="module")
def master(hydra: ConfigLoader) -> DictConfig:
    return hydra.load_configuration("sweeps", ["sweep=demo"], RunMode.MULTIRUN)


@pytest.fixture(scope="module")
def shared(hydra: ConfigLoader) -> SweepLoader:
    """Return a loader that remembers what the tests before composed, as that of a sweep does."""
    return SweepLoader(hydra)


def mistake(make: Callable[[], Any]) -> Any:
    """Return what ``make`` returns, or the words in which it refuses."""
    try:
        return make()
    except (HydraException, ConfigError) as error:
        return type(error), str(error)


def plain(config: DictConfig) -> dict:  # type: ignore[type-arg]
    container = OmegaConf.to_container(config)
    del container["hydra"]["job"]["override_dirname"]  # type: ignore[union-attr,arg-type,call-overload,index]
    for key in ("blocks", "base", "bases"):
        container.get("sweep", {}).pop(key, None)  # type: ignore[union-attr,arg-type,call-overload,index]
    return container  # type: ignore[return-value]


@pytest.mark.parametrize("overrides", [*CELLS, *WITHIN, CELLS[1]], ids=" ".join)  # the last one from memory
def test_a_cell_is_composed_as_hydra_composes_it(
    overrides: tuple[str, ...], hydra: ConfigLoader, master: DictConfig, shared: SweepLoader
) -> None:
    same_as_hydra(overrides, hydra, master, shared)


def same_as_hydra(overrides: tuple[str, ...], hydra: ConfigLoader, master: DictConfig, loader: SweepLoader) -> None:
    """Hold configs, cells with their keys, and mistakes against Hydra's own composition of the whole cell."""
    whole = mistake(lambda: hydra.load_sweep_config(master, list(overrides)))
    joined = mistake(lambda: loader.load_sweep_config(master, overrides))
    cells = Cells(loader, master)
    if not isinstance(whole, DictConfig):
        assert joined == whole == mistake(lambda: cells(overrides))
        return
    assert plain(joined) == plain(whole)
    wanted = mistake(lambda: cell_of(whole, whole.hydra.runtime.choices))
    assert mistake(lambda: cells(overrides)) == wanted
    if isinstance(wanted, ComposedCell) and (told := cells.targets(overrides)) is not None:
        nodes = {name: wanted.nodes[name] for name in SINGLE}
        nodes |= {f"defense.{name}": node for name, node in wanted.nodes["defense"].items()}
        assert list(told.items()) == [(name, node["_target_"]) for name, node in nodes.items()]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_option_is_composed_as_hydra_composes_it(
    hydra: ConfigLoader, master: DictConfig, shared: SweepLoader
) -> None:
    names = {group: [option.name for option in catalogue.options(group)] for group in (*SINGLE, "defense")}
    for group in ("dataset", "model", "setting"):
        for option in names[group]:
            same_as_hydra((f"{group}={option}", "scale=cpu"), hydra, master, shared)
    for number in range(max(len(names["threat"]), len(names["defense"]))):
        threat, defense = (names[group][number % len(names[group])] for group in ("threat", "defense"))
        same_as_hydra((f"threat={threat}", f"defense={defense}", "seed=3"), hydra, master, shared)


def test_components_are_composed_once_each(
    hydra: ConfigLoader, master: DictConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader, read = SweepLoader(hydra), list[str]()
    monkeypatch.setattr(loaders, "_known", {})
    load = ConfigRepository.load_config
    monkeypatch.setattr(
        ConfigRepository,
        "load_config",
        lambda self, config_path: read.append(config_path) or load(self, config_path),  # type: ignore[func-returns-value]
    )
    lines = [
        (f"threat={threat}", f"defense={defense}", f"seed={seed}", "sweep=check")
        for threat in ("leakage_dlg", "poison_alie")
        for defense in ("dp_sgd", "[dp_sgd,krum]")
        for seed in (1, 2)
    ]
    cells, parts = Cells(loader, master), list[str]()
    monkeypatch.setattr(joiner, "part_of", lambda *given: parts.append(given[1]) or part_of(*given))  # type: ignore[func-returns-value]
    made = [cells(own) for own in lines]
    assert len({cell.key for cell in made}) == len(lines)
    assert sorted(parts) == sorted(
        ["dataset", "model", "setting", "scale", "precision", *["threat", "defense", "seed"] * 2]
    )
    for path in ("threat/leakage_dlg", "threat/poison_alie", "defense/dp_sgd", "defense/krum", "sweep/check"):
        assert read.count(path) == 1, path


def test_a_mistake_has_hydras_own_words(hydra: ConfigLoader, master: DictConfig) -> None:
    with pytest.raises(HydraException) as told:
        SweepLoader(hydra).load_sweep_config(master, ("threat=leakage_dlg", "threat.stepps=1"))
    with pytest.raises(HydraException) as wanted:
        hydra.load_sweep_config(master, ["threat=leakage_dlg", "threat.stepps=1"])
    assert str(told.value) == str(wanted.value)


def test_workers_are_handed_what_the_sweep_has_composed(
    hydra: ConfigLoader, master: DictConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick, lines = SweepLoader(hydra), ("threat=leakage_dlg", "defense=dp_sgd", "seed=3")
    Cells(quick, master)(lines)  # as the plan does
    wanted = quick.load_sweep_config(master, lines)
    with quick.handed_over():
        handed = pickle.dumps(quick)
        monkeypatch.setattr(loaders, "_known", {})  # another process
        with monkeypatch.context() as patch:
            patch.setattr(ConfigRepository, "load_config", lambda *_: pytest.fail("read anew"))
            for _ in range(2):  # Joblib hands a worker a new loader for each cell
                assert pickle.loads(handed).load_sweep_config(master, lines) == wanted
    monkeypatch.setattr(loaders, "_known", {})
    monkeypatch.setattr(loaders, "_taken", set())
    assert pickle.loads(handed).load_sweep_config(master, lines) == wanted, "another machine composes for itself"


def test_old_sweeps_are_forgotten(hydra: ConfigLoader, master: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaders, "_known", known := {})
    for _ in range(loaders.KEPT + 2):
        SweepLoader(hydra).files(master)
    assert len(known) == loaders.KEPT


STRANGE = {
    "defense/wide": "# @package _global_\nsetting: {parties: 3}\ndefense:\n  wide: {_target_: my.Wide, epochs: 2}\n",
    "defense/moving": "# @package defense.moving\n"
    "defaults:\n  - override /setting@_global_.setting: release\n  - _self_\n_target_: my.Moving\n",
    "threat/guarded": "defaults:\n  - override /defense@_global_.defense: krum\n  - _self_\n_target_: my.Guarded\n",
    "threat/wide": "# @package _global_\n"
    "threat: {_target_: my.Wide, rounds: '${setting.rounds}'}\nmodel: {hidden: 5}\n",
}


@pytest.mark.parametrize(
    "overrides",
    [
        ("threat=leakage_dlg", "defense=wide"),
        ("threat=leakage_dlg", "defense=[krum,wide]", "defense.wide.epochs=${setting.parties}"),
        ("threat=leakage_dlg", "defense=moving"),
        ("threat=guarded",),
        ("threat=guarded", "defense=dp_sgd"),
        ("threat=wide", "defense=dp_sgd", "setting.rounds=4"),
    ],
    ids=" ".join,
)
def test_options_that_set_more_than_themselves_are_composed_as_hydra_composes_them(
    overrides: tuple[str, ...], hydra: ConfigLoader, tmp_path: Path
) -> None:
    for name, text in STRANGE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.yaml").write_text(text)
    master = hydra.load_configuration("config", [f"hydra.searchpath=[file://{tmp_path}]"], RunMode.MULTIRUN)
    loader = SweepLoader(hydra)
    same_as_hydra(overrides, hydra, master, loader)


def test_without_room_to_hand_anything_over_workers_compose(
    hydra: ConfigLoader, master: DictConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    quick = SweepLoader(hydra)
    with quick.handed_over():
        assert pickle.loads(pickle.dumps(quick)).load_sweep_config(master, ("seed=3",)).seed == 3


@pytest.mark.parametrize(("scale", "risk"), [("smoke", 0.5), ("cpu", 0.6), ("full", 0.7)])
def test_values_follow_the_scale(scale, risk):
    assert composed(*FAKE_CELL, f"scale={scale}").config["threat"]["risk"] == risk


def test_the_key_holds_the_science_alone():
    plain = composed("dataset=mnist").key
    assert composed("dataset=mnist", "dataset.download=true", "threads=2", "store=elsewhere", "device=cpu").key == plain
    assert composed("dataset=mnist", "seed=1").key != plain
    assert composed("dataset=mnist", "setting.parties=9").key != plain


def test_components_carry_their_version():
    cell = composed(*FAKE_CELL, "defense=gradient_noise")
    assert [part["name"] for part in cell.config["defense"]] == ["gradient_noise"]
    assert isinstance(cell.config["defense"][0]["version"], int)
    assert cell.targets()["defense/gradient_noise"].endswith(".gradient_noise.GradientNoise")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=1.5", "seed must be a whole number, got 1.5"),
        ("scale.name=huge", "must be one of smoke, cpu, full"),
        ("threat.risk=???", "threat cannot be resolved"),
        ("threat.risk=nan", "must be finite numbers"),
    ],
)
def test_mistakes_are_told(override, message):
    with pytest.raises(ConfigError, match=message):
        composed(*FAKE_CELL, override)
