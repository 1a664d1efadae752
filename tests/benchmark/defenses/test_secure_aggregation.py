import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import nn

from benchmark.crypto.secure_sum import ProtocolAborted
from benchmark.defenses.collaboration.clients.broadcast_guard import BroadcastGuard, parallel_share
from benchmark.defenses.collaboration.clients.secure_aggregation import SecureAggregation
from benchmark.errors import ConfigError, Refused
from benchmark.seeds import generator
from benchmark.settings.collaboration.defense import Round
from benchmark.threats.gradient_leakage.inverting_gradients import InvertingGradients
from benchmark.threats.gradient_leakage.matching import Matcher, squared_distance, targets_of
from benchmark.training.functional import Layout, Net
from tests.benchmark.helpers import TinyMLP, collaboration, context, observe
from tests.benchmark.threats.test_malicious_models import curious, robbing

LAYOUT = Layout(("w", "b"), ((10, 4), (10,)))
STEP = 2.0**-20


def secure(**changes) -> SecureAggregation:
    rule = dict(mode="ideal", max_value=16.0, fraction_bits=20, threshold=0.6, dropout=0.0)
    return SecureAggregation(**(rule | changes))


def turn(n: int, size: int = 50) -> Round:
    return Round(0, LAYOUT, torch.zeros(size), torch.arange(n), generator(0, "round"))


def aggregated(defense: SecureAggregation, updates: torch.Tensor) -> tuple[torch.Tensor, Round]:
    round = turn(len(updates), updates.shape[1])
    uploads = defense.exchange(updates, round)
    return defense.aggregate(uploads[round.active], round), round


@pytest.mark.parametrize("dropout", [0.0, 0.2, 0.4])
@pytest.mark.parametrize("n", [5, 6])
def test_the_masked_aggregate_is_exactly_the_ideal_one(n, dropout):
    updates = torch.randn(n, 50, generator=torch.Generator().manual_seed(n))
    ideal, round = aggregated(secure(dropout=dropout), updates)
    masked, _ = aggregated(secure(mode="masked", dropout=dropout), updates)
    assert torch.equal(ideal, masked)
    assert round.active.sum() == n - int(dropout * n)
    assert (ideal - updates[round.active].mean(dim=0)).abs().max() <= STEP


def test_too_many_dropouts_abort_the_round_in_both_modes():
    for mode in ("ideal", "masked"):
        with pytest.raises(ProtocolAborted, match="Only 2 of 5 parties are left"):
            aggregated(secure(mode=mode, dropout=0.6), torch.randn(5, 50))


def test_a_masked_upload_is_uniform_and_the_masked_uploads_add_up_to_the_sum():
    updates = torch.ones(4, 50).repeat(1, 400)
    round = turn(4, 20_000)
    uploads = secure(mode="masked").exchange(updates, round)
    assert torch.equal(uploads.sum(dim=0), torch.full((20_000,), 4.0, dtype=torch.float64))
    for row in uploads:
        integers = (row / STEP).to(torch.int64).numpy() % 2**32
        assert chisquare(np.bincount(integers >> 24, minlength=256)).pvalue > 1e-3


def test_what_ideal_lets_out_depends_on_the_sum_only():
    updates = torch.randn(4, 50)
    swapped = updates.flip(0)
    assert torch.equal(secure().exchange(updates, turn(4)), secure().exchange(swapped, turn(4)))


def test_one_sum_is_published_and_the_protocols_traffic_counted():
    _, round = aggregated(secure(), torch.randn(5, 50))
    assert round.published.groups.unique().tolist() == [0]
    assert round.bytes_sent > 0 and round.messages == 30


def test_large_and_missing_values_are_clipped():
    updates = torch.zeros(2, 50)
    updates[0, 0], updates[0, 1] = 100.0, float("nan")
    mean, _ = aggregated(secure(), updates)
    assert mean[0] == 8.0 and mean[1] == 0.0


def test_a_sum_that_could_wrap_around_and_a_party_alone_are_refused():
    with pytest.raises(ConfigError, match="does not fit into 32 bits; lower secure_aggregation.max_value"):
        aggregated(secure(max_value=1000.0), torch.randn(5, 50))
    with pytest.raises(Refused, match="one party alone"):
        aggregated(secure(), torch.randn(1, 50))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"mode": "none"}, "ideal or masked"), ({"threshold": 0.0}, "threshold"), ({"dropout": 1.0}, "dropout")],
)
def test_parameters_out_of_range_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        secure(**wrong)


