"""Identity inference by a classifier of the participants, trained on other recordings of them."""

from __future__ import annotations

import torch

from benchmark.data.base import Split
from benchmark.errors import Refused
from benchmark.parameters import Count
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.identities import IdentityGuess, IdentitySurface
from benchmark.settings.threat import Floor
from benchmark.training.loop import predict, train

VERSION = 1


class IdentityClassifier(ReleaseThreat):
    """Attack with the cell's kind of model, trained on recordings of the participants from another time.

    Args:
        epochs: of its training.
        adaptive: it also trains on the mechanism's release of the recordings (under a key of the adversary's own), so
            that released rows are familiar inputs. Synthetic releases name no person and add no such rows.
    """

    family = "identity_inference"
    surface = "identities"
    headline = "confident_share"
    floor = Floor("identity_accuracy", 0.2)
    needs = {"dataset.group": "yes"}
    knowledge = frozenset({"recordings"})

    def __init__(self, *, epochs: Count = 30, adaptive: bool = False) -> None:
        super().__init__(adaptive=adaptive)
        self.epochs = epochs
        if adaptive:
            self.knowledge = self.knowledge | {"refit"}

    def attack(self, surface: IdentitySurface, rng: torch.Generator) -> IdentityGuess:
        if surface.targets.shape[1:] != surface.shape:
            raise Refused(
                "Released rows have another shape than recordings, so that no identity classifier reads both."
            )
        known = surface.recordings
        if self.adaptive:
            known = self._with_released(surface, known)
        model = surface.architecture(shape=surface.shape, num_classes=surface.persons).to(known.x.device)
        assert known.group is not None
        model = train(model, known.x, known.group, epochs=self.epochs, rng=rng)
        return IdentityGuess(*(predict(model, rows).softmax(dim=1) for rows in (surface.targets, surface.real)))

    @staticmethod
    def _with_released(surface: IdentitySurface, known: Split) -> Split:
        own = surface.refit(known, "identity")
        if own.source is None or known.group is None:
            return known
        source = own.source.to(known.y.device)
        return known.joined(Split(own.x, known.y[source], group=known.group[source]))
