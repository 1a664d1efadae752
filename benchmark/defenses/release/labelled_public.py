"""Knowledge distillation on public records: a baseline of stimuli that invents no inputs."""

from __future__ import annotations

from typing import Any

import torch

from benchmark.data.base import Split
from benchmark.errors import ConfigError
from benchmark.models.by_shape import network_for
from benchmark.parameters import Count, Positive
from benchmark.settings.release.defense import Release, ReleaseMechanism
from benchmark.training.loop import predict, train

VERSION = 1


class LabelledPublic(ReleaseMechanism):
    """Mechanism that releases public records, labelled by a teacher trained on the private ones.

    Deviation: the public records come from the same data set, not from another one.

    Args:
        epochs: of the teacher.
        width: of its layers, 1 being the full size.
    """

    releases = frozenset({"synthetic"})

    def __init__(self, *, epochs: Count = 12, width: Positive = 1.0) -> None:
        self.epochs, self.width = epochs, width

    def facts(self) -> dict[str, Any]:
        return {"mechanism": "labelled_public", "synthetic": True}

    def release(self, private: Split, rng: torch.Generator) -> Release:
        if self.context is None or not len(self.context.public):
            raise ConfigError("labelled_public needs public records: raise dataset.sizes.public.")
        teacher = network_for(tuple(private.x.shape[1:]), self.context.num_classes, self.width).to(private.x.device)
        train(teacher, private.x, private.y, epochs=self.epochs, rng=rng, batch_size=128)
        public = self.context.public.x.to(private.x.device)
        return Release(public, predict(teacher, public).softmax(dim=1))
