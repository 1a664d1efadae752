"""Networks whose running statistics travel with their parameters, and whose layers may draw in training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from benchmark.errors import ConfigError
from benchmark.models.chance import of_chance
from benchmark.training.functional import Layout, Net

STATISTICS = ("running_mean", "running_var")


class StatefulNet(Net):
    """A network with batch normalisation or dropout, as a function of one vector.

    Its vector begins with the running statistics, so that uploads carry them, and whatever is done to uploads (noise,
    means, medians, fragments) is done to them too, as where parties exchange state dictionaries. In training, batches
    are standardised by their own statistics; in use, by the running ones. A gradient is then no function of parameters
    and batch alone, and what asks for one is refused: there is :meth:`slope` instead.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._weights = Layout.of(module)
        running = _running(module)
        self._running = Layout(tuple(running), tuple(tuple(held.shape) for held in running.values()))
        self.layout = Layout(self._running.names + self._weights.names, self._running.shapes + self._weights.shapes)

    @classmethod
    def suits(cls, module: nn.Module) -> bool:
        """Return whether ``module`` keeps running statistics or draws in training."""
        return bool(_running(module)) or next(of_chance(module), None) is not None

    @property
    def carried(self) -> int:
        """How many of the vector's first coordinates are running statistics."""
        return self._running.size

    def initial(self) -> Tensor:
        held = _running(self.module) | dict(self.module.named_parameters())
        return self.layout.join({name: part.detach() for name, part in held.items()})

    def logits(self, params: Tensor, x: Tensor) -> Tensor:
        return functional_call(self.module.eval(), self.layout.split(params), (x,))

    def loss(self, params: Tensor, x: Tensor, y: Tensor) -> Tensor:
        raise ConfigError(
            f"{type(self.module).__name__} has batch normalisation or dropout, so that a gradient is no function of "
            "parameters and batch alone; choose norm=group and no dropout, or another model."
        )

    def slope(self, params: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return the gradient (d,) of the mean cross-entropy in training, for x (n, ...) and y (n,) or (n, classes).

        In the place of a running statistic stands what it moves by, old less new: a moving average is gradient descent
        on half the squared distance to the batch's statistic, at a rate of the layer's ``momentum``. Layers draw from
        PyTorch's global generators, which the caller isolates.
        """
        before = params[: self.carried].detach()
        after = before.clone()  # the layers update views of it in place
        weights = params[self.carried :].detach().requires_grad_()
        state = self._running.split(after) | self._weights.split(weights)
        with torch.enable_grad():
            loss = F.cross_entropy(functional_call(self.module.train(), state, (x,)), y)
        return torch.cat([before - after, torch.autograd.grad(loss, weights)[0]])


def _running(module: nn.Module) -> dict[str, Tensor]:
    """Return the running statistics of ``module`` by name."""
    return {name: held for name, held in module.named_buffers() if name.endswith(STATISTICS)}
