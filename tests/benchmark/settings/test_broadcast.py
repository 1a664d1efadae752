import pytest
import torch

from benchmark.defenses.collaboration.clients.gradient_noise import GradientNoise
from benchmark.defenses.collaboration.clients.secure_aggregation import SecureAggregation
from benchmark.errors import AccessError, ConfigError
from benchmark.settings.collaboration.defense import FederatedDefense
from benchmark.settings.collaboration.games.broadcast import BroadcastThreat, Query
from benchmark.settings.guesses import Reconstruction
from benchmark.training.functional import Layout
from tests.benchmark.helpers import collaboration, context

NOBODY = torch.zeros(4, dtype=torch.bool)


class Listener(BroadcastThreat):
    """Threat that sends what ``send`` makes of the downlink, keeps what came back and finds nothing."""

    family = "gradient_leakage"
    knowledge = frozenset({"truth"})

    def __init__(self, send, observations: int = 1) -> None:
        super().__init__()
        self.send, self.observations = send, observations

    def queries(self, downlink, rng):
        return self.send(downlink)

    def attack(self, surface, rng):
        self.seen = surface
        return Reconstruction(torch.zeros_like(surface.truth))


def heard(send, defense=None, observations: int = 1, seed: int = 0):
    threat = Listener(send, observations)
    outcome = collaboration(victims=4, victim_batch_size=2, rounds=2).play(context(threat, defense, seed=seed))
    return threat.seen, outcome


def honest(downlink):
    return [Query(downlink.net, downlink.params, NOBODY)]


def secure() -> SecureAggregation:
    return SecureAggregation(mode="ideal", max_value=16.0, fraction_bits=20, threshold=0.6, dropout=0.0)


def test_a_server_that_finds_nothing_recovers_nothing_and_the_cell_is_complete():
    surface, outcome = heard(honest)
    assert outcome.risk["recovered_share"] == 0.0
    assert outcome.utility["test_accuracy"] > 0 and outcome.cost["rounds"] == 2
    assert outcome.diagnostics["queries"] == 1 and outcome.diagnostics["images"] == 8
    assert outcome.pictures["reconstruction"].shape[0] == 2
    assert surface.answers[0].groups[0].tolist() == [0, 1, 2, 3]


def test_everybody_computes_on_the_model_that_was_sent():
    def scaled(downlink):
        return [Query(downlink.net, 2 * downlink.params, NOBODY)]

    twice, plain = heard(scaled)[0], heard(honest)[0]
    assert torch.equal(twice.queries[0].params, 2 * plain.queries[0].params)
    assert not torch.allclose(twice.answers[0].uploads, plain.answers[0].uploads)


def test_labels_stay_hidden_without_a_grant():
    with pytest.raises(AccessError, match="labels"):
        _ = heard(honest)[0].labels


def test_one_model_for_all_and_the_same_model_for_each_are_the_same():
    def each(downlink):
        return [Query(downlink.net, downlink.params.repeat(4, 1), NOBODY)]

    one, many = heard(honest)[0], heard(each)[0]
    assert torch.allclose(one.answers[0].uploads, many.answers[0].uploads, atol=1e-6)


def test_sybils_turn_the_secure_sum_into_the_victims_update():
    def alone(downlink):
        return [Query(downlink.net, downlink.params, ~torch.eye(4, dtype=torch.bool)[i]) for i in range(4)]

    surface, plain = heard(alone, secure())[0], heard(honest)[0]
    for victim, answer in enumerate(surface.answers):
        total = answer.uploads[0].sum(dim=0)
        assert (total - plain.answers[0].uploads[0, victim]).abs().max() < 1e-6


def test_repeated_queries_meet_fresh_noise_on_the_same_batches():
    surface, _ = heard(honest, GradientNoise(std=1.0, distribution="gaussian"), observations=3)
    uploads = surface.answers[0].uploads
    assert len(uploads) == 3 and not torch.allclose(uploads[0], uploads[1])
    assert len(surface.answers[0].groups) == 3


def test_defenses_are_told_the_layout_and_the_inputs_of_the_model_that_was_sent():
    seen = {}

    class Curious(FederatedDefense):
        def protect(self, updates, round):
            seen["layout"], seen["inputs"] = round.layout, round.inputs
            return updates

    surface, _ = heard(honest, Curious())
    assert isinstance(seen["layout"], Layout) and seen["inputs"].shape == (4, 1, 2, 1, 8, 8)
    assert torch.equal(seen["inputs"][:, 0], surface.truth)


def test_the_servers_own_samples_must_be_granted():
    with pytest.raises(AccessError, match="auxiliary"):
        heard(lambda downlink: [Query(downlink.net, downlink.params + downlink.auxiliary.x.mean(), NOBODY)])


def test_more_private_samples_than_there_are_is_a_users_mistake():
    with pytest.raises(ConfigError, match="lower setting.victims or raise dataset.sizes.owner"):
        collaboration(victims=50, victim_batch_size=50, rounds=2).play(context(Listener(honest)))
