"""Identity inference with copies of the mechanism, each fitted on one participant.

An identity network that never saw synthetic rows has an arbitrary confidence on them. The adversary fits the mechanism
on the recordings of each participant that it holds, and learns from these rows too.
"""

from __future__ import annotations

from benchmark.data.base import Split
from benchmark.parameters import Count
from benchmark.settings.release.games.identities import IdentitySurface
from benchmark.settings.threat import Floor
from benchmark.threats.identity_inference.classifier import IdentityClassifier

VERSION = 1


class IdentityCopies(IdentityClassifier):
    """Classifier of participants, trained on recordings and on rows of its own copies of the mechanism.

    Args:
        epochs: of its training.
        adaptive: if False, the copies are left out.
    """

    def __init__(self, *, epochs: Count = 30, adaptive: bool = True) -> None:
        super().__init__(epochs=epochs, adaptive=adaptive)

    @staticmethod
    def _with_released(surface: IdentitySurface, known: Split) -> Split:
        assert known.group is not None
        everything = known
        for person in range(surface.persons):
            own = known[(known.group == person).nonzero().squeeze(1)]
            if not len(own):
                continue
            x = surface.refit(own, f"copies.{person}").x
            labels = known.group.new_full((len(x),), person)
            everything = everything.joined(Split(x, labels, group=labels))
        return everything


class IdentityTeachers(IdentityCopies):
    """Form of the attack on releases that each come from one participant, who has to be identified."""

    surface = "teachers"
    headline = "identity_accuracy"
    floor = Floor("identity_accuracy", 0.2)

    def __init__(self, *, epochs: Count = 30, adaptive: bool = False) -> None:
        super().__init__(epochs=epochs, adaptive=adaptive)
