"""Stimuli with suppressed participants: identity networks must not recognise anybody in them.

Nikolaidis et al., JAIR 72, 2021 for the idea. Choices of this suite: the weight, the ensemble, and the gradient
reversal (Ganin and Lempitsky, ICML 2015) that keeps participants out of the teacher itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.defenses.release.stimuli import Stimuli
from benchmark.errors import ConfigError, Refused
from benchmark.models.base import Classifier
from benchmark.models.by_shape import network_for
from benchmark.parameters import Count, CountOrZero, Index, NonNegative, Positive
from benchmark.training.loop import train
from benchmark.training.stimulus_optimisation import ExtraLoss, anonymity_loss, person_loss

VERSION = 1


class AnonymousStimuli(Stimuli):
    """Stimuli whose loss has a further term ``suppress * KL(uniform || softmax I(x))``.

    I is one of several frozen identity networks, drawn at each step.

    Args:
        suppress: weight s of that term.
        identity_epochs: of each identity network.
        identity_widths: one network each, as factors of ``width``, so that more than one network is fooled.
        poi: index, among the participants in order, of one person of interest, the only one then suppressed.
        reversal: weight of a gradient-reversal head on participants in the teacher's training; 0: none.
        arguments: as of :class:`Stimuli`; a private teacher is refused, because the identity networks are not private.
    """

    needs = {"dataset.group": "yes"}
    releases = frozenset({"synthetic", "identities"})

    def __init__(
        self,
        *,
        suppress: NonNegative = 5.0,
        identity_epochs: Count = 12,
        identity_widths: Sequence[Positive] = (1.0, 0.75, 1.25),
        poi: Index | None = None,
        reversal: NonNegative = 0.0,
        epochs: Count = 12,
        width: Positive = 1.0,
        variant: Literal["direct", "generator"] = "direct",
        layer: Literal["logits", "penultimate"] = "logits",
        rows: Count | None = None,
        steps: CountOrZero = 200,
        lr: Positive = 0.05,
        exponent: NonNegative = 1.0,
        l2: NonNegative = 0.01,
        variation: NonNegative = 0.05,
        generators: Count = 12,
        spread: NonNegative = 0.1,
        moments: Sequence[float] | None = None,
        publish_teacher: bool = False,
    ) -> None:
        super().__init__(
            epochs=epochs,
            width=width,
            variant=variant,
            layer=layer,
            rows=rows,
            steps=steps,
            lr=lr,
            exponent=exponent,
            l2=l2,
            variation=variation,
            generators=generators,
            spread=spread,
            moments=moments,
            publish_teacher=publish_teacher,
            noise_multiplier=0.0,
            max_norm=1.0,
            delta=0.0,
        )
        if suppress < 0 or reversal < 0 or not identity_widths:
            raise ConfigError("anonymous_stimuli needs suppress and reversal of at least 0 and one identity width.")
        self.suppress, self.identity_epochs, self.identity_widths = suppress, identity_epochs, identity_widths
        self.poi, self.reversal = poi, reversal
        self.identity_networks: list[nn.Module] = []

    def facts(self) -> dict[str, Any]:
        return super().facts() | {"identity_suppressed": True}

    def models(self) -> Mapping[str, nn.Module]:
        """Return also the identity networks, for an attacker who obtained them; using the stimuli needs none."""
        return {**super().models(), **{f"identity_{i}": network for i, network in enumerate(self.identity_networks)}}

    def train_teacher(self, teacher: Classifier, private: Split, rng: torch.Generator) -> float | None:
        if self.reversal == 0:
            return super().train_teacher(teacher, private, rng)
        persons, count = participants(private)
        with_reversal = ReversalTeacher(teacher, count, self.reversal).to(private.x.device)
        labels = torch.stack([private.y, persons], dim=1)
        train(with_reversal, private.x, labels, epochs=self.epochs, rng=rng, batch_size=128, loss=with_reversal.loss)
        return None

    def suppression(self, private: Split, mean: float, sd: float, rng: torch.Generator) -> ExtraLoss:
        persons, count = participants(private)
        networks: list[nn.Module] = []
        for width in self.identity_widths:
            network = network_for(tuple(private.x.shape[1:]), count, width * self.width).to(private.x.device)
            train(network, private.x, persons, epochs=self.identity_epochs, rng=rng)
            networks.append(network.requires_grad_(False))
        self.identity_networks = networks

        def loss(x: Tensor) -> Tensor:
            network = networks[int(torch.randint(len(networks), (), generator=rng))]
            logits = network(mean + sd * x)
            identity_loss = (
                anonymity_loss(logits) if self.poi is None else person_loss(logits, min(self.poi, count - 1))
            )
            return self.suppress * identity_loss

        return loss


class ReversalTeacher(nn.Module):
    """The teacher with a second head on participants, from which its features get reversed gradients."""

    def __init__(self, teacher: Classifier, persons: int, weight: float) -> None:
        super().__init__()
        self.teacher, self.weight, self.classes = teacher, weight, teacher.head.out_features
        self.persons = nn.Linear(teacher.head.in_features, persons)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, classes + persons) of x (n, ...)."""
        hidden = self.teacher.features(x)
        return torch.cat([self.teacher.head(hidden), self.persons(reversed_gradient(hidden, self.weight))], dim=1)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the sum of both cross-entropies; labels are int64 (n, 2): class and participant."""
        task = F.cross_entropy(logits[:, : self.classes], labels[:, 0])
        return task + F.cross_entropy(logits[:, self.classes :], labels[:, 1])


def reversed_gradient(x: Tensor, weight: float) -> Tensor:
    """Return ``x`` with a gradient multiplied by ``-weight``."""
    return (1 + weight) * x.detach() - weight * x


def participants(private: Split) -> tuple[Tensor, int]:
    """Return the participant of each record, int64 (n,) in 0 .. count - 1, and the count.

    Raises:
        Refused: the data have no groups.
    """
    if private.group is None:
        raise Refused("Suppressing identities needs records that say whose they are: use a data set with groups.")
    persons, place = private.group.unique(return_inverse=True)
    return place, len(persons)
