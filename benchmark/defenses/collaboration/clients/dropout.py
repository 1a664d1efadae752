"""Dropout on the inputs of fully connected layers as a defense: the server does not know which units took part.

Srivastava et al. 2014; named as a mitigation of gradient leakage by Mo et al. (arXiv 2105.13929, third version).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from benchmark.parameters import BelowOne
from benchmark.settings.collaboration.defense import FederatedDefense, LocalStep

VERSION = 1


class Dropout(FederatedDefense):
    """Client defense that drops inputs of every fully connected layer, except of a first layer that reads the samples.

    Each local step draws one mask entry for each sample and unit; kept inputs are scaled up by 1 / (1 - rate).

    Args:
        rate: probability that an input is dropped, in [0, 1).
    """

    def __init__(self, *, rate: BelowOne = 0.5) -> None:
        self.rate = rate

    def local_step(self, step: LocalStep) -> Tensor:
        with self._input_dropout(step.net.module, len(step.x), step.rng):
            return step.gradient()

    @contextmanager
    def _input_dropout(self, module: nn.Module, samples: int, rng: torch.Generator) -> Iterator[None]:
        layers = [inner for inner in module.modules() if isinstance(inner, nn.Linear | nn.Conv2d)]
        with ExitStack() as hooks:
            for layer in layers[1:]:
                if isinstance(layer, nn.Linear):
                    kept = (torch.rand((samples, layer.in_features), generator=rng) >= self.rate) / (1 - self.rate)
                    kept = kept.to(layer.weight)
                    handle = layer.register_forward_pre_hook(lambda _, inputs, kept=kept: (inputs[0] * kept,))
                    hooks.callback(handle.remove)
            yield
