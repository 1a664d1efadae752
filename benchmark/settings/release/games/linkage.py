"""Surface of linkage: infer which person of a list is behind which released row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmark.metrics.identity import reidentified
from benchmark.outcome import Outcome
from benchmark.settings.base import CellContext
from benchmark.settings.release.games.base import ReleaseGame, ReleaseThreat, seen_by_all
from benchmark.settings.release.games.release import ReleaseSurface, chosen_rows, under_attack
from benchmark.settings.release.mechanism import Fitted
from benchmark.settings.threat import Guess

LISTED = 1000


@dataclass(frozen=True, kw_only=True)
class LinkageSurface(ReleaseSurface):
    """View of linkage: released rows, and a list of identified people.

    Attributes:
        listed: (k, ...) plain samples; everybody behind a target is among them.
        position: int64 (n,), where (grant ``truth``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {**ReleaseSurface.granted_by, "position": "truth"}

    listed: Float[Tensor, " k *sample"]
    position: Int[Tensor, " n"]


@dataclass
class Linkage(Guess):
    """Distance of each row under attack from each listed person; the least is the guess."""

    distances: Float[Tensor, "n listed"]


class LinkageGame(ReleaseGame):
    """The list holds the people behind the targets and as many other members as there are, up to 1,000."""

    surface = "linkage"
    guess = Linkage

    def observe(self, context: CellContext, fitted: Fitted, threat: ReleaseThreat) -> LinkageSurface:
        own = under_attack(context, fitted, self.honest.victims, threat.pairs)
        victims, _ = chosen_rows(context, len(fitted.release.x), self.honest.victims, threat.pairs)
        behind = fitted.release.source[victims.cpu()].cpu()  # type: ignore[index]
        others = torch.tensor(sorted(set(range(len(context.data.owner))) - set(behind.tolist())), dtype=torch.int64)
        listed = torch.cat([behind.unique(), others])[:LISTED]
        listed = listed[torch.randperm(len(listed), generator=context.rng("listed"))]
        position = (listed.unsqueeze(0) == behind.unsqueeze(1)).int().argmax(dim=1)
        private = context.data.owner.x
        return LinkageSurface(
            **seen_by_all(context, fitted, threat),
            **own,
            listed=private[listed.to(private.device)],
            position=position.to(private.device),
        )

    def score(self, context: CellContext, outcome: Outcome, guess: Linkage, surface: LinkageSurface) -> None:
        outcome.diagnostics["listed"] = len(surface.listed)
        for within in (1, 5):
            outcome.risk[f"reidentified_at_{within}"] = reidentified(guess.distances, surface.position, within)
