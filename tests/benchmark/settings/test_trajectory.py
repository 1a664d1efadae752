from dataclasses import replace

import pytest
import torch

from benchmark.data.base import Split
from benchmark.defenses.collaboration.clients.user_level_dp import UserLevelDP
from benchmark.errors import AccessError, ConfigError
from benchmark.settings.collaboration.games.trajectory import TrajectoryThreat
from benchmark.settings.guesses import MembershipScores
from benchmark.threats.membership_inference.participant import Participant, losses
from benchmark.training.functional import Net
from tests.benchmark.helpers import TinyMLP, collaboration, context, digits_like


class Watcher(TrajectoryThreat):
    """Threat that keeps what it sees; with ``told`` it repeats the truth."""

    def __init__(self, told: bool = False, steers: bool = False) -> None:
        super().__init__()
        self.knowledge = frozenset({"truth"} if told else ())
        self.told, self.steers, self.uploads = told, steers, []

    def steer(self, net, params, update, candidates):
        self.uploads.append(update)
        return -update

    def attack(self, surface, rng):
        self.seen = surface
        return MembershipScores(surface.members.double() if self.told else torch.zeros(len(surface.candidates)))


def played(threat, defense=None, **changes):
    return collaboration(**(dict(rounds=4) | changes)).play(context(threat, defense, architecture=TinyMLP))


def participant(**changes) -> Participant:
    rule = dict(active=False, strength=1.0, reference_steps=10, reference_lr=0.1, adaptive=False)
    return Participant(**(rule | changes))


def test_it_sees_each_rounds_model_and_equally_many_members_and_others():
    threat = Watcher()
    outcome = played(threat)
    assert threat.seen.models.shape[0] == 4
    assert len(threat.seen.candidates) == 2 * 100
    assert outcome.risk["attack_auc"] == 0.5
    assert outcome.utility["attacked_accuracy"] == pytest.approx(outcome.utility["test_accuracy"])
    for hidden in ("members", "auxiliary"):
        with pytest.raises(AccessError, match=hidden):
            getattr(threat.seen, hidden)


def test_the_truth_scores_one_and_members_are_others_samples():
    threat = Watcher(told=True)
    assert played(threat).risk["attack_auc"] == 1.0
    private = {row.numpy().tobytes() for row in digits_like(200, 0).x}
    known = torch.tensor([row.numpy().tobytes() in private for row in threat.seen.candidates.x])
    assert torch.equal(known, threat.seen.members)


def test_steering_changes_its_own_upload_only():
    threat = Watcher(steers=True)
    outcome = played(threat)
    assert len(threat.uploads) == 4
    assert outcome.utility["attacked_accuracy"] != outcome.utility["test_accuracy"]


def test_a_participant_alone_is_refused():
    with pytest.raises(ConfigError, match="raise setting.parties"):
        played(Watcher(), parties=1)


def test_ascent_raises_the_loss_of_the_candidates():
    torch.manual_seed(0)
    net, asked = Net(TinyMLP()), digits_like(30)
    params, honest = net.initial(), torch.zeros(net.layout.size)
    after = params - 0.1 * participant(active=True).steer(net, params, honest, asked)
    assert losses(net, after, asked).mean() > losses(net, params, asked).mean()


@pytest.mark.ci
def test_an_overfitted_collaboration_tells_its_members():
    def noisy(threat, defense=None):
        play = context(threat, defense, architecture=TinyMLP)
        rng = torch.Generator().manual_seed(0)
        wrong = Split(play.data.owner.x, torch.randint(0, 10, play.data.owner.y.shape, generator=rng))

        data = replace(play.data, owner=wrong)
        return collaboration(rounds=40, local_steps=5).play(replace(play, data=data))

    plain = noisy(participant())
    assert plain.risk["attack_auc"] > 0.6
    private = noisy(participant(adaptive=True), UserLevelDP(max_norm=0.1, noise_multiplier=1.0, delta=1e-5))
    assert private.risk["attack_auc"] < plain.risk["attack_auc"]
    assert private.diagnostics["dp_ceiling_breached"] != "yes"
