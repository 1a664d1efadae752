"""Released rows under attack: how much of the private samples comes back?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmark.errors import ConfigError
from benchmark.metrics.classification import accuracy
from benchmark.metrics.distances import nearest
from benchmark.metrics.reconstruction import score_reconstruction
from benchmark.outcome import Outcome
from benchmark.settings.base import Stage
from benchmark.settings.release_games.base import Game, seen_by_all, sources
from benchmark.settings.release_mechanism import Fitted
from benchmark.settings.release_surfaces import Pairs, ReleaseSurface, ReleaseThreat
from benchmark.threats.base import Reconstruction
from benchmark.training.loop import predict

DISTRACTORS = 1000


class ReconstructionGame(Game):
    """Args: victims: released rows under attack, the same whatever the threat knows; examiner_epochs: of the judge."""

    guess = Reconstruction

    def __init__(self, *, victims: int, examiner_epochs: int) -> None:
        self.victims, self.examiner_epochs = victims, examiner_epochs

    def observe(self, stage: Stage, fitted: Fitted, threat: ReleaseThreat) -> ReleaseSurface:
        return ReleaseSurface(**seen_by_all(stage, fitted, threat), **self.targets(stage, fitted, threat.pairs))

    def targets(self, stage: Stage, fitted: Fitted, pairs: int) -> dict[str, Any]:
        """The surface's own fields. Targets do not depend on ``pairs``, nor known pairs on how many there are."""
        source, x = sources(fitted), fitted.release.x
        if self.victims + pairs > len(x):
            raise ConfigError(
                f"{self.victims} victims and {pairs} known pairs need as many released rows, but there are {len(x)}; "
                "lower setting.victims or threat.pairs, or raise dataset.sizes.owner."
            )
        victims, known = chosen_rows(stage, len(x), self.victims, pairs)
        private = stage.data.owner[source.to(x.device)]
        return {
            "targets": x[victims],
            "pairs": Pairs(private.x[known], x[known]),
            "truth": private.x[victims],
            "truth_y": private.y[victims],
        }

    def score(self, stage: Stage, outcome: Outcome, guess: Reconstruction, surface: ReleaseSurface) -> None:
        """Likeness to the private samples, and what the examiner makes of the guess and of the bare release."""
        truth, labels = surface.truth, surface.truth_y
        scores, matched = score_reconstruction(
            guess.x, guess.labels, truth.unsqueeze(1), labels.unsqueeze(1), guess.groups
        )
        outcome.score(scores)
        examiner = stage.examiner(self.examiner_epochs)
        outcome.diagnostics["examiner_on_private"] = accuracy(predict(examiner, truth), labels)
        outcome.diagnostics["known_pairs"] = len(surface.pairs.plain)
        rows = {"original": truth}
        if surface.targets.shape[1:] == surface.shape:
            outcome.risk["examiner_on_release"] = accuracy(predict(examiner, surface.targets), labels)
            rows["released"] = stretch(surface.targets)
        if matched is not None:
            reconstructed = matched.flatten(0, 1)
            outcome.risk["examiner_accuracy"] = accuracy(predict(examiner, reconstructed), labels)
            outcome.risk["identification_rate"] = identified(reconstructed, truth, stage)
            outcome.risk["retrieval_top1"] = retrieved(reconstructed, truth)
            outcome.risk["explained_variance"] = explained_variance(reconstructed, truth)
            rows["reconstructed"] = reconstructed
        if len(surface.shape) == 3:
            outcome.picture("reconstruction", rows)


def chosen_rows(stage: Stage, count: int, victims: int, pairs: int) -> tuple[Tensor, Tensor]:
    """Disjoint rows of a release of ``count`` rows: those under attack, and those known on both sides."""
    order = torch.randperm(count, generator=stage.rng("victims")).to(stage.device)
    return order[:victims], order[count - pairs :]


def identified(reconstructed: Tensor, truth: Tensor, stage: Stage) -> float:
    """Share of reconstructions, in [0, 1], nearest to their own source among all sources and 1,000 others."""
    others = stage.data.attacker.x[:DISTRACTORS]
    found = nearest(reconstructed, torch.cat([truth, others]))[1]
    own = torch.arange(len(truth), device=found.device)
    same = (truth[found.clamp_max(len(truth) - 1)] == truth).flatten(1).all(dim=1) & (found < len(truth))
    return ((found == own) | same).double().mean().item()


def retrieved(guess: Tensor, truth: Tensor) -> float:
    """Share of reconstructions, in [0, 1], that correlate most, by absolute value, with their own source of all."""
    a, b = (part.flatten(1) - part.flatten(1).mean(dim=1, keepdim=True) for part in (guess, truth))
    a, b = (part / part.norm(dim=1, keepdim=True).clamp_min(1e-9) for part in (a, b))
    found = (a @ b.T).abs().argmax(dim=1)
    return (truth[found] == truth).flatten(1).all(dim=1).double().mean().item()


def explained_variance(guess: Tensor, truth: Tensor) -> float:
    """1 - MSE / MSE of the mean image, in (-inf, 1]: 0 is no better than knowing the average."""
    floor = (truth - truth.mean(dim=0)).square().mean()
    return (1 - (guess - truth).square().mean() / floor.clamp_min(1e-12)).item()


def stretch(x: Tensor) -> Tensor:
    """Each sample (n, ...) from whatever range to [0, 1], for the eye only; what lies within [0, 1] stays as it is."""
    low = x.flatten(1).min(dim=1).values.clamp_max(0).view(-1, *[1] * (x.ndim - 1))
    high = x.flatten(1).max(dim=1).values.clamp_min(1).view(-1, *[1] * (x.ndim - 1))
    return (x - low) / (high - low)
