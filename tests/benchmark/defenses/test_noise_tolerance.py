import math
from statistics import NormalDist

import pytest
import torch

from benchmark.defenses.collaboration.clients.noise_tolerance import NoiseTolerance
from benchmark.errors import ConfigError
from benchmark.seeds import generator
from benchmark.settings.collaboration.defense import Round
from benchmark.training.functional import Layout, Net
from tests.benchmark.helpers import TinyNet, digits_like

LAYOUT = Layout(("w", "b", "dead"), ((400, 100), (20_000,), (50,)))


def tolerant(**changes) -> NoiseTolerance:
    rule = dict(
        kind="rel",
        amount=0.5,
        floor=0.0,
        grid=[0.1, 1.0, 10.0],
        drop=0.01,
        max_norm=1.0,
        shares=1,
        delta=1e-5,
        memo=False,
    )
    defense = NoiseTolerance(**(rule | changes))
    defense.start(2, LAYOUT)
    return defense


def turn(index: int = 0, inputs: torch.Tensor | None = None) -> Round:
    return Round(
        index, LAYOUT, torch.zeros(LAYOUT.size), torch.arange(2), generator(0, f"round.{index}"), inputs=inputs
    )


def updates() -> torch.Tensor:
    made = torch.randn(2, LAYOUT.size, generator=torch.Generator().manual_seed(0))
    made[:, LAYOUT.slices()["b"]] *= 100.0
    made[:, LAYOUT.slices()["dead"]] = 0.0
    return made


def rms(x: torch.Tensor) -> torch.Tensor:
    return x.square().mean(dim=-1).sqrt()


def test_relative_noise_has_the_asked_ratio_in_every_tensor():
    before = updates()
    noise = tolerant().protect(before, turn()) - before
    for name in ("w", "b"):
        part = LAYOUT.slices()[name]
        assert torch.allclose(rms(noise[:, part]) / rms(before[:, part]), torch.tensor(0.5), rtol=0.02)


def test_a_tensor_without_a_gradient_stays_zero():
    assert tolerant().protect(updates(), turn())[:, LAYOUT.slices()["dead"]].abs().max() == 0


def test_parties_draw_independent_noise():
    before = updates()
    for memo in (False, True):
        noise = tolerant(memo=memo).protect(before, turn(inputs=torch.ones(2, 1, 4))) - before
        part = LAYOUT.slices()["b"]
        assert torch.corrcoef(noise[:, part])[0, 1].abs() < 0.03


def test_absolute_noise_ignores_the_update():
    before = updates()
    noise = tolerant(kind="abs", amount=0.2).protect(before, turn()) - before
    assert torch.allclose(rms(noise), torch.tensor(0.2), rtol=0.02)


def test_the_floor_holds_for_relative_noise():
    before = updates()
    noise = tolerant(amount=0.0, floor=0.1).protect(before, turn()) - before
    part = LAYOUT.slices()["w"]
    assert torch.allclose(rms(noise[:, part]) / rms(before[:, part]), torch.tensor(0.1), rtol=0.02)


def test_memo_answers_the_same_batch_alike_and_another_batch_otherwise():
    defense, before = tolerant(memo=True), updates()
    batch = torch.rand(2, 1, 4)
    first, again = (defense.protect(before, turn(i, batch)) for i in (0, 1))
    other = defense.protect(before, turn(2, batch + 0.1))
    live = before != 0
    assert torch.equal(first, again)
    assert (first != other)[live].float().mean() > 0.99


def test_memo_forgets_its_secret_between_collaborations_and_needs_to_see_batches():
    defense, before, batch = tolerant(memo=True), updates(), torch.rand(2, 1, 4)
    first = defense.protect(before, turn(0, batch))
    defense.start(2, LAYOUT)
    assert not torch.equal(first, defense.protect(before, turn(1, batch)))
    with pytest.raises(ConfigError, match="needs to see the parties' batches"):
        defense.protect(before, turn())


def test_clipping_bounds_the_update_and_the_shares_add_up_to_the_amount():
    before = updates()
    quiet = tolerant(kind="clip", amount=0.0, max_norm=2.0).protect(before, turn())
    assert torch.allclose(quiet.norm(dim=1), torch.tensor(2.0))
    loud = tolerant(kind="clip", amount=3.0, max_norm=2.0, shares=4).protect(before, turn())
    assert torch.allclose(rms(loud - quiet), torch.tensor(3.0), rtol=0.02)


