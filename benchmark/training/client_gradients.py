"""Gradients of many clients, each with its own weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.training.functional import Net
from benchmark.training.grouped import Chain

CHUNK_BYTES = 1 << 20
"""Largest input of clients that are processed together; their activations would not fit into the cache beyond it."""

LARGE_INPUT = 4096
"""Numbers per client (16 images of 16x16) from which one convolution call per client is faster than vmap: 20 clients of
28x28 pixels take two thirds of vmap's time, of 8x8 pixels a quarter more."""


Gradients = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Function of weights, (d,) or a row for each client, x (n, batch, ...) and classes (n, batch) or distributions that
returns the gradients (n, d) of each client's mean cross-entropy."""


def client_gradients(net: Net, x: Tensor) -> Gradients:
    """Return the fastest function for one gradient per client, equal to ``net.gradients``, for the shape of ``x``.

    ``torch.func.vmap`` computes all clients' convolutions as one grouped convolution, which is slower than one call per
    client where a client's work fills a core, and it pools in channel-major order, which torch does not vectorise. So
    on a CPU, chains of known layers run client by client in the convolutions and jointly in everything else, with
    channels last.
    """
    convolves = any(isinstance(layer, nn.Conv2d) for layer in net.module.modules())
    fits = x.device.type == "cpu" and (x[0].numel() >= LARGE_INPUT or not convolves)
    chain = Chain.of(net, x.shape[2:]) if fits else None
    return net.gradients if chain is None else partial(_in_chunks, chain)


def _in_chunks(chain: Chain, params: Tensor, x: Tensor, y: Tensor) -> Tensor:
    chunk = max(1, CHUNK_BYTES // (x[0].numel() * x.element_size()))
    params = params.expand(len(x), -1)
    parts = zip(*(rows.split(chunk) for rows in (params, x, y)), strict=True)
    return torch.cat([_chunk_gradients(chain, *part) for part in parts])


def _chunk_gradients(chain: Chain, params: Tensor, x: Tensor, y: Tensor) -> Tensor:
    with torch.enable_grad():
        params = params.detach().requires_grad_()
        weights = chain.net.layout.split(params)
        activations = x.flatten(0, 1)
        activations = _channels_last(activations) if activations.ndim == 4 else activations
        for name, layer in _pooling_first(chain.layers):
            weight, bias = (weights.get(f"{name}.{own}".lstrip(".")) for own in ("weight", "bias"))
            if weight is None:
                activations = layer(activations)
            elif isinstance(layer, nn.Conv2d):
                biases = [None] * len(x) if bias is None else bias.unbind()
                clients = zip(activations.split(x.shape[1]), weight.unbind(), biases, strict=True)
                options = layer.stride, layer.padding, layer.dilation
                activations = torch.cat([F.conv2d(*client, *options) for client in clients])  # type: ignore[arg-type]
            else:
                rows = activations.reshape(len(x), -1, activations.shape[-1])
                rows = rows @ weight.mT if bias is None else torch.baddbmm(bias.unsqueeze(1), rows, weight.mT)
                activations = rows.view(*activations.shape[:-1], -1)
        loss = F.cross_entropy(activations, y.flatten(0, 1), reduction="sum") / x.shape[1]
        return torch.autograd.grad(loss, params)[0]


def _channels_last(x: Tensor) -> Tensor:
    """Return images (n, c, h, w) with the channels of a pixel adjacent in memory, also in the strides for c = 1."""
    n, c, h, w = x.shape
    return x.permute(0, 2, 3, 1).contiguous().as_strided((n, c, h, w), (c * h * w, 1, w * c, c))


def _pooling_first(layers: tuple[tuple[str, nn.Module], ...]) -> list[tuple[str, nn.Module]]:
    """Return the layers with max-pooling before the monotone activation that it follows: same result, fewer numbers."""
    order = list(layers)
    for i, ((_, first), (_, second)) in enumerate(pairwise(layers)):
        if isinstance(first, nn.ReLU | nn.Sigmoid | nn.Tanh) and type(second) is nn.MaxPool2d:
            order[i], order[i + 1] = order[i + 1], order[i]
    return order
