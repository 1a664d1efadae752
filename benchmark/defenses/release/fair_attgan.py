"""Fair mapping by attribute editing: every record is decoded with the code of the target group (AttGAN)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.defenses.release.fair_mapping import FairMapping
from benchmark.parameters import CountOrZero, NonNegative
from benchmark.training.adversarial_groups import dense

VERSION = 1


class FairAttGAN(FairMapping):
    """Mechanism of the earlier form of fair mapping (Gambs, Ngueveu, v1), on AttGAN (He et al., IEEE TIP 2019).

    ``G(x) = Dec(Enc(x), code)`` with the one-hot code of a group: the own code must reconstruct the record
    (*reconstruction*), that of the target must convince a classifier of groups trained on real records
    (*classification*) and the critic. Encoder and decoder are pretrained as an auto-encoder. With ``protection`` 0 it
    is AttGAN.

    Args:
        reconstruction, classification: weights of the two terms.
        warmup: steps of the auto-encoder, and of the classifier.
        identity, fidelity, others: as for :class:`FairMapping`.
    """

    def __init__(
        self,
        *,
        reconstruction: NonNegative = 0.95,
        classification: NonNegative = 0.75,
        warmup: CountOrZero = 5000,
        identity: NonNegative = 0.0,
        fidelity: NonNegative = 0.0,
        **others: Any,
    ) -> None:
        super().__init__(identity=identity, fidelity=fidelity, **others)
        self.reconstruction, self.classification, self.warmup = reconstruction, classification, warmup

    def mapped(self, records: Tensor, rng: torch.Generator) -> Tensor:
        return self.decoded_as(records, torch.full((len(records),), self.target, device=records.device))

    def decoded_as(self, records: Tensor, groups: Tensor) -> Tensor:
        """Return ``Dec(Enc(x), onehot(group))``, (n, d)."""
        code = F.one_hot(groups, self.count).to(records)
        return self.decoder(torch.cat([self.encoder(records), code], dim=1))

    def build(self, width: int, count: int) -> nn.Module:
        self.count, latent = count, self.hidden[-1]
        self.encoder = dense(width, self.hidden[:-1], latent)
        self.decoder = dense(latent + count, self.hidden[:-1], width)
        return nn.ModuleList([self.encoder, self.decoder])

    def prepare(self, records: Tensor, groups: Tensor, rng: torch.Generator) -> None:
        """Train encoder and decoder as an auto-encoder, and the classifier of groups, which is then frozen."""
        self.classifier = dense(records.shape[1], self.hidden, self.count).to(records.device)
        autoencoder, classifier = self._adam(self.generator), self._adam(self.classifier)
        for _ in range(self.warmup):
            index = torch.randint(len(records), (self.batch_size,), generator=rng).to(records.device)
            x, group = records[index], groups[index]
            self._improve(autoencoder, F.l1_loss(self.decoded_as(x, group), x))
            self._improve(classifier, F.cross_entropy(self.classifier(x), group))
        self.classifier.requires_grad_(False)

    def _map_loss(self, records: Tensor, groups: Tensor, count: int, rng: torch.Generator) -> Tensor:
        own = F.l1_loss(self.decoded_as(records, groups), records)
        edited = self.mapped(records, rng)
        wanted = torch.full((len(records),), self.target, device=records.device)
        group_loss = F.cross_entropy(self.classifier(edited), wanted)
        rest = super()._map_loss(records, groups, count, rng)
        return rest + self.reconstruction * own + self.classification * group_loss
