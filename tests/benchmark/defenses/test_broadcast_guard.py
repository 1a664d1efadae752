import pytest
import torch
from torch import nn

from benchmark.defenses.collaboration.clients.broadcast_guard import BroadcastGuard, parallel_share
from benchmark.errors import ConfigError
from benchmark.seeds import generator
from benchmark.settings.collaboration.defense import Round
from benchmark.training.functional import Net
from tests.benchmark.helpers import TinyMLP, collaboration, context
from tests.benchmark.threats.test_malicious_models import curious, robbing


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
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        guard(**wrong)
