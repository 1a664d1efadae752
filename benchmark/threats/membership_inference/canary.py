"""Canary audit in one run: which of many planted records are in the release, and the epsilon that this refutes.

Steinke, Nasr, Jagielski, *Privacy Auditing with One (1) Training Run*, NeurIPS 2023. Deviations: the audited run is
that of a release mechanism, not of a classifier; canaries are added to the private data, not chosen among them; and
they are scored by how much of the release lies near them, not by their loss or gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from benchmark.data.base import Split
from benchmark.errors import ConfigError, Refused
from benchmark.parameters import AtLeastTwo, Count
from benchmark.settings.guesses import MembershipScores
from benchmark.settings.release.games.canaries import CanarySurface, CanaryThreat
from benchmark.settings.threat import Floor
from benchmark.threats.membership_inference.statistics import comparable, statistic_named

VERSION = 2


class Canary(CanaryThreat):
    """Attack that plants canaries and infers from one release which of them are in it.

    Labels weigh as much as a sample's distance from the mean of the release without canaries, so that a mislabelled
    canary is not mistaken for a row that looks like it and has the right label.

    Args:
        kind: ``mislabelled``: the adversary's own samples with a wrong label; ``blank``: constant samples, each with
            its own level; ``noise``: uniform values. Blank and noisy rows of a table have no valid one-hot columns.
        canaries: number of canaries.
        guesses: number of canaries for which the auditor guesses (it abstains for the others); an even number.
        statistic: ``calibrated`` (distance to the nearest released row against that in a release without canaries),
            ``nearest``, ``ball``, ``density`` or ``correlation``.
    """

    family = "membership_inference"
    headline = "attack_auc"
    floor = Floor("attack_auc", 0.95)
    knowledge = frozenset({"refit"})

    def __init__(
        self,
        *,
        kind: Literal["mislabelled", "blank", "noise"] = "mislabelled",
        canaries: AtLeastTwo = 1000,
        guesses: Count = 500,
        statistic: str = "calibrated",
        adaptive: bool = True,
    ) -> None:
        super().__init__(adaptive=adaptive)
        if guesses % 2 or not 2 <= guesses <= canaries:
            raise ConfigError(
                "threat.guesses must be even, at least 2 and at most threat.canaries; "
                f"got {guesses} for {canaries} canaries."
            )
        self.kind, self.canaries, self.guesses = kind, canaries, guesses
        self.statistic = statistic_named(statistic)

    def make(self, own: Split, num_classes: int, rng: torch.Generator) -> Split:
        return KINDS[self.kind](own, self.canaries, num_classes, rng)

    def attack(self, surface: CanarySurface, rng: torch.Generator) -> MembershipScores:
        canaries, (x, y) = surface.canaries, surface.without
        points, released = comparable(canaries.x, surface.x)
        reference = comparable(canaries.x, x)[1]
        weight = (reference - reference.mean(dim=0)).norm(dim=1).mean()

        def labelled(rows: Tensor, labels: Tensor) -> Tensor:
            soft = labels if labels.ndim == 2 else one_hot(labels, surface.num_classes)
            return torch.cat([rows, weight * soft.to(rows)], dim=1)

        return MembershipScores(
            self.statistic(labelled(points, canaries.y), labelled(released, surface.y), labelled(reference, y))
        )


def mislabelled(own: Split, count: int, num_classes: int, rng: torch.Generator) -> Split:
    """Return distinct samples of ``own``, each with a random wrong label.

    Raises:
        Refused: the adversary has fewer than ``count`` samples.
    """
    if count > len(own):
        raise Refused(
            f"{count} mislabelled canaries need as many samples of the adversary, who has {len(own)}: lower "
            "threat.canaries, raise dataset.sizes.attacker or choose another threat.kind."
        )
    chosen = own[torch.randperm(len(own), generator=rng)[:count].to(own.y.device)]
    shift = torch.randint(1, num_classes, (count,), generator=rng).to(own.y.device)
    return replace(chosen, y=(chosen.y + shift) % num_classes)


def blank(own: Split, count: int, num_classes: int, rng: torch.Generator) -> Split:
    """Return constant samples of evenly spaced levels in the range of ``own``, with random labels."""
    levels = torch.linspace(0, 1, count)[torch.randperm(count, generator=rng)]
    return _synthetic(own, levels.view(-1, *[1] * (own.x.ndim - 1)).expand(count, *own.x.shape[1:]), num_classes, rng)


def noise(own: Split, count: int, num_classes: int, rng: torch.Generator) -> Split:
    """Return uniform values in the range of ``own``, with random labels."""
    return _synthetic(own, torch.rand((count, *own.x.shape[1:]), generator=rng), num_classes, rng)


def _synthetic(own: Split, values: Tensor, num_classes: int, rng: torch.Generator) -> Split:
    """Return samples with ``values``, stretched from [0, 1] to the range of ``own`` (of each column in a table)."""
    if not len(own):
        raise Refused("Canaries are made in the likeness of the adversary's samples: raise dataset.sizes.attacker.")
    rows = own[torch.randint(len(own), (len(values),), generator=rng).to(own.y.device)]  # group, attribute
    low, high = (own.x.amin(dim=0), own.x.amax(dim=0)) if own.x.ndim == 2 else (own.x.min(), own.x.max())
    labels = torch.randint(num_classes, (len(values),), generator=rng).to(own.y)
    return replace(rows, x=low + values.to(own.x) * (high - low), y=labels)


KINDS: dict[str, Callable[[Split, int, int, torch.Generator], Split]] = {
    "mislabelled": mislabelled,
    "blank": blank,
    "noise": noise,
}
