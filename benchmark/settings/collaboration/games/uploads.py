"""How a reconstruction from uploads is scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from benchmark.data.base import Split
from benchmark.metrics.reconstruction import score_reconstruction
from benchmark.outcome import Outcome
from benchmark.settings.collaboration.published import Published
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.threat import Surface, Threat
from benchmark.training.functional import Net


@dataclass(frozen=True)
class UploadSurface(Surface):
    """What an honest-but-curious server sees: every party's upload, and the model that it was computed on.

    Attributes:
        net, params: architecture and the global model (d,) sent out.
        uploads: (observations, victims, d); more than one observation only where the threat declares repeated rounds
            on the same private batches.
        batch_size, local_steps, lr: what stands behind one upload.
        shape, num_classes: of one sample and of the task.
        published: one a round; what the defense's users publish (grant ``mechanism``).
        labels: int64 (victims, batch) (grant ``labels``).
        public: everybody's samples (grant ``public``).
        truth: (victims, batch, ...) the private samples, for positive controls (grant ``truth``).
        handed_out: (observations, victims, d) what the parties entered into an exchange among themselves, which a
            partner of theirs can give away (grant ``collusion``); None where the setting does not tell.
    """

    granted_by: ClassVar[Mapping[str, str]] = {
        "published": "mechanism",
        "labels": "labels",
        "public": "public",
        "truth": "truth",
        "handed_out": "collusion",
    }

    net: Net
    params: Tensor
    uploads: Tensor
    batch_size: int
    local_steps: int
    lr: float
    shape: tuple[int, ...]
    num_classes: int
    published: list[Published]
    labels: Tensor
    public: Split
    truth: Tensor
    handed_out: Tensor | None = None


class UploadThreat(Threat):
    """A server that reads uploads.

    Attributes:
        observations: rounds in which it sees the same private batches on the same model; 1 unless it declares more.
    """

    setting = "collaboration"
    surface = "uploads"
    observations: int = 1


def score_uploads(outcome: Outcome, guess: Reconstruction, surface: UploadSurface) -> None:
    """Compare the guess with the truth, which only the setting holds."""
    scores, matched = score_reconstruction(guess.x, guess.labels, surface.truth, surface.labels, guess.groups)
    outcome.score(scores)
    outcome.diagnostics.update(guess.diagnostics)
    outcome.diagnostics["attack_seconds"] = guess.seconds
    outcome.diagnostics["observations"] = len(surface.uploads)
    if matched is not None and len(surface.shape) == 3:
        outcome.picture(
            "reconstruction", {"original": surface.truth.flatten(0, 1), "reconstructed": matched.flatten(0, 1)}
        )
