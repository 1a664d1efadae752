import pytest
import torch
from torch import nn
from torch.func import jacrev

from benchmark.data.base import Split
from benchmark.errors import ConfigError
from benchmark.settings.deployment.games.inputs import InputSurface
from benchmark.settings.deployment.setting import Deployment
from benchmark.threats.evasion import jsma
from benchmark.threats.evasion.controls import RandomFeatures
from benchmark.threats.evasion.jsma import JSMA, best_pair
from tests.benchmark.helpers import TinyNet, context


def attack(**changes) -> JSMA:
    options = {
        "saliency_on": "probs",
        "temperature": 1.0,
        "dtype": "float32",
        "theta": 1.0,
        "gamma": 0.25,
        "candidates": None,
        "adaptive": False,
    }
    return JSMA(**(options | changes))


def tiny_surface(n: int = 6, scale: float = 3.0, facts: dict | None = None) -> InputSurface:
    """Return random 4x4 images and a random classifier of 4 classes whose logits are multiplied by ``scale``."""
    rng = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4))
    model[-1].weight.data *= scale
    model[-1].bias.data *= scale
    x = torch.rand((n, 1, 4, 4), generator=rng)
    x[:, :, 0, 0], x[:, :, 1, 1] = 1.0, 0.0  # features at a bound from the start
    y = model(x).argmax(dim=1)
    none = Split(x[:0], y[:0])
    return InputSurface(
        model=model.requires_grad_(False),
        x=x,
        y=y,
        targets=(y + 1 + torch.arange(n) % 3) % 4,
        num_classes=4,
        published=facts or {},
        public=none,
        attacker=none,
    )


def one_by_one(surface, i, *, saliency_on, temperature, theta, gamma):
    """Run algorithm 3 on one input, with the whole Jacobian and a loop over pairs; return input and reason to stop."""
    x, t = surface.x[i].flatten().clone(), int(surface.targets[i])

    def outputs(flat):
        z = surface.model(flat.view(1, *surface.x.shape[1:]))[0] / temperature
        return z.softmax(0) if saliency_on == "probs" else z

    sign = 1 if theta > 0 else -1
    for _ in range(int(len(x) * gamma / 2)):
        if int(outputs(x).argmax()) == t:
            return x, "done"
        jacobian = jacrev(outputs)(x)
        free = [j for j in range(len(x)) if (x[j] < 1 if theta > 0 else x[j] > 0)]
        best, chosen = None, None
        for p in free:
            for q in free:
                if p >= q:
                    continue
                alpha = jacobian[t, p] + jacobian[t, q]
                beta = sum(jacobian[c, p] + jacobian[c, q] for c in range(surface.num_classes) if c != t)
                if sign * alpha > 0 and sign * beta < 0 and (best is None or -alpha * beta > best):
                    best, chosen = -alpha * beta, [p, q]
        if chosen is None:
            return x, "stalled"
        x[chosen] = (x[chosen] + theta).clamp(0, 1)
    return x, "budget"


@pytest.mark.parametrize("saliency_on", ["probs", "logits"])
@pytest.mark.parametrize("theta", [1.0, -1.0, 0.3])
def test_the_batch_agrees_with_one_input_at_a_time(saliency_on, theta, monkeypatch):
    monkeypatch.setattr(jsma, "PAIRS_AT_ONCE", 4 * 16**2)  # two chunks
    surface = tiny_surface()
    guess = attack(saliency_on=saliency_on, theta=theta, gamma=0.5, temperature=2.0)(surface, seed=0)
    for i in range(len(surface.x)):
        x, why = one_by_one(surface, i, saliency_on=saliency_on, temperature=2.0, theta=theta, gamma=0.5)
        torch.testing.assert_close(guess.x[i].flatten(), x)
        assert guess.stalled[i] == (why == "stalled")
    assert (guess.x != surface.x).any(), "the comparison would be empty"


def test_the_best_pair_has_the_largest_product_among_the_admissible():
    alpha = torch.tensor([[3.0, 1.0, 1.0, -9.0]])
    beta = torch.tensor([[-1.0, -1.0, -2.0, -9.0]])
    everywhere = torch.ones(1, 4, dtype=torch.bool)
    assert best_pair(alpha, beta, everywhere, rising=True)[0].tolist() == [[0, 2]]
    without = torch.tensor([[True, True, False, True]])
    assert best_pair(alpha, beta, without, rising=True)[0].tolist() == [[0, 1]]
    assert best_pair(-alpha, -beta, everywhere, rising=False)[0].tolist() == [[0, 2]]
    assert not best_pair(alpha, -beta, everywhere, rising=True)[1].item()


