"""Stimuli with soft labels in place of data: inputs optimised to activate a teacher trained on the private data.

Nikolaidis et al., *Learning Realistic Patterns from Unrealistic Stimuli: Generalization and Data Anonymization*,
JAIR 72, 2021. Deviations: a reconstruction (see :mod:`benchmark.training.stimulus_optimisation`); the teacher has no
weight decay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.errors import ConfigError
from benchmark.models.base import Classifier
from benchmark.models.by_shape import network_for
from benchmark.parameters import Count, CountOrZero, NonNegative, Positive, Rate
from benchmark.settings.release.defense import Release, ReleaseMechanism
from benchmark.training.loop import predict, train
from benchmark.training.private import train_privately
from benchmark.training.stimulus_optimisation import (
    ExtraLoss,
    Outputs,
    Regulariser,
    StimulusGenerator,
    coloured_noise,
    optimise_stimuli,
    sample_stimuli,
    target_outputs,
    train_stimulus_generator,
)

VERSION = 1

LATENT = 16


class Stimuli(ReleaseMechanism):
    """Mechanism that releases optimised stimuli with the soft labels of a teacher.

    The teacher has its own architecture, which is not that of the cell's model. No stimulus starts from a private
    record: the start uses at most the overall mean and standard deviation of the data. With ``steps: 0`` nothing is
    optimised and coloured (or, with exponent 0, white) noise is labelled, the baselines.

    Args:
        epochs: of the teacher.
        width: of its layers, 1 being the full size.
        variant: ``direct`` optimises each stimulus from noise; ``generator`` trains small generators.
        layer: target of the optimisation, ``logits`` or ``penultimate`` (two hidden neurons against the others).
        rows: released stimuli; None: as many as there are private records.
        steps, lr: of Adam on stimuli (in standard deviations) or on a generator's weights.
        exponent: the start's amplitude falls as frequency to the minus this.
        l2, variation: weights of the mean square and of the total variation of a stimulus.
        generators: how many there are.
        spread: weight of their diversity term.
        moments: mean and standard deviation of the noise; None: those of the private data.
        publish_teacher: release the teacher too.
        noise_multiplier: of DP-SGD on the teacher, which makes the stimuli differentially private; 0: plain training.
        max_norm: clipping bound of DP-SGD.
        delta: at which its epsilon is reported.
    """

    releases = frozenset({"synthetic"})

    def __init__(
        self,
        *,
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
        noise_multiplier: NonNegative = 0.0,
        max_norm: Positive = 1.0,
        delta: Rate = 1e-5,
    ) -> None:
        if noise_multiplier > 0 and moments is None:
            raise ConfigError("A private teacher's stimuli need stimuli.moments: the data's own would not be private.")
        self.epochs, self.width, self.variant, self.layer, self.rows = epochs, width, variant, layer, rows
        self.steps, self.lr, self.exponent, self.generators, self.spread = steps, lr, exponent, generators, spread
        self.penalty, self.moments, self.publish_teacher = Regulariser(l2, variation), moments, publish_teacher
        self.noise_multiplier, self.max_norm, self.delta = noise_multiplier, max_norm, delta
        self.teacher: Classifier | None = None

    def facts(self) -> dict[str, Any]:
        return {"mechanism": "stimuli", "synthetic": True}

    def models(self) -> Mapping[str, nn.Module]:
        return {"teacher": self.teacher} if self.teacher is not None and self.publish_teacher else {}

    def release(self, private: Split, rng: torch.Generator) -> Release:
        classes = int(private.y.max()) + 1 if self.context is None else self.context.num_classes
        shape, device = tuple(private.x.shape[1:]), private.x.device
        teacher = self.teacher = network_for(shape, classes, self.width).to(device)
        epsilon = self.train_teacher(teacher, private, rng)
        teacher.requires_grad_(False)
        mean, sd = self.moments or (float(private.x.mean()), max(float(private.x.std()), 1e-6))

        def outputs(x: Tensor) -> Tensor:
            hidden = teacher.features(mean + sd * x)
            return hidden if self.layer == "penultimate" else teacher.head(hidden)

        extra = self.suppression(private, mean, sd, rng)
        count = classes if self.layer == "logits" else teacher.head.in_features
        rows = len(private) if self.rows is None else self.rows
        target = target_outputs(rows, count, rng).to(device)
        stimuli = self._stimuli(outputs, target, shape, extra, rng)
        x = mean + sd * stimuli
        labels = predict(teacher, x).softmax(dim=1)
        return Release(x, labels, epsilon=epsilon, delta=None if epsilon is None else self.delta)

    def train_teacher(self, teacher: Classifier, private: Split, rng: torch.Generator) -> float | None:
        """Train the teacher in place and return the epsilon spent, None without a guarantee."""
        if self.noise_multiplier == 0:
            train(teacher, private.x, private.y, epochs=self.epochs, rng=rng, batch_size=128)
            return None
        return train_privately(
            teacher,
            private.x,
            private.y,
            epochs=self.epochs,
            batch_size=128,
            max_norm=self.max_norm,
            noise_multiplier=self.noise_multiplier,
            delta=self.delta,
            lr=1e-3,
            rng=rng,
        )

    def suppression(self, private: Split, mean: float, sd: float, rng: torch.Generator) -> ExtraLoss:
        """Return a further loss of each stimulus; zero here."""
        return lambda x: x.new_zeros(len(x))

    def _stimuli(
        self, outputs: Outputs, target: Tensor, shape: tuple[int, ...], extra: ExtraLoss, rng: torch.Generator
    ) -> Tensor:
        if self.variant == "direct":
            start = coloured_noise(len(target), shape, self.exponent, rng).to(target.device)
            return optimise_stimuli(
                outputs, target, start, steps=self.steps, lr=self.lr, penalty=self.penalty, extra=extra
            )
        stimuli = []
        for part in target.chunk(self.generators):
            generator = StimulusGenerator(shape, target.shape[1], LATENT).to(target.device)
            train_stimulus_generator(
                generator,
                outputs,
                target.shape[1],
                steps=self.steps,
                lr=self.lr,
                penalty=self.penalty,
                spread=self.spread,
                extra=extra,
                rng=rng,
            )
            stimuli.append(sample_stimuli(generator, part, rng))
        return torch.cat(stimuli)
