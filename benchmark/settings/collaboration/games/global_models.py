"""Surface of global models: an insider reconstructs another party's class from the models that it downloads.

Victim and insider hold disjoint classes; the model has one output more than there are classes, which the insider may
use for fakes. The honest run of the same model without any fake gives the utility. The insider is the last party. Where
parties take turns, it begins and the victims end: a model measured right after the insider's turn would show much more
harm by its fakes (about 10 points on digits) than the model that the victims leave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.data.base import Dataset, Split
from benchmark.errors import ConfigError, Diverged
from benchmark.metrics.classification import accuracy
from benchmark.metrics.generated import compare_features, score_class
from benchmark.models.base import Classifier
from benchmark.outcome import Outcome
from benchmark.parameters import Index
from benchmark.seeds import derive
from benchmark.settings.base import CellContext, Game
from benchmark.settings.collaboration.defense import Federation, Round
from benchmark.settings.collaboration.games.uploads import UploadsGame
from benchmark.settings.collaboration.published import Published
from benchmark.settings.collaboration.training import JointTraining
from benchmark.settings.threat import Floor, Guess, Surface, Threat
from benchmark.training.functional import Net
from benchmark.training.loop import predict, train


@dataclass(frozen=True)
class GlobalModelSurface(Surface):
    """View of one participant at one of its turns.

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
    params: Float[Tensor, " d"]
    own: Split
    target: int
    shape: tuple[int, ...]
    num_classes: int
    published: Published
    heard: Float[Tensor, " d"] | None
    truth: Float[Tensor, " n *sample"]

    @property
    def last(self) -> bool:
        """Return whether training is over, so that only a claim is still asked for."""
        return self.round == self.rounds


@dataclass
class InsiderMove(Guess):
    """Move of an insider at one turn.

    Attributes:
        samples: (m, ...) in [0, 1], claimed to show the target class; None where it claims nothing yet.
        train_on: what it trains its honest-looking update on in this round; None: its own samples.
    """

    samples: Float[Tensor, " m *sample"] | None
    train_on: Split | None = None


class InsiderThreat(Threat):
    """Base of insiders: participants that are called at each of their turns and may keep state between them.

    Args:
        target: the class of another party that it is after.
    """

    family = "gan_inference"
    setting = "collaboration"
    surface = "global_models"
    headline = "class_recovery"
    floor: ClassVar[Floor | None] = Floor("class_recovery", 0.5)

    def __init__(self, *, target: Index = 3, adaptive: bool = False) -> None:
        super().__init__(adaptive=adaptive)
        self.target = target

    def start(self) -> None:
        """Forget everything, because a new collaboration begins."""


RISKS = ("class_recovery", "asr", "confidence")
ORACLE_EPOCHS = 40


