"""An owner publishes data derived from private data; others train on it, and adversaries look at it.

What is attacked are rows of the release itself. An adversary with known pairs holds other rows of it together with the
private samples behind them, e.g. because it had inserted them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.defenses.base import Release
from benchmark.errors import ConfigError, Refused
from benchmark.metrics.classification import accuracy
from benchmark.metrics.reconstruction import score_reconstruction
from benchmark.outcome import Outcome
from benchmark.settings.base import Setting, Stage
from benchmark.threats.base import Guess, Reconstruction, Surface, Threat
from benchmark.training.loop import predict, train

VERSION = 1
BYTES_PER_FLOAT = 4


@dataclass(frozen=True)
class Pairs:
    """What an adversary knows on both sides: ``plain`` (q, ...) in [0, 1] and ``encoded`` (q, ...), row by row."""

    plain: Tensor
    encoded: Tensor


@dataclass(frozen=True)
class ReleaseSurface(Surface):
    """What everybody sees of a release, and what some know besides.

    Attributes:
        x: (m, ...) all that was released, in whatever range the mechanism gives; y: (m,) or (m, classes).
        targets: (n, ...) the released rows under attack.
        shape, num_classes: of one private sample and of the task.
        pairs: as many as the threat asks for, none of them a target (grant ``known_pairs``).
        published: the mechanism's facts, by ``Defense.facts`` (grant ``mechanism``).
        public: everybody's samples (grant ``public``).
        attacker: the adversary's own samples of the domain (grant ``attacker_data``).
        truth: (n, ...) the private samples behind the targets, for positive controls (grant ``truth``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {
        "pairs": "known_pairs",
        "published": "mechanism",
        "public": "public",
        "attacker": "attacker_data",
        "truth": "truth",
    }

    x: Tensor
    y: Tensor
    targets: Tensor
    shape: tuple[int, ...]
    num_classes: int
    pairs: Pairs
    published: Mapping[str, Any]
    public: Split
    attacker: Split
    truth: Tensor


class ReleaseThreat(Threat):
    """An adversary of the released data.

    Attributes:
        pairs: how many (private, released) pairs it holds; needs the knowledge ``known_pairs``.
    """

    setting = "release"
    surface = "release"
    pairs: int = 0


class ReleaseSetting(Setting):
    """Train on the release, test on encoded unseen inputs; attack released rows.

    Args:
        epochs: of the model that is trained on the release.
        examiner_epochs: of the examiner, a classifier of plain samples that judges what reconstructions still show.
        victims: released rows under attack, the same ones whatever the threat knows.
    """

    name = "release"
    surfaces = {"release": frozenset({"release", "encode"})}

    def __init__(self, *, epochs: int, examiner_epochs: int, victims: int) -> None:
        self.epochs, self.examiner_epochs, self.victims = epochs, examiner_epochs, victims

    def play(self, stage: Stage) -> Outcome:
        threat = stage.threat
        assert isinstance(threat, ReleaseThreat)
        started = time.perf_counter()
        release = stage.defense.release(stage.data.owner, stage.rng("defense.key"))
        seconds = time.perf_counter() - started
        outcome = Outcome(
            cost={"seconds": seconds, "bytes_sent": float(BYTES_PER_FLOAT * (release.x.numel() + release.y.numel()))}
        )
        outcome.utility["test_accuracy"] = self._utility(stage, release)
        surface, labels = self._observe(stage, release, threat.pairs)
        guess = threat(surface, seed=stage.seed)
        self._score(stage, outcome, guess, surface, labels)
        return outcome

    def _utility(self, stage: Stage, release: Release) -> float:
        """Test accuracy of a model that saw the release only; test inputs are encoded as its users would."""

        def build(model: nn.Module) -> nn.Module:
            return train(model, release.x, release.y, epochs=self.epochs, rng=stage.rng("release.batches"))

        key = ("release", "dataset", "model", "setting", "defense", "scale")
        model = stage.trained(key, build, shape=tuple(release.x.shape[1:]))
        return accuracy(predict(model, stage.defense.encode(stage.data.test.x)), stage.data.test.y)

    def _observe(self, stage: Stage, release: Release, pairs: int) -> tuple[ReleaseSurface, Tensor]:
        """The surface and the true labels (victims,) of its targets. Targets do not depend on ``pairs``."""
        if release.source is None:
            raise Refused("The release is synthetic: no row of it stems from one private sample to recover.")
        if self.victims + pairs > len(release.x):
            raise ConfigError(
                f"{self.victims} victims and {pairs} known pairs need as many released rows, but there are "
                f"{len(release.x)}; lower setting.victims or threat.pairs, or raise dataset.sizes.owner."
            )
        order = torch.randperm(len(release.x), generator=stage.rng("victims")).to(release.x.device)
        victims, known = order[: self.victims], order[len(order) - pairs :]
        private = stage.data.owner[release.source.to(release.x.device)]
        surface = ReleaseSurface(
            x=release.x,
            y=release.y,
            targets=release.x[victims],
            shape=stage.data.shape,
            num_classes=stage.data.num_classes,
            pairs=Pairs(private.x[known], release.x[known]),
            published=stage.defense.facts(),
            public=stage.data.public,
            attacker=stage.data.attacker,
            truth=private.x[victims],
        )
        return surface, private.y[victims]

    def _score(self, stage: Stage, outcome: Outcome, guess: Guess, surface: ReleaseSurface, labels: Tensor) -> None:
        """Compare the guess with the truth, by the kind of guess that it is."""
        match guess:
            case Reconstruction():
                self._score_samples(stage, outcome, guess, surface, labels)
            case _:
                raise TypeError(f"release cannot score a {type(guess).__name__}.")
        outcome.diagnostics.update(guess.diagnostics)
        outcome.diagnostics["attack_seconds"] = guess.seconds
        outcome.diagnostics["known_pairs"] = len(surface.pairs.plain)

    def _score_samples(
        self, stage: Stage, outcome: Outcome, guess: Reconstruction, surface: ReleaseSurface, labels: Tensor
    ) -> None:
        """Likeness to the private samples, and what the examiner makes of the guess and of the bare release."""
        scores, matched = score_reconstruction(
            guess.x, guess.labels, surface.truth.unsqueeze(1), labels.unsqueeze(1), guess.groups
        )
        outcome.score(scores)
        examiner = stage.examiner(self.examiner_epochs)
        outcome.diagnostics["examiner_on_private"] = accuracy(predict(examiner, surface.truth), labels)
        rows = {"original": surface.truth}
        if surface.targets.shape[1:] == surface.shape:
            outcome.risk["examiner_on_release"] = accuracy(predict(examiner, surface.targets), labels)
            rows["released"] = stretch(surface.targets)
        if matched is not None:
            reconstructed = matched.flatten(0, 1)
            outcome.risk["examiner_accuracy"] = accuracy(predict(examiner, reconstructed), labels)
            rows["reconstructed"] = reconstructed
        if len(surface.shape) == 3:
            outcome.picture("reconstruction", rows)


def stretch(x: Tensor) -> Tensor:
    """Each sample (n, ...) from whatever range to [0, 1], for the eye only; what lies within [0, 1] stays as it is."""
    low = x.flatten(1).min(dim=1).values.clamp_max(0).view(-1, *[1] * (x.ndim - 1))
    high = x.flatten(1).max(dim=1).values.clamp_min(1).view(-1, *[1] * (x.ndim - 1))
    return (x - low) / (high - low)
