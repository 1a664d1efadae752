"""Many models of one architecture trained by themselves: shadow models, ensembles, parties of SafeNet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runners.bench.measure import HotPath

if TYPE_CHECKING:
    import torch

STEPS = 20


def shadow_models(device: str = "cpu") -> HotPath:
    """Time 20 steps of 20 shadow MLPs on 8x8 images: rows of one matrix against one model after the other.

    Floor: three matrix products a layer, 20 models * 64 samples * 2,368 weights * 3 = 9 million multiplications a step,
    0.2 ms at 80 GFLOPS; Adam reads and writes three vectors of 20 * 2,410 numbers, 0.1 ms.
    """
    from benchmark.models.mlp import MLP

    module = MLP(shape=(1, 8, 8), num_classes=10, hidden=(32,), activation="relu")
    return _path(module, device, models=20, shape=(1, 8, 8))


def _path(module: Any, device: str, *, models: int, shape: tuple[int, ...]) -> HotPath:
    import torch

    from benchmark.data.base import Split
    from benchmark.settings.collaboration.local_training import TrainingPlan, train_locally
    from benchmark.training.functional import Net

    torch.manual_seed(0)
    net, course = Net(module.to(device)), TrainingPlan("adam", lr=1e-3, batch_size=64, epochs=1)
    shares = [Split(torch.rand(200, *shape), torch.randint(10, (200,))).to(device) for _ in range(models)]
    starts = net.initial() + 0.01 * torch.randn(models, net.layout.size).to(device)

    def rngs() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in range(models)]

    def fast() -> torch.Tensor:
        return train_locally(net, starts, shares, course, steps=STEPS, rngs=rngs())

    def plain() -> torch.Tensor:
        alone = zip(starts, shares, rngs(), strict=True)
        return torch.cat(
            [train_locally(net, one[None], [share], course, steps=STEPS, rngs=[rng]) for one, share, rng in alone]
        )

    # Adam divides by the root of squared gradients, which enlarges rounding errors of tiny ones
    return HotPath(fast, plain, 1e-3, f"{models} models x {STEPS} steps, {type(module).__name__}")


PATHS = {"shadow_models": shadow_models}
