"""Setting of a deployment: a trained classifier meets inputs, some of them altered by an adversary or by a shift.

The honest side trains on the ``owner`` split and sets the alarm of its screen, where it has one, on ``calibration``.
The clean inputs that arrive are ``test``.
"""

from __future__ import annotations

from benchmark.errors import ConfigError, positive
from benchmark.settings.base import Setting
from benchmark.settings.deployment.classifier import Operator
from benchmark.settings.deployment.games.batches import BatchesGame
from benchmark.settings.deployment.games.inputs import InputsGame

VERSION = 2


class Deployment(Setting):
    """Train a classifier, deploy it, attack inputs that it classifies rightly.

    An input that the defense's screen turns away is no success of the adversary, and no use to an honest user either.

    Args:
        epochs, lr: of each training.
        victims: rightly classified test inputs under attack.
        targets: other classes that each victim should be taken for; None: all of them.
        false_alarm_rate: share of calibration inputs, or of usual batches, that a screen may turn away, in [0, 1).
        radius: L2 distance within which a success counts as ``success_within_radius``, a scale for all attacks.
        batch: inputs in each batch that a detector of shifts judges.
        draws: batches of each kind (usual, usual again, shifted) that it judges.
    """

    name = "deployment"
    games = (InputsGame, BatchesGame)

    def __init__(
        self,
        *,
        epochs: int,
        lr: float,
        victims: int,
        targets: int | None,
        false_alarm_rate: float,
        radius: float,
        batch: int,
        draws: int,
    ) -> None:
        if victims < 1 or (targets is not None and targets < 1):
            raise ConfigError(
                f"setting.victims and setting.targets must be at least 1 (targets: null takes every other class), got "
                f"{victims} and {targets}."
            )
        if not 0 <= false_alarm_rate < 1:
            raise ConfigError(f"setting.false_alarm_rate must be in [0, 1), got {false_alarm_rate}.")
        for name, value in (("radius", radius), ("batch", batch), ("draws", draws)):
            positive(f"setting.{name}", value)
        self.honest = Operator(
            epochs=epochs,
            lr=lr,
            victims=victims,
            targets=targets,
            false_alarm_rate=false_alarm_rate,
            radius=radius,
            batch=batch,
            draws=draws,
        )
