"""Surface of the trajectory: a participant of a collaboration mounts membership inference. It is the last party."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from benchmark.data.base import Split
from benchmark.errors import ConfigError, Diverged
from benchmark.metrics.classification import accuracy
from benchmark.metrics.membership import score_membership
from benchmark.outcome import Outcome
from benchmark.settings.base import CellContext, Game, note
from benchmark.settings.collaboration.defense import Round
from benchmark.settings.collaboration.games.uploads import UploadsGame
from benchmark.settings.collaboration.training import JointTraining
from benchmark.settings.guesses import MembershipScores
from benchmark.settings.threat import Surface, Threat
from benchmark.training.functional import Net


@dataclass(frozen=True)
class TrajectorySurface(Surface):
    """View of a federated participant that mounts membership inference: all global models, and the candidates.

    Attributes:
        net: the architecture; models: (rounds, d) the global model of each round as it was downloaded, the last one
            being the finished model.
        candidates: as many samples of the other parties as samples that nobody trained on, in random order.
        auxiliary: the participant's further samples of the same domain that nobody trained on (grant ``auxiliary``).
        members: bool, which candidates others trained on (grant ``truth``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {"auxiliary": "auxiliary", "members": "truth"}

    net: Net
    models: Float[Tensor, "rounds d"]
    candidates: Split
    auxiliary: Split
    members: Bool[Tensor, " n"]


class TrajectoryThreat(Threat):
    """Base of participants that watch the global models, and may steer them by their own uploads.

    Attributes:
        steers: whether it changes its own update at all; one that does not leaves the collaboration as it is.
    """

    family = "membership_inference"
    setting = "collaboration"
    surface = "trajectory"
    headline = "attack_auc"
    steers: bool = False

    def steer(
        self, net: Net, params: Float[Tensor, " d"], update: Float[Tensor, " d"], candidates: Split
    ) -> Float[Tensor, " d"]:
        """Return what it uploads, in gradient units, in place of its honest ``update`` from the model ``params``."""
        return update

    @abstractmethod
    def attack(self, surface: TrajectorySurface, rng: torch.Generator) -> MembershipScores:
        """Return a score for each candidate; higher is more like a member."""


MOST = 200  # candidates of each kind


class TrajectoryGame(Game[JointTraining]):
    """The participant watches the collaboration, and perhaps steers it, and scores candidates as members."""

    surface = "trajectory"
    hooks = UploadsGame.hooks | {"download"}
    guess = MembershipScores

    def play(self, context: CellContext) -> Outcome:
        outcome, _ = self.honest.report(context)
        net, test = self.honest.net(context), context.data.test
        surface = self.observe(context, net)
        guess = self.ask(context, surface)
        spent = outcome.cost.get("epsilon")
        budget = None if spent is None else (spent, outcome.cost.get("delta", 0.0))
        successes, notes = score_membership(guess.scores, surface.members, guess.threshold, budget)
        outcome.risk |= successes
        outcome.diagnostics |= notes
        note(outcome, guess)
        outcome.utility["attacked_accuracy"] = accuracy(net.logits(surface.models[-1], test.x), test.y)
        return outcome

    def observe(self, context: CellContext, net: Net) -> TrajectorySurface:
        """Run the collaboration with the participant in it, and return what it has seen in the end.

        Raises:
            ConfigError: the participant is alone.
            Diverged: a model is not finite.
        """
        threat, shares = context.threat, self.honest.shares(context)
        assert isinstance(threat, TrajectoryThreat)
        if len(shares) < 2:
            raise ConfigError("A participant needs others whose samples it can ask about; raise setting.parties.")
        candidates, members = _candidates(context, shares)
        seat = len(shares) - 1
        models: list[Tensor] = []

        def visit(round: Round, holding: Sequence[Split]) -> Sequence[Split]:
            models.append(round.params.detach())
            return holding

        def deviate(round: Round, updates: Tensor) -> Tensor:
            row = round.parties == seat
            if threat.steers and row.any():
                updates = updates.clone()
                updates[row] = threat.steer(net, round.params, updates[row][0], candidates)
            return updates

        finished = self.honest.train(context, shares, visit=visit, deviate=deviate)
        seen = torch.stack([*models[1:], finished.params])
        if not torch.isfinite(seen).all():
            raise Diverged(
                "the federated model has NaN or infinite parameters; lower setting.lr or the threat's strength."
            )
        return TrajectorySurface(net, seen, candidates, context.data.attacker, members)


def _candidates(context: CellContext, shares: Sequence[Split]) -> tuple[Split, Tensor]:
    """Return samples of the other parties and as many test samples, shuffled; and bool (n,), which are the former."""
    rng = context.rng("witness.candidates")
    x, y = (torch.cat([getattr(share, name) for share in shares[:-1]]) for name in ("x", "y"))
    test = context.data.test
    count = min(MOST, len(y), len(test))
    inside, outside = (torch.randperm(size, generator=rng)[:count] for size in (len(y), len(test)))
    order = torch.randperm(2 * count, generator=rng)
    found = Split(torch.cat([x[inside], test.x[outside]])[order], torch.cat([y[inside], test.y[outside]])[order])
    return found, (torch.arange(2 * count) < count)[order]
