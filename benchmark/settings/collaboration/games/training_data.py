"""Surface of training data: malicious parties prepare bad data, and then train on it as agreed.

View, threat base and game are those of the surface ``contributions``; defenses that replace rounds, or that deploy
something else than the last global model, act here too.
"""

from __future__ import annotations

from benchmark.settings.collaboration.games.contributions import ContributionsGame


class TrainingDataGame(ContributionsGame):
    """Training with malicious parties that change nothing but their data."""

    surface = "training_data"
    hooks = ContributionsGame.hooks | {"learn", "finish"}
