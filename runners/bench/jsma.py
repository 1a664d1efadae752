"""The saliency map attack on 28x28 images; no other library that can be installed has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runners.bench.measure import HotPath

if TYPE_CHECKING:
    import torch

IMAGES, CHANGED = 16, 0.02


def jsma(device: str = "cpu") -> HotPath:
    """Time JSMA on 16 images, 7 pairs each: the best pair among candidates against among all 307,000.

    Floor: a forward and two backward passes for each image and pair, 5 ms for 16 images on this network, so 35 ms, most
    of it the first convolution's gradient in its input; the scores of 96 candidates' pairs come on top, and those of
    all pairs are 66 times as many.
    """
    import torch

    from benchmark.data.base import Split
    from benchmark.models.convnet import ConvNet
    from benchmark.settings.deployment.games.inputs import InputSurface
    from benchmark.threats.evasion.jsma import JSMA

    torch.manual_seed(0)
    model = ConvNet(shape=(1, 28, 28), num_classes=10, channels=(16, 32), hidden=64, activation="relu").to(device)
    x = torch.rand(IMAGES, 1, 28, 28).to(device)
    y = model(x).argmax(dim=1)
    nothing = Split(x[:0], y[:0])
    surface = InputSurface(
        model=model.eval().requires_grad_(False),
        x=x,
        y=y,
        targets=(y + 1) % 10,
        num_classes=10,
        published={},
        public=nothing,
        attacker=nothing,
    )

    def attack(candidates: int | None) -> torch.Tensor:
        threat = JSMA(
            saliency_on="probs",
            temperature=1.0,
            dtype="float32",
            theta=1.0,
            gamma=CHANGED,
            candidates=candidates,
            adaptive=False,
        )
        return threat.attack(surface, torch.Generator()).x

    def difference(ours: Any, theirs: Any) -> float:
        return float((ours != theirs).sum())

    return HotPath(
        lambda: attack(32), lambda: attack(None), 0, f"{IMAGES} images x 7 pairs, ConvNet, 28x28", difference
    )


PATHS = {"jsma": jsma}
