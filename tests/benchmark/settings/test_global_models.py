import pytest
import torch

from benchmark.data.base import Split
from benchmark.data.digits import Digits
from benchmark.errors import AccessError, ConfigError, Diverged
from benchmark.settings.collaboration.defense import FederatedDefense
from benchmark.settings.collaboration.games.global_models import InsiderMove, InsiderThreat, judge, outsiders, without
from benchmark.settings.collaboration.partition import partition_by_class, partition_one_apart
from benchmark.settings.collaboration.rounds import federate
from benchmark.settings.stack import UniversalDefense
from benchmark.threats.gan_inference.controls import HeldOutCopy, UntrainedGenerator
from benchmark.training.functional import Net
from tests.benchmark.helpers import PLAN, TinyNet, collaboration, context, digits_like


def scene(**changes):
    return collaboration(
        **(dict(parties=2, rounds=4, local_steps=2, lr=0.3, partition="by_class", order="roundrobin") | changes)
    )


class Diary(InsiderThreat):
    """Threat that writes down what it sees; bait: what it trains on."""

    def __init__(self, bait=None, target=1):
        super().__init__(target=target)
        self.bait = bait

    def start(self):
        self.seen = []

    def attack(self, surface, rng):
        self.seen.append(surface)
        return InsiderMove(torch.rand((6, *surface.shape), generator=rng), train_on=self.bait)


# -- dealing and taking turns -----------------------------------------------------------------------------
def test_classes_are_dealt_whole_and_disjoint():
    victim, insider = partition_by_class(digits_like(105), 2, 10)
    assert set(victim.y.tolist()) == {0, 1, 2, 3, 4}
    assert set(insider.y.tolist()) == {5, 6, 7, 8, 9}
    assert len(victim) == len(insider)


def test_more_parties_than_classes_are_refused():
    with pytest.raises(ConfigError, match="lower setting.parties"):
        partition_by_class(digits_like(100), 11, 10)


def test_parties_take_turns_from_the_last_to_the_first():
    torch.manual_seed(0)
    net, turns = Net(TinyNet()), []

    def visit(round, shares):
        turns.append((round.parties.tolist(), round.params))
        return shares

    shares = partition_by_class(digits_like(100), 2, 10)
    federate(
        net, shares, UniversalDefense(), plan=PLAN, rounds=2, fraction=1.0, seed=0, order="roundrobin", visit=visit
    )
    assert [parties for parties, _ in turns] == [[1], [0], [1], [0]]
    assert not torch.equal(turns[0][1], turns[1][1])


def test_a_turn_is_plain_sgd_of_one_party():
    torch.manual_seed(0)
    net = Net(TinyNet())
    share = digits_like(16)
    run = federate(net, [share], UniversalDefense(), plan=PLAN, rounds=1, fraction=1.0, seed=0, order="roundrobin")
    expected = net.initial() - PLAN.lr * net.gradient(net.initial(), share.x, share.y)
    torch.testing.assert_close(run.params, expected, atol=1e-6, rtol=1e-4)


def test_a_round_in_which_nobody_is_active_changes_nothing():
    class Lonely(FederatedDefense):
        def exchange(self, updates, round):
            round.active[:] = False
            return updates

    torch.manual_seed(0)
    net = Net(TinyNet())
    run = federate(net, [digits_like(16)], Lonely(), plan=PLAN, rounds=2, fraction=1.0, seed=0)
    assert torch.equal(run.params, net.initial())


# -- the insider's view -----------------------------------------------------------------------------------
def test_the_insider_sees_every_model_and_in_the_end_the_finished_one():
    threat = Diary()
    outcome = scene().play(context(threat))
    assert [view.round for view in threat.seen] == [0, 1, 2, 3, 4]
    assert [view.last for view in threat.seen] == [False] * 4 + [True]
    assert len({view.params.sum().item() for view in threat.seen}) == 5
    assert set(threat.seen[0].own.y.tolist()) == {5, 6, 7, 8, 9}
    assert threat.seen[0].net.logits(threat.seen[0].params, threat.seen[0].own.x).shape[1] == 11
    assert outcome.pictures["class recovery"].shape[0] == 6  # private, and five turns from the first to the last
    with pytest.raises(AccessError, match="truth"):
        _ = threat.seen[0].truth


def test_an_insider_that_does_nothing_leaves_the_run_as_it_was():
    outcome = scene().play(context(Diary()))
    assert outcome.utility["attacked_accuracy"] == pytest.approx(outcome.utility["test_accuracy"])
    attacked = outcome.curves["test_accuracy by round, attacked"]
    assert attacked == pytest.approx(outcome.curves["test_accuracy by round"])


def test_bait_changes_the_model():
    bait = digits_like(80)
    bait.y[:] = 10
    outcome = scene().play(context(Diary(bait)))
    assert outcome.utility["attacked_accuracy"] != outcome.utility["test_accuracy"]


def test_the_view_is_the_same_whatever_happens_to_uploads_on_their_way():
    class Masked(FederatedDefense):
        """Secure aggregation: masks that cancel."""

        def exchange(self, updates, round):
            return updates.flip(0)

    plain, masked = Diary(), Diary()
    scene(order="fedavg").play(context(plain))
    scene(order="fedavg").play(context(masked, Masked()))
    for one, other in zip(plain.seen, masked.seen, strict=True):
        torch.testing.assert_close(one.params, other.params, atol=1e-6, rtol=1e-4)


def test_an_insider_that_holds_the_victims_class_is_refused():
    with pytest.raises(ConfigError, match="holds samples of class 3"):
        without(digits_like(20), 3)
    with pytest.raises(ConfigError, match="partition=by_class"):
        scene(partition="mixed").play(context(Diary()))


