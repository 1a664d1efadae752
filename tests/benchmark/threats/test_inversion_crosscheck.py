"""Our gradient inversion against breaching's, on the same uploads and with the same number of gradients and starts.

``python -m tests.benchmark.threats.test_inversion_crosscheck [WORDS] [starts=N]`` prints the table of all cases whose
name has all words; with numbers of starts, what each library takes to reach breaching's quality.
"""

import itertools
import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

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
MODERN = (0.05, 0.1, 0.2)
"""Weights of the prior, the file's own."""
SHARES = (0.1, 0.25, 0.5, 1.0)
"""Of breaching's gradients, with which ours are tried in turn."""
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


Attack = Callable[[], torch.Tensor]


def ours(surface: UploadSurface, evaluations: int = EVALUATIONS, starts: int = STARTS) -> dict[str, Attack]:
    """Return our attacks by name; each is given the gradients of ``starts`` that take ``evaluations``."""
    told = {"observations": 1, "adaptive": False}
    trials = 2 if starts > 1 else 1
    # A search takes up to 12 gradients an iteration where it fails, which it does once: 100 are set aside for it.
    newton = {"iterations": max(starts * evaluations // trials - 100, 1), "restarts": trials, **told}
    adam = {"step": 0.1, **told}
    modern = {"warmup": evaluations // 10, "soft_sign": True, "distance": "cosine", "l2": 0.0, "langevin": 0.0}
    attacks = {
        "dlg": DLG(labels="joint", **newton),
        "idlg": DLG(labels="restored", **newton),
        "inverting_gradients": InvertingGradients(**adam, **spread(TOTAL_VARIATION, starts, evaluations)),
        "modern": RegularisedInversion(**adam, **modern, features=0.1, **spread(MODERN, starts, evaluations)),
    }
    return {name: partial(lambda attack: attack(surface, seed=0).x, attack) for name, attack in attacks.items()}


def spread(weights: tuple[float, ...], starts: int, evaluations: int) -> dict:
    """Return how the gradients of all starts are shared by the weights, as many starts for each.

    Where there are fewer starts than weights, those in the middle get them; starts that are left over make the others
    longer.
    """
    middle = weights[len(weights) // 2]
    used = sorted(weights, key=lambda weight: abs(math.log(weight / middle)))[:starts]
    restarts = starts // len(used)
    iterations = starts * evaluations // (restarts * len(used))
    return {"total_variation": used, "restarts": restarts, "iterations": iterations}


def theirs(surface: UploadSurface, starts: int = STARTS) -> dict[str, Attack]:
    found = {}
    for name in THEIRS:
        # L-BFGS gains nothing from restarts of a quarter of its length, so it gets all gradients in one trial.
        newton = name == "deepleakage"
        gradients, trials = (EVALUATIONS * starts, 1) if newton else (EVALUATIONS, starts)
        iterations = gradients // (IN_ONE_STEP if newton else 1)
        config = Breaching(attack=name, iterations=iterations, restarts=trials).config
        config.optim["warmup"] = min(config.optim.warmup, gradients // 10)

        def inverted(config=config) -> torch.Tensor:
            torch.manual_seed(0)
            return torch.stack([invert(surface, upload, config)[0] for upload in surface.uploads[0]])

        found[name] = inverted
    return found


def quality(surface: UploadSurface, x: torch.Tensor) -> float:
    return score_reconstruction(x, None, surface.truth, surface.labels)[0]["psnr_db"]


def compare(case) -> tuple[dict[str, float], dict[str, float]]:
    """Return the PSNR in dB of each of our attacks and of each of breaching's."""
    surface = observed(case)
    return tuple({name: quality(surface, attack()) for name, attack in of(surface).items()} for of in (ours, theirs))


class Run(NamedTuple):
    psnr_db: float
    seconds: float
    name: str
    """With the share of breaching's gradients where it is not all of them."""


def timed(surface: UploadSurface, name: str, attack: Attack) -> Run:
    """Return the quality and the CPU time of an attack."""
    began = time.process_time()
    x = attack()
    return Run(quality(surface, x), time.process_time() - began, name)


def race(case, starts: int) -> tuple[Run, Run | None, Run]:
    """Return breaching's best run, our fastest as good one, if any, of the least share, and our best run so far."""
    surface = observed(case)
    there = max(timed(surface, *attack) for attack in theirs(surface, starts).items())
    runs: list[Run] = []
    for share in SHARES:
        attacks = ours(surface, int(share * EVALUATIONS), starts)
        runs += [timed(surface, f"{name} {share:g}", attack) for name, attack in attacks.items()]
        if max(runs).psnr_db >= there.psnr_db:
            break
    as_good = [run for run in runs if run.psnr_db >= there.psnr_db]
    return there, min(as_good, key=lambda run: run.seconds, default=None), max(runs)


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_our_best_attack_is_at_least_as_strong_as_breachings(case):
    pytest.importorskip("breaching", reason="pip install breaching")
    here, there = compare(case)
    assert max(here.values()) >= max(there.values()) - MARGIN_DB, (here, there)


if __name__ == "__main__":
    torch.set_num_threads(1)
    counts = [int(word.removeprefix("starts=")) for word in sys.argv[1:] if word.startswith("starts=")]
    words = [word for word in sys.argv[1:] if not word.startswith("starts=")]
    for case in [case for case in CASES if set(words) <= set(map(str, case))]:
        told = "-".join(map(str, case))
        for starts in counts:
            best, fastest, strongest = race(case, starts)
            line = f"{told}, {starts} starts: {best.name} {best.psnr_db:.1f} dB in {best.seconds:.1f} s; "
            line += f"{strongest.name} {strongest.psnr_db:.1f} dB; "
            if fastest:
                line += f"{fastest.name} {fastest.psnr_db:.1f} dB in {fastest.seconds:.1f} s, "
                line += f"{best.seconds / fastest.seconds:.1f} times faster"
            print(line, flush=True)
        if not counts:
            results = compare(case)
            row = "  ".join(f"{name} {value:.1f}" for part in results for name, value in part.items())
            difference = max(results[0].values()) - max(results[1].values())
            print(told, f"{difference:+.1f} dB:", row, flush=True)
