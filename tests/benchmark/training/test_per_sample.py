"""Clipped sums from layers' inputs and signals, against vectorised gradients and against one sample at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from benchmark.models.convnet import ConvNet
from benchmark.models.lstm import LSTM
from benchmark.models.resnet18 import ResNet18
from benchmark.seeds import generator
from benchmark.training.clipping import clip_rows
from benchmark.training.functional import Net
from benchmark.training.patches import patches
from benchmark.training.per_sample import Explicit, Products, captured, clipped_sum, products


class Flat(nn.Module):
    """Layers in a row; logits are the mean over all that is left but channels."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).flatten(2).mean(dim=2)


class Tokens(nn.Module):
    """A linear layer at every position of a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.head = nn.Linear(8, 40), nn.LayerNorm(40), nn.Linear(40, 10, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.embed(x[:, 0])).tanh()).mean(dim=1)


class Scaled(nn.Module):
    """A parameter outside any layer, and a layer that is used twice."""

    def __init__(self, twice: bool) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(64, 64), nn.Linear(64, 10)
        self.twice, self.scale = twice, None if twice else nn.Parameter(torch.tensor([1.5]))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.layer(x.flatten(1)).tanh()
        return self.head(self.layer(hidden)) if self.scale is None else self.head(hidden * self.scale)


class InPlace(nn.Module):
    """Network that changes a layer's output in place, after the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 10), nn.Linear(10, 10)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x.flatten(1))
        hidden *= 3
        hidden.sin_()
        return self.second(hidden) + hidden


class Unused(nn.Module):
    """Network that calls a layer whose output nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.other = nn.Linear(64, 10), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.other(x.flatten(1))
        return self.head(x.flatten(1))


COVERED: dict[str, Callable[[], nn.Module]] = {
    "convnet": lambda: ConvNet(shape=(1, 8, 8), num_classes=10, channels=(4, 6), hidden=16, activation="relu"),
    "in_place": InPlace,
    "resnet": lambda: ResNet18(shape=(1, 8, 8), num_classes=10, norm="group", stem="small"),
    "strided": lambda: Flat(nn.Conv2d(1, 6, (3, 2), stride=(2, 1), padding=(1, 0)), nn.Tanh(), nn.Conv2d(6, 10, 2)),
    "dilated": lambda: Flat(nn.Conv2d(1, 6, 3, dilation=2, padding=2, bias=False), nn.Tanh(), nn.Conv2d(6, 10, 1)),
    "grouped": lambda: Flat(nn.Conv2d(1, 6, 3), nn.GroupNorm(2, 6), nn.Tanh(), nn.Conv2d(6, 10, 3, groups=2)),
    "reflecting": lambda: Flat(
        nn.Conv2d(1, 6, 3, padding=1, padding_mode="reflect"), nn.Conv2d(6, 10, 3, padding="same")
    ),
    "transposed": lambda: Flat(nn.ConvTranspose2d(1, 10, 3, stride=2), nn.Tanh()),
    "one_dimension": lambda: Flat(nn.Flatten(2), nn.Conv1d(1, 10, 5, stride=2, padding=1)),
    "tokens": Tokens,
}
LEFT_OUT: dict[str, Callable[[], nn.Module]] = {
    "outside": lambda: Scaled(twice=False),
    "twice": lambda: Scaled(twice=True),
    "unused": Unused,
}


def problem(build: Callable[[], nn.Module], n: int = 5) -> tuple[Net, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    net, rng = Net(build().double()), generator(0, "problem")
    x = torch.rand(n, 1, 8, 8, generator=rng, dtype=torch.float64)
    return net, net.initial(), x, torch.randint(10, (n,), generator=rng)


@pytest.mark.parametrize("name", [*COVERED, *LEFT_OUT])
@pytest.mark.parametrize("soft", [False, True])
def test_the_sum_of_clipped_gradients(name: str, soft: bool) -> None:
    net, params, x, y = problem((COVERED | LEFT_OUT)[name])
    if soft:
        y = torch.rand(len(x), 10, generator=generator(1, "soft"), dtype=torch.float64).softmax(dim=1)
    rows = net.per_sample_gradients(params, x, y)
    bound = rows.norm(dim=1).median().item()  # some are clipped, some are not
    expected = clip_rows(rows, bound).sum(dim=0)
    with torch.no_grad():
        found = clipped_sum(net, params, x, y, bound)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-9)
    assert not found.requires_grad
    assert (captured(net, params, x, y) is None) == (name in LEFT_OUT)


def test_one_sample_at_a_time() -> None:
    net, params, x, y = problem(COVERED["convnet"])
    net, params, x = Net(net.module.float()), params.float(), x.float()
    rows = torch.stack([net.gradient(params, x[i : i + 1], y[i : i + 1]) for i in range(len(x))])
    for bound in (1e-3, 0.5 * rows.norm(dim=1).mean().item(), 1e3):
        expected = sum(row * min(1.0, bound / row.norm().item()) for row in rows)
        torch.testing.assert_close(clipped_sum(net, params, x, y, bound), expected, atol=1e-6, rtol=1e-5)


def test_a_recurrent_layer_gives_more_than_one_tensor_and_samples_meet_in_batch_normalisation() -> None:
    recurrent = Net(LSTM(shape=(1, 32), num_classes=10, frame=4, hidden=8))
    x, y = torch.rand(3, 1, 32), torch.tensor([1, 2, 3])
    assert captured(recurrent, recurrent.initial(), x, y) is None
    net, params, x, y = problem(lambda: Flat(nn.Conv2d(1, 10, 3), nn.BatchNorm2d(10, track_running_stats=False)))
    assert captured(net, params, x, y) is None


def test_no_hook_is_left_behind() -> None:
    net, params, x, y = problem(COVERED["convnet"])
    clipped_sum(net, params, x, y, 1.0)
    assert not any(layer._forward_hooks for layer in net.module.modules())


def test_patches_are_those_of_unfold() -> None:
    x = torch.randn(2, 3, 9, 7, generator=generator(0, "x"))[:, :, :, 1:]
    for shape in (dict(kernel_size=3, padding=1), dict(kernel_size=(2, 3), stride=(2, 1), dilation=(1, 2))):
        layer = nn.Conv2d(3, 4, **shape)
        expected = nn.functional.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        assert torch.equal(patches(layer, x).reshape(expected.shape), expected)


def test_the_gram_form_is_taken_where_it_is_cheaper_and_says_the_same() -> None:
    rng = generator(0, "products")
    for positions, kind in ((1, Products), (4, Products), (40, Explicit)):
        signals, inputs = torch.randn(3, 12, positions, generator=rng), torch.randn(3, 20, positions, generator=rng)
        found, factors = products(signals, inputs), torch.rand(3, generator=rng)
        rows = torch.einsum("nop,nip->noi", signals, inputs)
        assert isinstance(found, kind)
        torch.testing.assert_close(found.squares(), rows.square().sum(dim=(1, 2)))
        torch.testing.assert_close(found.weighted(factors).view(12, 20), torch.einsum("n,noi->oi", factors, rows))
