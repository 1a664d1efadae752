"""Our attacks against foolbox's, on the same classifier, inputs and targets."""

import pytest
import torch

from benchmark.data.base import Split
from benchmark.settings.deployment.games.inputs import InputSurface
from benchmark.threats.evasion.carlini_wagner import CarliniWagnerL2
from benchmark.threats.evasion.gradient_steps import PGD
from benchmark.training.loop import train
from tests.benchmark.helpers import TinyNet, digits_like

pytestmark = [pytest.mark.crosscheck, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture(scope="module")
def surface() -> InputSurface:
    torch.manual_seed(0)
    own, data = digits_like(200, 0), digits_like(20, 4)
    model = train(TinyNet(), own.x, own.y, epochs=15, lr=3e-3, rng=torch.Generator().manual_seed(0))
    none = Split(own.x[:0], own.y[:0])
    return InputSurface(model.requires_grad_(False), data.x, data.y, (data.y + 3) % 10, 10, {}, none, none)


def foreign(surface, attack, epsilon):
    """Return (altered inputs, success) of a foolbox attack on the surface's targets."""
    foolbox = pytest.importorskip("foolbox")
    model = foolbox.PyTorchModel(surface.model, bounds=(0, 1), device="cpu")
    criterion = foolbox.criteria.TargetedMisclassification(surface.targets)
    return attack(model, surface.x, criterion, epsilons=epsilon)[1:]


def success(surface, x):
    return (surface.model(x).argmax(dim=1) == surface.targets).float().mean().item()


def test_pgd_takes_the_same_steps(surface):
    from foolbox.attacks import LinfPGD

    altered, _ = foreign(surface, LinfPGD(abs_stepsize=0.02, steps=10, random_start=False), 0.1)
    ours = PGD(loss="ce", eps=0.1, steps=10, step_size=0.02, random_start=False, adaptive=False)(surface, seed=0)
    # Ours rests at the first success; where neither succeeded, every step was taken by both.
    failed = surface.model(ours.x).argmax(dim=1) != surface.targets
    assert failed.any()
    torch.testing.assert_close(ours.x[failed], altered[failed], atol=1e-5, rtol=0)
    assert success(surface, ours.x) >= success(surface, altered)


def test_carlini_wagner_succeeds_as_often_at_the_same_distance(surface):
    from foolbox.attacks import L2CarliniWagnerAttack

    shared = {"confidence": 0.0}
    theirs = L2CarliniWagnerAttack(binary_search_steps=6, steps=200, stepsize=0.05, initial_const=0.1, **shared)
    altered, met = foreign(surface, theirs, None)
    ours = CarliniWagnerL2(searches=6, iterations=200, lr=0.05, initial_c=0.1, adaptive=False, **shared)
    x = ours(surface, seed=0).x
    assert success(surface, x) >= met.float().mean().item() - 0.05
    here, there = ((a - surface.x).flatten(1).norm(dim=1)[met].mean().item() for a in (x, altered))
    assert here == pytest.approx(there, rel=0.05)
