import pytest
import torch

from benchmark.errors import ConfigError
from benchmark.seeds import generator
from benchmark.settings.collaboration.defense import FederatedDefense, LocalPlan, LocalStep
from benchmark.settings.collaboration.partition import partition
from benchmark.settings.collaboration.rounds import federate, local_updates
from benchmark.settings.stack import UniversalDefense
from benchmark.training.functional import Net
from tests.benchmark.helpers import PLAN, TinyNet, digits_like


class Looped(FederatedDefense):
    """The plain gradient through the hook, which takes the slow path."""

    def local_step(self, step: LocalStep):
        return step.gradient()


@pytest.fixture
def net() -> Net:
    torch.manual_seed(1)
    return Net(TinyNet())


@pytest.mark.parametrize("steps", [1, 3])
def test_vectorised_parties_equal_the_loop(net, steps):
    data = digits_like(3 * steps * 4)
    x, y = data.x.view(3, steps, 4, 1, 8, 8), data.y.view(3, steps, 4)
    rngs = [generator(0, str(i)) for i in range(3)]
    fast = local_updates(net, UniversalDefense(), net.initial(), x, y, LocalPlan(16, 5, 0.3), rngs)
    slow = local_updates(net, Looped(), net.initial(), x, y, LocalPlan(16, 5, 0.3), rngs)
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-4)


def test_one_full_batch_round_of_n_parties_equals_central_sgd(net):
    data = digits_like(40)
    shares = partition(data, 4, generator(0, "deal"))
    plan = PLAN.__class__(batch_size=10, local_steps=1, lr=0.5)
    run = federate(net, shares, UniversalDefense(), plan=plan, rounds=1, fraction=1.0, seed=0)
    expected = net.initial() - 0.5 * net.gradient(net.initial(), data.x, data.y)
    torch.testing.assert_close(run.params, expected, atol=1e-6, rtol=1e-4)


def test_shares_are_disjoint_and_of_one_size():
    data = digits_like(43)
    shares = partition(data, 4, generator(0, "deal"))
    assert [len(s) for s in shares] == [10] * 4
    seen = torch.cat([s.x for s in shares]).flatten(1)
    assert len(torch.unique(seen, dim=0)) == 40


def test_too_many_parties_are_refused():
    with pytest.raises(ConfigError, match="lower setting.parties"):
        partition(digits_like(3), 4, generator(0, "deal"))


def test_traffic_is_counted(net):
    shares = partition(digits_like(40), 4, generator(0, "deal"))
    run = federate(net, shares, UniversalDefense(), plan=PLAN, rounds=3, fraction=0.5, seed=0)
    assert run.bytes_sent == 3 * 2 * 2 * 4 * net.layout.size
    assert run.messages == 3 * 2 * 2


def test_deviating_rows_reach_the_aggregate_and_only_those(net):
    shares = partition(digits_like(40), 4, generator(0, "deal"))

    def deviate(turn, updates):
        return torch.cat([torch.zeros_like(updates[:1]), updates[1:]])

    honest = federate(net, shares, UniversalDefense(), plan=PLAN, rounds=1, fraction=1.0, seed=0)
    attacked = federate(net, shares, UniversalDefense(), plan=PLAN, rounds=1, fraction=1.0, seed=0, deviate=deviate)
    missing = (attacked.params - honest.params) * 4
    torch.testing.assert_close(missing, net.initial() - honest.local_models[0], atol=1e-5, rtol=1e-3)


def test_dirichlet_shares_are_disjoint_of_one_size_and_less_mixed_than_iid():
    data = digits_like(400)
    shares = {alpha: partition(data, 8, generator(0, "deal"), alpha) for alpha in (None, 100.0, 0.1)}
    purity = {}
    for alpha, dealt in shares.items():
        assert [len(s) for s in dealt] == [50] * 8
        assert len(torch.unique(torch.cat([s.x for s in dealt]).flatten(1), dim=0)) == 400
        purity[alpha] = sum(s.y.bincount().max().item() for s in dealt) / 400
    assert purity[0.1] > 0.4 > purity[100.0]
    assert abs(purity[100.0] - purity[None]) < 0.1


def test_dirichlet_shares_are_the_same_for_the_same_seed():
    first, again = (partition(digits_like(100), 4, generator(3, "deal"), 0.5) for _ in range(2))
    assert all(torch.equal(a.y, b.y) for a, b in zip(first, again, strict=True))


def test_the_server_update_is_that_of_an_honest_party_with_the_root_data(net):
    seen = []

    class Asking(FederatedDefense):
        def aggregate(self, uploads, round):
            seen.append(round.server_update())
            return uploads.mean(dim=0)

    data = digits_like(40)
    plan = PLAN.__class__(batch_size=40, local_steps=1, lr=0.5)
    federate(net, [data] * 2, Asking(), plan=plan, rounds=1, fraction=1.0, seed=0, root=data)
    torch.testing.assert_close(seen[0], net.gradient(net.initial(), data.x, data.y), atol=1e-6, rtol=1e-4)


