"""What an insider of a collaboration sees and may do: a party that downloads every global model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from benchmark.data.base import Split
from benchmark.defenses.base import Published
from benchmark.threats.base import Floor, Guess, Surface, Threat
from benchmark.training.functional import Net


@dataclass(frozen=True)
class GlobalModelSurface(Surface):
    """What one participant sees at one of its turns.

    Attributes:
        round: the number of the adversary's turn, 0, 1, ..., ``rounds``; the last is a look at the finished model.
        rounds: how many turns it takes part in.
        net, params: architecture and the model (d,) that it holds after its download. The model has an extra last
            output, which no real class uses.
        own: the adversary's own samples, none of them of a class of the victim; there may be none at all.
        target: the victim's class that the adversary is after.
        shape, num_classes: of one sample and of the task; ``num_classes`` is the label of the extra output.
        published: what the defense's users publish in this round; ``downloaded`` is its own row (d,) (grant
            ``mechanism``).
        heard: (d,) what the server learns from the latest upload of the party that holds most of the target class: the
            model that this upload, or the mean of those that cannot be told from it, makes of the one sent out; None
            before the first (grant ``uploads``).
        truth: real images of the target class that nobody trained on, for positive controls (grant ``truth``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {"published": "mechanism", "heard": "uploads", "truth": "truth"}

    round: int
    rounds: int
    net: Net
    params: Tensor
    own: Split
    target: int
    shape: tuple[int, ...]
    num_classes: int
    published: Published
    heard: Tensor | None
    truth: Tensor

    @property
    def last(self) -> bool:
        """Whether training is over, so that only a claim is still asked for."""
        return self.round == self.rounds


@dataclass
class Insight(Guess):
    """An insider's answer at one turn.

    Attributes:
        samples: (m, ...) in [0, 1], claimed to show the target class; None where it claims nothing yet.
        train_on: what it trains its honest-looking update on in this round; None: its own samples.
    """

    samples: Tensor | None
    train_on: Split | None = None


class InsiderThreat(Threat):
    """A participant; it is called at every turn and keeps what it likes between them.

    Args:
        target: the class of another party that it is after.
    """

    family = "gan_inference"
    setting = "collaboration"
    surface = "global_models"
    headline = "class_recovery"
    floor: ClassVar[Floor | None] = Floor("class_recovery", 0.5)

    def __init__(self, *, target: int, adaptive: bool = False) -> None:
        super().__init__(adaptive=adaptive)
        self.target = target

    def start(self) -> None:
        """Forget everything: a new collaboration begins."""
