"""Whole attacks on the inputs of a trained network, against foolbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runners.bench.jobs import REPEATS, SEED, SIDE, digits
from runners.bench.measure import HotPath, Peer

if TYPE_CHECKING:
    import torch

    from benchmark.settings.deployment.games.inputs import InputSurface, InputThreat

IMAGES = 200
EPS, STEPS, STEP = 0.2, 40, 0.02
SEARCHES, ITERATIONS, RATE, FIRST_C = 3, 40, 0.05, 0.1


def job_pgd(device: str = "cpu") -> HotPath:
    """Time targeted PGD on 200 images of a trained ConvNet.

    Compares foolbox's ``LinfPGD`` with ours: the same start, steps, step size and bound. Shares of images that are
    taken for their targets agree to .01: ours rests at a success, which a further step of foolbox may undo. Foolbox is
    called as its manual does, with a network whose weights want gradients and get them; the suite freezes a deployed
    network, which is 1.15 of the ratio; the rest is that ours leaves out images that have met their targets.
    """
    from benchmark.threats.evasion.gradient_steps import PGD

    ours = PGD(loss="ce", eps=EPS, steps=STEPS, step_size=STEP, random_start=False)

    def theirs() -> Any:
        from foolbox.attacks import LinfPGD

        return LinfPGD(abs_stepsize=STEP, steps=STEPS, random_start=False)

    return _job(device, ours, theirs, EPS, f"PGD, {STEPS} steps", 0.01, within=None)


def job_cw_l2(device: str = "cpu") -> HotPath:
    """Time Carlini and Wagner's L2 attack on 200 images of a trained ConvNet.

    Compares foolbox's ``L2CarliniWagnerAttack`` with ours: the same searches and descents, none of which ends early.
    Shares of images that are taken for their targets and mean distances of these agree to .05. Of either's time nine
    tenths are the network's passes; ours is faster by the weights' gradients, as in :func:`job_pgd`, and by the order
    of the weights in memory.
    """
    from benchmark.threats.evasion.carlini_wagner import CarliniWagnerL2

    ours = CarliniWagnerL2(searches=SEARCHES, iterations=ITERATIONS, lr=RATE, initial_c=FIRST_C, adaptive=False)

    def theirs() -> Any:
        from foolbox.attacks import L2CarliniWagnerAttack

        # its stepsize is Adam's rate; it looks ten times a descent whether to end it, but from the first step on
        return L2CarliniWagnerAttack(
            binary_search_steps=SEARCHES, steps=ITERATIONS, stepsize=RATE, initial_const=FIRST_C, abort_early=False
        )

    return _job(device, ours, theirs, None, f"Carlini-Wagner L2, {SEARCHES} x {ITERATIONS} steps", 0.05, within=0.05)


def _job(
    device: str,
    ours: InputThreat,
    theirs: Callable[[], Any],
    epsilon: float | None,
    work: str,
    tolerance: float,
    *,
    within: float | None,
) -> HotPath:
    """Return the job of an attack.

    Args:
        epsilon: foolbox's bound; None for an attack that looks for the smallest change.
        tolerance: on the share of targets that are met; within: on the mean L2 distance of those, relative.
    """
    surface = _surface(device)
    model, targets = surface.model, surface.targets

    def fast() -> torch.Tensor:
        model.requires_grad_(False)  # as a deployed network is
        return ours(surface, seed=SEED).x

    def prepare() -> Callable[[], torch.Tensor]:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it imports
            import foolbox

            attack = theirs()
        criterion = foolbox.criteria.TargetedMisclassification(targets)

        def job() -> torch.Tensor:
            model.requires_grad_(True)  # as training leaves it, and as foolbox takes it
            asked = foolbox.PyTorchModel(model, bounds=(0, 1), device=device)
            altered: torch.Tensor = attack(asked, surface.x, criterion, epsilons=epsilon)[1]
            model.zero_grad(set_to_none=True)
            return altered

        return job

    def apart(here: torch.Tensor, there: torch.Tensor) -> float:
        met = [model(x).argmax(dim=1) == targets for x in (here, there)]
        share = float((met[0].double().mean() - met[1].double().mean()).abs())
        if within is None:
            return share
        far = [float((x - surface.x)[met[0] & met[1]].flatten(1).norm(dim=1).mean()) for x in (here, there)]
        return max(share, abs(far[0] / far[1] - 1) * tolerance / within)

    return HotPath(
        fast,
        None,
        0.0,
        f"{work}, {IMAGES} images, ConvNet, {SIDE}x{SIDE}",
        peer=Peer("foolbox", prepare, tolerance, apart),
        repeats=REPEATS,
    )


def _surface(device: str) -> InputSurface:
    """Return the view of a ConvNet trained on digits: test images that it classifies rightly, each with a target."""
    import torch

    from benchmark.models.convnet import ConvNet
    from benchmark.seeds import generator, isolated
    from benchmark.settings.deployment.games.inputs import InputSurface
    from benchmark.training.loop import predict, train

    own, test = digits(device)
    with isolated(SEED, "job.model"):
        model = ConvNet(shape=(1, SIDE, SIDE), num_classes=10, channels=(16, 32), hidden=64).to(device)
    train(model, own.x, own.y, epochs=5, rng=generator(SEED, "job.batches"), lr=3e-3)
    right = test[predict(model, test.x).argmax(dim=1) == test.y][:IMAGES]
    steps = 1 + torch.arange(len(right), device=device) % 9
    return InputSurface(model, right.x, right.y, (right.y + steps) % 10, 10, {}, own[:0], own[:0])


PATHS = {"job_pgd": job_pgd, "job_cw_l2": job_cw_l2}
