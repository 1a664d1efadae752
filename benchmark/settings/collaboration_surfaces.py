"""What adversaries of a collaboration see and may do: servers that read uploads, parties that spoil or steer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.data.base import Split
from benchmark.defenses.base import Published
from benchmark.errors import ConfigError
from benchmark.threats.base import Guess, Surface, Threat
from benchmark.training.functional import Layout, Net


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
        handed_out: (observations, victims, d) what the parties entered into an exchange among themselves, which a
            partner of theirs can give away (grant ``collusion``); None where the setting does not tell.
    """

    granted_by: ClassVar[Mapping[str, str]] = {
        "published": "mechanism",
        "labels": "labels",
        "public": "public",
        "truth": "truth",
        "handed_out": "collusion",
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
    handed_out: Tensor | None = None


class UploadThreat(Threat):
    """A server that reads uploads.

    Attributes:
        observations: rounds in which it sees the same private batches on the same model; 1 unless it declares more.
    """

    setting = "collaboration"
    surface = "uploads"
    observations: int = 1


@dataclass(frozen=True)
class Accomplice(Surface):
    """What one malicious party knows when it prepares its data, before the collaboration begins.

    Attributes:
        index: its number among the malicious parties, 0, 1, ...; count: how many they are.
        num_classes: of the task.
        goal: the inputs that the threat wants misclassified, labelled as it wants them (grant ``targets``).
        published: what the defense's users publish (grant ``mechanism``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {"goal": "targets", "published": "mechanism"}

    index: int
    count: int
    num_classes: int
    goal: Split | None
    published: Published = field(default_factory=Published)


@dataclass(frozen=True)
class ContributionSurface(Surface):
    """What malicious participants see in one round.

    Attributes:
        round: its index; params: (d,) the global model; layout: how it is cut.
        parties: how many take part in the whole collaboration.
        own: (m, d) the updates that they would upload if they trained as agreed on the data that they prepared.
        honest: (n - m, d) the others' updates (grant ``updates``: an omniscient adversary).
        server: ``server(mine (m, d), others (n - m, d))`` rehearses what the server would make of these updates, the
            direction (d,), without any effect (grant ``mechanism``). It starts from the server's present state, which
            is more than a real adversary knows.
        last: (d,) the global model's last step, in gradient units; None in the first round.
    """

    granted_by: ClassVar[Mapping[str, str]] = {"honest": "updates", "server": "mechanism"}

    round: int
    params: Tensor
    layout: Layout
    parties: int
    own: Tensor
    honest: Tensor
    server: Callable[[Tensor, Tensor], Tensor]
    last: Tensor | None = None


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

    Attributes:
        fixed_vote: where models vote, the label that the malicious parties' models say to every input of the goal,
            though on others they behave well; None: they say what they learnt.
    """

    setting = "collaboration"
    surface = "contributions"
    headline = "accuracy_drop"
    fixed_vote: int | None = None

    def __init__(self, *, fraction: float, follows_exchange: bool, adaptive: bool = False) -> None:
        super().__init__(adaptive=adaptive)
        if not 0 <= fraction < 1:
            raise ConfigError(f"threat.fraction must be in [0, 1), got {fraction}.")
        self.fraction = fraction
        self.follows_exchange = follows_exchange

    def goal(self, test: Split, clean: Tensor) -> Split | None:
        """The inputs that should be misclassified, with ``y`` as the adversary wants it; None: just do harm.

        It defines how success is measured, so it may look at what a party could not.

        Args:
            test: the test samples; clean: (n, classes), their logits under the model trained without an attack.
        """
        return None

    def poison_data(self, data: Split, party: Accomplice, rng: torch.Generator) -> Split:
        """What a malicious party trains on in place of its own samples."""
        return data

    def poison_validation(self, data: Split, party: Accomplice, rng: torch.Generator) -> Split:
        """What a malicious party hands over where models are validated on common samples, in place of ``data``: samples
        of the share that it prepared."""
        return data

    def recruit(self, shares: Sequence[Split], order: Tensor) -> Tensor:
        """The parties in the order in which the adversary takes them over, int64 (n,).

        Args:
            shares: every party's samples; order: a random order.
        """
        return order
