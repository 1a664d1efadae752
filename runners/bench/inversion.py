"""Gradient inversion: matching gradients of many restarts at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runners.bench.measure import HotPath

if TYPE_CHECKING:
    import torch


def inversion() -> HotPath:
    """One matching step of eight restarts: vectorised against one at a time by plain autograd."""
    import torch
    from torch.nn import functional as F

    from benchmark.data.base import Split
    from benchmark.settings.collaboration import UploadSurface
    from benchmark.threats.gradient_leakage.matching import Matcher, cosine_distance, targets_of

    net, x, labels = _problem()
    params, y = net.initial(), F.one_hot(labels, 10).float()
    observed = net.per_sample_gradients(params, x.flip(0), labels)
    surface = UploadSurface(
        net=net,
        params=params,
        uploads=observed[None],
        batch_size=1,
        local_steps=1,
        lr=0.1,
        shape=(3, 32, 32),
        num_classes=10,
        published=[],
        labels=labels[:, None],
        public=Split(x, labels),
        truth=x[:, None],
    )
    matcher = Matcher(surface, targets_of(surface, adaptive=False), distance=cosine_distance)

    def fast() -> torch.Tensor:
        return matcher.objective(x[:, None, None], y[:, None, None])[1].flatten(0, 2)

    def plain() -> torch.Tensor:
        rows = []
        weights = list(net.module.parameters())
        for image, label, target in zip(x, y, observed, strict=True):
            image = image[None].clone().requires_grad_()
            loss = F.cross_entropy(net.module(image), label[None])
            dummy = torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights, create_graph=True)])
            rows.append(torch.autograd.grad(cosine_distance(dummy, target), image)[0])
        return torch.cat(rows)

    return HotPath(fast, plain, 1e-3, "8 restarts x 1 step, LeNet, 32x32x3")


def _problem() -> Any:
    """A LeNet, 8 samples of 32x32x3 and a generator."""
    import torch

    from benchmark.models.lenet import LeNet
    from benchmark.training.functional import Net

    torch.manual_seed(0)
    net = Net(LeNet(shape=(3, 32, 32), num_classes=10, activation="sigmoid", init="uniform", strides=(2, 2, 1)))
    return net, torch.rand(8, 3, 32, 32), torch.randint(10, (8,))


PATHS = {"inversion": inversion}
