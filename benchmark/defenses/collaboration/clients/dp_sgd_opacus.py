"""Differentially private SGD by Opacus: its engine clips and adds noise, and its accountant tells what users publish.

Yousefpour et al., *Opacus: User-Friendly Differential Privacy Library in PyTorch*, 2021 (arXiv 2109.12298). The engine
is attached to a copy of the parties' model, whose gradient it makes private in every local step; the step itself is the
setting's. Deviation: batches have a fixed size and are drawn without replacement, while Opacus' accountants assume
Poisson sampling at the same rate, and neighbours that differ by one record more or less. What they tell is no bound for
such a run and is reported as a claim; epsilon is that of the suite's ``dp_sgd``, whose clipping and noise are the same.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmark.defenses.collaboration.clients.dp_sgd import DPSGD
from benchmark.errors import ConfigError
from benchmark.libraries import OPACUS
from benchmark.parameters import NonNegative, Positive, Rate
from benchmark.seeds import child, isolated
from benchmark.settings.collaboration.defense import LocalStep

VERSION = 2


class DPSGDOpacus(DPSGD):
    """Client defense with Opacus' ``PrivacyEngine`` in every local step.

    Args:
        max_norm: clipping bound C of a sample's gradient (L2).
        noise_multiplier: standard deviation of the noise on the sum, over C.
        delta: at which epsilon is reported.
        accountant: of Opacus: ``prv`` (its default), ``rdp`` or ``gdp``.
    """

    library = OPACUS

    def __init__(
        self,
        *,
        max_norm: Positive = 1.0,
        noise_multiplier: NonNegative = 1.0,
        delta: Rate = 0.001,
        accountant: Literal["prv", "rdp", "gdp"] = "prv",
    ) -> None:
        super().__init__(max_norm=max_norm, noise_multiplier=noise_multiplier, delta=delta)
        self.accountant = accountant
        self.engines: dict[tuple[int, torch.Size], Engine] = {}

    def local_step(self, step: LocalStep) -> Tensor:
        key = id(step.net.module), step.x.shape
        if key not in self.engines:
            self.engines[key] = Engine(step, self.max_norm, self.noise_multiplier)
        return self.engines[key].gradient(step)

    def claims(self, *, samples: int, batch_size: int, steps: int) -> dict[str, float]:
        if self.noise_multiplier == 0:
            return {}
        accountant = OPACUS.load("accountants").create_accountant(self.accountant)
        accountant.history = [(self.noise_multiplier, batch_size / samples, steps)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return {"epsilon_by_opacus": float(accountant.get_epsilon(delta=self.delta))}


class Engine:
    """Opacus' private form of a model, for batches of one shape. It keeps nothing between steps.

    Raises:
        ConfigError: Opacus cannot make the model private.
    """

    def __init__(self, step: LocalStep, max_norm: float, noise_multiplier: float) -> None:
        module = copy.deepcopy(step.net.module).to(step.x.device).requires_grad_(True).train()
        batch = DataLoader(TensorDataset(step.x), batch_size=len(step.x))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that its noise is not of a cryptographic generator
                engine = OPACUS.load().PrivacyEngine()
                self.model, self.optimizer, _ = engine.make_private(
                    module=module,
                    optimizer=torch.optim.SGD(module.parameters(), lr=1.0),
                    data_loader=batch,
                    noise_multiplier=noise_multiplier,
                    max_grad_norm=max_norm,
                    poisson_sampling=False,
                )
        except (NotImplementedError, OPACUS.load("validators.errors").UnsupportedModuleError) as error:
            raise ConfigError(f"Opacus cannot make {type(module).__name__} private: {_first(error)}") from error
        self.module, self.net = module, step.net

    def __deepcopy__(self, memo: dict[int, Any]) -> Engine:
        return self

    def gradient(self, step: LocalStep) -> Tensor:
        """Return the private mean gradient (d,) at ``step``, with noise from its own generator."""
        parameters: list[nn.Parameter] = list(self.module.parameters())
        with torch.no_grad():
            for own, here in zip(parameters, step.net.layout.split(step.params).values(), strict=True):
                own.copy_(here)
        self.optimizer.zero_grad()
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # full backward hooks fire where inputs take no gradient
            F.cross_entropy(self.model(step.x), step.y).backward()
        with self._chance(step):
            self.optimizer.pre_step()
        found = [own.grad.detach() for own in parameters if own.grad is not None]  # DP noise leaves none out
        private = step.net.layout.join(found).clone()
        self.optimizer.zero_grad()
        return private

    @contextmanager
    def _chance(self, step: LocalStep) -> Iterator[None]:
        """Let Opacus draw from the step's generator, or from its device's own, seeded by that."""
        if step.params.device == step.rng.device:
            self.optimizer.generator = step.rng
            yield
            self.optimizer.generator = None
        else:
            with isolated(child(step.rng), "opacus"):
                yield


def _first(error: Exception) -> str:
    """Return the first sentence of what Opacus says, which lists all that it dislikes."""
    return re.sub(r"^\[?\w*\(?['\"]?", "", str(error)).partition(". ")[0] + "."
