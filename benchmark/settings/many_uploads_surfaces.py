"""What a server sees that reads very many uploads and asks, layer by layer, what they tell of a secret."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.data.base import Split
from benchmark.errors import ConfigError
from benchmark.threats.base import Guess, Surface, Threat
from benchmark.training.functional import Net

SCOPES = ("group", "member")


@dataclass(frozen=True)
class Batches:
    """Private batches of many parties, one each.

    Attributes:
        x: (n, batch, ...); y: int64 (n, batch); secret: int64 (n,), the value of the sensitive attribute of all samples
            of a batch (scope ``group``) or of its first one (``member``).
    """

    x: Tensor
    y: Tensor
    secret: Tensor


Rehearse = Callable[[Batches], Tensor]
"""Batches of n parties -> what the server would see of them, (n, d)."""


@dataclass(frozen=True)
class ManyUploadsSurface(Surface):
    """Uploads of hundreds of parties on one global model, and samples of the adversary's own to rehearse on.

    Attributes:
        net, params: architecture and the global model (d,) sent out.
        uploads: (n, d), a party's upload each; where a protocol mixes uploads, the mean of the party's group for a
            threat that knows the mechanism.
        batch_size: samples behind one upload.
        shape, num_classes: of one sample and of the task.
        own: the adversary's samples.
        rehearse: what uploads would be without any defense.
        rehearse_defended: what they are with it (grant ``mechanism``).
        truth: the private batches, for positive controls (grant ``truth``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {"rehearse_defended": "mechanism", "truth": "truth"}

    net: Net
    params: Tensor
    uploads: Tensor
    batch_size: int
    shape: tuple[int, ...]
    num_classes: int
    own: Split
    rehearse: Rehearse
    rehearse_defended: Rehearse
    truth: Batches


@dataclass
class Beliefs(Guess):
    """What each family of predictors makes of each layer's gradient.

    Attributes:
        found: family -> layer -> what is believed of every upload: (n, values) log-probabilities of the secret, or
            (n, ...) the image (of a batch: the mean image).
    """

    found: dict[str, dict[str, Tensor]]


class ManyUploadsThreat(Threat):
    """A server that learns from rehearsed uploads what real ones tell.

    Args:
        victims: how many uploads it is judged on; auxiliary: how many it rehearses.
        scope: whether all samples of a batch share the attribute (``group``) or only its first is asked about
            (``member``).

    Class attributes:
        goal: ``secret`` (latent information: the sensitive attribute) or ``image`` (original information).
    """

    setting = "collaboration"
    surface = "many_uploads"
    family = "gradient_leakage"
    needs: ClassVar[Mapping[str, str]] = {"dataset.sensitive": "yes", "dataset.kind": "image"}
    goal: ClassVar[str]

    def __init__(self, *, victims: int, auxiliary: int, scope: str = "group", adaptive: bool = False) -> None:
        super().__init__(adaptive=adaptive)
        if scope not in SCOPES:
            raise ConfigError(f"threat.scope must be one of {', '.join(SCOPES)}, got {scope!r}.")
        if min(victims, auxiliary) < 4:
            raise ConfigError(f"threat.victims and threat.auxiliary must be at least 4, got {victims}, {auxiliary}.")
        self.victims, self.auxiliary, self.scope = victims, auxiliary, scope


def draw_batches(data: Split, count: int, size: int, scope: str, rng: torch.Generator) -> Batches:
    """``count`` batches of ``size`` samples, half of them with each value of a binary attribute.

    A sample occurs at most once in a batch, and perhaps in several. Scope ``group``: all samples of a batch have its
    value; ``member``: the first has it and the others are drawn from all samples.

    Raises:
        ConfigError: there are fewer than ``size`` samples of one value.
    """
    assert data.sensitive is not None
    piles = [(data.sensitive == value).nonzero().squeeze(1).cpu() for value in (0, 1)]
    if min(len(pile) for pile in piles) < size:
        raise ConfigError(
            f"A batch of {size} samples that share the attribute needs as many samples of each value, but there are "
            f"{[len(pile) for pile in piles]}; lower the batch size or raise dataset.sizes."
        )
    secret = (torch.arange(count) % 2)[torch.randperm(count, generator=rng)]
    rows = []
    for value in secret.tolist():
        pile = piles[value]
        chosen = pile[torch.randperm(len(pile), generator=rng)[:size]]
        if scope == "member":
            others = torch.randperm(len(data), generator=rng)
            chosen = torch.cat([chosen[:1], others[others != chosen[0]][: size - 1]])
        rows.append(chosen)
    index = torch.stack(rows)
    return Batches(data.x[index], data.y[index], secret.to(data.y.device))
