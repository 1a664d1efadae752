"""Identity inference by one's own copies of the mechanism: releases made of one participant each, whose owner is known.

An identity network that never saw synthetic rows is arbitrarily sure of itself on them. The adversary fits the
mechanism on the recordings of each participant that it holds, and learns from these rows too (system 04, pitfalls).
"""

from __future__ import annotations

from benchmark.data.base import Split
from benchmark.settings.release.games.identities import IdentitySurface
from benchmark.settings.threat import Floor
from benchmark.threats.identity_inference.classifier import IdentityClassifier

VERSION = 1


class IdentityCopies(IdentityClassifier):
    """A classifier of participants on recordings and on rows of its own per-participant copies.

    Args:
        epochs: of its training.
        adaptive: without it the copies are left out.
    """

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
    """The same against releases that come from one participant each: are stimuli linked to whose teacher made them?"""

    surface = "teachers"
    headline = "identity_accuracy"
    floor = Floor("identity_accuracy", 0.2)
