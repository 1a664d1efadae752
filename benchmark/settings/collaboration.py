"""Parties train a model together; a server, a participant or an eavesdropper looks at what they send.

FedSGD is ``local_steps=1``; FedAvg is more. Updates are in gradient units, (before - after) / lr.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.data.base import Split
from benchmark.defenses.base import LocalPlan, Published, Round
from benchmark.errors import ConfigError, Diverged
from benchmark.metrics.classification import accuracy
from benchmark.metrics.reconstruction import score_reconstruction
from benchmark.outcome import Outcome
from benchmark.seeds import derive
from benchmark.settings.base import Artifact, Setting, Stage
from benchmark.threats.base import Guess, Reconstruction, Surface, Threat
from benchmark.training.federated import Deviate, Federation, deal, federate, local_updates
from benchmark.training.functional import Layout, Net

SENDING = frozenset({"local_data", "local_plan", "local_step", "protect", "exchange"})
ROBUST = frozenset({"local_step", "protect", "select", "exchange", "aggregate", "finish"})


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
    """

    granted_by: ClassVar[Mapping[str, str]] = {
        "published": "mechanism",
        "labels": "labels",
        "public": "public",
        "truth": "truth",
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


class UploadThreat(Threat):
    """A server that reads uploads.

    Attributes:
        observations: rounds in which it sees the same private batches on the same model; 1 unless it declares more.
    """

    setting = "collaboration"
    surface = "uploads"
    observations: int = 1


@dataclass(frozen=True)
class ContributionSurface(Surface):
    """What malicious participants see in one round.

    Attributes:
        round: its index; params: (d,) the global model; layout: how it is cut.
        own: (m, d) the updates that they would upload if they were honest.
        honest: (n - m, d) the others' updates (grant ``updates``: an omniscient adversary).
    """

    granted_by: ClassVar[Mapping[str, str]] = {"honest": "updates"}

    round: int
    params: Tensor
    layout: Layout
    own: Tensor
    honest: Tensor


@dataclass
class Contribution(Guess):
    """``updates`` (m, d): what malicious parties hand out in place of their own."""

    updates: Tensor


class ContributionThreat(Threat):
    """Malicious participants.

    Args:
        fraction: share of the parties that are malicious, in [0, 1).
        follows_exchange: whether they take part honestly in what a protocol does between parties; if not, they hand
            their bad update to partners and upload it unmixed as well.
    """

    setting = "collaboration"
    surface = "contributions"
    headline = "accuracy_drop"

    def __init__(self, *, fraction: float, follows_exchange: bool, adaptive: bool = False) -> None:
        super().__init__(adaptive=adaptive)
        if not 0 <= fraction < 1:
            raise ConfigError(f"threat.fraction must be in [0, 1), got {fraction}.")
        self.fraction = fraction
        self.follows_exchange = follows_exchange


class Collaboration(Setting):
    """FedSGD and FedAvg with n parties.

    Args:
        parties: how many train together; fraction: share of them sampled each round.
        rounds: of the training that gives utility.
        batch_size, local_steps, lr: plan of one upload in training.
        victims: parties whose uploads an ``uploads`` threat sees.
        victim_batch_size: private samples behind each such upload (before a defense changes the plan).
        model_state: ``untrained`` or ``trained``: the global model that the victims start from.
    """

    name = "collaboration"
    surfaces = {"uploads": SENDING, "contributions": ROBUST}

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
    ) -> None:
        if model_state not in ("untrained", "trained"):
            raise ConfigError(f"setting.model_state must be untrained or trained, got {model_state!r}.")
        if not 0 < fraction <= 1:
            raise ConfigError(f"setting.fraction must be in (0, 1], got {fraction}.")
        self.parties, self.fraction, self.rounds = parties, fraction, rounds
        self.plan = LocalPlan(batch_size, local_steps, lr)
        self.victims, self.victim_plan = victims, LocalPlan(victim_batch_size, 1, lr)
        self.model_state = model_state

    def play(self, stage: Stage) -> Outcome:
        scenes = {"uploads": self._uploads, "contributions": self._contributions}
        return scenes[stage.threat.surface](stage)

    # -- training together -------------------------------------------------------------------------
    def _train(self, stage: Stage, deviate: Deviate | None = None, follows_exchange: bool = True) -> Federation:
        """The collaboration under the stage's defense."""
        net = Net(stage.fresh_model())
        test = stage.data.test
        shares = [
            stage.defense.local_data(share, stage.rng(f"defense.local_data.{i}"))
            for i, share in enumerate(deal(stage.data.owner, self.parties, stage.rng("data.deal")))
        ]
        extra = {} if deviate is None else {"deviate": deviate, "follows_exchange": follows_exchange}
        return federate(
            net,
            shares,
            stage.defense,
            plan=self.plan,
            rounds=self.rounds,
            fraction=self.fraction,
            seed=stage.seed,
            watch=lambda params: accuracy(net.logits(params, test.x), test.y),
            **extra,  # type: ignore[arg-type]
        )

    def _honest(self, stage: Stage) -> Artifact:
        """The honest collaboration, shared by all threats: ``params``, ``accuracy``, ``curve`` and its costs."""

        def build() -> Artifact:
            run = self._train(stage)
            return {
                "params": run.params.cpu(),
                "accuracy": torch.tensor(self._accuracy(stage, run)),
                "curve": torch.tensor(run.curve),
                "costs": torch.tensor([run.seconds, run.bytes_sent, run.messages], dtype=torch.float64),
            }

        return stage.memo(("federated", "dataset", "model", "setting", "defense", "scale"), build)

    @staticmethod
    def _accuracy(stage: Stage, run: Federation) -> float:
        predictor = stage.defense.finish(Net(stage.fresh_model()), run.params, run.local_models)
        return accuracy(predictor(stage.data.test.x), stage.data.test.y)

    def _report(self, stage: Stage) -> tuple[Outcome, Artifact]:
        """An outcome with utility and cost of the honest collaboration."""
        trained = self._honest(stage)
        if not torch.isfinite(trained["params"]).all():
            raise Diverged(
                "the federated model has NaN or infinite parameters; lower setting.lr or the defense's noise."
            )
        seconds, bytes_sent, messages = trained["costs"].tolist()
        outcome = Outcome(
            utility={"test_accuracy": trained["accuracy"].item()},
            cost={"seconds": seconds, "bytes_sent": bytes_sent, "messages": messages, "rounds": self.rounds},
            curves={"test_accuracy by round": trained["curve"].tolist()},
        )
        plan = stage.defense.local_plan(self.plan)
        samples = len(stage.data.owner) // self.parties
        steps = self.rounds * plan.local_steps
        spent = stage.defense.epsilon(samples=samples, batch_size=min(plan.batch_size, samples), steps=steps)
        if spent is not None:
            outcome.cost["epsilon"], outcome.cost["delta"] = spent
        return outcome, trained

    # -- what uploads leak -------------------------------------------------------------------------
    def _uploads(self, stage: Stage) -> Outcome:
        threat = stage.threat
        assert isinstance(threat, UploadThreat)
        outcome, trained = self._report(stage)
        net = Net(stage.fresh_model())
        params = (trained["params"] if self.model_state == "trained" else net.initial()).to(stage.device)
        surface = self._observe(stage, net, params, threat.observations)
        guess = threat(surface, seed=stage.seed)
        self._score(outcome, guess, surface)
        return outcome

    def _observe(self, stage: Stage, net: Net, params: Tensor, observations: int) -> UploadSurface:
        """The uploads of ``victims`` parties, each on its own private batch, seen ``observations`` times."""
        defense = stage.defense
        plan = defense.local_plan(self.victim_plan)
        count = self.victims * plan.batch_size
        if count > len(stage.data.owner):
            raise ConfigError(
                f"{self.victims} victims with {plan.batch_size} samples each need {count} private samples, but the "
                f"owner split holds {len(stage.data.owner)}; lower setting.victims or raise dataset.sizes.owner."
            )
        private = stage.data.owner[torch.randperm(len(stage.data.owner), generator=stage.rng("victims"))[:count]]
        sent = [
            defense.local_data(private[torch.arange(count).view(self.victims, -1)[i]], stage.rng(f"victims.data.{i}"))
            for i in range(self.victims)
        ]
        x, y = torch.stack([s.x for s in sent]), torch.stack([s.y for s in sent])
        steps_x = x.unsqueeze(1).expand(-1, plan.local_steps, *x.shape[1:])
        steps_y = y.unsqueeze(1).expand(-1, plan.local_steps, *y.shape[1:])
        defense.start(self.victims, net.layout)
        uploads, published = [], []
        for index in range(observations):
            turn = Round(index, net.layout, params, torch.arange(self.victims), stage.rng(f"leak.protocol.{index}"))
            turn.publish(**defense.facts())
            rngs = [stage.rng(f"leak.party.{i}.{index}") for i in range(self.victims)]
            updates = local_updates(net, defense, params, steps_x, steps_y, plan.lr, rngs)
            uploads.append(defense.exchange(defense.protect(updates.detach(), turn), turn))
            published.append(turn.published)
        return UploadSurface(
            net=net,
            params=params,
            uploads=torch.stack(uploads),
            batch_size=plan.batch_size,
            local_steps=plan.local_steps,
            lr=plan.lr,
            shape=stage.data.shape,
            num_classes=stage.data.num_classes,
            published=published,
            labels=private.y.view(self.victims, plan.batch_size),
            public=stage.data.public,
            truth=private.x.view(self.victims, plan.batch_size, *stage.data.shape),
        )

    @staticmethod
    def _score(outcome: Outcome, guess: Reconstruction, surface: UploadSurface) -> None:
        """Compare the guess with the truth, which only the setting holds."""
        scores, matched = score_reconstruction(guess.x, guess.labels, surface.truth, surface.labels, guess.groups)
        outcome.diagnostics["mse"] = scores.pop("mse", float("nan")) if guess.x is not None else "no images guessed"
        outcome.risk.update(scores)
        outcome.diagnostics.update(guess.diagnostics)
        outcome.diagnostics["attack_seconds"] = guess.seconds
        outcome.diagnostics["observations"] = len(surface.uploads)
        if matched is not None and len(surface.shape) == 3:
            outcome.picture(
                "reconstruction", {"original": surface.truth.flatten(0, 1), "reconstructed": matched.flatten(0, 1)}
            )

    # -- what malicious parties do -----------------------------------------------------------------
    def _contributions(self, stage: Stage) -> Outcome:
        threat = stage.threat
        assert isinstance(threat, ContributionThreat)
        outcome, trained = self._report(stage)
        chosen = torch.randperm(self.parties, generator=stage.rng("malicious"))[: round(threat.fraction * self.parties)]

        def deviate(turn: Round, updates: Tensor) -> Tensor:
            bad = torch.isin(turn.parties, chosen)
            if not bad.any():
                return updates
            view = ContributionSurface(turn.index, turn.params, turn.layout, updates[bad], updates[~bad])
            handed_out = updates.clone()
            handed_out[bad] = threat(view, seed=derive(stage.seed, f"poison.{turn.index}")).updates
            return handed_out

        attacked = self._train(stage, deviate, threat.follows_exchange)
        reached = self._accuracy(stage, attacked)
        outcome.utility["attacked_accuracy"] = reached
        outcome.risk["accuracy_drop"] = outcome.utility["test_accuracy"] - reached
        outcome.curves["test_accuracy by round, attacked"] = attacked.curve
        outcome.diagnostics["malicious_parties"] = len(chosen)
        return outcome
