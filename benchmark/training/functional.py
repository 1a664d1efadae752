"""A model as a pure function of one flat parameter vector, so that clients and samples can be vectorised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from benchmark.errors import ConfigError


@dataclass(frozen=True)
class Layout:
    """Division of a flat vector of size d into a model's named parameters."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, module: nn.Module) -> Layout:
        """Return the layout of a module's parameters."""
        named = list(module.named_parameters())
        return cls(tuple(name for name, _ in named), tuple(tuple(p.shape) for _, p in named))

    @property
    def sizes(self) -> list[int]:
        return [math.prod(shape) for shape in self.shapes]

    @property
    def size(self) -> int:
        return sum(self.sizes)

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """Return name -> (..., *shape), as views of a flat vector (..., d)."""
        parts = flat.split(self.sizes, dim=-1)
        return {
            name: part.reshape(*flat.shape[:-1], *shape)
            for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }

    def join(self, parts: Sequence[Tensor] | dict[str, Tensor], batch_dims: int = 0) -> Tensor:
        """Invert :meth:`split`; ``batch_dims`` leading dimensions are kept."""
        ordered = [parts[name] for name in self.names] if isinstance(parts, dict) else list(parts)
        return torch.cat([part.flatten(start_dim=batch_dims) for part in ordered], dim=-1)

    def slices(self) -> dict[str, slice]:
        """Return name -> the slice of the flat vector that holds this parameter."""
        found, start = {}, 0
        for name, size in zip(self.names, self.sizes, strict=True):
            found[name] = slice(start, start + size)
            start += size
        return found


class Net:
    """A stateless module together with its layout.

    Args:
        module: any module without buffers that change in training (batch normalisation would make one client's
            gradient depend on hidden state; use group normalisation).

    Raises:
        ConfigError: the module has buffers.
    """

    def __init__(self, module: nn.Module) -> None:
        stateful = [name for name, _ in module.named_buffers() if "running" in name or "num_batches" in name]
        if stateful:
            raise ConfigError(
                f"{type(module).__name__} keeps running statistics ({stateful[0]}, ...), which gradients cannot carry; "
                "use its group-normalised form (norm: group)."
            )
        self.module = module
        self.layout = Layout.of(module)

    def initial(self) -> Tensor:
        """Return the module's own parameters as one vector (d,)."""
        return self.layout.join([p.detach() for p in self.module.parameters()])

    def logits(self, params: Tensor, x: Tensor) -> Tensor:
        """Return logits (n, classes) of x (n, ...) for parameters (d,)."""
        return functional_call(self.module, self.layout.split(params), (x,))

    def loss(self, params: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean cross-entropy; ``y`` is int64 (n,) or a distribution over classes (n, classes)."""
        return F.cross_entropy(self.logits(params, x), y)

    def gradient(self, params: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return the gradient of the mean loss, (d,), differentiable in ``x`` and in a soft ``y``."""
        return grad(self.loss)(params, x, y)

    def gradients(self, params: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return one gradient per client (n, d): x (n, batch, ...), y (n, batch), params (d,) or a row per client."""
        return vmap(self.gradient, in_dims=(0 if params.ndim == 2 else None, 0, 0))(params, x, y)

    def per_sample_gradients(self, params: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return the gradient of each sample's own loss, (n, d), for x (n, ...) and y (n,)."""
        return self.gradients(params, x.unsqueeze(1), y.unsqueeze(1))
