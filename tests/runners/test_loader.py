"""A cell is composed as Hydra composes it, from whatever the command line and a sweep say."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path

import pytest
from hydra import initialize_config_module
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from benchmark.errors import ConfigError
from runners.config import loader as loaders
from runners.config.compose import cell_of, register, uses_seed, with_seed
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


@pytest.fixture
def hydra() -> ConfigLoader:
    register()
    with initialize_config_module("conf", version_base="1.3"):
        return GlobalHydra.instance().config_loader()


def plain(config: DictConfig) -> dict:  # type: ignore[type-arg]
    container = OmegaConf.to_container(config)
    del container["hydra"]["job"]["override_dirname"]  # type: ignore[union-attr,arg-type,call-overload,index]
    for key in ("blocks", "base", "bases"):
        container["sweep"].pop(key, None)  # type: ignore[union-attr,arg-type,call-overload,index]
    return container  # type: ignore[return-value]


def test_a_cell_is_composed_as_hydra_composes_it(hydra: ConfigLoader) -> None:
    master = hydra.load_configuration("sweeps", ["sweep=demo"], RunMode.MULTIRUN)
    quick = SweepLoader(hydra)
    for overrides in [*CELLS, CELLS[1]]:  # the last one from memory
        try:
            whole = hydra.load_sweep_config(master, list(overrides))
        except HydraException:
            with pytest.raises(HydraException):
                quick.load_sweep_config(master, overrides)
            continue
        assert plain(quick.load_sweep_config(master, overrides)) == plain(whole)


def test_a_mistake_has_hydras_own_words(hydra: ConfigLoader) -> None:
    master = hydra.load_configuration("sweeps", [], RunMode.MULTIRUN)
    with pytest.raises(HydraException) as told:
        SweepLoader(hydra).load_sweep_config(master, ("threat=leakage_dlg", "threat.stepps=1"))
    with pytest.raises(HydraException) as wanted:
        hydra.load_sweep_config(master, ["threat=leakage_dlg", "threat.stepps=1"])
    assert str(told.value) == str(wanted.value)


def test_workers_compose_each_choice_of_components_once(hydra: ConfigLoader, monkeypatch: pytest.MonkeyPatch) -> None:
    master = hydra.load_configuration("sweeps", [], RunMode.MULTIRUN)
    quick = SweepLoader(hydra)
    monkeypatch.setattr(loaders, "_compositions", known := {})
    for seed in range(3):
        handed = pickle.loads(pickle.dumps(quick))  # as Joblib does for each cell
        config = handed.load_sweep_config(master, ("threat=leakage_dlg", f"seed={seed}", f"threat.restarts={seed}"))
        assert (config.seed, config.threat.restarts) == (seed, seed)
    assert len(known) == 1
    monkeypatch.setattr(loaders, "KEPT", 2)
    for threat in ("leakage_idlg", "leakage_labels", "leakage_analytic"):
        quick.load_sweep_config(master, (f"threat={threat}",))
    assert len(known) == 2, "the oldest are forgotten"


def test_workers_are_handed_what_the_sweep_has_composed(hydra: ConfigLoader, monkeypatch: pytest.MonkeyPatch) -> None:
    master = hydra.load_configuration("sweeps", [], RunMode.MULTIRUN)
    quick, lines = SweepLoader(hydra), ("threat=leakage_dlg", "defense=dp_sgd", "seed=3")
    wanted = quick.load_sweep_config(master, lines)
    with quick.handed_over():
        handed = pickle.dumps(quick)
        monkeypatch.setattr(loaders, "_compositions", {})  # another process
        monkeypatch.setattr(loaders, "_nodes", {})
        with monkeypatch.context() as patch:
            patch.setattr(type(hydra), "load_configuration", lambda *_: pytest.fail("composed anew"))
            assert pickle.loads(handed).load_sweep_config(master, lines) == wanted
    monkeypatch.setattr(loaders, "_compositions", {})
    monkeypatch.setattr(loaders, "_taken", set())
    assert pickle.loads(handed).load_sweep_config(master, lines) == wanted, "another machine composes for itself"


def test_another_seed_needs_no_composing(hydra: ConfigLoader) -> None:
    config = hydra.load_configuration("config", ["threat=leakage_dlg", "seed=3"], RunMode.RUN)
    other = hydra.load_configuration("config", ["threat=leakage_dlg", "seed=4"], RunMode.RUN)
    cell = with_seed(cell_of(config, config.hydra.runtime.choices), 4)
    assert cell == cell_of(other, other.hydra.runtime.choices)
    assert not uses_seed(config)
    config.threat.restarts = "${seed}"
    assert uses_seed(config)


def test_a_defense_is_composed_once_for_all_threats(hydra: ConfigLoader, monkeypatch: pytest.MonkeyPatch) -> None:
    master = hydra.load_configuration("sweeps", ["sweep=check"], RunMode.MULTIRUN)
    quick = SweepLoader(hydra)
    for threat, defense in [
        ("leakage_dlg", "dp_sgd"),
        ("evasion_fgsm", "adversarial_training"),
        ("poison_alie", "[nnm,krum]"),
    ]:
        overrides = ("sweep=check", f"threat={threat}", f"defense={defense}", "scale=cpu")
        assert plain(quick.load_sweep_config(master, overrides)) == plain(
            hydra.load_sweep_config(master, list(overrides))
        )
    monkeypatch.setattr(hydra, "load_configuration", lambda *_: pytest.fail("composed anew"))
    config = quick.load_sweep_config(master, ("sweep=check", "threat=poison_alie", "defense=dp_sgd", "scale=cpu"))
    assert list(config.defense) == ["dp_sgd"]


def test_a_defense_that_sets_more_than_itself_is_composed_with_each_threat(
    hydra: ConfigLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compose a third party's option that sets the setting too."""
    quick = SweepLoader(hydra)
    master = hydra.load_configuration("sweeps", ["sweep=demo"], RunMode.MULTIRUN)
    lines = ("threat=leakage_dlg", "defense=dp_sgd")
    load = hydra.load_configuration

    def with_setting(name: str, overrides: list[str], mode: RunMode) -> DictConfig:
        config = load(name, overrides, mode)
        if "defense=dp_sgd" in overrides:
            config.setting.parties = 3
        return config

    monkeypatch.setattr(hydra, "load_configuration", with_setting)
    assert quick.cell(master, lines).setting.parties == 3


def test_without_room_to_hand_anything_over_workers_compose(
    hydra: ConfigLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    master = hydra.load_configuration("sweeps", [], RunMode.MULTIRUN)
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
