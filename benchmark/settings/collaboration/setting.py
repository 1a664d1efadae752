"""Setting of a collaboration: parties train a model together; a server, a participant or an eavesdropper attacks.

FedSGD is ``local_steps=1``; FedAvg is more. Updates are in gradient units, (before - after) / lr.
"""

from __future__ import annotations

from typing import Literal

from benchmark.errors import ConfigError
from benchmark.parameters import BelowOne, Count, Index, NonNegative, Positive, Share
from benchmark.settings.base import Setting
from benchmark.settings.collaboration.defense import LocalPlan
from benchmark.settings.collaboration.games.broadcast import BroadcastGame
from benchmark.settings.collaboration.games.contributions import ContributionsGame
from benchmark.settings.collaboration.games.global_models import GlobalModelsGame
from benchmark.settings.collaboration.games.many_uploads import ManyUploadsGame
from benchmark.settings.collaboration.games.training_data import TrainingDataGame
from benchmark.settings.collaboration.games.trajectory import TrajectoryGame
from benchmark.settings.collaboration.games.uploads import UploadsGame
from benchmark.settings.collaboration.training import JointTraining
from benchmark.settings.collaboration.victims import Victims

VERSION = 1


class Collaboration(Setting):
    """FedSGD and FedAvg with n parties.

    Args:
        parties: how many train together; fraction: share of them sampled each round.
        rounds: of the training that gives utility.
        batch_size, local_steps, lr, momentum, weight_decay, optimizer: plan of one upload in training, see
            :class:`benchmark.settings.collaboration.defense.LocalPlan`.
        victims: parties whose uploads an ``uploads`` threat sees.
        victim_batch_size: private samples behind each such upload (before a defense changes the plan).
        model_state: ``untrained`` or ``trained``: the global model that the victims start from.
        dirichlet_alpha: None deals the private data to the parties at random (IID), a number unequally by class.
        partition: ``mixed`` deals as ``dirichlet_alpha`` says; ``by_class`` gives every party classes of its own;
            ``one_class_apart`` gives the first party nothing but the class ``apart`` and deals the others at random.
        apart: the class of ``one_class_apart``.
        missing: a class of which no party has samples, or None.
        spectator: before an insider's eyes, one party more, the insider, which holds no samples at all.
        order: ``fedavg`` or ``roundrobin``, see :func:`benchmark.settings.collaboration.rounds.federate`.
        averaged_rounds: the deployed model is the mean of the global models after this many last rounds (of the turns,
            where parties take turns).
    """

    name = "collaboration"
    needs = {"model.gradients": "yes"}
    games = (
        UploadsGame,
        ContributionsGame,
        TrainingDataGame,
        GlobalModelsGame,
        TrajectoryGame,
        BroadcastGame,
        ManyUploadsGame,
    )

    def __init__(
        self,
        *,
        parties: Count,
        fraction: Share,
        rounds: Count,
        batch_size: Count,
        local_steps: Count,
        lr: Positive,
        victims: Count,
        victim_batch_size: Count,
        model_state: Literal["untrained", "trained"],
        dirichlet_alpha: Positive | None = None,
        partition: Literal["mixed", "by_class", "one_class_apart"] = "mixed",
        apart: Index = 0,
        missing: Index | None = None,
        spectator: bool = False,
        order: Literal["fedavg", "roundrobin"] = "fedavg",
        momentum: BelowOne = 0.0,
        weight_decay: NonNegative = 0.0,
        optimizer: Literal["sgd", "adam"] = "sgd",
        averaged_rounds: Count = 1,
    ) -> None:
        if optimizer == "adam" and momentum:
            raise ConfigError("setting.momentum is of SGD and setting.optimizer=adam has moments of its own; drop one.")
        if averaged_rounds > rounds:
            raise ConfigError(f"setting.averaged_rounds={averaged_rounds} is more than setting.rounds={rounds}.")
        if partition != "mixed" and dirichlet_alpha is not None:
            raise ConfigError(
                f"setting.dirichlet_alpha mixes classes and setting.partition={partition} parts them; drop one."
            )
        self.honest = JointTraining(
            parties=parties,
            fraction=fraction,
            rounds=rounds,
            plan=LocalPlan(batch_size, local_steps, lr, momentum, weight_decay, optimizer),
            order=order,
            dirichlet_alpha=dirichlet_alpha,
            partition=partition,
            apart=apart,
            missing=missing,
            spectator=spectator,
            averaged_rounds=averaged_rounds,
            victims=Victims(victims, LocalPlan(victim_batch_size, 1, lr), model_state),
        )
