"""Surface of a release: reconstruct the private samples behind released rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmark.errors import ConfigError
from benchmark.metrics.classification import accuracy
from benchmark.metrics.distances import nearest
from benchmark.metrics.reconstruction import score_reconstruction
from benchmark.outcome import Outcome
from benchmark.settings.base import CellContext
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.release.games.base import Pairs, ReleasedData, ReleaseGame, ReleaseThreat, seen_by_all, sources
from benchmark.settings.release.mechanism import Fitted
from benchmark.training.loop import predict


@dataclass(frozen=True, kw_only=True)
class ReleaseSurface(ReleasedData):
    """View of reconstruction: released rows under attack.

    Attributes:
        targets: (n, ...) the released rows under attack.
        pairs: as many as the threat asks for, none of them a target (grant ``known_pairs``).
        truth, truth_y: (n, ...) and (n,), the private samples behind the targets (grant ``truth``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {
        **ReleasedData.granted_by,
        "pairs": "known_pairs",
        "truth": "truth",
        "truth_y": "truth",
    }

    targets: Float[Tensor, " n *released"]
    pairs: Pairs
    truth: Float[Tensor, " n *sample"]
    truth_y: Int[Tensor, " n"]


DISTRACTORS = 1000


class ReconstructionGame(ReleaseGame):
    """The threat reconstructs private samples from released rows, the same rows whatever it knows."""

    surface = "release"
    guess = Reconstruction

    def observe(self, context: CellContext, fitted: Fitted, threat: ReleaseThreat) -> ReleaseSurface:
        return ReleaseSurface(
            **seen_by_all(context, fitted, threat), **under_attack(context, fitted, self.honest.victims, threat.pairs)
        )

    def score(self, context: CellContext, outcome: Outcome, guess: Reconstruction, surface: ReleaseSurface) -> None:
        """Report likeness to the private samples, and the examiner's accuracy on the guess and on the bare release."""
        truth, labels = surface.truth, surface.truth_y
        scores, matched = score_reconstruction(
            guess.x, guess.labels, truth.unsqueeze(1), labels.unsqueeze(1), guess.groups
        )
        outcome.score(scores)
        examiner = context.examiner(self.honest.examiner_epochs)
        outcome.diagnostics["examiner_on_private"] = accuracy(predict(examiner, truth), labels)
        outcome.diagnostics["known_pairs"] = len(surface.pairs.plain)
        rows = {"original": truth}
        if surface.targets.shape[1:] == surface.shape:
            outcome.risk["examiner_on_release"] = accuracy(predict(examiner, surface.targets), labels)
            rows["released"] = stretch(surface.targets)
        if matched is not None:
            reconstructed = matched.flatten(0, 1)
            outcome.risk["examiner_accuracy"] = accuracy(predict(examiner, reconstructed), labels)
            outcome.risk["identification_rate"] = identified(reconstructed, truth, context)
            outcome.risk["retrieval_top1"] = retrieved(reconstructed, truth)
            outcome.risk["explained_variance"] = explained_variance(reconstructed, truth)
            rows["reconstructed"] = reconstructed
        if len(surface.shape) == 3:
            outcome.picture("reconstruction", rows)


def under_attack(context: CellContext, fitted: Fitted, victims: int, pairs: int) -> dict[str, Any]:
    """Return the own fields of :class:`ReleaseSurface`.

    Targets do not depend on ``pairs``, nor known pairs on how many there are.

    Raises:
        Refused: the release is synthetic.
        ConfigError: there are fewer released rows than victims and pairs.
    """
    source, x = sources(fitted), fitted.release.x
    if victims + pairs > len(x):
        raise ConfigError(
            f"{victims} victims and {pairs} known pairs need as many released rows, but there are {len(x)}; lower "
            "setting.victims or threat.pairs, or raise dataset.sizes.owner."
        )
    targets, known = chosen_rows(context, len(x), victims, pairs)
    private = context.data.owner[source.to(x.device)]
    return {
        "targets": x[targets],
        "pairs": Pairs(private.x[known], x[known]),
        "truth": private.x[targets],
        "truth_y": private.y[targets],
    }


def chosen_rows(context: CellContext, count: int, victims: int, pairs: int) -> tuple[Tensor, Tensor]:
    """Return disjoint rows of a release of ``count`` rows: those under attack, and those known on both sides."""
    order = torch.randperm(count, generator=context.rng("victims")).to(context.device)
    return order[:victims], order[count - pairs :]


def identified(reconstructed: Tensor, truth: Tensor, context: CellContext) -> float:
    """Return the share of reconstructions nearest to their own source among all sources and 1,000 others."""
    others = context.data.attacker.x[:DISTRACTORS]
    found = nearest(reconstructed, torch.cat([truth, others]))[1]
    own = torch.arange(len(truth), device=found.device)
    same = (truth[found.clamp_max(len(truth) - 1)] == truth).flatten(1).all(dim=1) & (found < len(truth))
    return ((found == own) | same).double().mean().item()


def retrieved(guess: Tensor, truth: Tensor) -> float:
    """Return the share of reconstructions whose absolute correlation is highest with their own source."""
    a, b = (part.flatten(1) - part.flatten(1).mean(dim=1, keepdim=True) for part in (guess, truth))
    a, b = (part / part.norm(dim=1, keepdim=True).clamp_min(1e-9) for part in (a, b))
    found = (a @ b.T).abs().argmax(dim=1)
    return (truth[found] == truth).flatten(1).all(dim=1).double().mean().item()


def explained_variance(guess: Tensor, truth: Tensor) -> float:
    """Return 1 - MSE / MSE of the mean image, in (-inf, 1]; 0 is no better than knowing the average."""
    floor = (truth - truth.mean(dim=0)).square().mean()
    return (1 - (guess - truth).square().mean() / floor.clamp_min(1e-12)).item()


def stretch(x: Tensor) -> Tensor:
    """Rescale each sample (n, ...) to [0, 1], for the eye only; what lies within [0, 1] stays as it is."""
    low = x.flatten(1).min(dim=1).values.clamp_max(0).view(-1, *[1] * (x.ndim - 1))
    high = x.flatten(1).max(dim=1).values.clamp_min(1).view(-1, *[1] * (x.ndim - 1))
    return (x - low) / (high - low)