def test_no_more_features_change_than_the_budget_and_those_at_the_bound_stay():
    surface = tiny_surface(n=30)
    guess = attack(gamma=0.3)(surface, seed=0)
    changed = (guess.x != surface.x).flatten(1)
    assert changed.sum(dim=1).max() == 4  # floor(16 * 0.3 / 2) pairs
    assert not changed[:, 0].any()


def test_large_logits_stall_it_on_probabilities_but_not_on_logits():
    """Gradient masking by saturation, without any defense."""
    small, large = tiny_surface(n=30, scale=3.0), tiny_surface(n=30, scale=3000.0)
    shares = {
        name: attack(saliency_on=on)(surface, seed=0).stalled.float().mean().item()
        for name, on, surface in [("small", "probs", small), ("large", "probs", large), ("logits", "logits", large)]
    }
    assert shares["small"] == 0
    assert shares["large"] > 0.8
    assert shares["logits"] < 0.3


def test_only_the_adaptive_form_divides_by_the_published_temperature():
    surface, told = tiny_surface(n=30, scale=3000.0), tiny_surface(n=30, scale=3000.0, facts={"temperature": 1000.0})
    plain = attack()(tiny_surface(n=30, scale=3.0), seed=0)
    adaptive = attack(adaptive=True)(told, seed=0)
    assert adaptive.diagnostics["jsma_temperature"] == 1000
    torch.testing.assert_close(adaptive.x, plain.x)
    assert torch.equal(attack(adaptive=True)(surface, seed=0).x, attack()(surface, seed=0).x)
    assert torch.equal(attack()(told, seed=0).x, attack()(surface, seed=0).x)


def test_double_precision_finds_gradients_that_single_precision_loses():
    surface = tiny_surface(n=30, scale=400.0)
    single, double = (attack(dtype=dtype)(surface, seed=0) for dtype in ("float32", "float64"))
    assert double.stalled.sum() < single.stalled.sum()
    assert double.x.dtype == torch.float32
    assert next(surface.model.parameters()).dtype == torch.float32, "the deployed classifier is not touched"


def test_it_beats_as_many_random_changes_on_an_undefended_classifier():
    setting = Deployment(
        epochs=8, lr=3e-3, victims=8, targets=None, false_alarm_rate=0.05, radius=1.0, batch=20, draws=20
    )
    aimed, blind = (
        setting.play(context(threat, architecture=TinyNet))
        for threat in (attack(), RandomFeatures(theta=1.0, gamma=0.25))
    )
    assert aimed.risk["attack_success"] > blind.risk["attack_success"] + 0.3
    assert aimed.diagnostics["features_changed"] <= 0.25
    assert aimed.diagnostics["linf"] <= 1


@pytest.mark.parametrize("theta", [1.0, -1.0])
@pytest.mark.parametrize("saliency_on", ["probs", "logits"])
def test_the_fast_form_finds_the_same_pairs(saliency_on, theta):
    surface = tiny_surface(n=30)
    exact, fast = (attack(saliency_on=saliency_on, theta=theta, candidates=few)(surface, seed=0) for few in (None, 4))
    same = (exact.x == fast.x).flatten(1).all(dim=1).float().mean().item()
    assert same == 1 if saliency_on == "probs" else same > 0.8


def test_a_feature_listed_twice_does_not_form_a_pair():
    alpha, beta = torch.tensor([[3.0, 0.1] + 6 * [-1.0]]), torch.tensor([[-3.0, -0.1] + 6 * [1.0]])
    everywhere = torch.ones(1, 8, dtype=torch.bool)
    pair, found = attack(candidates=2)._pair(alpha, beta, everywhere)
    assert found.item() and sorted(pair[0].tolist()) == [0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"saliency_on": "loss"}, "probs or logits"),
        ({"dtype": "float16"}, "float32 or float64"),
        ({"theta": 0.0}, "theta must not be 0"),
        ({"gamma": 1.5}, r"gamma must be in \(0, 1\]"),
        ({"candidates": 1}, "candidates must be a whole number of at least 2 or null"),
        ({"temperature": 0.0}, "temperature must be above 0"),
    ],
)
def test_impossible_parameters_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        attack(**change)
