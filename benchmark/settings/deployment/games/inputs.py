"""The surface of altered inputs: what an adversary of a deployed classifier sees, and its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.settings.threat import Guess, Surface, Threat


@dataclass
class AdversarialExamples(Guess):
    """Altered inputs.

    Attributes:
        x: (n, ...) in [0, 1], one for each pair of an input and a target class that the surface asked for.
        stalled: bool (n,), the attack stopped for lack of a usable gradient rather than of budget.
    """

    x: Tensor
    stalled: Tensor


@dataclass(frozen=True)
class InputSurface(Surface):
    """What an adversary of a deployed classifier holds; row i of ``x``, ``y`` and ``targets`` is one attack.

    Attributes:
        model: the classifier as deployed, (n, ...) -> logits (n, classes); its parameters take no gradient.
        x: (n, ...) clean inputs in [0, 1], rightly classified.
        y: int64 (n,) their labels.
        targets: int64 (n,) the class that each altered input should be taken for.
        num_classes: of the task.
        published: the defense's facts, by ``Defense.facts`` (grant ``mechanism``).
        public: everybody's samples (grant ``public``).
        attacker: the adversary's own samples of the domain (grant ``attacker_data``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {
        "published": "mechanism",
        "public": "public",
        "attacker": "attacker_data",
    }

    model: nn.Module
    x: Tensor
    y: Tensor
    targets: Tensor
    num_classes: int
    published: Mapping[str, Any]
    public: Split
    attacker: Split


class InputThreat(Threat):
    """An adversary who alters inputs of a deployed classifier that it knows (white box)."""

    setting = "deployment"
    surface = "inputs"
