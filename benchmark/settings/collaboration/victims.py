"""Victims of a collaboration: parties whose uploads, each of one private batch, are attacked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from benchmark.errors import ConfigError
from benchmark.models.chance import without_chance
from benchmark.settings.base import Artifact, CellContext
from benchmark.settings.collaboration.defense import LocalPlan
from benchmark.training.functional import Net


@dataclass(frozen=True)
class PrivateBatches:
    """Private samples of the victims.

    Attributes:
        truth: the samples as they are; labels: their labels.
        x, y: what each local step reads once the defense has changed the samples.
    """

    truth: Float[Tensor, " victims batch *sample"]
    labels: Int[Tensor, "victims batch"]
    x: Float[Tensor, "victims steps used ..."]
    y: Shaped[Tensor, " victims steps used *classes"]


@dataclass(frozen=True)
class Victims:
    """Parties whose uploads are attacked.

    Attributes:
        count: of victims.
        plan: what stands behind one upload, before a defense changes it.
        model_state: ``untrained`` or ``trained``: the global model from which they start.
    """

    count: int
    plan: LocalPlan
    model_state: str

    def global_model(self, context: CellContext, trained: Artifact) -> tuple[Net, Float[Tensor, " d"]]:
        """Return the architecture and the global model (d,) that is sent to the victims.

        Args:
            trained: artifact of the honest collaboration, with ``params``.
        """
        net = Net(without_chance(context.fresh_model(owners=True)))
        return net, (trained["params"] if self.model_state == "trained" else net.initial()).to(context.device)

    def batches(self, context: CellContext, plan: LocalPlan) -> PrivateBatches:
        """Return each victim's private batch, the same on every surface.

        Args:
            plan: what stands behind one upload, already changed by the defense.

        Raises:
            ConfigError: there are fewer private samples than victims need.
        """
        owner, count = context.data.owner, self.count * plan.batch_size
        if count > len(owner):
            raise ConfigError(
                f"{self.count} victims with {plan.batch_size} samples each need {count} private samples, but the owner "
                f"split holds {len(owner)}; lower setting.victims or raise dataset.sizes.owner."
            )
        private = owner[torch.randperm(len(owner), generator=context.rng("victims"))[:count]]
        rows = torch.arange(count).view(self.count, -1)
        sent = [
            context.defense.local_data(private[rows[i]], context.rng(f"victims.data.{i}")) for i in range(self.count)
        ]
        return PrivateBatches(
            truth=private.x.view(self.count, plan.batch_size, *context.data.shape),
            labels=private.y.view(self.count, plan.batch_size),
            x=at_each_step(torch.stack([s.x for s in sent]), plan.local_steps),
            y=at_each_step(torch.stack([s.y for s in sent]), plan.local_steps),
        )


def at_each_step(batches: Shaped[Tensor, " n batch *sample"], steps: int) -> Shaped[Tensor, " n {steps} batch *sample"]:
    """Repeat each party's one batch for all its local steps: (n, batch, ...) -> (n, steps, batch, ...)."""
    return batches.unsqueeze(1).expand(-1, steps, *batches.shape[1:])
