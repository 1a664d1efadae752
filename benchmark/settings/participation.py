"""The scene of an insider: a party looks at every global model and steers what the others reveal to it.

Victim and adversary hold disjoint classes; the model has one output more than there are classes, which the adversary
may use for fakes. The honest run of the same model without any fake gives the utility. The adversary is the last party.
Where parties take turns, it begins and the victims have the last word: measured right after its own turn, the
model would show much more of the harm that its fakes do (about 10 points on digits) than the model that the victims
leave.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from benchmark.data.base import Dataset, Split
from benchmark.defenses.base import Round
from benchmark.errors import ConfigError, Diverged
from benchmark.metrics.classification import accuracy
from benchmark.metrics.generated import score_class
from benchmark.outcome import Outcome
from benchmark.seeds import derive
from benchmark.settings.base import Stage
from benchmark.settings.participation_surfaces import GlobalModelSurface, InsiderThreat, Insight
from benchmark.training.federated import Federation
from benchmark.training.functional import Net
from benchmark.training.loop import predict, train

RISKS = ("class_recovery", "asr")
ORACLE_EPOCHS = 40


@dataclass
class Insider:
    """The adversary's seat: the last party.

    Attributes:
        stage, net: of the cell; shares: what every party holds; rounds: how often the adversary's turn comes.
        samples: turn -> what the threat claimed then.
    """

    stage: Stage
    net: Net
    shares: Sequence[Split]
    rounds: int
    samples: dict[int, Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    turn: int = 0
    guess: Insight | None = None

    def visit(self, round: Round, shares: Sequence[Split]) -> Sequence[Split]:
        """Hand the downloaded model to the threat when it is its turn; give what everybody trains on."""
        seat = len(shares) - 1
        if seat not in round.parties.tolist():
            return shares
        insight = self.look(round.params)
        return shares if insight.train_on is None else [*shares[:seat], insight.train_on]

    def look(self, params: Tensor) -> Insight:
        """The threat at its next turn, with the global model ``params`` (d,)."""
        threat, data = self.stage.threat, self.stage.data
        assert isinstance(threat, InsiderThreat)
        others = torch.cat([share.y for share in self.shares[:-1]])
        surface = GlobalModelSurface(
            round=self.turn,
            rounds=self.rounds,
            net=self.net,
            params=params.detach(),
            own=disjoint(self.shares[-1], others),
            target=threat.target,
            shape=data.shape,
            num_classes=data.num_classes,
            truth=of_class(data.calibration, threat.target),
        )
        insight: Insight = threat(surface, seed=derive(self.stage.seed, f"insider.{self.turn}"))
        if insight.samples is not None and self.turn in (0, self.rounds // 2, self.rounds):
            self.samples[self.turn] = insight.samples
        self.seconds += insight.seconds
        self.turn += 1
        self.guess = insight
        return insight


def disjoint(own: Split, others: Tensor) -> Split:
    """``own``, once it is sure that the adversary holds no class of the other parties.

    Raises:
        ConfigError: it does, so that there is nothing to learn.
    """
    shared = sorted(set(own.y.tolist()) & set(others.tolist()))
    if shared:
        raise ConfigError(
            f"The insider itself holds classes of its victims ({', '.join(map(str, shared))}), so there is no secret "
            "class; set setting.partition=by_class."
        )
    return own


def of_class(data: Split, label: int) -> Tensor:
    """The inputs (n, ...) of one class."""
    return data.x[data.y == label]


def outsiders(data: Dataset) -> Split:
    """What the judge learns from: splits that no party ever trains on."""
    return Split(torch.cat([data.attacker.x, data.public.x]), torch.cat([data.attacker.y, data.public.y]))


def judge(stage: Stage) -> nn.Module:
    """A classifier of real images that shares no training image with the collaboration."""

    def build(model: nn.Module) -> nn.Module:
        data = outsiders(stage.data)
        return train(model, data.x, data.y, epochs=ORACLE_EPOCHS, rng=stage.rng("oracle.batches"))

    return stage.trained(("oracle", "dataset", "model", "scale"), build, purpose="oracle.init")


def play_insider(
    stage: Stage, outcome: Outcome, shares: Sequence[Split], rounds: int, run: Callable[[Insider], Federation]
) -> Outcome:
    """Attack the collaboration from inside and score what the threat claims in the end.

    Args:
        outcome: with the utility and cost of the honest run.
        shares: each party's own samples before any defense; the last is the adversary's.
        run: plays the collaboration with this insider in it.

    Raises:
        Diverged: the model or the claimed samples are not finite.
        ConfigError: nobody but the adversary holds the target class.
    """
    threat, data = stage.threat, stage.data
    assert isinstance(threat, InsiderThreat)
    private = torch.cat([of_class(share, threat.target) for share in shares[:-1]])
    held_out = of_class(data.test, threat.target)
    if len(private) < 2 or len(held_out) < 1:
        raise ConfigError(
            f"threat.target={threat.target} must be a class of which a party other than the insider has samples; "
            "set setting.partition=by_class and choose one of its first classes."
        )
    threat.start()
    insider = Insider(stage, Net(stage.fresh_model(num_classes=data.num_classes + 1)), shares, rounds)
    finished = run(insider)
    if not torch.isfinite(finished.params).all():
        raise Diverged("the attacked federated model has NaN or infinite parameters; lower setting.lr or the noise.")
    samples = insider.look(finished.params).samples
    if samples is None or not torch.isfinite(samples).all():
        raise Diverged("the insider's images have NaN pixels or are missing; lower the threat's learning rate.")
    _measure(stage, outcome, insider, samples, private, held_out)
    _utility(stage, outcome, insider, finished, shares)
    return outcome


def _measure(
    stage: Stage, outcome: Outcome, insider: Insider, samples: Tensor, private: Tensor, held_out: Tensor
) -> None:
    oracle = judge(stage)
    assert isinstance(stage.threat, InsiderThreat) and insider.guess is not None
    scores = score_class(samples, predict(oracle, samples), stage.threat.target, private, held_out)
    for name, value in scores.items():
        (outcome.risk if name in RISKS else outcome.diagnostics)[name] = value
    outcome.diagnostics["oracle_accuracy"] = accuracy(predict(oracle, stage.data.test.x), stage.data.test.y)
    outcome.diagnostics["attack_seconds"] = insider.seconds
    outcome.diagnostics.update(insider.guess.diagnostics)
    if len(stage.data.shape) == 3:
        rows = {"private": private, **{f"claimed after turn {turn}": x for turn, x in insider.samples.items()}}
        columns = min(8, *(len(images) for images in rows.values()))
        outcome.picture("class recovery", rows, columns=columns)


def _utility(stage: Stage, outcome: Outcome, insider: Insider, finished: Federation, shares: Sequence[Split]) -> None:
    """Accuracy under the attack, on all real classes and on those of either side."""
    test = stage.data.test
    logits = predict(lambda x: insider.net.logits(finished.params, x), test.x)
    theirs = torch.isin(test.y, shares[-1].y.unique())
    outcome.utility["attacked_accuracy"] = accuracy(logits, test.y)
    outcome.diagnostics["attacked_accuracy_victims"] = accuracy(logits[~theirs], test.y[~theirs])
    outcome.diagnostics["attacked_accuracy_insider"] = accuracy(logits[theirs], test.y[theirs])
    outcome.curves["test_accuracy by round, attacked"] = finished.curve
