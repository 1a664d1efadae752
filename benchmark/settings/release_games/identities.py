"""Whose are the released rows? Among known participants, or on a list of identified people."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.data.base import Split
from benchmark.errors import Refused
from benchmark.metrics.classification import accuracy
from benchmark.metrics.identity import claims, reidentified
from benchmark.outcome import Outcome
from benchmark.settings.base import Stage
from benchmark.settings.release_games.base import Game, seen_by_all
from benchmark.settings.release_games.reconstruction import ReconstructionGame, chosen_rows
from benchmark.settings.release_mechanism import Fitted
from benchmark.settings.release_surfaces import IdentitySurface, LinkageSurface, ReleaseThreat
from benchmark.threats.base import IdentityGuess, Linkage


class IdentitiesGame(Game):
    """The adversary holds recordings of the participants from another time (their part of ``attacker``)."""

    guess = IdentityGuess

    def __init__(self, *, victims: int) -> None:
        self.victims = victims

    def observe(self, stage: Stage, fitted: Fitted, threat: ReleaseThreat) -> IdentitySurface:
        owner, release = stage.data.owner, fitted.release
        if owner.group is None:
            raise Refused("The data set does not say who a sample is of; choose one with groups, e.g. dataset=uci_har.")
        persons = owner.group.unique()
        recordings, held_out = (
            known_persons(split, persons) for split in (stage.data.attacker, stage.data.calibration)
        )
        if not len(recordings) or not len(held_out):
            raise Refused(
                "Identity inference needs recordings of the same people in the attacker and calibration splits."
            )
        rows, _ = chosen_rows(stage, len(release.x), min(self.victims, len(release.x)), 0)
        truth = torch.empty(0, dtype=torch.int64)
        if release.source is not None:
            truth = torch.searchsorted(persons, owner.group[release.source.to(persons.device)][rows])
        return IdentitySurface(
            **seen_by_all(stage, fitted, threat),
            targets=release.x[rows],
            recordings=recordings,
            real=held_out.x,
            truth=truth,
            persons=len(persons),
        )

    def score(self, stage: Stage, outcome: Outcome, guess: IdentityGuess, surface: IdentitySurface) -> None:
        for name, value in claims(guess.probabilities).items():
            (outcome.diagnostics if name == "identity_entropy" else outcome.risk)[name] = value
        outcome.diagnostics.update({f"real_{name}": value for name, value in claims(guess.on_real).items()})
        persons = stage.data.owner.group.unique()  # type: ignore[union-attr]
        real = known_persons(stage.data.calibration, persons).group
        assert real is not None
        outcome.diagnostics["real_identity_accuracy"] = accuracy(guess.on_real.to(real.device), real)
        outcome.diagnostics["persons"] = surface.persons
        if len(surface.truth):
            outcome.risk["identity_accuracy"] = accuracy(guess.probabilities, surface.truth)


def known_persons(split: Split, persons: Tensor) -> Split:
    """The samples of ``persons`` (sorted), ``group`` renumbered 0, 1, ..."""
    if split.group is None:
        return split[:0]
    place = torch.searchsorted(persons, split.group).clamp_max(len(persons) - 1)
    rows = (persons[place] == split.group).nonzero().squeeze(1)
    return Split(split.x[rows], split.y[rows], group=place[rows])


class LinkageGame(Game):
    """The list holds the people behind the targets and as many other members as there are, up to 1,000."""

    guess = Linkage
    LISTED = 1000

    def __init__(self, *, victims: int) -> None:
        self.rows = ReconstructionGame(victims=victims, examiner_epochs=0)

    def observe(self, stage: Stage, fitted: Fitted, threat: ReleaseThreat) -> LinkageSurface:
        own = self.rows.targets(stage, fitted, threat.pairs)
        victims, _ = chosen_rows(stage, len(fitted.release.x), self.rows.victims, threat.pairs)
        behind = fitted.release.source[victims.cpu()].cpu()  # type: ignore[index]
        others = torch.tensor(sorted(set(range(len(stage.data.owner))) - set(behind.tolist())), dtype=torch.int64)
        listed = torch.cat([behind.unique(), others])[: self.LISTED]
        listed = listed[torch.randperm(len(listed), generator=stage.rng("listed"))]
        position = (listed.unsqueeze(0) == behind.unsqueeze(1)).int().argmax(dim=1)
        private = stage.data.owner.x
        return LinkageSurface(
            **seen_by_all(stage, fitted, threat),
            **own,
            listed=private[listed.to(private.device)],
            position=position.to(private.device),
        )

    def score(self, stage: Stage, outcome: Outcome, guess: Linkage, surface: LinkageSurface) -> None:
        outcome.diagnostics["listed"] = len(surface.listed)
        for within in (1, 5):
            outcome.risk[f"reidentified_at_{within}"] = reidentified(guess.distances, surface.position, within)
