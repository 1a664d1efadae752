"""Joint training of a collaboration, which all its games share: with or without malicious parties."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.errors import Diverged
from benchmark.metrics.classification import accuracy, share_right
from benchmark.models.chance import without_chance
from benchmark.outcome import Outcome
from benchmark.settings.base import Artifact, CellContext
from benchmark.settings.collaboration.defense import Federation, LocalPlan, Predictor, TrainingTask
from benchmark.settings.collaboration.ensembles import spent_inside
from benchmark.settings.collaboration.partition import partition, partition_by_class, partition_one_apart
from benchmark.settings.collaboration.rounds import federate
from benchmark.settings.collaboration.victims import Victims
from benchmark.training.functional import Net
from benchmark.training.loop import predict
from benchmark.training.stateful import StatefulNet


def unchanged(party: int, samples: Split) -> Split:
    """Return ``samples``: an honest party's validation samples are its own."""
    return samples


@dataclass(frozen=True)
class JointTraining:
    """Parties that train one model together.

    Attributes:
        parties, fraction, rounds, order, dirichlet_alpha, partition, apart, missing, spectator, averaged_rounds: as the
            arguments of :class:`benchmark.settings.collaboration.setting.Collaboration`.
        plan: of one upload in training, before a defense changes it.
        victims: parties whose uploads are attacked.
        insider: whether a party watches the others' training from inside. It is the last one, and the model gets one
            output more than there are classes.
        stateful: whether models with batch normalisation or dropout may be trained, which have no gradient of a batch
            alone that could be attacked.
    """

    parties: int
    fraction: float
    rounds: int
    plan: LocalPlan
    order: str
    dirichlet_alpha: float | None
    partition: str
    apart: int
    missing: int | None
    spectator: bool
    victims: Victims
    averaged_rounds: int = 1
    insider: bool = False
    stateful: bool = False

    def net(self, context: CellContext) -> Net:
        """Return the model that is trained together.

        Raises:
            ConfigError: it has batch normalisation or dropout, and the game or the defense takes gradients of its own.
        """
        outputs = context.data.num_classes + int(self.insider)
        module = context.fresh_model(owners=True, num_classes=outputs)
        own_gradients = context.defense.overrides("learn") or context.defense.overrides("local_step")
        if self.stateful and StatefulNet.suits(module) and not own_gradients:
            return StatefulNet(module)
        return Net(without_chance(module))

    def shares(self, context: CellContext) -> list[Split]:
        """Return each party's own samples."""
        owner, rng = context.data.owner, context.rng("data.deal")
        if self.missing is not None:
            owner = owner[owner.y != self.missing]
        if self.partition == "by_class":
            shares = partition_by_class(owner, self.parties, context.data.num_classes)
        elif self.partition == "one_class_apart":
            shares = partition_one_apart(owner, self.parties, self.apart, rng)
        else:
            shares = partition(owner, self.parties, rng, self.dirichlet_alpha)
        if self.spectator and self.insider:
            shares.append(owner[:0])
        return shares

    def train(
        self,
        context: CellContext,
        shares: Sequence[Split] | None = None,
        *,
        validation: Callable[[int, Split], Split] = unchanged,
        **interference: Any,
    ) -> Federation:
        """Train together under the context's defense.

        Args:
            shares: each party's samples; None: :meth:`shares`.
            validation: ``validation(party, samples)`` returns what a party hands over as its validation samples.
            interference: ``visit``, ``deviate``, ``overhear`` and ``unmixed`` of
                :func:`benchmark.settings.collaboration.rounds.federate`, by which a threat takes part.
        """
        net, test = self.net(context), context.data.test
        shares = prepared(context, self.shares(context) if shares is None else shares, net)
        if context.defense.overrides("learn"):

            def fresh(party: int) -> Tensor:
                return Net(context.fresh_model(f"model.init.{party}", owners=True)).initial()

            public, defense = context.data.public, context.defense
            return defense.learn(TrainingTask(net, fresh, shares, public, defense, context.seed, validation))
        return federate(
            net,
            shares,
            context.defense,
            plan=self.plan,
            rounds=self.rounds,
            fraction=self.fraction,
            seed=context.seed,
            order=self.order,
            averaged=self.averaged_rounds,
            root=context.data.calibration,
            watch=lambda params: share_right(predict(partial(net.logits, params), test.x), test.y),
            **interference,
        )

    def honest_run(self, context: CellContext) -> Artifact:
        """Return the honest collaboration, shared by all threats: models, accuracy, curve, costs, privacy budget."""

        def build() -> Artifact:
            run = self.train(context)
            logits = predict(self.predictor(context, run), context.data.test.x)
            # Only a defense that deploys something else than the last global model needs the parties' own ones.
            kept = len(run.local_models) if context.defense.overrides("finish") else 0
            return {
                "params": run.params.cpu(),
                "local_models": run.local_models[:kept].cpu(),
                "scores": run.scores.cpu(),
                "accuracy": torch.tensor(accuracy(logits, context.data.test.y), dtype=torch.float64),
                "curve": torch.tensor(run.curve),
                "costs": torch.tensor([run.seconds, run.bytes_sent, run.messages], dtype=torch.float64),
                # Kept with the run: an accountant that counts what the defense did knows it only right afterwards.
                "privacy": torch.tensor(self._spent(context, run), dtype=torch.float64),
            }

        name = "participation" if self.insider else "federation"
        return context.cache((name, "dataset", "model", "setting", "defense", "scale"), build)

    def _spent(self, context: CellContext, run: Federation) -> tuple[float, ...]:
        """Return (epsilon, delta) of the collaboration that the defense has just run; empty without a guarantee."""
        samples, batch_size, steps = run.work or self._work(context)
        return context.defense.epsilon(samples=samples, batch_size=batch_size, steps=steps) or ()

    def _work(self, context: CellContext) -> tuple[int, int, int]:
        """Return the samples of one party, the batch size and the local steps by the plan."""
        plan = context.defense.local_plan(self.plan)
        samples = len(context.data.owner) // self.parties
        return samples, min(plan.batch_size, samples), self.rounds * plan.local_steps

    def predictor(self, context: CellContext, run: Federation) -> Predictor:
        """Return the model that is deployed after ``run``."""
        run = replace(run, params=run.params.to(context.device), local_models=run.local_models.to(context.device))
        return context.defense.finish(self.net(context), run, context.rng("defense.finish"))

    def report(self, context: CellContext) -> tuple[Outcome, Artifact]:
        """Return an outcome with utility and cost of the honest collaboration, and its artifact.

        Raises:
            Diverged: the honest model is not finite.
        """
        trained = self.honest_run(context)
        if not torch.isfinite(trained["params"]).all():
            raise Diverged(
                "the federated model has NaN or infinite parameters; lower setting.lr or the defense's noise."
            )
        seconds, bytes_sent, messages = trained["costs"].tolist()
        outcome = Outcome(utility={"test_accuracy": trained["accuracy"].item()}, cost={"seconds": seconds})
        if not context.defense.overrides("learn"):  # the traffic of other ways of learning, only an engine can measure
            outcome.cost.update(bytes_sent=bytes_sent, messages=messages, rounds=self.rounds)
            outcome.curves["test_accuracy by round"] = trained["curve"].tolist()
        spent_inside(context, outcome, self.net(context), self.parties)
        if len(trained["privacy"]):
            outcome.cost["epsilon"], outcome.cost["delta"] = trained["privacy"].tolist()
        samples, batch_size, steps = self._work(context)
        outcome.diagnostics |= context.defense.claims(samples=samples, batch_size=batch_size, steps=steps)
        return outcome, trained


def prepared(context: CellContext, shares: Sequence[Split], net: Net) -> list[Split]:
    """Return the parties' training samples as the defense changes them.

    Soft labels get a column for each output of ``net``, which has one more than there are classes beside an insider.
    """
    outputs, found = net.layout.shapes[-1][0], []
    for party, share in enumerate(shares):
        if len(share):
            share = context.defense.local_data(share, context.rng(f"defense.local_data.{party}"))
        if share.y.ndim == 2 and share.y.shape[1] < outputs:
            share = replace(share, y=F.pad(share.y, (0, outputs - share.y.shape[1])))
        found.append(share)
    return found