def test_a_collaboration_learns_as_well_with_it_as_without():
    attack = InvertingGradients(iterations=2, step=0.1, total_variation=0.0, restarts=1, observations=1, adaptive=True)
    plain = collaboration().play(context(attack)).utility["test_accuracy"]
    for mode in ("ideal", "masked"):
        outcome = collaboration(rounds=15).play(context(attack, secure(mode=mode)))
        assert outcome.utility["test_accuracy"] == pytest.approx(plain, abs=0.02)


@pytest.mark.parametrize("mode", ["ideal", "masked"])
def test_an_adaptive_inversion_aims_at_everybodys_sum(mode):
    surface, plain = observe(secure(mode=mode), victims=4, batch=2), observe(victims=4, batch=2)
    targets = targets_of(surface, adaptive=True)
    assert targets.members == 4 and targets.gradients.dtype == torch.float32
    assert torch.allclose(targets.gradients[0], plain.uploads[0].mean(dim=0), atol=2 * STEP)
    matcher = Matcher(surface, targets, distance=squared_distance)
    labels = torch.nn.functional.one_hot(plain.labels, 10).float()
    value, _, _ = matcher.objective(plain.truth[None], labels[None])
    assert value.item() < 1e-8


# -- broadcast_guard
def guard(**changes) -> BroadcastGuard:
    defense = BroadcastGuard(**(dict(cosine=0.999, parallel=0.9, deviations=3.0) | changes))
    defense.start(3, Net(TinyMLP()).layout)
    return defense


def judged(defense: BroadcastGuard, net: Net, params: torch.Tensor) -> list[bool]:
    sent = params if params.ndim == 1 else params[0]
    turn = Round(0, net.layout, sent, torch.arange(3), generator(0, "guard"))
    return defense.screen_broadcast(net, params, turn).tolist()


def parallel(rows: int) -> Net:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, rows), nn.Linear(rows, 10))
    module[1].weight.data[:] = torch.randn(64)
    return Net(module)


def test_parallel_rows_are_refused_and_random_ones_taken():
    torch.manual_seed(0)
    trap, honest = parallel(20), Net(TinyMLP())
    assert parallel_share(trap.layout, trap.initial(), 0.999) == pytest.approx(1.0)
    assert parallel_share(honest.layout, honest.initial(), 0.999) == 0.0
    assert judged(guard(), trap, trap.initial()) == [False] * 3
    assert judged(guard(), honest, honest.initial()) == [True] * 3


def test_a_model_that_jumped_is_refused_and_the_last_good_one_stays_the_measure():
    torch.manual_seed(0)
    net, defense = Net(TinyMLP()), guard()
    first = net.initial()
    far = first.clone()
    far[net.layout.slices()[net.layout.names[-1]]] -= 1000.0
    assert judged(defense, net, first) == [True] * 3
    assert judged(defense, net, far) == [False] * 3
    assert judged(defense, net, first + 0.01) == [True] * 3


def test_each_party_judges_the_model_that_it_was_sent():
    torch.manual_seed(0)
    net, defense = Net(TinyMLP()), guard()
    judged(defense, net, net.initial())
    far = net.initial()
    far[-10:] += 100.0
    assert judged(defense, net, torch.stack([net.initial(), far, net.initial()])) == [True, False, True]


def test_an_imprint_is_refused_an_honest_collaboration_is_not_and_the_attacker_who_knows_gets_through():
    plain = collaboration(rounds=5).play(context(robbing(), architecture=TinyMLP))
    seen = collaboration(rounds=5).play(context(robbing(), guard(), architecture=TinyMLP))
    assert plain.risk["recovered_share"] > 0.5
    assert seen.risk["recovered_share"] == 0.0 and seen.diagnostics["refused_share"] == 1.0
    assert seen.utility["test_accuracy"] == pytest.approx(plain.utility["test_accuracy"])
    for threat in (robbing(variant="sparse", adaptive=True), curious()):
        through = collaboration(rounds=5).play(context(threat, guard(), architecture=TinyMLP))
        assert through.diagnostics["refused_share"] == 0.0


@pytest.mark.parametrize("wrong", [{"cosine": 1.5}, {"parallel": 0.0}, {"deviations": 0.0}])
def test_limits_of_the_guard_are_held(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        guard(**wrong)
