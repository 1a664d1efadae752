"""Precision of a cell: what is computed in bfloat16 and what is not, and TF32's flags of the process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gauntlet
from benchmark.data.digits import Digits
from benchmark.errors import ConfigError
from benchmark.precision import check, computing_in
from benchmark.rendezvous import aside, in_turns
from benchmark.seeds import generator
from benchmark.training import loop
from benchmark.training.adversarial import train_adversarially
from benchmark.training.loop import predict, train
from benchmark.training.side_by_side import Training
from tests.benchmark.helpers import TinyNet, digits_like


class Spy(nn.Module):
    """A classifier that keeps the types in which its layers answered, and of their gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
        self.seen: set[torch.dtype] = set()
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                layer.register_forward_hook(lambda *given: self.see(given[-1]))

    def see(self, output: Tensor) -> None:
        self.seen.add(output.dtype)
        if output.requires_grad:
            output.register_hook(lambda gradient: self.seen.add(gradient.dtype))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def trained(precision: str, **options: Any) -> tuple[Spy, float]:
    """Return a network trained on digits, and its accuracy on others."""
    data = Digits().load(None, 0)
    torch.manual_seed(0)
    spy = Spy()
    with computing_in(precision, "cpu"):
        train(spy, data.owner.x, data.owner.y, epochs=12, rng=generator(0, "batches"), **options)
    seen, spy.seen = spy.seen, set()
    accuracy = (predict(spy, data.test.x).argmax(1) == data.test.y).float().mean().item()
    assert spy.seen == {torch.float32}, "evaluation is in full precision"
    spy.seen = seen
    return spy, accuracy


def test_bf16_trains_as_well_and_is_bf16() -> None:
    types: list[torch.dtype] = []

    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        types.append(outputs.dtype)
        assert not torch.is_autocast_enabled("cpu")
        return F.cross_entropy(outputs, y)

    (full, accuracy), (half, near) = trained("full"), trained("bf16", loss=loss)
    assert full.seen == {torch.float32} and half.seen == {torch.bfloat16}
    assert set(types) == {torch.float32}, "losses are in float32"
    assert {tensor.dtype for tensor in (*half.parameters(), *half.buffers())} == {torch.float32, torch.int64}
    assert accuracy > 0.85 and near > accuracy - 0.02
    assert any(not torch.equal(a, b) for a, b in zip(full.parameters(), half.parameters(), strict=True))


def test_of_several_results_those_in_bf16_are_widened() -> None:
    class Two(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x), x.double()

    def loss(found: Any, y: Tensor) -> Tensor:
        assert [part.dtype for part in found] == [torch.float32, torch.float64]
        return F.cross_entropy(found[0], y)

    with computing_in("bf16", "cpu"):
        train(Two(4, 2), torch.rand(6, 4), torch.arange(6) % 2, epochs=1, rng=generator(0, "b"), loss=loss)


def test_a_pass_within_the_pass_leaves_the_weights_their_gradients() -> None:
    data = digits_like(40, 0)
    with computing_in("bf16", "cpu"):
        model = TinyNet(shape=(1, 8, 8), num_classes=10)
        before = [weight.detach().clone() for weight in model.parameters()]
        fit = partial(train, epochs=1, rng=generator(0, "b"))
        train_adversarially(model, data, fit, eps=0.1, steps=2, step_size=0.05)
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_a_layer_that_the_device_lacks_is_told_in_a_sentence() -> None:
    class Lacking(nn.Linear):
        message = "\"lstm\" not implemented for 'BFloat16'"

        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError(self.message)

    def fit() -> None:
        with computing_in("bf16", "cpu"):
            train(Lacking(4, 2), torch.rand(6, 4), torch.arange(6) % 2, epochs=1, rng=generator(0, "b"))

    with pytest.raises(ConfigError, match="The device cpu cannot compute a layer of this model in bfloat16; use prec"):
        fit()
    Lacking.message = "shapes"
    with pytest.raises(RuntimeError, match="shapes"):
        fit()


