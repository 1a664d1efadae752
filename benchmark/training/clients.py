"""The gradients of many clients that each have weights of their own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.training.functional import Net
from benchmark.training.grouped import Chain

BYTES_TOGETHER = 1 << 20
"""Of the clients that are taken together, at most so much input: beyond that, what they keep leaves the cache."""

FULL = 4096
"""From so many numbers a client (16 images of 16x16) convolutions fill a core, so that one call a client costs nothing:
20 clients of 28x28 pixels take two thirds of vmap's time, of 8x8 pixels a quarter more."""


Gradients = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Weights (d,) or a row for each client, x (n, batch, ...), and classes (n, batch) or distributions -> (n, d), the
gradients of each client's mean cross-entropy."""


def client_gradients(net: Net, x: Tensor) -> Gradients:
    """The fastest way to one gradient a client, as ``net.gradients`` gives them, for all batches of the shape of ``x``.

    ``torch.func.vmap`` plays all clients' convolutions as one of many groups, which is slower than one call for each
    client where a client's work fills a core, and pools maps in the order of channels, which torch doesn't vectorise.
    So on a processor, chains of known layers are played client by client in the convolutions and together in
    everything else, with channels last.
    """
    convolves = any(isinstance(layer, nn.Conv2d) for layer in net.module.modules())
    fits = x.device.type == "cpu" and (x[0].numel() >= FULL or not convolves)
    chain = Chain.of(net, x.shape[2:]) if fits else None
    return net.gradients if chain is None else partial(_by_parts, chain)


def _by_parts(chain: Chain, params: Tensor, x: Tensor, y: Tensor) -> Tensor:
    together = max(1, BYTES_TOGETHER // (x[0].numel() * x.element_size()))
    params = params.expand(len(x), -1)
    parts = zip(*(rows.split(together) for rows in (params, x, y)), strict=True)
    return torch.cat([_together(chain, *part) for part in parts])


def _together(chain: Chain, params: Tensor, x: Tensor, y: Tensor) -> Tensor:
    with torch.enable_grad():
        params = params.detach().requires_grad_()
        weights = chain.net.layout.split(params)
        here = x.flatten(0, 1)
        here = _channels_last(here) if here.ndim == 4 else here
        for name, layer in _pooling_first(chain.layers):
            weight, bias = (weights.get(f"{name}.{own}".lstrip(".")) for own in ("weight", "bias"))
            if weight is None:
                here = layer(here)
            elif isinstance(layer, nn.Conv2d):
                biases = [None] * len(x) if bias is None else bias.unbind()
                clients = zip(here.split(x.shape[1]), weight.unbind(), biases, strict=True)
                how = layer.stride, layer.padding, layer.dilation
                here = torch.cat([F.conv2d(*client, *how) for client in clients])  # type: ignore[arg-type]
            else:
                rows = here.reshape(len(x), -1, here.shape[-1])
                rows = rows @ weight.mT if bias is None else torch.baddbmm(bias.unsqueeze(1), rows, weight.mT)
                here = rows.view(*here.shape[:-1], -1)
        loss = F.cross_entropy(here, y.flatten(0, 1), reduction="sum") / x.shape[1]
        return torch.autograd.grad(loss, params)[0]


def _channels_last(x: Tensor) -> Tensor:
    """Images (n, c, h, w) with a pixel's channels side by side in memory, and strides that say so for c = 1 as well."""
    n, c, h, w = x.shape
    return x.permute(0, 2, 3, 1).contiguous().as_strided((n, c, h, w), (c * h * w, 1, w * c, c))


def _pooling_first(layers: tuple[tuple[str, nn.Module], ...]) -> list[tuple[str, nn.Module]]:
    """With max-pooling before the activation that it follows: monotone ones give the same, on fewer numbers."""
    order = list(layers)
    for i, ((_, first), (_, second)) in enumerate(pairwise(layers)):
        if isinstance(first, nn.ReLU | nn.Sigmoid | nn.Tanh) and type(second) is nn.MaxPool2d:
            order[i], order[i + 1] = order[i + 1], order[i]
    return order
