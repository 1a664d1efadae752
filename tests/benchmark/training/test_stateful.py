"""Networks with batch normalisation and dropout in joint training, against PyTorch's own training of modules."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmark.errors import ConfigError
from benchmark.seeds import child, generator, isolated
from benchmark.settings.collaboration.defense import LocalPlan
from benchmark.settings.collaboration.partition import partition
from benchmark.settings.collaboration.rounds import federate, local_updates
from benchmark.settings.stack import UniversalDefense
from benchmark.training.functional import Net
from benchmark.training.stateful import StatefulNet
from tests.benchmark.helpers import PLAN, digits_like


def module(dropout: float = 0.25) -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.BatchNorm1d(12), nn.Dropout(dropout), nn.Linear(12, 10)
    )


def loaded(net: StatefulNet, params: torch.Tensor) -> nn.Module:
    """Return a copy of the network's module with the state ``params``."""
    copied = copy.deepcopy(net.module)
    copied.load_state_dict(net.layout.split(params), strict=False)
    return copied


def trained(net: StatefulNet, start: torch.Tensor, x, y, plan: LocalPlan, rng: torch.Generator) -> torch.Tensor:
    """Return the state after PyTorch's own training of the module, as one vector."""
    own = loaded(net, start).train()
    options = {"lr": plan.lr, "weight_decay": plan.weight_decay}
    if plan.optimizer == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam(own.parameters(), **options)
    else:
        optimizer = torch.optim.SGD(own.parameters(), momentum=plan.momentum, **options)
    with isolated(child(rng), "layers"):
        for batch, labels in zip(x, y, strict=True):
            optimizer.zero_grad()
            F.cross_entropy(own(batch), labels).backward()
            optimizer.step()
    return StatefulNet(own).initial()


@pytest.mark.parametrize(
    "plan",
    [
        LocalPlan(8, 4, 0.1),
        LocalPlan(8, 4, 0.1, momentum=0.9, weight_decay=1e-2),
        LocalPlan(8, 4, 0.01, weight_decay=1e-2, optimizer="adam"),
    ],
    ids=["sgd", "momentum", "adam"],
)
def test_a_partys_training_is_pytorchs_with_its_statistics_and_its_draws(plan: LocalPlan) -> None:
    net, data = StatefulNet(module().double()), digits_like(2 * 4 * 8)
    x, y = data.x.double().view(2, 4, 8, 1, 8, 8), data.y.view(2, 4, 8)
    start = net.initial()
    updates = local_updates(net, UniversalDefense(), start, x, y, plan, [generator(0, "0"), generator(0, "1")])
    for party in range(2):
        expected = trained(net, start, x[party], y[party], plan, generator(0, str(party)))
        torch.testing.assert_close(start - plan.lr * updates[party], expected, atol=1e-10, rtol=1e-7)
        assert (expected != start)[: net.carried].float().mean() > 0.5


def test_in_use_the_statistics_are_those_that_travelled() -> None:
    net, x = StatefulNet(module()), digits_like(9).x
    params = net.initial() + 0.1 * torch.rand(net.layout.size)
    expected = loaded(net, params).eval()(x)
    torch.testing.assert_close(net.logits(params, x), expected)
    torch.testing.assert_close(net.logits(params, x[:1]), expected[:1])  # samples do not interact


def test_a_round_of_averaging_averages_whole_state_dictionaries() -> None:
    net, shares = StatefulNet(module()), partition(digits_like(40), 4, generator(0, "deal"))
    run = federate(net, shares, UniversalDefense(), plan=PLAN, rounds=1, fraction=1.0, seed=0)
    states = [loaded(net, local).state_dict() for local in run.local_models]
    for name, part in net.layout.split(run.params).items():
        torch.testing.assert_close(part, torch.stack([state[name] for state in states]).mean(dim=0))


def test_draws_are_the_partys_own_and_leave_the_process_alone() -> None:
    net, data = StatefulNet(module(dropout=0.5)), digits_like(32)
    x, y = data.x.view(4, 1, 8, 1, 8, 8)[[0] * 3], data.y.view(4, 1, 8)[[0] * 3]  # one batch, three parties
    rngs = [generator(0, name) for name in ("a", "a", "b")]
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, again, other = local_updates(net, UniversalDefense(), net.initial(), x, y, LocalPlan(8, 1, 0.1), rngs)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_what_takes_a_gradient_of_a_batch_alone_is_refused() -> None:
    data = digits_like(8)
    for kind in (module(), nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))):
        net = StatefulNet(kind)
        for call in (net.loss, net.gradient, net.per_sample_gradients):
            with pytest.raises(ConfigError, match="batch normalisation or dropout"):
                call(net.initial(), data.x, data.y)
    with pytest.raises(ConfigError, match="running statistics"):
        Net(module())
    assert not StatefulNet.suits(nn.Linear(2, 2)) and StatefulNet.suits(nn.Dropout(0.5))
    assert not StatefulNet.suits(nn.Dropout(0.0))


@pytest.mark.parametrize("rounds", [1, 3])
def test_the_mean_of_the_last_rounds_models(rounds: int) -> None:
    net, shares, seen = StatefulNet(module()), partition(digits_like(40), 4, generator(0, "deal")), []

    def watch(params: torch.Tensor) -> torch.Tensor:
        seen.append(params)
        return params[0]

    run = federate(
        net, shares, UniversalDefense(), plan=PLAN, rounds=5, fraction=1.0, seed=0, watch=watch, averaged=rounds
    )
    torch.testing.assert_close(run.params, torch.stack(seen[-rounds:]).mean(dim=0))
