"""Parties train a model together; a server, a participant or an eavesdropper looks at what they send.

FedSGD is ``local_steps=1``; FedAvg is more. Updates are in gradient units, (before - after) / lr.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmark.data.base import Split
from benchmark.errors import ConfigError, Diverged, positive
from benchmark.metrics.classification import accuracy, attack_success
from benchmark.outcome import Outcome
from benchmark.settings.base import Artifact, CellContext, Setting
from benchmark.settings.collaboration.defense import LocalPlan, Predictor, Round, TrainingTask
from benchmark.settings.collaboration.ensembles import report_votes, spent_inside
from benchmark.settings.collaboration.games import broadcast, many_uploads
from benchmark.settings.collaboration.games.contributions import (
    Contribution,
    ContributionSurface,
    ContributionThreat,
    MaliciousClients,
    MaliciousClientView,
)
from benchmark.settings.collaboration.games.global_models import (
    GlobalModelSurface,
    Insider,
    InsiderMove,
    InsiderThreat,
    play_insider,
    prepared,
)
from benchmark.settings.collaboration.games.trajectory import play_trajectory
from benchmark.settings.collaboration.games.uploads import UploadSurface, UploadThreat, score_uploads
from benchmark.settings.collaboration.partition import partition, partition_by_class, partition_one_apart
from benchmark.settings.collaboration.rounds import ORDERS, Federation, federate, local_updates
from benchmark.training.ensemble import VotingEnsemble
from benchmark.training.functional import Net
from benchmark.training.loop import predict
from benchmark.training.tolerance import AMOUNTS, tolerance_curve

__all__ = [
    "Collaboration",
    "Contribution",
    "ContributionSurface",
    "ContributionThreat",
    "GlobalModelSurface",
    "InsiderMove",
    "InsiderThreat",
    "MaliciousClientView",
    "UploadSurface",
    "UploadThreat",
]

VERSION = 1

SENDING = frozenset({"local_data", "local_plan", "local_step", "protect", "exchange"})
PARTITIONS = ("mixed", "by_class", "one_class_apart")
ROBUST = frozenset({"local_step", "protect", "select", "exchange", "preaggregate", "aggregate"})


class Collaboration(Setting):
    """FedSGD and FedAvg with n parties.

    Args:
        parties: how many train together; fraction: share of them sampled each round.
        rounds: of the training that gives utility.
        batch_size, local_steps, lr, momentum, weight_decay: plan of one upload in training.
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
    """

    name = "collaboration"
    surfaces = {
        "uploads": SENDING,
        "contributions": ROBUST,
        "training_data": ROBUST | {"learn", "finish"},
        "global_models": SENDING | {"download"},
        "trajectory": SENDING | {"download"},
        "broadcast": SENDING | {"screen_broadcast"},
        "many_uploads": SENDING,
    }

    def __init__(
        self,
        *,
        parties: int,
        fraction: float,
        rounds: int,
        batch_size: int,
        local_steps: int,
        lr: float,
        victims: int,
        victim_batch_size: int,
        model_state: str,
        dirichlet_alpha: float | None = None,
        partition: str = "mixed",
        apart: int = 0,
        missing: int | None = None,
        spectator: bool = False,
        order: str = "fedavg",
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        if partition not in PARTITIONS:
            raise ConfigError(f"setting.partition must be one of {', '.join(PARTITIONS)}, got {partition!r}.")
        if order not in ORDERS:
            raise ConfigError(f"setting.order must be one of {', '.join(ORDERS)}, got {order!r}.")
        if partition != "mixed" and dirichlet_alpha is not None:
            raise ConfigError(
                f"setting.dirichlet_alpha mixes classes and setting.partition={partition} parts them; drop one."
            )
        if model_state not in ("untrained", "trained"):
            raise ConfigError(f"setting.model_state must be untrained or trained, got {model_state!r}.")
        if not 0 < fraction <= 1:
            raise ConfigError(f"setting.fraction must be in (0, 1], got {fraction}.")
        if dirichlet_alpha is not None:
            positive("setting.dirichlet_alpha", dirichlet_alpha)
        self.parties, self.fraction, self.rounds = parties, fraction, rounds
        self.plan = LocalPlan(batch_size, local_steps, lr, momentum, weight_decay)
        self.victims, self.victim_plan = victims, LocalPlan(victim_batch_size, 1, lr)
        self.model_state = model_state
        self.dirichlet_alpha, self.partition, self.order = dirichlet_alpha, partition, order
        self.apart, self.missing, self.spectator = apart, missing, spectator

    def play(self, context: CellContext) -> Outcome:
        scenes = {
            "uploads": self._uploads,
            "contributions": self._contributions,
            "training_data": self._contributions,
            "global_models": self._participation,
            "trajectory": self._trajectory,
            "broadcast": self._reading,
            "many_uploads": self._reading,
        }
        return scenes[context.threat.surface](context)

    # -- training together -------------------------------------------------------------------------
    @staticmethod
    def _net(context: CellContext) -> Net:
        """The model that is trained together; before an insider's eyes it has an extra output."""
        extra = 1 if context.threat.surface == "global_models" else 0
        return Net(context.fresh_model(num_classes=context.data.num_classes + extra))

    def _shares(self, context: CellContext) -> list[Split]:
        """Each party's own samples; an insider is the last."""
        owner, rng = context.data.owner, context.rng("data.deal")
        if self.missing is not None:
            owner = owner[owner.y != self.missing]
        if self.partition == "by_class":
            shares = partition_by_class(owner, self.parties, context.data.num_classes)
        elif self.partition == "one_class_apart":
            shares = partition_one_apart(owner, self.parties, self.apart, rng)
        else:
            shares = partition(owner, self.parties, rng, self.dirichlet_alpha)
        if self.spectator and context.threat.surface == "global_models":
            shares.append(owner[:0])
        return shares

    def _train(
        self, context: CellContext, malice: MaliciousClients | None = None, taps: Mapping[str, Any] | None = None
    ) -> Federation:
        """The collaboration under the context's defense; ``taps`` are those of :func:`federate`."""
        net = self._net(context)
        test = context.data.test
        shares = self._shares(context)
        if malice is not None:
            shares = malice.poisoned(shares)
        shares = prepared(context, shares, net)
        if context.defense.overrides("learn"):
            return context.defense.learn(self._training_task(context, net, shares, malice))
        if malice is not None:
            taps = {"deviate": malice.deviate, "unmixed": malice.unmixed}
        return federate(
            net,
            shares,
            context.defense,
            plan=self.plan,
            rounds=self.rounds,
            fraction=self.fraction,
            seed=context.seed,
            order=self.order,
            root=context.data.calibration,
            watch=lambda params: accuracy(net.logits(params, test.x), test.y),
            **(taps or {}),
        )

    @staticmethod
    def _training_task(
        context: CellContext, net: Net, shares: list[Split], malice: MaliciousClients | None
    ) -> TrainingTask:
        """What a defense without rounds learns from."""

        def fresh(party: int) -> Tensor:
            return Net(context.fresh_model(f"model.init.{party}")).initial()

        def unchanged(party: int, samples: Split) -> Split:
            return samples

        handed_over = unchanged if malice is None else malice.validation
        return TrainingTask(net, fresh, shares, context.data.public, context.defense, context.seed, handed_over)

    def _honest(self, context: CellContext) -> Artifact:
        """The honest collaboration, shared by all threats: its models, accuracy, curve, costs and privacy budget."""

        def build() -> Artifact:
            run = self._train(context)
            logits = predict(self._predictor(context, run), context.data.test.x)
            # Only a defense that deploys something else than the last global model needs the parties' own ones.
            kept = len(run.local_models) if context.defense.overrides("finish") else 0
            return {
                "params": run.params.cpu(),
                "local_models": run.local_models[:kept].cpu(),
                "scores": run.scores.cpu(),
                "accuracy": torch.tensor(accuracy(logits, context.data.test.y)),
                "curve": torch.tensor(run.curve),
                "costs": torch.tensor([run.seconds, run.bytes_sent, run.messages], dtype=torch.float64),
                # Kept with the run: an accountant that counts what the defense did knows it only right afterwards.
                "privacy": torch.tensor(self._spent(context, run), dtype=torch.float64),
            }

        scene = "participation" if context.threat.surface == "global_models" else "federation"
        return context.cache((scene, "dataset", "model", "setting", "defense", "scale"), build)

    def _spent(self, context: CellContext, run: Federation) -> tuple[float, ...]:
        """(epsilon, delta) of the collaboration that the defense has just been through; empty without a guarantee."""
        plan = context.defense.local_plan(self.plan)
        samples = len(context.data.owner) // self.parties
        by_plan = samples, min(plan.batch_size, samples), self.rounds * plan.local_steps
        samples, batch_size, steps = run.work or by_plan
        return context.defense.epsilon(samples=samples, batch_size=batch_size, steps=steps) or ()

    def _predictor(self, context: CellContext, run: Federation) -> Predictor:
        """What is deployed in the end."""
        run = replace(run, params=run.params.to(context.device), local_models=run.local_models.to(context.device))
        return context.defense.finish(self._net(context), run, context.rng("defense.finish"))

    def _report(self, context: CellContext) -> tuple[Outcome, Artifact]:
        """An outcome with utility and cost of the honest collaboration."""
        trained = self._honest(context)
        if not torch.isfinite(trained["params"]).all():
            raise Diverged(
                "the federated model has NaN or infinite parameters; lower setting.lr or the defense's noise."
            )
        seconds, bytes_sent, messages = trained["costs"].tolist()
        outcome = Outcome(utility={"test_accuracy": trained["accuracy"].item()}, cost={"seconds": seconds})
        if not context.defense.overrides("learn"):  # what other ways of learning send, only an engine can measure
            outcome.cost.update(bytes_sent=bytes_sent, messages=messages, rounds=self.rounds)
            outcome.curves["test_accuracy by round"] = trained["curve"].tolist()
        spent_inside(context, outcome, self._net(context), self.parties)
        if len(trained["privacy"]):
            outcome.cost["epsilon"], outcome.cost["delta"] = trained["privacy"].tolist()
        return outcome, trained

    # -- what uploads leak -------------------------------------------------------------------------
    def _sent_out(self, context: CellContext, trained: Artifact) -> tuple[Net, Tensor]:
        net = Net(context.fresh_model())
        return net, (trained["params"] if self.model_state == "trained" else net.initial()).to(context.device)

    def _uploads(self, context: CellContext) -> Outcome:
        threat = context.threat
        assert isinstance(threat, UploadThreat)
        outcome, trained = self._report(context)
        net, params = self._sent_out(context, trained)
        surface = self._observe(context, net, params, threat.observations)
        score_uploads(outcome, threat(surface, seed=context.seed), surface)
        return outcome

    def _reading(self, context: CellContext) -> Outcome:
        outcome, trained = self._report(context)
        net, params = self._sent_out(context, trained)
        plan = context.defense.local_plan(self.victim_plan)
        if context.threat.surface == "many_uploads":
            return many_uploads.play(context, outcome, net, params, cohort=self.victims, plan=plan)
        self._tolerance(context, outcome, trained)
        return broadcast.play(context, outcome, net, params, parties=self.victims, plan=plan)

    def _tolerance(self, context: CellContext, outcome: Outcome, trained: Artifact) -> None:
        """Report how accuracy falls as noise is put on the trained model's weights."""

        def build() -> Artifact:
            test, rng = context.data.test, context.rng("tolerance")
            params = trained["params"].to(context.device)
            return {"curve": torch.tensor(tolerance_curve(Net(context.fresh_model()), params, test.x, test.y, rng))}

        curve = context.cache(("tolerance", "dataset", "model", "setting", "defense", "scale"), build)["curve"].tolist()
        outcome.curves["test_accuracy by weight noise"] = curve
        outcome.diagnostics |= {f"accuracy_at_weight_noise_{a}": value for a, value in zip(AMOUNTS, curve, strict=True)}

    def _observe(self, context: CellContext, net: Net, params: Tensor, observations: int) -> UploadSurface:
        """The uploads of ``victims`` parties, each on its own private batch, seen ``observations`` times."""
        defense = context.defense
        plan = defense.local_plan(self.victim_plan)
        count = self.victims * plan.batch_size
        if count > len(context.data.owner):
            raise ConfigError(
                f"{self.victims} victims with {plan.batch_size} samples each need {count} private samples, but the "
                f"owner split holds {len(context.data.owner)}; lower setting.victims or raise dataset.sizes.owner."
            )
        private = context.data.owner[torch.randperm(len(context.data.owner), generator=context.rng("victims"))[:count]]
        sent = [
            defense.local_data(private[torch.arange(count).view(self.victims, -1)[i]], context.rng(f"victims.data.{i}"))
            for i in range(self.victims)
        ]
        x, y = torch.stack([s.x for s in sent]), torch.stack([s.y for s in sent])
        steps_x = x.unsqueeze(1).expand(-1, plan.local_steps, *x.shape[1:])
        steps_y = y.unsqueeze(1).expand(-1, plan.local_steps, *y.shape[1:])
        defense.start(self.victims, net.layout)
        handed_out, uploads, published = [], [], []
        for index in range(observations):
            turn = Round(index, net.layout, params, torch.arange(self.victims), context.rng(f"leak.protocol.{index}"))
            turn.inputs = steps_x
            turn.publish(**defense.facts())
            rngs = [context.rng(f"leak.party.{i}.{index}") for i in range(self.victims)]
            updates = local_updates(net, defense, params, steps_x, steps_y, plan, rngs)
            handed_out.append(defense.protect(updates.detach(), turn))
            uploads.append(defense.exchange(handed_out[-1], turn))
            published.append(turn.published)
        return UploadSurface(
            net=net,
            params=params,
            uploads=torch.stack(uploads),
            batch_size=plan.batch_size,
            local_steps=plan.local_steps,
            lr=plan.lr,
            shape=context.data.shape,
            num_classes=context.data.num_classes,
            published=published,
            labels=private.y.view(self.victims, plan.batch_size),
            public=context.data.public,
            truth=private.x.view(self.victims, plan.batch_size, *context.data.shape),
            handed_out=torch.stack(handed_out),
        )

    # -- what malicious parties do -----------------------------------------------------------------
    def _contributions(self, context: CellContext) -> Outcome:
        threat, test = context.threat, context.data.test
        assert isinstance(threat, ContributionThreat)
        outcome, trained = self._report(context)
        clean = self._predictor(
            context,
            Federation(trained["params"], trained["local_models"], scores=trained.get("scores", torch.zeros(0))),
        )
        goal = threat.goal(test, predict(clean, test.x))
        order = torch.randperm(self.parties, generator=context.rng("malicious"))
        order = threat.recruit(self._shares(context), order)
        malice = MaliciousClients(context, threat, order[: round(threat.fraction * self.parties)], self.parties, goal)
        run = self._train(context, malice)
        attacked = self._predictor(context, run)
        reached = accuracy(predict(attacked, test.x), test.y)
        outcome.utility["attacked_accuracy"] = reached
        outcome.risk["accuracy_drop"] = outcome.utility["test_accuracy"] - reached
        if goal is not None:
            target = attacked
            if isinstance(attacked, VotingEnsemble) and threat.fixed_vote is not None:
                target = attacked.with_fixed(malice.members, threat.fixed_vote)
            outcome.risk["attack_success"] = attack_success(predict(target, goal.x), goal.y)
            outcome.diagnostics["attack_success_without_attack"] = attack_success(predict(clean, goal.x), goal.y)
        if run.curve:
            outcome.curves["test_accuracy by round, attacked"] = run.curve
        outcome.diagnostics.update(malice.watched(run, context.defense.trust()))
        if isinstance(clean, VotingEnsemble) and isinstance(attacked, VotingEnsemble):
            report_votes(outcome, test, goal, clean, attacked, malice.members)
        return outcome

    # -- what a participant learns -----------------------------------------------------------------
    def _participation(self, context: CellContext) -> Outcome:
        outcome, _ = self._report(context)
        shares = self._shares(context)

        def run(insider: Insider) -> Federation:
            return self._train(context, taps={"visit": insider.visit, "overhear": insider.hear})

        return play_insider(context, outcome, shares, self.rounds, self.missing, run)

    def _trajectory(self, context: CellContext) -> Outcome:
        outcome, _ = self._report(context)
        shares = self._shares(context)
        return play_trajectory(
            context, outcome, self._net(context), shares, lambda taps: self._train(context, taps=taps)
        )
