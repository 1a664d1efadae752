"""Identity inference: a classifier of the participants, trained on their recordings, looks at released rows."""

from __future__ import annotations

import torch

from benchmark.data.base import Split
from benchmark.errors import Refused, positive
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.identities import IdentityGuess, IdentitySurface
from benchmark.settings.threat import Floor
from benchmark.training.loop import predict, train

VERSION = 1


class IdentityClassifier(ReleaseThreat):
    """Trains the cell's kind of model on recordings of the participants from another time.

    Args:
        epochs: of its training.
        adaptive: it trains on what the mechanism makes of the recordings (under a key of the adversary's) as well, so
            that released rows are no foreign inputs. Synthetic releases name no person and leave it without such rows.
    """

    family = "identity_inference"
    surface = "identities"
    headline = "confident_share"
    floor = Floor("identity_accuracy", 0.2)
    needs = {"dataset.group": "yes"}
    knowledge = frozenset({"recordings"})

    def __init__(self, *, epochs: int, adaptive: bool) -> None:
        super().__init__(adaptive=adaptive)
        positive("threat.epochs", epochs)
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
