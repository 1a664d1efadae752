from __future__ import annotations

import pytest

from benchmark.errors import ConfigError
from runners.config.build import build, nearest

TRUSTED = ("tests.runners.",)
FAKE = {"_target_": "tests.runners.fakes.FakeThreat", "does": "succeed", "sleep": 0, "risk": 0.5}


def test_a_component_is_built_from_plain_containers() -> None:
    data = build({"_target_": "tests.runners.fakes.FakeData", "sizes": {"owner": 4}}, "dataset", TRUSTED)
    assert type(data.sizes) is dict


def test_a_partial_is_not_called() -> None:
    model = build({"_target_": "tests.runners.fakes.FakeModel", "_partial_": True, "width": 2}, "model", TRUSTED)
    assert model(shape=(1, 2), num_classes=3).layer.weight.shape == (3, 2)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "tests.runners.fakes.FakeThreat",  # not trusted here
        "benchmark.seeds.random.seed",  # the suite's only in passing
        "benchmark.data.base.torch.load",
        "benchmarks.evil",
        "torchvision.datasets.utils.download_url",
        "torchvision.datasets.utils.extract_archive",
        "torch.nn.Linear",  # of no option
        "benchmark.cell.play",
    ],
)
def test_a_foreign_target_is_refused(target: str) -> None:
    with pytest.raises(ConfigError, match="not allowed"):
        build({"_target_": target}, "threat")


def test_a_foreign_target_is_found_in_any_depth() -> None:
    nested = {"_target_": "tests.runners.fakes.FakeData", "sizes": {"owner": [{"_target_": "os.getcwd"}]}}
    with pytest.raises(ConfigError, match=r"dataset.sizes.owner\[0\]._target_=os.getcwd is not allowed"):
        build(nested, "dataset", TRUSTED)


def test_a_missing_module_is_named() -> None:
    with pytest.raises(ConfigError, match="tests.runners.nowhere.Thing cannot be imported"):
        build({"_target_": "tests.runners.nowhere.Thing"}, "threat", TRUSTED)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slep": 1}, "threat has no parameter 'slep'; did you mean sleep?"),
        ({"sleep": "long"}, "threat.sleep must be a number, got 'long'"),
        ({"sleep": True}, "threat.sleep must be a number, got True"),
        ({"does": 3}, "threat.does must be text, got 3"),
        ({"adaptive": 1}, "threat.adaptive must be true or false, got 1"),
        ({"risk": -1}, "^threat.risk must not be negative"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build({**FAKE, **change}, "threat", TRUSTED)


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(ConfigError, match="threat: missing a required"):
        build({name: value for name, value in FAKE.items() if name != "risk"}, "threat", TRUSTED)


def test_nearest_names_or_lists() -> None:
    assert nearest("dgl", ["dlg", "mean"]) == "; did you mean dlg?"
    assert nearest("zzz", ["dlg", "mean", "_target_"]) == "; there is dlg, mean."
    assert nearest("zzz", []) == "."