def test_without_root_data_there_is_no_server_update(net):
    seen = []

    class Asking(FederatedDefense):
        def aggregate(self, uploads, round):
            seen.append(round.server_update)
            return uploads.mean(dim=0)

    federate(net, [digits_like(20)] * 2, Asking(), plan=PLAN, rounds=1, fraction=1.0, seed=0, root=digits_like(5)[:0])
    assert seen == [None]


def test_one_party_alone_learns_as_among_others():
    torch.manual_seed(0)
    net = Net(TinyNet())
    x, y = torch.rand(2, 3, 8, 1, 8, 8), torch.randint(0, 10, (2, 3, 8))
    rngs = [generator(0, str(i)) for i in range(2)]
    both = local_updates(net, UniversalDefense(), net.initial(), x, y, LocalPlan(16, 5, 0.3), rngs)
    alone = local_updates(net, UniversalDefense(), net.initial(), x[1:], y[1:], LocalPlan(16, 5, 0.3), rngs[1:])
    torch.testing.assert_close(alone, both[1:], atol=1e-6, rtol=1e-4)


def test_parties_without_samples_sit_out_and_others_may_start_from_models_of_their_own():
    class Half(FederatedDefense):
        """Defense under which parties download the first half of the parameters only."""

        def download(self, params, local, round):
            held = local.clone()
            held[:, : len(params) // 2] = params[: len(params) // 2]
            seen.append((round.parties.tolist(), held, local))
            return held

    torch.manual_seed(0)
    net, seen, heard = Net(TinyNet()), [], []
    data = digits_like(40)
    shares = [data[:20], data[20:], data[:0]]
    run = federate(
        net,
        shares,
        Half(),
        plan=PLAN,
        rounds=2,
        fraction=1.0,
        seed=0,
        overhear=lambda turn, uploads: heard.append((turn.parties.tolist(), uploads.shape)),
    )
    assert heard == [([0, 1], (2, net.layout.size))] * 2
    assert torch.equal(run.local_models[2], net.initial())
    half = net.layout.size // 2
    _, held, local = seen[1]
    assert torch.equal(held[:, half:], local[:, half:])
    assert torch.equal(held[0, :half], held[1, :half])


def test_adam_is_torchs_and_starts_anew_each_round(net):
    rng = generator(0, "adam")
    x, y = torch.rand(2, 5, 4, 1, 8, 8, generator=rng), torch.randint(0, 10, (2, 5, 4), generator=rng)
    plan, rngs = LocalPlan(4, 5, 0.01, weight_decay=1e-2, optimizer="adam"), [rng, rng]
    for _ in range(2):  # no moments are left over
        updates = local_updates(net, UniversalDefense(), net.initial(), x, y, plan, rngs)
    for party in range(2):
        params = net.initial().requires_grad_()
        adam = torch.optim.Adam([params], lr=0.01, weight_decay=1e-2)
        for step in range(5):
            adam.zero_grad()
            net.loss(params, x[party, step], y[party, step]).backward()
            adam.step()
        torch.testing.assert_close(net.initial() - 0.01 * updates[party], params.detach(), atol=1e-6, rtol=1e-5)


def test_momentum_and_weight_decay_are_those_of_torchs_sgd():
    net = Net(TinyNet())
    x, y = torch.rand(2, 3, 4, 1, 8, 8), torch.randint(10, (2, 3, 4))
    plan = LocalPlan(4, 3, 0.1, momentum=0.9, weight_decay=1e-2)
    start = net.initial()
    rngs = [generator(0, "a"), generator(0, "b")]
    ours = local_updates(net, UniversalDefense(), start, x, y, plan, rngs)
    for i in range(2):
        params = start.clone().requires_grad_()
        sgd = torch.optim.SGD([params], lr=0.1, momentum=0.9, weight_decay=1e-2)
        for step in range(3):
            sgd.zero_grad()
            net.loss(params, x[i, step], y[i, step]).backward()
            sgd.step()
        torch.testing.assert_close(start - 0.1 * ours[i], params.detach(), atol=1e-5, rtol=1e-4)


def test_who_contributed_is_counted():
    class LastOut(FederatedDefense):
        def exchange(self, updates, round):
            round.active[-1] = False
            return updates

    shares = partition(digits_like(60), 3, generator(0, "deal"))
    run = federate(Net(TinyNet()), shares, LastOut(), plan=PLAN, rounds=4, fraction=1.0, seed=0)
    assert run.contributed.tolist() == [4, 4, 0]
    assert run.late.tolist() == [1, 1, 0]