def test_a_target_that_no_victim_holds_is_refused():
    with pytest.raises(ConfigError, match="threat.target=7 must be a class"):
        scene().play(context(Diary(target=7)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"partition": "odd"}, "mixed, by_class, one_class_apart"),
        ({"order": "odd"}, "order must be fedavg or roundrobin"),
        ({"dirichlet_alpha": 1.0}, "drop one"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        scene(**change)


def test_a_spectator_holds_nothing_and_still_sees_every_model():
    threat = Diary(bait=digits_like(20))
    scene(parties=5, spectator=True).play(context(threat))
    assert len(threat.seen) == 5 and len(threat.seen[0].own) == 0
    assert not torch.equal(threat.seen[0].params, threat.seen[1].params)
    quiet = Diary()
    outcome = scene(parties=5, spectator=True, order="fedavg").play(context(quiet))
    assert len(quiet.seen) == 5
    assert outcome.utility["attacked_accuracy"] == pytest.approx(outcome.utility["test_accuracy"])


def test_one_party_holds_a_class_apart():
    first, *others = partition_one_apart(digits_like(200), 4, 3, torch.Generator().manual_seed(0))
    assert set(first.y.tolist()) == {3}
    assert len({len(share) for share in (first, *others)}) == 1
    assert all(3 not in share.y for share in others)
    with pytest.raises(ConfigError, match="3 parties or more"):
        partition_one_apart(digits_like(200), 2, 3, torch.Generator())
    threat = Diary(target=3)
    scene(parties=4, partition="one_class_apart", apart=3, order="fedavg").play(context(threat))
    assert 3 not in threat.seen[0].own.y


class Ear(Diary):
    knowledge = frozenset({"uploads"})


def test_a_colluding_server_tells_the_victims_model_or_the_mean_that_hides_it():
    class Masked(FederatedDefense):
        """Secure aggregation: everybody's row is the mean."""

        def exchange(self, updates, round):
            round.publish(groups=torch.zeros(len(updates), dtype=torch.int64))
            return updates.mean(dim=0).expand_as(updates)

    clear, masked = Ear(), Ear()
    scene(parties=5, order="fedavg").play(context(clear))
    scene(parties=5, order="fedavg").play(context(masked, Masked()))
    assert clear.seen[0].heard is None
    torch.testing.assert_close(masked.seen[2].heard, masked.seen[2].params, atol=1e-6, rtol=1e-4)
    assert (clear.seen[2].heard - clear.seen[2].params).abs().max() > 1e-3
    with pytest.raises(AccessError, match="heard"):
        _ = clear.seen[1].restrict(frozenset()).heard


# -- scoring ----------------------------------------------------------------------------------------------
def test_the_judge_learns_from_samples_that_no_party_holds():
    data = Digits(sizes={"owner": 200, "attacker": 60, "public": 40, "calibration": 40, "test": 50}).load(None, 0)
    known = {row.numpy().tobytes() for row in data.owner.x}
    assert not any(row.numpy().tobytes() in known for row in outsiders(data).x)
    assert len(outsiders(data)) == 100


def test_the_judge_is_right_on_real_data():
    outcome = scene().play(context(Diary()))
    assert outcome.diagnostics["oracle_accuracy"] > 0.9
    assert not judge(context(Diary())).training


def test_controls_bound_the_risk():
    top = scene().play(context(HeldOutCopy(target=1)))
    bottom = scene().play(context(UntrainedGenerator(target=1, latent=8, hidden=16, samples=50)))
    assert top.risk["class_recovery"] > 0.9
    assert top.diagnostics["nnr"] == pytest.approx(1.0, abs=0.15)
    assert bottom.risk["class_recovery"] == 0


def test_samples_that_are_not_numbers_are_a_divergence_and_no_success():
    class Broken(Diary):
        def attack(self, surface, rng):
            return InsiderMove(torch.full((2, *surface.shape), float("nan")))

    with pytest.raises(Diverged, match="NaN pixels"):
        scene().play(context(Broken()))


def test_a_run_is_the_same_twice():
    first, again = (scene().play(context(Diary())).risk for _ in range(2))
    assert first == again


def test_a_privacy_budget_is_kept_with_the_honest_run():
    class Counting(FederatedDefense):
        def start(self, parties, layout):
            self.spent = 0.0

        def protect(self, updates, round):
            self.spent += 1
            return updates

        def epsilon(self, *, samples, batch_size, steps):
            return self.spent, 0.0

    known = {}

    def cache(key, build):
        return known.setdefault(key, None) or known.__setitem__(key, build()) or known[key]

    outcomes = [scene().play(context(Diary(), Counting(), cache=cache)) for _ in range(2)]
    assert [outcome.cost["epsilon"] for outcome in outcomes] == [8.0, 8.0]


def test_a_class_that_nobody_holds_can_be_asked_for_as_a_control():
    outcome = scene(missing=1).play(context(Diary(target=1)))
    assert "class_recovery" in outcome.risk
    with pytest.raises(ConfigError, match="threat.target=11 must be a class"):
        scene(parties=5, spectator=True).play(context(Diary(target=11)))


class Softened(FederatedDefense):
    """Soft labels, and a fact in the words of a release."""

    def facts(self):
        return {"k": 4}

    def local_data(self, data, rng):
        return Split(data.x, torch.nn.functional.one_hot(data.y, 10).float())


@pytest.mark.parametrize("order", ["fedavg", "roundrobin"])
def test_soft_labels_of_a_defense_and_hard_ones_of_the_bait_go_together(order):
    bait = digits_like(80)
    outcome = scene(order=order).play(context(Diary(bait), Softened()))
    assert outcome.utility["attacked_accuracy"] > 0.2
