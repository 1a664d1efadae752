import pytest
import torch

from benchmark.defenses.collaboration.clients.batch_aggregation import BatchAggregation
from benchmark.defenses.collaboration.clients.dp_sgd import DPSGD
from benchmark.defenses.collaboration.clients.gradient_clipping import GradientClipping
from benchmark.defenses.collaboration.clients.gradient_noise import GradientNoise
from benchmark.defenses.collaboration.clients.gradient_pruning import GradientPruning
from benchmark.defenses.none import NoDefense
from benchmark.defenses.release.instahide import InstaHide
from benchmark.errors import ConfigError
from benchmark.seeds import generator
from benchmark.settings.collaboration.defense import Round
from benchmark.settings.stack import Stack
from benchmark.training.functional import Layout
from tests.benchmark.helpers import PLAN, digits_like

LAYOUT = Layout(("w", "b"), ((10, 4), (10,)))


def turn(n: int = 3, seed: int = 0) -> Round:
    return Round(0, LAYOUT, torch.zeros(50), torch.arange(n), generator(seed, "round"))


def updates(n: int = 3) -> torch.Tensor:
    return torch.randn((n, 50), generator=torch.Generator().manual_seed(0))


def test_none_overrides_nothing_and_is_the_identity_bit_for_bit():
    none, data, u = NoDefense(), digits_like(5), updates()
    assert none.hooks() == frozenset()
    assert none.local_data(data, generator(0, "x")) is data
    assert none.local_plan(PLAN) is PLAN
    for hook in ("protect", "exchange"):
        assert getattr(none, hook)(u, turn()) is u
    assert none.encode(data.x) is data.x
    assert none.reveal(u) is u
    assert torch.equal(none.aggregate(u, turn()), u.mean(0))
    assert torch.equal(none.release(data, generator(0, "x")).x, data.x)


def test_hooks_are_what_a_class_overrides():
    assert GradientNoise.hooks() == {"protect"}
    assert DPSGD.hooks() == {"local_step"}
    assert InstaHide.hooks() == {"release", "encode", "local_data"}


def test_a_stack_runs_its_members_in_order():
    clip, noise = GradientClipping(max_norm=0.1), GradientNoise(std=5.0, distribution="gaussian")
    clipped_last = Stack([noise, clip]).protect(updates(), turn())
    noise_last = Stack([clip, noise]).protect(updates(), turn())
    assert clipped_last.norm(dim=1).max() <= 0.1 + 1e-6
    assert noise_last.norm(dim=1).min() > 5


def test_a_stack_of_one_kind_of_replacement_twice_is_refused():
    private = DPSGD(max_norm=1.0, noise_multiplier=1.0, delta=1e-3)
    with pytest.raises(ConfigError, match="DPSGD and DPSGD cannot be stacked.*'local_step'"):
        Stack([private, private])


def test_a_stack_publishes_and_accounts_for_its_members():
    private = DPSGD(max_norm=1.0, noise_multiplier=1.0, delta=1e-3)
    stack = Stack([private, GradientNoise(std=0.5, distribution="gaussian")])
    assert stack.facts() == {"clip_norm": 1.0, "noise_std": 0.5}
    run = dict(samples=70, batch_size=16, steps=10)
    assert stack.epsilon(**run) == private.epsilon(**run)
    assert Stack([GradientNoise(std=0.5, distribution="gaussian")]).epsilon(**run) is None
    assert stack.overrides("local_step") and stack.overrides("protect") and not stack.overrides("exchange")


@pytest.mark.parametrize("distribution", ["gaussian", "laplace"])
def test_noise_has_the_standard_deviation_it_says(distribution):
    zeros = torch.zeros(4, 50_000)
    noisy = GradientNoise(std=0.3, distribution=distribution).protect(zeros, turn(4))
    assert noisy.std().item() == pytest.approx(0.3, rel=0.02)
    assert noisy.mean().item() == pytest.approx(0, abs=0.005)


def test_clipping_bounds_the_norm_and_keeps_the_direction():
    u = updates()
    clipped = GradientClipping(max_norm=2.0).protect(u, turn())
    torch.testing.assert_close(clipped.norm(dim=1), torch.full((3,), 2.0))
    torch.testing.assert_close(clipped / 2.0, u / u.norm(dim=1, keepdim=True))
    small = u / 100
    assert torch.equal(GradientClipping(max_norm=2.0).protect(small, turn()), small)


@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.9])
def test_pruning_keeps_the_largest_of_every_tensor_and_publishes_which(ratio):
    u, round_ = updates(), turn()
    pruned = GradientPruning(ratio=ratio).protect(u, round_)
    for part in LAYOUT.slices().values():
        size = part.stop - part.start
        kept = pruned[:, part] != 0
        assert (kept.sum(1) == size - int(ratio * size)).all()
        for row in range(3):
            smallest = u[row, part].abs()[kept[row]].min()
            assert (u[row, part].abs()[~kept[row]] <= smallest).all()
    assert torch.equal(round_.published.mask, pruned != 0)


def test_batch_aggregation_only_raises_the_plan():
    assert BatchAggregation(batch_size=8, local_steps=2).local_plan(PLAN).batch_size == 16
    assert BatchAggregation(batch_size=64, local_steps=2).local_plan(PLAN).local_steps == 2


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GradientNoise(std=-1, distribution="gaussian"), "gradient_noise.std must be at least 0"),
        (lambda: GradientNoise(std=1, distribution="cauchy"), "distribution must be gaussian or laplace"),
        (lambda: GradientClipping(max_norm=0), "max_norm must be above 0"),
        (lambda: GradientPruning(ratio=1.0), r"ratio must be in \[0, 1\)"),
        (lambda: DPSGD(max_norm=1, noise_multiplier=-1, delta=1e-3), "noise_multiplier must be at least 0"),
        (lambda: BatchAggregation(batch_size=0, local_steps=1), "batch_size must be a whole number of at least 1"),
    ],
)
def test_impossible_parameters_are_refused(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
