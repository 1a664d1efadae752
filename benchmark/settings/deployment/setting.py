"""Setting of a deployment: a trained classifier meets inputs, some of them altered by an adversary or by a shift.

The honest side trains on the ``owner`` split and sets the alarm of its screen, where it has one, on ``calibration``.
The clean inputs that arrive are ``test``.
"""

from __future__ import annotations

from benchmark.parameters import BelowOne, Count, Positive
from benchmark.settings.base import Setting
from benchmark.settings.deployment.classifier import Operator
from benchmark.settings.deployment.games.batches import BatchesGame
from benchmark.settings.deployment.games.inputs import InputsGame
from benchmark.training.recipe import Recipe

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
        draws: shifted batches that it judges.
        usual_draws: usual batches that set the alarm, and as many more that tell its false alarms; None: ``draws``. An
            alarm at 5 % wants 100 or more.
        recipe: of each training; None: plain Adam. Adversarial training takes no augmentation from it.
    """

    name = "deployment"
    games = (InputsGame, BatchesGame)

    def __init__(
        self,
        *,
        epochs: Count,
        lr: Positive,
        victims: Count,
        targets: Count | None,
        false_alarm_rate: BelowOne,
        radius: Positive,
        batch: Count,
        draws: Count,
        usual_draws: Count | None = None,
        recipe: Recipe | None = None,
    ) -> None:
        self.honest = Operator(
            epochs=epochs,
            lr=lr,
            victims=victims,
            targets=targets,
            false_alarm_rate=false_alarm_rate,
            radius=radius,
            batch=batch,
            draws=draws,
            usual_draws=draws if usual_draws is None else usual_draws,
            recipe=recipe,
        )
