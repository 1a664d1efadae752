"""Aggregation rules of byzfl, played as they are.

Guerraoui, Gupta, Pinot, Rouault, Stephan and others, *ByzFL: Research Framework for Robust Federated Learning*, 2025
(arXiv 2505.24802).
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor

from benchmark.defenses.collaboration.aggregation.assumed import malicious_uploads
from benchmark.errors import ConfigError
from benchmark.libraries import BYZFL, built, classes, fitting, named
from benchmark.parameters import Arguments, CountOrZero
from benchmark.seeds import child, isolated
from benchmark.settings.collaboration.defense import FederatedDefense, Round
from benchmark.training.functional import Layout

VERSION = 1
PLACE = "defense.byzfl_aggregator"


class ByzflAggregator(FederatedDefense):
    """Aggregation rule of byzfl, by the name of its class.

    Args:
        aggregator: a class of ``byzfl.aggregators.aggregators``, e.g. ``Krum``, ``TrMean``, ``SMEA``.
        parameters: of its constructor, e.g. ``tau``; byzfl's defaults for the others.
        f_assumed: byzfl's f, malicious uploads that the server prepares for, for rules that take it; None for the most
            with 2 f + 3 <= uploads.
    """

    library = BYZFL

    def __init__(
        self,
        *,
        aggregator: str = "Krum",
        parameters: Arguments | None = None,
        f_assumed: CountOrZero | None = None,
    ) -> None:
        module = BYZFL.load("aggregators.aggregators")
        rules = {name: kind for name, kind in classes(module).items() if kind.__module__ == module.__name__}
        self.kind: Any = named(aggregator, rules, f"{PLACE}.aggregator", BYZFL)
        self.parameters, self.f = dict(parameters or {}), f_assumed
        fitting(self.kind, self.parameters, f"{PLACE}.parameters", ("f",))
        self.takes_f = "f" in inspect.signature(self.kind).parameters
        self.rule = built(self.kind, self.parameters, f"{PLACE}.parameters")

    def start(self, parties: int, layout: Layout) -> None:
        self.rule = built(self.kind, self.parameters, f"{PLACE}.parameters")  # some rules remember the last round

    def aggregate(self, uploads: Tensor, round: Round) -> Tensor:
        if self.takes_f:
            self.rule.f = malicious_uploads("byzfl_aggregator", self.f, len(uploads), round, each=2, more=3)
        try:
            with isolated(child(round.rng), "byzfl"):  # some rules draw from the global generator
                return self.rule(uploads).to(uploads)
        except ValueError as error:
            raise ConfigError(f"byzfl's {self.kind.__name__} refuses {len(uploads)} uploads: {error}.") from error