def test_trainings_side_by_side_are_in_bf16_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[list[Training]] = []

    def batch(given: list[Training]) -> list[nn.Module]:
        jobs.append(given)
        return together(given)

    together = loop.train_side_by_side
    monkeypatch.setattr(loop, "train_side_by_side", batch)

    def fitted(precision: str, seed: int) -> Tensor:
        data = digits_like(64, seed)
        with computing_in(precision, "cpu"):
            torch.manual_seed(seed)
            model = TinyNet(shape=(1, 8, 8), num_classes=10)
            train(model, data.x, data.y, epochs=2, rng=generator(seed, "b"))
        return nn.utils.parameters_to_vector(model.parameters()).detach()

    calls = [partial(fitted, precision, seed) for precision in ("full", "bf16") for seed in (0, 1)]
    full, _, half, other = in_turns(calls)
    assert [[job.bf16 for job in given] for given in jobs] == [[False, False], [True, True]], "never in one batch"
    assert torch.allclose(half, fitted("bf16", 0), atol=3e-3) and torch.allclose(other, fitted("bf16", 1), atol=3e-3)
    assert torch.allclose(full, fitted("full", 0), atol=1e-6) and not torch.allclose(full, half, atol=1e-6)


# -- cells
def test_a_cell_trains_in_its_precision_alone() -> None:
    cells = [gauntlet.cell(threat="evasion_fgsm", model="mlp", precision=name) for name in ("full", "bf16", "full")]
    full, half, again = (cell.play() for cell in cells)
    assert full.utility != half.utility or full.risk != half.risk
    assert abs(full.utility["test_accuracy"] - half.utility["test_accuracy"]) < 0.05
    assert again.risk == full.risk and again.key == full.key != half.key
    assert half.label == "evasion_fgsm vs none on digits/mlp/smoke in bf16, seed 0"


def test_a_collaboration_is_in_full_precision() -> None:
    """Gradients that are attacked, clipped or summed are those of float32, and so is their matching."""
    lines = ("threat=leakage_dlg", "threat.iterations=2", "setting.rounds=1")
    full, half = (gauntlet.cell(*lines, precision=precision).play() for precision in ("full", "bf16"))
    assert full.utility == half.utility and full.risk == half.risk


@pytest.mark.parametrize(
    ("precision", "sentence"),
    [
        ("fp16", "precision must be full, tf32 or bf16, got 'fp16'."),
        (
            "tf32",
            "precision=tf32 needs a GPU .* the device is cpu; use precision=full, or bf16, which works there too.",
        ),
    ],
)
def test_what_the_device_does_not_have_is_refused(precision: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence), computing_in(precision, "cpu"):
        pass
    with pytest.raises(ConfigError, match=sentence):
        gauntlet.cell(precision=precision, device="cpu").play()


# -- TF32
@pytest.fixture
def capability(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, int], None]]:
    """Let ``cuda`` be a GPU of this compute capability; convolutions may round at first, products not."""
    before = flags()
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = True, False
    yield lambda *number: monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: number)
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def flags() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize(("precision", "inside"), [("full", False), ("tf32", True), ("bf16", False)])
@pytest.mark.parametrize("fails", [False, True])
def test_flags_are_put_back(capability: Any, precision: str, inside: bool, fails: bool) -> None:
    capability(9, 0)
    try:
        with computing_in(precision, "cuda:0"):
            assert flags() == (inside, inside)
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert flags() == (True, False)
    with computing_in(precision if precision != "tf32" else "full", "cpu"):
        assert flags() == (True, False), "a CPU has none"


def test_cells_in_turns_keep_them_until_the_last_has_ended(capability: Any) -> None:
    capability(8, 6)
    inside: list[tuple[bool, bool]] = []

    def call(waits: int) -> None:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # as each cell's preparation
        with computing_in("tf32", "cuda:0"):
            for _ in range(waits):
                with aside():
                    pass
            inside.append(flags())

    torch.backends.cudnn.allow_tf32 = False
    in_turns([partial(call, waits) for waits in (0, 2, 1)])
    assert inside == [(True, True)] * 3 and flags() == (False, False)


def test_an_older_gpu_has_none(capability: Any) -> None:
    capability(7, 5)
    check("bf16", "cuda:0")
    with pytest.raises(ConfigError, match="the device is cuda:0"), computing_in("tf32", "cuda:0"):
        pass
    assert flags() == (True, False)
