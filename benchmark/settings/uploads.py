"""How a reconstruction from uploads is scored."""

from __future__ import annotations

from benchmark.metrics.reconstruction import score_reconstruction
from benchmark.outcome import Outcome
from benchmark.settings.collaboration_surfaces import UploadSurface
from benchmark.threats.base import Reconstruction


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
