"""Setting of a service: a user runs a provider's model on private inputs and reveals nothing but its outputs.

The provider trains the model on its own labelled data (the ``owner`` split); the user's private inputs are the ``test``
split, and the user's small labelled set for auditing the model is ``calibration``. A user who screens models trains
honest references on ``public`` samples and refuses a model that looks worse than these: its p-value is at most the rate
of false alarms. How often that happens is counted over a population of models of the same provider; a user who refuses
reveals nothing and is not served, so risk and utility are expectations over the population.
"""

from __future__ import annotations

from benchmark.errors import ConfigError
from benchmark.parameters import AtLeastTwo, Count, CountOrZero, Positive, Rate
from benchmark.settings.base import Setting
from benchmark.settings.service.games.outputs import OutputsGame
from benchmark.settings.service.provision import Provision
from benchmark.training.recipe import Recipe

VERSION = 3


class Service(Setting):
    """Train the model at the provider's, run it at the user's, attack what the user reveals.

    Args:
        epochs, lr, batch_size: of the provider's training.
        victims: the user's private inputs.
        references: honest models that a user who screens trains, and population: models of each provider that are
            screened.
        false_alarm_rate: a model is refused when its p-value against the references is at most this, in (0, 1).
        recipe: of the provider's training; None: plain Adam.
    """

    name = "service"
    games = (OutputsGame,)

    def __init__(
        self,
        *,
        epochs: Count,
        lr: Positive,
        victims: AtLeastTwo | None,
        references: CountOrZero,
        population: Count,
        false_alarm_rate: Rate,
        batch_size: Count = 64,
        recipe: Recipe | None = None,
    ) -> None:
        if not 0 < false_alarm_rate < 1 or references < 1 / false_alarm_rate - 1 - 1e-9:
            raise ConfigError(
                f"setting.references={references} models cannot give a p-value as low as setting.false_alarm_rate="
                f"{false_alarm_rate}: raise one of them."
            )
        self.honest = Provision(
            epochs=epochs,
            lr=lr,
            batch_size=batch_size,
            recipe=recipe,
            victims=victims,
            references=references,
            population=population,
            false_alarm_rate=false_alarm_rate,
        )
