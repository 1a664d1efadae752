"""SafeNet: owners train locally, a filter rejects inaccurate models, the others vote."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Lt
from jaxtyping import Float
from torch import Tensor

from benchmark import clock
from benchmark.crypto.secure_costs import ensemble_costs
from benchmark.data.base import Split, balanced_order
from benchmark.errors import ConfigError
from benchmark.parameters import Count, CountOrZero, Fraction, NonNegative, Positive, Rate
from benchmark.seeds import generator
from benchmark.settings.collaboration.defense import FederatedDefense, TrainingTask
from benchmark.settings.collaboration.local_training import TrainingPlan, train_each, usual
from benchmark.settings.collaboration.rounds import Federation
from benchmark.training.accounting import gaussian_epsilon
from benchmark.training.ensemble import VotingEnsemble
from benchmark.training.functional import Net

VERSION = 1

NO_FILTER = -1.0  # any accuracy exceeds it
SENSITIVITY = math.sqrt(2)  # of the vector of votes, in L2: replacing one owner's data moves one vote


class SafeNet(FederatedDefense):
    """Ensemble of models, each trained by one owner on its own samples.

    Chaudhari, Jagielski, Oprea, *SafeNet: The Unreasonable Effectiveness of Ensembles in Private Collaborative
    Learning*, IEEE SaTML 2023 (arXiv 2205.09986). Each owner sets part of its samples aside; the union of these parts
    validates all models, and only models whose accuracy exceeds a threshold vote. Filter and vote run inside
    multi-party computation and depend on labels alone, so here they are computed in the clear, exactly.

    Deviations (the text of the paper was not at hand): the owners' validation parts are class-balanced and of one
    agreed size, so that nobody owns more than its share of the filter; ties go to the smallest label.

    Args:
        optimizer, lr, batch_size, epochs, body_epochs: of
            :class:`benchmark.settings.collaboration.local_training.TrainingPlan`.
        validation: share of an owner's samples that is set aside, in (0, 1).
        threshold: phi, a number in [0, 1]; ``auto`` for (1 - delta) p_min (1 - tolerated); None for no filter.
        p_min: of ``auto``: least accuracy of an honest model.
        tolerated: of ``auto``: share of poisoned owners, below 1/2, whose validation parts may be wrong throughout.
        delta: of ``auto``: margin.
        vote_noise: standard deviation of Gaussian noise on the votes of every prediction (as in PATE); without a filter
            it makes every owner's data set differentially private.
        noise_delta: at which that epsilon is reported.
        mpc: whether to measure, with a real engine, the cost of filter and vote inside multi-party computation.
    """

    def __init__(
        self,
        *,
        optimizer: Literal["sgd", "adam"] = "adam",
        lr: Positive = 0.005,
        batch_size: Count = 128,
        epochs: Count = 20,
        body_epochs: CountOrZero | None = None,
        validation: Rate = 0.1,
        threshold: float | str | None = "auto",
        p_min: Fraction = 0.6,
        tolerated: Annotated[float, Ge(0), Lt(0.5)] = 0.45,
        delta: Rate = 0.1,
        vote_noise: NonNegative = 0.0,
        noise_delta: Rate = 1e-5,
        mpc: bool = False,
    ) -> None:
        self.plan = TrainingPlan(optimizer, lr, batch_size, epochs, body_epochs)
        self.validation, self.vote_noise, self.noise_delta = validation, vote_noise, noise_delta
        self.mpc = mpc
        self.threshold = _threshold(threshold, p_min, tolerated, delta)
        if vote_noise > 0 and threshold is not None:
            raise ConfigError(
                "safenet.vote_noise hides one vote of an owner, but an owner's validation samples may move other "
                "owners' votes through the filter; set safenet.threshold=null with it."
            )
        self.deployed: VotingEnsemble | None = None

    def facts(self) -> dict[str, Any]:
        return {"filter_threshold": self.threshold}

    def learn(self, task: TrainingTask) -> Federation:
        started = clock.now()
        training, validation = self._set_aside(task)
        models, steps = train_each(task, training, self.plan)
        scores = validate(task.net, models, validation)
        samples = min(len(share) for share in training)
        return Federation(
            models.mean(dim=0),
            models,
            seconds=clock.now() - started,
            scores=scores,
            work=(samples, min(self.plan.batch_size, samples), steps),
        )

    def _set_aside(self, task: TrainingTask) -> tuple[list[Split], list[Split]]:
        """Return every owner's samples for training, and for validation as it hands them over."""
        agreed = max(1, round(self.validation * usual(task.shares)))
        training, validation = [], []
        for owner, share in enumerate(task.shares):
            if len(share) < 2:
                raise ConfigError(
                    "An owner needs two samples, one to train and one to validate; lower setting.parties."
                )
            size = min(agreed, len(share) // 2)
            order = balanced_order(share.y.cpu(), generator(task.seed, f"safenet.validation.{owner}"))
            training.append(share[order[size:]])
            validation.append(task.validation(owner, share[order[:size]]))
        return training, validation

    def finish(self, net: Net, run: Federation, rng: torch.Generator) -> VotingEnsemble:
        counted = run.scores > self.threshold
        self.deployed = VotingEnsemble(net, run.local_models, counted, run.scores, self.threshold, self.vote_noise, rng)
        return self.deployed

    def epsilon(self, *, samples: int, batch_size: int, steps: int) -> tuple[float, float] | None:
        """Return (epsilon, delta) of an owner's data set for the predictions so far (Papernot et al., ICLR 2017)."""
        if self.vote_noise == 0:
            return None
        answered = 0 if self.deployed is None else self.deployed.answered
        noise = self.vote_noise / SENSITIVITY
        return gaussian_epsilon(noise_multiplier=noise, steps=answered, delta=self.noise_delta), self.noise_delta

    def secure_costs(self, net: Net, samples: int, parties: int) -> dict[str, float | str]:
        if not self.mpc:
            return {}
        validation = parties * max(1, round(self.validation * (samples // parties)))
        module, threshold = self.plan.shared_part(net), max(self.threshold, 0.0)
        return ensemble_costs(module, owners=parties, validation=validation, threshold=threshold)


def validate(net: Net, models: Float[Tensor, "owners d"], validation: Sequence[Split]) -> Float[Tensor, " owners"]:
    """Return the accuracy (owners,) of each model (owners, d) on the validation samples of all owners."""
    x, y = torch.cat([part.x for part in validation]), torch.cat([part.y for part in validation])
    all_owners = torch.ones(len(models), dtype=torch.bool)
    predicted = VotingEnsemble(net, models, all_owners, all_owners.float(), 0.0, 0.0, torch.Generator()).ballots(x)
    return (predicted == y).double().mean(dim=1).cpu()


def _threshold(given: float | str | None, p_min: float, tolerated: float, delta: float) -> float:
    """Return phi.

    Poisoned owners hold the share ``tolerated`` of the validation samples, so an honest model with accuracy p may score
    as low as p (1 - tolerated).

    Raises:
        ConfigError: ``given`` is neither a number in [0, 1], ``auto`` nor None.
    """
    if given is None:
        return NO_FILTER
    phi = (1 - delta) * p_min * (1 - tolerated) if given == "auto" else given
    if isinstance(phi, str) or not 0 <= phi <= 1:
        raise ConfigError(f"safenet.threshold must be in [0, 1], auto or null, got {given!r}.")
    return float(phi)
