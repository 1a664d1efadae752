"""Noise tolerance: parties add noise that only averaging over parties and rounds removes.

After Gilbert, *Secure Aggregation Is Not All You Need: Mitigating Privacy Attacks with Noise Tolerance in Federated
Learning*, 2022 (arXiv 2211.06324). A reconstruction from the abstract; the details are choices of this suite: the
server is not trusted, each party adds its own noise, and learning has to tolerate it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from benchmark.errors import ConfigError
from benchmark.metrics.classification import accuracy
from benchmark.parameters import Count, NonNegative, Positive, Rate
from benchmark.seeds import child, derive, generator, normal_like
from benchmark.settings.collaboration.defense import FederatedDefense, Round
from benchmark.training.accounting import sampled_gaussian_epsilon
from benchmark.training.clipping import clip_rows
from benchmark.training.functional import Layout

VERSION = 2


class NoiseTolerance(FederatedDefense):
    """Client defense that adds Gaussian noise to every upload, independently for each party.

    Only ``clip`` has a guarantee. The noise of ``rel`` depends on the private data, so it has no finite epsilon, and a
    tensor with a zero gradient gets no noise, which reveals that it is zero.

    Args:
        kind: ``rel``: standard deviation ``amount`` x root mean square of the tensor's update, tensor by tensor.
            ``abs``: ``amount``, in gradient units. ``clip``: the update is scaled down to the L2 norm ``max_norm`` and
            gets noise of ``amount`` x ``max_norm`` / sqrt(``shares``). ``calibrated``: ``rel`` with the largest amount
            of ``grid`` that the party's validation accuracy tolerates.
        amount: at least 0.
        floor: least amount of ``rel`` and ``calibrated`` (a server must not steer it down).
        grid, drop: of ``calibrated``. After the party's own noisy update, with noise averaged as among the round's
            parties, accuracy may fall by ``drop`` at most. Where the model is no better than chance the floor is used.
        max_norm, shares, delta: of ``clip``. With ``shares`` above 1 the epsilon holds for the sum of at least so many
            honest uploads, so only under secure aggregation and without Sybils; with 1 it holds for each upload.
        memo: derive noise from the party's secret and its batch, so that repeated queries give nothing new. A server
            that asks for the same batch on another model gets the same noise at another scale.
    """

    def __init__(
        self,
        *,
        kind: Literal["rel", "abs", "clip", "calibrated"] = "rel",
        amount: NonNegative = 1.0,
        floor: NonNegative = 0.1,
        grid: Sequence[Positive] = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
        drop: NonNegative = 0.01,
        max_norm: Positive = 1.0,
        shares: Count = 1,
        delta: Rate = 0.001,
        memo: bool = False,
    ) -> None:
        self.kind, self.amount, self.floor = kind, max(amount, floor) if kind == "rel" else amount, floor
        self.grid, self.drop = sorted({max(value, floor) for value in (*grid, floor)}, reverse=True), drop
        self.max_norm, self.shares, self.delta, self.memo = max_norm, shares, delta, memo
        self.secret: int | None = None
        self.uploads = 0

    def start(self, parties: int, layout: Layout) -> None:
        self.secret, self.uploads = None, 0

    def facts(self) -> dict[str, Any]:
        if self.kind in ("rel", "calibrated"):
            return {}
        if self.kind == "abs":
            return {"noise_std": self.amount}
        return {"noise_std": self._clip_std, "clip_norm": self.max_norm}

    @property
    def _clip_std(self) -> float:
        return self.amount * self.max_norm / self.shares**0.5

    def protect(self, updates: Tensor, round: Round) -> Tensor:
        self.uploads += 1
        noise = self._noise(updates, round)
        if self.kind == "abs":
            return updates + self.amount * noise
        if self.kind == "clip":
            return clip_rows(updates, self.max_norm) + self._clip_std * noise
        scale = torch.empty_like(updates)
        for part in round.layout.slices().values():
            scale[:, part] = updates[:, part].square().mean(dim=1, keepdim=True).sqrt()
        if self.kind == "rel":
            return updates + self.amount * scale * noise
        amounts = [self._calibrated(row, updates[row], scale[row], round) for row in range(len(updates))]
        return updates + torch.tensor(amounts)[:, None].to(updates) * scale * noise

    def _calibrated(self, row: int, update: Tensor, scale: Tensor, round: Round) -> float:
        """Return the amount for the party in ``row``, tried on samples that the party does not train on."""
        if round.net is None or round.validation is None:
            raise ConfigError(
                "noise_tolerance.kind=calibrated needs validation samples for every party, which are dealt from "
                "dataset.sizes.calibration; raise it to the number of parties at least."
            )
        net, data = round.net, round.validation(int(round.parties[row]))
        start = round.params if round.held is None else round.held[row]
        rng = generator(child(round.rng), "noise_tolerance.rehearsal")

        def accuracy_at(amount: float) -> float:
            noisy = update + amount / len(round.parties) ** 0.5 * scale * normal_like(update, rng)
            return accuracy(net.logits(start - round.lr * noisy, data.x), data.y)

        baseline = accuracy_at(0.0)
        chance = float(data.y.bincount().max()) / len(data)
        if baseline <= chance + 2 * (chance * (1 - chance) / len(data)) ** 0.5:
            return self.floor
        return next((amount for amount in self.grid if accuracy_at(amount) >= baseline - self.drop), self.floor)

    def _noise(self, updates: Tensor, round: Round) -> Tensor:
        """Return standard normal noise (n, d), row by row from the party's own stream."""
        if not self.memo:
            return normal_like(updates, round.rng)
        if round.inputs is None:
            raise ConfigError("noise_tolerance.memo needs to see the parties' batches, which this setting hides.")
        if self.secret is None:
            self.secret = child(round.rng)
        rows = []
        for row, party, batch in zip(updates, round.parties.tolist(), round.inputs, strict=True):
            seen = hashlib.blake2b(batch.detach().cpu().contiguous().numpy().tobytes(), digest_size=16).hexdigest()
            own = torch.Generator().manual_seed(derive(self.secret, f"noise_tolerance.{party}.{seen}"))
            rows.append(normal_like(row, own))
        return torch.stack(rows)

    def epsilon(self, *, samples: int, batch_size: int, steps: int) -> tuple[float, float] | None:
        """Return (epsilon, delta) for replacing all data of a party, over the rounds played (before any: ``steps``)."""
        if self.kind != "clip":
            return None
        rounds = self.uploads or steps
        spent = sampled_gaussian_epsilon(
            noise_multiplier=self.amount, samples=1, batch_size=1, steps=rounds, delta=self.delta
        )
        return spent, self.delta
