"""What a malicious server knows, sends and reads when it chooses the model of a round itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.data.base import Split
from benchmark.defenses.base import Published
from benchmark.threats.base import Reconstruction, Surface, Threat
from benchmark.training.functional import Net


@dataclass(frozen=True)
class DownlinkSurface(Surface):
    """What the server knows before it sends a model.

    Attributes:
        net, params: the architecture agreed on and the honest global model (d,).
        parties: how many take part in the round.
        shape, num_classes: of one sample and of the task.
        auxiliary: the server's own samples of the same domain (grant ``auxiliary``).
        published: what the defense's users publish (grant ``mechanism``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {"auxiliary": "auxiliary", "published": "mechanism"}

    net: Net
    params: Tensor
    parties: int
    shape: tuple[int, ...]
    num_classes: int
    auxiliary: Split
    published: Published


@dataclass(frozen=True)
class Query:
    """One model sent out.

    Attributes:
        net: the architecture that the parties run; the server may have changed it.
        params: (d',) the same for everybody, or (n, d') another for each party.
        sybils: bool (n,), parties that the server itself plays; they upload zeros, which it can subtract from any sum.
    """

    net: Net
    params: Tensor
    sybils: Tensor


@dataclass(frozen=True)
class Answer:
    """What came back for a query.

    Attributes:
        uploads: (observations, n, d').
        groups: int64 (n,) for each observation; a server that runs a secure sum knows that only the sum of the uploads
            with the same number means anything.
    """

    uploads: Tensor
    groups: list[Tensor]


@dataclass(frozen=True)
class BroadcastSurface(Surface):
    """What the server sees of a round whose models it chose.

    Attributes:
        queries, answers: what it sent, and what came back for each.
        batch_size, local_steps, lr: what stands behind one upload.
        shape, num_classes: of one sample and of the task.
        auxiliary: the server's own samples (grant ``auxiliary``).
        published: one an observation; what the defense's users publish (grant ``mechanism``).
        labels: int64 (n, batch) (grant ``labels``); truth: (n, batch, ...) the private samples (grant ``truth``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {
        "auxiliary": "auxiliary",
        "published": "mechanism",
        "labels": "labels",
        "truth": "truth",
    }

    queries: list[Query]
    answers: list[Answer]
    batch_size: int
    local_steps: int
    lr: float
    shape: tuple[int, ...]
    num_classes: int
    auxiliary: Split
    published: list[Published]
    labels: Tensor
    truth: Tensor


class BroadcastThreat(Threat):
    """A server that chooses the model that it sends.

    Attributes:
        observations: how often it sends each query to the same private batches.
    """

    setting = "collaboration"
    surface = "broadcast"
    headline = "recovered_share"
    observations: int = 1

    @abstractmethod
    def queries(self, downlink: DownlinkSurface, rng: torch.Generator) -> list[Query]:
        """The models to send, at least one."""

    @abstractmethod
    def attack(self, surface: BroadcastSurface, rng: torch.Generator) -> Reconstruction:
        """The samples (n, batch, ...) of all parties; those that it does not find are zeros."""