@dataclass
class Insider:
    """Seat of the insider: the last party.

    Attributes:
        context, net: of the cell; shares: what every party holds; rounds: how often the adversary's turn comes.
        samples: turn -> what the threat claimed then.
        heard: (d,) the victim's latest model as the server knows it, see :class:`GlobalModelSurface`.
    """

    context: CellContext
    net: Net
    shares: Sequence[Split]
    rounds: int
    samples: dict[int, Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    turn: int = 0
    guess: InsiderMove | None = None
    heard: Tensor | None = None

    def __post_init__(self) -> None:
        threat = self.context.threat
        assert isinstance(threat, InsiderThreat)
        held = [int((share.y == threat.target).sum()) for share in self.shares[:-1]]
        self.holder = max(range(len(held)), key=held.__getitem__)
        # Looked up once, since a mask makes the host wait for a GPU.
        self.own = without(self.shares[-1], threat.target)
        self.truth = of_class(self.context.data.calibration, threat.target)

    def visit(self, round: Round, shares: Sequence[Split]) -> Sequence[Split]:
        """Hand the downloaded model to the threat when it is its turn; return what everybody trains on."""
        seat = len(shares) - 1
        if seat not in round.parties.tolist():
            return shares
        row = int((round.parties == seat).nonzero())
        known = round.published.downloaded
        published = replace(round.published, downloaded=None if known is None else known[row])
        move = self.look(round.params if round.held is None else round.held[row], published)
        if move.train_on is None:
            return shares
        bait, others = move.train_on, shares[0].y
        if others.ndim == 2:  # a defense made the others' labels soft
            bait = replace(bait, y=F.one_hot(bait.y, others.shape[1]).to(others))
        return [*shares[:seat], bait]

    def hear(self, round: Round, uploads: Float[Tensor, "n d"]) -> None:
        """Keep what a server learns of the holder's model from the ``uploads`` (n, d)."""
        rows = (round.parties == self.holder).nonzero().flatten()
        if len(rows):
            groups = round.published.groups
            alike = rows if groups is None else (groups == groups[rows]).nonzero().flatten()
            alike = alike.to(uploads.device, non_blocking=True)
            self.heard = (round.params - round.lr * uploads[alike].mean(dim=0).to(round.params)).detach()

    def look(self, params: Float[Tensor, " d"], published: Published) -> InsiderMove:
        """Return the threat's move at its next turn, with the model ``params`` that it holds."""
        threat, data = self.context.threat, self.context.data
        assert isinstance(threat, InsiderThreat)
        surface = GlobalModelSurface(
            round=self.turn,
            rounds=self.rounds,
            net=self.net,
            params=params.detach(),
            own=self.own,
            target=threat.target,
            shape=data.shape,
            num_classes=data.num_classes,
            published=published,
            heard=self.heard,
            truth=self.truth,
        )
        move: InsiderMove = threat(surface, seed=derive(self.context.seed, f"insider.{self.turn}"))
        if move.samples is not None and self.turn in {self.rounds * part // 4 for part in range(5)}:
            self.samples[self.turn] = move.samples
        self.seconds += move.seconds
        self.turn += 1
        self.guess = move
        return move


def without(own: Split, target: int) -> Split:
    """Return ``own``, which may hold nothing of the class that the insider is after.

    Raises:
        ConfigError: it does, so that there is nothing to learn.
    """
    if target in own.y:
        raise ConfigError(
            f"The insider itself holds samples of class {target}, so there is nothing to learn of it; set "
            "setting.partition=by_class or one_class_apart and choose a threat.target of the first party's."
        )
    return own


def of_class(data: Split, label: int) -> Tensor:
    """Return the inputs (n, ...) of one class."""
    return data.x[data.y == label]


def outsiders(data: Dataset) -> Split:
    """Return the samples that the judge learns from: splits that no party ever trains on."""
    return Split(torch.cat([data.attacker.x, data.public.x]), torch.cat([data.attacker.y, data.public.y]))


def judge(context: CellContext) -> nn.Module:
    """Return a classifier of real images that shares no training image with the collaboration."""

    def build(model: nn.Module) -> nn.Module:
        data = outsiders(context.data)
        return train(model, data.x, data.y, epochs=ORACLE_EPOCHS, rng=context.rng("oracle.batches"))

    return context.trained(("oracle", "dataset", "model", "scale"), build, purpose="oracle.init")


class GlobalModelsGame(Game[JointTraining]):
    """The insider takes part in the collaboration, and its last claim of samples of the target class is scored."""

    surface = "global_models"
    hooks = UploadsGame.hooks | {"download"}
    guess = InsiderMove

    def __init__(self, honest: JointTraining) -> None:
        super().__init__(replace(honest, insider=True, stateful=True))

    def play(self, context: CellContext) -> Outcome:
        """Attack the collaboration from inside.

        Raises:
            Diverged: the model or the claimed samples are not finite.
            ConfigError: nobody but the insider holds the target class.
        """
        threat = context.threat
        assert isinstance(threat, InsiderThreat)
        outcome, _ = self.honest.report(context)
        shares = self.honest.shares(context)
        private, held_out = self._of_target(context, shares)
        threat.start()
        insider = Insider(context, self.honest.net(context), shares, self.honest.rounds)
        finished = self.honest.train(context, shares, visit=insider.visit, overhear=insider.hear)
        if not torch.isfinite(finished.params).all():
            raise Diverged(
                "the attacked federated model has NaN or infinite parameters; lower setting.lr or the noise."
            )
        samples = insider.look(finished.params, Published()).samples
        if samples is None or not torch.isfinite(samples).all():
            raise Diverged("the insider's images have NaN pixels or are missing; lower the threat's learning rate.")
        _measure(context, outcome, insider, samples, private, held_out)
        _utility(context, outcome, insider, finished, shares)
        return outcome

    def _of_target(self, context: CellContext, shares: Sequence[Split]) -> tuple[Tensor, Tensor]:
        """Return the other parties' samples of the target class, and test samples of it."""
        threat, data = context.threat, context.data
        assert isinstance(threat, InsiderThreat)
        private = torch.cat([of_class(share, threat.target) for share in shares[:-1]])
        if len(private) == 0 and threat.target == self.honest.missing:
            private = of_class(data.owner, threat.target)  # real samples that nobody learned from: a control
        held_out = of_class(data.test, threat.target)
        if len(private) < 2 or len(held_out) < 1:
            raise ConfigError(
                f"threat.target={threat.target} must be a class of which a party other than the insider has samples; "
                "set setting.partition=by_class and choose one of its first classes."
            )
        return private, held_out


def _measure(
    context: CellContext, outcome: Outcome, insider: Insider, samples: Tensor, private: Tensor, held_out: Tensor
) -> None:
    oracle = judge(context)
    assert isinstance(context.threat, InsiderThreat) and insider.guess is not None
    logits, target = predict(oracle, samples), context.threat.target
    scores = score_class(samples, logits, target, private, held_out)
    if isinstance(oracle, Classifier):
        scores |= compare_features(*(predict(oracle.features, x) for x in (samples, private, held_out)))
    for name, value in scores.items():
        (outcome.risk if name in RISKS else outcome.diagnostics)[name] = value
    outcome.diagnostics["oracle_accuracy"] = accuracy(predict(oracle, context.data.test.x), context.data.test.y)
    outcome.diagnostics["attack_seconds"] = insider.seconds
    outcome.diagnostics.update(insider.guess.diagnostics)
    if len(context.data.shape) == 3:
        rows = {"private": private, **{f"claimed after turn {turn}": x for turn, x in insider.samples.items()}}
        columns = min(8, *(len(images) for images in rows.values()))
        outcome.picture("class recovery", rows, columns=columns)


def _utility(
    context: CellContext, outcome: Outcome, insider: Insider, finished: Federation, shares: Sequence[Split]
) -> None:
    """Report accuracy under the attack, on all real classes, on those of either side and on the target."""
    assert isinstance(context.threat, InsiderThreat)
    test = context.data.test
    logits = predict(lambda x: insider.net.logits(finished.params, x), test.x)
    outcome.utility["attacked_accuracy"] = accuracy(logits, test.y)
    for side, classes in (
        ("victims", torch.cat([share.y for share in shares[:-1]])),
        ("insider", shares[-1].y),
        ("target", test.y.new_tensor([context.threat.target])),
    ):
        rows = torch.isin(test.y, classes)
        if rows.any():
            outcome.diagnostics[f"attacked_accuracy_{side}"] = accuracy(logits[rows], test.y[rows])
    outcome.curves["test_accuracy by round, attacked"] = finished.curve
