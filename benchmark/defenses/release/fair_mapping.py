"""Fair mapping: protected records are mapped onto a target group's distribution to hide the attribute."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from sklearn.ensemble import GradientBoostingClassifier
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.errors import Refused
from benchmark.parameters import Count, CountOrZero, Index, NonNegative, Positive
from benchmark.settings.release.defense import Release, ReleaseMechanism
from benchmark.training.adversarial_groups import (
    CriticAndDiscriminator,
    dense,
    gradient_penalty,
    protection_loss,
    soft_ber,
)
from benchmark.training.record_space import RecordSpace, with_decision

VERSION = 2


class RecordMap(nn.Module):
    """Fitted map for an adversary who has its weights: differentiable, and not yet decoded.

    ``forward(records, rng)``: mapped records with their decision (n, d + classes), with noise from ``rng``.
    """

    def __init__(self, defense: FairMapping) -> None:
        super().__init__()
        self.weights, self.mapped = defense.generator, defense.mapped

    def forward(self, records: Tensor, rng: torch.Generator) -> Tensor:
        return self.mapped(records, rng)


class FairMapping(ReleaseMechanism):
    """Fair mapping (Gambs, Ngueveu, arXiv 2209.00617), reconstructed from the abstract.

    A residual generator G moves records (features and decision). Four terms: *transport*, the Wasserstein-1 distance of
    mapped protected records to the target group's, by a critic with gradient penalty; *protection*, the distance of an
    attribute discriminator's soft balanced error from chance; *identity*, L1 change of target records; *fidelity*, L1
    change of the others (or of all). With some weights at 0 it specialises to its baselines: WGAN (transport alone) and
    GANSan (protection and fidelity on all records). The release is decoded into the space of records.

    Args:
        target: group that the others are mapped onto (the privileged one).
        transport, protection, identity, fidelity: weights of the terms.
        fidelity_on_all: the fidelity term counts target records too (GANSan has no target group).
        shared_trunk: critic and discriminator are two heads of one network (an ablation).
        sees_originals: the discriminator also sees the target group's original records, so that the map hides from an
            adversary who knows real members of it.
        composition: ``all_mapped`` (R-M) passes all records through G; ``target_original`` (O-M) leaves the target
            group.
        decode: clip and round outputs and make them one-hot; raw outputs reveal who was mapped.
        hidden: widths of all networks.
        noise: number of uniform inputs added to a record.
        steps: of the generator.
        critic_steps: of critic and discriminator for each step of the generator.
        checkpoints: number of maps of the second half of the steps that :meth:`_heuristic` compares; the best is kept,
            or with 0 the last.
        batch_size: half of it from the target group.
        lr: of Adam with betas (0.5, 0.9).
    """

    needs = {"dataset.kind": "tabular", "dataset.sensitive": "yes"}
    releases = frozenset({"attributes", "map"})

    def __init__(
        self,
        *,
        target: Index = 1,
        transport: NonNegative = 1.0,
        protection: NonNegative = 2.0,
        identity: NonNegative = 1.0,
        fidelity: NonNegative = 0.3,
        fidelity_on_all: bool = False,
        shared_trunk: bool = False,
        sees_originals: bool = False,
        composition: Literal["all_mapped", "target_original"] = "all_mapped",
        decode: bool = True,
        hidden: Sequence[Count] = (64, 64),
        noise: CountOrZero = 1,
        steps: Count = 20000,
        critic_steps: Count = 5,
        checkpoints: CountOrZero = 20,
        batch_size: Count = 128,
        lr: Positive = 0.001,
    ) -> None:
        self.target, self.hidden, self.noise = target, list(hidden), noise
        self.transport, self.protection, self.identity, self.fidelity = transport, protection, identity, fidelity
        self.fidelity_on_all, self.shared_trunk = fidelity_on_all, shared_trunk
        self.composition, self.decoded = composition, decode
        self.steps, self.critic_steps, self.checkpoints = steps, critic_steps, checkpoints
        self.sees_originals = sees_originals
        self.batch_size, self.lr = batch_size, lr

    def facts(self) -> dict[str, Any]:
        return {"mechanism": "fair_mapping", "target": self.target, "composition": self.composition}

    def models(self) -> Mapping[str, nn.Module]:
        return {"generator": self.generator, "judges": self.judges, "map": RecordMap(self)}

    # -- publishing --------------------------------------------------------------------------------
    def release(self, private: Split, rng: torch.Generator) -> Release:
        if private.sensitive is None:
            raise Refused("Fair mapping hides a sensitive attribute, and this dataset has none.")
        self.num_classes = int(private.y.max()) + 1 if self.context is None else self.context.num_classes
        self.rng = rng
        records = with_decision(private, self.num_classes)
        self.space = RecordSpace.of(records)
        self.fit_map(records, private.sensitive, rng)
        mapped = self.encode_people(private)
        index = torch.arange(len(private), device=private.y.device)
        return Release(mapped.x, mapped.y, source=index, sensitive=private.sensitive)

    def encode_people(self, people: Split) -> Split:
        """Return all records mapped; ``target_original`` leaves the target group, which needs the attribute."""
        x, y = self._map(with_decision(people, self.num_classes))
        if self.composition == "target_original":
            assert people.sensitive is not None
            stays = people.sensitive == self.target
            x, y = torch.where(stays.unsqueeze(1), people.x.flatten(1), x), torch.where(stays, people.y, y)
        return replace(people, x=x.view_as(people.x), y=y)

    def encode(self, x: Tensor) -> Tensor:
        """Return mapped features for records without a decision (equal shares of all classes)."""
        undecided = torch.full((len(x), self.num_classes), 1 / self.num_classes, device=x.device)
        return self._map(torch.cat([x.flatten(1), undecided], dim=1))[0].view_as(x)

    @torch.no_grad()
    def _map(self, records: Tensor) -> tuple[Tensor, Tensor]:
        """Return mapped features (n, d) and decision (n,) of records with their decision, (n, d + classes)."""
        raw = self.mapped(records, self.rng)
        decision = raw[:, -self.num_classes :].argmax(dim=1)
        x = (self.space.decode(raw) if self.decoded else raw)[:, : -self.num_classes]
        return x, decision

    def mapped(self, records: Tensor, rng: torch.Generator) -> Tensor:
        """Return ``G(x) = x + f(x, noise)``, (n, d)."""
        noise = torch.rand((len(records), self.noise), generator=rng).to(records, non_blocking=True)
        return records + self.generator(torch.cat([records, noise], dim=1))

    # -- training ----------------------------------------------------------------------------------
    def build(self, width: int, count: int) -> nn.Module:
        """Return the untrained generator for records of ``width`` columns and ``count`` groups."""
        return dense(width + self.noise, self.hidden, width)

    def prepare(self, records: Tensor, groups: Tensor, rng: torch.Generator) -> None:
        """Train parts that the map needs before its own training; none here."""

    def fit_map(self, records: Tensor, groups: Tensor, rng: torch.Generator) -> None:
        """Train generator, critic and discriminator on private records (n, d) with groups int64 (n,)."""
        count, width = int(groups.max()) + 1, records.shape[1]
        self.generator = self.build(width, count).to(records.device)
        self.judges = CriticAndDiscriminator(width, self.hidden, count, self.shared_trunk).to(records.device)
        self.prepare(records, groups, rng)
        map_optimizer, judges_optimizer = self._adam(self.generator), self._adam(self.judges)
        pools = (groups == self.target).nonzero().squeeze(1), (groups != self.target).nonzero().squeeze(1)
        if not (len(pools[0]) and len(pools[1])):
            raise Refused(f"Nobody to map: all or none of the private records are of group {self.target}.")
        checkpoints = set(torch.linspace(self.steps / 2, self.steps, self.checkpoints).int().tolist())
        best: tuple[float, dict[str, Any], dict[str, Any]] = (float("inf"), {}, {})
        for step in range(1, self.steps + 1):
            for _ in range(self.critic_steps):
                index = self._draw(pools, rng)
                self._improve(judges_optimizer, self._judges_loss(records[index], groups[index], count, rng))
            index = self._draw(pools, rng)
            self._improve(map_optimizer, self._map_loss(records[index], groups[index], count, rng))
            if step in checkpoints:
                states = copy.deepcopy((self.generator.state_dict(), self.judges.state_dict()))
                best = min(best, (self._heuristic(records, groups, count), *states), key=lambda found: found[0])
        if checkpoints:
            self.generator.load_state_dict(best[1])
            self.judges.load_state_dict(best[2])

    def _heuristic(self, records: Tensor, groups: Tensor, count: int) -> float:
        """Return the papers' selection criterion, lower is better: MAE + (chance - BER)^2 on private records.

        BER is that of gradient boosting, fitted on one half of the mapped records and scored on the other.
        """
        x, y = self._map(records)
        mapped = torch.cat([x, F.one_hot(y, self.num_classes).to(x)], dim=1)
        classifier = GradientBoostingClassifier(random_state=0).fit(mapped[::2].cpu(), groups[::2].cpu())
        wrong = torch.as_tensor(classifier.predict(mapped[1::2].cpu())) != groups[1::2].cpu()
        rates = [wrong[groups[1::2].cpu() == group].double().mean() for group in range(count)]
        ber = torch.stack(rates).nanmean()
        return float((mapped - records).abs().mean() + ((count - 1) / count - ber).square())

    def _adam(self, module: nn.Module) -> torch.optim.Adam:
        # fused: on networks this small the time goes into single small operations
        return torch.optim.Adam(module.parameters(), lr=self.lr, betas=(0.5, 0.9), fused=True)

    @staticmethod
    def _improve(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def _draw(self, pools: tuple[Tensor, Tensor], rng: torch.Generator) -> Tensor:
        """Return indices of half a batch of the target group, then as many others."""
        half = self.batch_size // 2
        rows = torch.stack([torch.randint(len(pool), (half,), generator=rng) for pool in pools])
        rows = rows.to(pools[0].device, non_blocking=True)
        return torch.cat([pool[own] for pool, own in zip(pools, rows, strict=True)])

    def _judges_loss(self, records: Tensor, groups: Tensor, count: int, rng: torch.Generator) -> Tensor:
        """Return the loss of the discriminator on mapped records and of the critic between target and mapped others."""
        with torch.no_grad():
            mapped = self.mapped(records, rng)
        half = len(records) // 2
        shown, of = mapped, groups
        if self.sees_originals:
            shown, of = torch.cat([records[:half], mapped]), torch.cat([groups[:half], groups])
        loss = soft_ber(self.judges.groups(shown), of, count)
        if self.transport:
            real, mapped_others = records[:half], mapped[half:]
            distance = self.judges.critic(real).mean() - self.judges.critic(mapped_others).mean()
            loss = loss - distance + gradient_penalty(self.judges, real, mapped_others, rng)
        return loss

    def _map_loss(self, records: Tensor, groups: Tensor, count: int, rng: torch.Generator) -> Tensor:
        half, mapped = len(records) // 2, self.mapped(records, rng)
        loss = self.identity * F.l1_loss(mapped[:half], records[:half])
        changed = slice(None) if self.fidelity_on_all else slice(half, None)
        loss = loss + self.fidelity * F.l1_loss(mapped[changed], records[changed])
        if self.transport:
            loss = loss - self.transport * self.judges.critic(mapped[half:]).mean()
        if self.protection:
            loss = loss + self.protection * protection_loss(self.judges.groups(mapped), groups, count)
        return loss
