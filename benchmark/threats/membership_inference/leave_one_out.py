"""Leave-one-out participation inference: is a release attributed more to a participant whose data it includes?

Unlike the confidence of a classifier, which is arbitrary on synthetic rows, this has a ground truth. The attack is
ours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.errors import Refused
from benchmark.parameters import Count
from benchmark.settings.guesses import MembershipScores
from benchmark.settings.release.games.participants import ParticipantSurface, ParticipantThreat
from benchmark.settings.threat import Floor
from benchmark.training.loop import predict, train

VERSION = 2


class LeaveOneOut(ParticipantThreat):
    """Attack that scores a release by the mean probability of the participant under a classifier of recordings.

    Args:
        epochs: of the classifier, of the cell's kind of model.
        participants: see the base class.
        adaptive: the adversary also runs the mechanism on its recordings with and without the participant, and compares
            the score with the midpoint of the two, with the sign of their difference.
    """

    family = "membership_inference"
    headline = "attack_auc"
    floor = Floor("attack_auc", 0.7)
    needs = {"dataset.group": "yes"}
    knowledge = frozenset({"recordings"})

    def __init__(self, *, epochs: Count = 30, participants: Count = 4, adaptive: bool = False) -> None:
        super().__init__(adaptive=adaptive)
        self.epochs, self.participants = epochs, participants
        if adaptive:
            self.knowledge = self.knowledge | {"refit"}

    def attack(self, surface: ParticipantSurface, rng: torch.Generator) -> MembershipScores:
        known = surface.recordings
        assert known.group is not None
        if surface.x.shape[1:] != surface.shape:
            raise Refused("Released rows have another shape than recordings: no identity classifier reads both.")
        model = surface.architecture(shape=surface.shape, num_classes=surface.persons).to(known.x.device)
        model = train(model, known.x, known.group, epochs=self.epochs, rng=rng)

        def attributed(rows: Tensor, person: int) -> float:
            return float(predict(model, rows).softmax(dim=1)[:, person].mean())

        asked = surface.asked.tolist()
        scores = torch.tensor([attributed(rows, p) for rows, p in zip(surface.releases, asked, strict=True)])
        if not self.adaptive:
            return MembershipScores(scores)
        everybody = surface.refit(known, "everybody").x
        for person in set(asked):
            others = surface.refit(known[(known.group != person).nonzero().squeeze(1)], "others").x
            inside, outside = attributed(everybody, person), attributed(others, person)
            rows = surface.asked == person
            scores[rows] = (scores[rows] - (inside + outside) / 2) * (1.0 if inside >= outside else -1.0)
        return MembershipScores(scores, threshold=0.0)
