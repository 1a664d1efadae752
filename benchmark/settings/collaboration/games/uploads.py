"""Surface of uploads: an honest-but-curious server reconstructs private samples from what parties send it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmark.data.base import Split
from benchmark.metrics.reconstruction import score_reconstruction
from benchmark.outcome import Outcome
from benchmark.settings.base import CellContext, Game, note
from benchmark.settings.collaboration.defense import Round
from benchmark.settings.collaboration.published import Published
from benchmark.settings.collaboration.rounds import local_updates
from benchmark.settings.collaboration.training import JointTraining
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.threat import Surface, Threat
from benchmark.training.functional import Net


@dataclass(frozen=True)
class UploadSurface(Surface):
    """View of an honest-but-curious server: every party's upload, and the model that it was computed on.

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
        handed_out: (observations, victims, d) what the parties entered into an exchange among themselves, which a
            partner of theirs can give away (grant ``collusion``); None where the setting does not provide them.
    """

    granted_by: ClassVar[Mapping[str, str]] = {
        "published": "mechanism",
        "labels": "labels",
        "public": "public",
        "truth": "truth",
        "handed_out": "collusion",
    }

    net: Net
    params: Float[Tensor, " d"]
    uploads: Float[Tensor, "observations victims d"]
    batch_size: int
    local_steps: int
    lr: float
    shape: tuple[int, ...]
    num_classes: int
    published: list[Published]
    labels: Int[Tensor, "victims batch"]
    public: Split
    truth: Float[Tensor, " victims batch *sample"]
    handed_out: Float[Tensor, "observations victims d"] | None = None


class UploadThreat(Threat):
    """A server that reads uploads.

    Attributes:
        observations: rounds in which it sees the same private batches on the same model; 1 unless it declares more.
    """

    setting = "collaboration"
    surface = "uploads"
    observations: int = 1


class UploadsGame(Game[JointTraining]):
    """The victims upload, once or on several rounds with the same batches; the server reconstructs the batches."""

    surface = "uploads"
    hooks = frozenset({"local_data", "local_plan", "local_step", "protect", "exchange"})
    guess = Reconstruction

    def play(self, context: CellContext) -> Outcome:
        threat = context.threat
        assert isinstance(threat, UploadThreat)
        outcome, trained = self.honest.report(context)
        net, params = self.honest.victims.global_model(context, trained)
        surface = self.observe(context, net, params, threat.observations)
        guess = self.ask(context, surface)
        note(outcome, guess)
        outcome.diagnostics["observations"] = len(surface.uploads)
        score_batches(outcome, guess, surface.truth, surface.labels)
        return outcome

    def observe(self, context: CellContext, net: Net, params: Float[Tensor, " d"], observations: int) -> UploadSurface:
        """Return the uploads of all victims, each on its own private batch, seen ``observations`` times."""
        defense, victims = context.defense, self.honest.victims
        plan = defense.local_plan(victims.plan)
        batches = victims.batches(context, plan)
        defense.start(victims.count, net.layout)
        handed_out, uploads, published = [], [], []
        for index in range(observations):
            turn = Round(index, net.layout, params, torch.arange(victims.count), context.rng(f"leak.protocol.{index}"))
            turn.inputs = batches.x
            turn.publish(**defense.facts())
            rngs = [context.rng(f"leak.party.{i}.{index}") for i in range(victims.count)]
            updates = local_updates(net, defense, params, batches.x, batches.y, plan, rngs)
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
            labels=batches.labels,
            public=context.data.public,
            truth=batches.truth,
            handed_out=torch.stack(handed_out),
        )


def score_batches(
    outcome: Outcome, guess: Reconstruction, truth: Float[Tensor, " n batch *sample"], labels: Int[Tensor, "n batch"]
) -> None:
    """Compare reconstructed batches with the private ones, ``truth`` (n, batch, ...) and ``labels`` (n, batch)."""
    scores, matched = score_reconstruction(guess.x, guess.labels, truth, labels, guess.groups)
    outcome.score(scores)
    if matched is not None and truth.ndim == 5:
        outcome.picture("reconstruction", {"original": truth.flatten(0, 1), "reconstructed": matched.flatten(0, 1)})