def gaussian_delta(sigma: float, epsilon: float) -> float:
    """Return delta of the Gaussian mechanism with sensitivity 1 (Balle, Wang 2018, theorem 8)."""
    below = NormalDist().cdf
    return below(0.5 / sigma - epsilon * sigma) - math.exp(epsilon) * below(-0.5 / sigma - epsilon * sigma)


def test_epsilon_of_one_round_lies_between_the_exact_value_and_the_plain_renyi_bound():
    epsilon, delta = tolerant(kind="clip", amount=4.0).epsilon(samples=100, batch_size=10, steps=1)
    sigma = 2.0  # replacing a party's data moves its clipped update by up to twice the bound
    renyi = min(a / (2 * sigma**2) + math.log(1 / delta) / (a - 1) for a in range(2, 200))
    assert gaussian_delta(sigma, epsilon) <= delta
    assert epsilon <= renyi
    assert gaussian_delta(sigma, 0.8 * epsilon) > delta


def test_epsilon_counts_the_rounds_that_were_played_and_only_clipping_has_one():
    defense = tolerant(kind="clip", amount=4.0)
    for index in range(3):
        defense.protect(updates(), turn(index))
    played, _ = defense.epsilon(samples=100, batch_size=10, steps=60)
    three, _ = tolerant(kind="clip", amount=4.0).epsilon(samples=100, batch_size=10, steps=3)
    assert played == three
    assert tolerant().epsilon(samples=100, batch_size=10, steps=1) is None
    assert tolerant(kind="abs").epsilon(samples=100, batch_size=10, steps=1) is None


def test_facts_are_what_does_not_depend_on_private_data():
    assert tolerant().facts() == {}
    assert tolerant(kind="abs", amount=0.2).facts() == {"noise_std": 0.2}
    assert tolerant(kind="clip", amount=3.0, shares=9).facts() == {"noise_std": 1.0, "clip_norm": 1.0}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "much"}, "rel, abs, clip, calibrated"),
        ({"amount": -1.0}, "at least 0"),
        ({"shares": 0}, "shares must be a whole number of at least 1"),
    ],
)
def test_parameters_out_of_range_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        tolerant(**wrong)


# -- calibrated -----------------------------------------------------------------------------------------
def tried(net: Net, params: torch.Tensor, updates: torch.Tensor, **changes) -> torch.Tensor:
    """Return the amounts that the parties chose, told from their noise."""
    defense = tolerant(kind="calibrated", **changes)
    data = digits_like(200, 3)
    round = Round(0, net.layout, params, torch.arange(len(updates)), generator(0, "calibrated"), net=net, lr=0.1)
    round.validation = lambda party: data[party :: len(updates)]
    noise = defense.protect(updates, round) - updates
    part = net.layout.slices()[net.layout.names[0]]
    return rms(noise[:, part]) / rms(updates[:, part])


def taught() -> tuple[Net, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    net = Net(TinyNet())
    params, data = net.initial(), digits_like(200, 0)
    for _ in range(60):
        params = params - 0.5 * net.gradient(params, data.x, data.y)
    return net, params, net.gradient(params, data.x, data.y).expand(2, -1)


def test_calibrated_takes_as_much_noise_as_accuracy_bears():
    net, params, updates = taught()
    assert tried(net, params, updates) == pytest.approx([10.0, 10.0], rel=0.3), "a tiny update bears any noise"
    heavy = updates * 50 / updates.norm(dim=1, keepdim=True)
    assert (tried(net, params, heavy * 1e-3) >= tried(net, params, heavy)).all()


def test_calibrated_picks_the_floor_on_a_model_of_chance_accuracy():
    net, params, updates = taught()
    params = params * 0  # every class is as likely
    assert tried(net, params, updates * 1e-6, floor=0.2) == pytest.approx([0.2, 0.2], rel=0.3)


def test_calibrated_needs_validation_samples():
    with pytest.raises(ConfigError, match="dataset.sizes.calibration"):
        tolerant(kind="calibrated").protect(updates(), turn())
