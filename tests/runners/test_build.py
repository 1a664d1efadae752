from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmark.errors import ConfigError
from runners.cli.explain import command as explained
from runners.config.build import build, nearest
from tests.runners import fakes
from tests.runners.conftest import SEARCH, Command, composed, records

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


# -- networks and weights of the user's -------------------------------------------------------------------------------
FACTORY = (
    "model=factory",
    "model.call=tests.runners.fakes:fake_network",
    "dataset=fake",
    "setting=fake",
    "threat=fake",
)


def save_weights(file: Path, seed: int) -> str:
    """Write weights of the fake network and return the override that names them."""
    torch.manual_seed(seed)
    save_file(fakes.fake_network(shape=(1, 8, 8), num_classes=2).state_dict(), file)
    return f"model.weights={file}"


def test_the_content_of_weights_is_in_the_key_and_their_path_is_not(tmp_path: Path) -> None:
    weights = [save_weights(tmp_path / name, seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    same, copied, other, none = (composed(*FACTORY, *line).key for line in [*([w] for w in weights), []])
    assert same == copied and len({same, other, none}) == 3
    cell = composed(*FACTORY, weights[0])
    assert str(tmp_path) not in str(cell.config) and cell.nodes["model"]["weights"] == str(tmp_path / "a")


def test_a_cell_on_weights_is_recorded_by_their_digest_and_played_again_with_the_file(
    command: Command, tmp_path: Path
) -> None:
    line = save_weights(tmp_path / "w", 0)
    code, _, error = command("run", *FACTORY, line)
    assert code == 0, error
    (record,) = records(tmp_path)
    assert record["config"]["model"] == {
        "name": "factory",
        "provider": "benchmark",
        "version": 1,
        "call": "tests.runners.fakes:fake_network",
        "function": {"class": "fake_network", "provider": "tests", "version": 1},
        "content": hashlib.sha256((tmp_path / "w").read_bytes()).hexdigest(),
    }
    assert record["versions"]["components"]["fake_network"]["digest"]
    shell, changed = explained(record["config"], SEARCH)
    assert not changed and str(record["config"]["model"]["content"]) in shell
    code, _, error = command("run", *FACTORY, "model.weights=none.safetensors")
    assert (code, error) == (2, "model.weights=none.safetensors: there is no such file.\n")


def test_a_function_is_imported_only_of_a_trusted_package(command: Command) -> None:
    for verb in ("run", "plan"):
        code, _, error = command(verb, "model=factory", "model.call=os:system")
        assert code == 2 and "os.system is not allowed" in error
    code, _, error = command("run", "model=factory", "model.call=os.system")
    assert code == 2 and "A function is named module:function" in error
