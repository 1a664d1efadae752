"""Our gradient inversion against breaching's, on the same uploads and with the same number of gradients and starts.

``python -m tests.benchmark.threats.test_inversion_crosscheck [WORDS]`` prints the table of all cases whose name has all
words.
"""

import itertools
import sys
from dataclasses import replace

import pytest
import torch

import gauntlet
from benchmark.cell import play
from benchmark.metrics.reconstruction import score_reconstruction
from benchmark.settings.collaboration.games.uploads import UploadSurface, UploadThreat
from benchmark.settings.guesses import Reconstruction
from benchmark.threats.gradient_leakage.breaching import Breaching, invert
from benchmark.threats.gradient_leakage.dlg import DLG
from benchmark.threats.gradient_leakage.inverting_gradients import TOTAL_VARIATION, InvertingGradients
from benchmark.threats.gradient_leakage.regularised_inversion import RegularisedInversion

pytestmark = [pytest.mark.crosscheck, pytest.mark.slow]

EVALUATIONS, STARTS = 300, len(TOTAL_VARIATION)
IN_ONE_STEP = 20  # most gradients in one iteration of its L-BFGS
MARGIN_DB = 0.5
THEIRS = ("deepleakage", "invertinggradients", "modern")
CASES = [
    *itertools.product(("lenet",), ("relu", "tanh"), ("untrained", "trained"), (1, 4, 8), ("mnist", "cifar10_subset")),
    *itertools.product(("convnet",), ("relu",), ("untrained",), (1, 4), ("mnist", "cifar10_subset")),
]


class Onlooker(UploadThreat):
    """Threat that keeps what the server sees."""

    knowledge = frozenset({"labels", "public", "truth"})

    def attack(self, surface, rng):
        self.seen = surface
        return Reconstruction(surface.truth, surface.labels)


def observed(case, victims: int = 1) -> UploadSurface:
    model, activation, state, batch, dataset = case
    options = [
        "threat=leakage_control_copy",
        "setting=collaboration",
        "scale=cpu",
        f"model={model}",
        f"model.activation={activation}",
        f"dataset={dataset}",
        f"setting.model_state={state}",
        f"setting.victim_batch_size={batch}",
        f"setting.victims={victims}",
    ]
    composed = gauntlet.cell(*options)
    onlooker = Onlooker(adaptive=False)
    play(replace(composed.build(), threat=onlooker), root=composed.composed.options.data_root)
    return onlooker.seen


def ours(surface: UploadSurface):
    """Yield the name and the guess of each of our attacks."""
    # A search takes up to 12 gradients an iteration where it fails, which it does once: 100 are set aside for it.
    newton = {"iterations": STARTS * EVALUATIONS - 100, "restarts": 1, "observations": 1, "adaptive": False}
    first = {"iterations": EVALUATIONS, "step": 0.1, "total_variation": TOTAL_VARIATION, "restarts": 1}
    modern = {"warmup": 30, "soft_sign": True, "distance": "cosine", "l2": 0.0, "features": 0.1, "langevin": 0.0}
    yield "dlg", DLG(labels="joint", **newton)(surface, seed=0).x
    yield "idlg", DLG(labels="restored", **newton)(surface, seed=0).x
    yield "inverting_gradients", InvertingGradients(**first)(surface, seed=0).x
    yield "modern", RegularisedInversion(**first, **modern)(surface, seed=0).x


def theirs(surface: UploadSurface):
    for name in THEIRS:
        # L-BFGS gains nothing from restarts of a quarter of its length, so it gets all gradients in one trial.
        newton = name == "deepleakage"
        gradients, starts = (EVALUATIONS * STARTS, 1) if newton else (EVALUATIONS, STARTS)
        iterations = gradients // (IN_ONE_STEP if newton else 1)
        config = Breaching(attack=name, iterations=iterations, restarts=starts).config
        config.optim["warmup"] = min(config.optim.warmup, gradients // 10)
        found = []
        for upload in surface.uploads[0]:
            torch.manual_seed(0)
            found.append(invert(surface, upload, config)[0])
        yield name, torch.stack(found)


def quality(surface: UploadSurface, x: torch.Tensor) -> float:
    return score_reconstruction(x, None, surface.truth, surface.labels)[0]["psnr_db"]


def compare(case) -> tuple[dict[str, float], dict[str, float]]:
    """Return the PSNR in dB of each of our attacks and of each of breaching's."""
    surface = observed(case)
    return tuple({name: quality(surface, x) for name, x in attacks(surface)} for attacks in (ours, theirs))


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_our_best_attack_is_at_least_as_strong_as_breachings(case):
    pytest.importorskip("breaching", reason="pip install breaching")
    here, there = compare(case)
    assert max(here.values()) >= max(there.values()) - MARGIN_DB, (here, there)


if __name__ == "__main__":
    for case in CASES:
        if set(sys.argv[1:]) <= set(map(str, case)):
            results = compare(case)
            row = "  ".join(f"{name} {value:.1f}" for part in results for name, value in part.items())
            difference = max(results[0].values()) - max(results[1].values())
            print("-".join(map(str, case)), f"{difference:+.1f} dB:", row, flush=True)
