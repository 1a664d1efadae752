"""Block unmixing: statistics of rows give the orthogonal map of a disguise, up to the shape of their distribution.

A ciphertext-only attack (level 1) on RMT (Sharma, Gu, Chen, 2022 (arXiv 2301.00252)). Rows of released blocks are rows
of private ones times one secret orthogonal matrix per position. Their independent components (Hyvarinen, Oja,
*Independent Component Analysis*, Neural Networks 2000) or principal ones are those of private rows after that rotation;
the adversary computes the same components of its own images, pairs them by their moments, and rotates the release back.
It needs neither pairs nor labels.
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from benchmark.data.blocks import to_blocks
from benchmark.errors import Refused
from benchmark.parameters import Count
from benchmark.seeds import child
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.release import ReleaseSurface
from benchmark.settings.threat import Floor
from benchmark.threats.reconstruction.block_images import image_of_blocks
from benchmark.threats.reconstruction.norm_leak import norms, positions_by_norms
from benchmark.threats.reconstruction.regression_known_pairs import rows

VERSION = 1
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
FLAT = 1e-6  # variance, of pixels in [0, 1], below which a direction is ignored
ROWS = 3000  # of a position that enter the statistics


class BlockUnmixing(ReleaseThreat):
    """Attack that rotates every released block back by its statistics.

    Args:
        axes: ``independent`` or ``principal`` components.
        block: edge of a block that the adversary assumes; the adaptive form takes the published one.
        iterations: largest number of FastICA iterations at each position.
        adaptive: the adversary knows the mechanism: it solves for the order of blocks by row norms and adds the same
            noise to its own images.
    """

    family = "reconstruction"
    headline = "examiner_accuracy"
    needs = {"defense.synthetic": "no", "dataset.kind": "image"}
    floor = Floor("examiner_accuracy", 0.3)
    knowledge = frozenset({"attacker_data"})

    def __init__(
        self,
        *,
        axes: Literal["independent", "principal"] = "independent",
        block: Count = 4,
        iterations: Count = 200,
        adaptive: bool = False,
    ) -> None:
        super().__init__(adaptive=adaptive)
        self.axes, self.block, self.iterations = axes, block, iterations

    def attack(self, surface: ReleaseSurface, rng: torch.Generator) -> Reconstruction:
        facts = surface.published if self.adaptive else {}
        block, offset = facts.get("block", self.block), facts.get("noise_mean", 0.0)
        whole = facts.get("form", "matrix") == "vec"
        noise = torch.rand(surface.attacker.x.shape, generator=rng).to(surface.attacker.x) * 2 * offset
        own, targets = to_blocks(surface.attacker.x + noise, block), to_blocks(surface.targets, block)
        if targets.shape[1:] != own.shape[1:]:
            raise Refused("Released rows are cut into other blocks than private samples: none is another, rotated.")
        source = torch.arange(targets.shape[2])
        if self.adaptive:
            source = positions_by_norms(norms(surface.x, block, whole), norms(surface.attacker.x + noise, block, whole))
        released, plain = rows(to_blocks(surface.x, block), whole), rows(own, whole)[source]
        seed, asked = child(rng), rows(targets, whole)
        rotated = torch.empty_like(asked)
        for number, place in enumerate(source.tolist()):
            rotated[place] = self._rotated_back(released[number], plain[number], asked[number], seed)
        blocks = rotated.unflatten(1, (len(targets), targets.shape[1], -1)).movedim(0, 2).reshape(targets.shape)
        return Reconstruction((image_of_blocks(blocks, surface.shape) - offset).clamp(0, 1).unsqueeze(1))

    def _rotated_back(self, released: Tensor, plain: Tensor, asked: Tensor, seed: int) -> Tensor:
        """Return the rows ``asked`` (n, d) with the components of ``released`` rotated to those of ``plain``."""
        theirs, ours = (part.double().cpu().numpy()[:ROWS] for part in (released, plain))
        centres = theirs.mean(axis=0), ours.mean(axis=0)
        (there, scores), (here, own) = (self._components(part, seed) for part in (theirs, ours))
        number, match, sign = paired(scores, own, there, here)
        left, _, right = np.linalg.svd((there[:, number] * sign) @ here[:, match].T)  # the nearest rotation
        back = (asked.double().cpu().numpy() - centres[0]) @ (left @ right) + centres[1]
        return torch.as_tensor(back).to(asked)

    def _components(self, cloud: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return axes (d, k) of the rows (n, d), scaled by their strength, and unit-variance scores (n, k)."""
        from sklearn.decomposition import FastICA

        centred = cloud - cloud.mean(axis=0)
        strength, axes = np.linalg.eigh(centred.T @ centred / len(centred))
        kept = np.flatnonzero(strength > FLAT)[::-1]
        axes = axes[:, kept] * np.sqrt(strength[kept])
        scores = centred @ axes / strength[kept]
        if self.axes == "principal" or len(kept) < 2:
            return axes, scores
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # FastICA may not converge
            model = FastICA(whiten=False, random_state=seed % 2**32, max_iter=self.iterations, tol=1e-3)
            found = model.fit_transform(scores)
        return axes @ model.mixing_, found


def paired(
    theirs: np.ndarray, ours: np.ndarray, there: np.ndarray, here: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return indices (k,) of matching components, theirs and ours, and their relative signs (+-1).

    Costs are differences of quantiles, for the better sign, and of the logarithms of strength.

    Args:
        theirs, ours: (n, k) and (m, l) scores.
        there, here: (d, k) and (d, l) axes.
    """
    right, wrong = (features(part)[:, None] - features(ours)[None] for part in (theirs, -theirs))
    costs = np.stack([np.abs(part).mean(axis=2) for part in (right, wrong)])
    strength = [np.log(np.linalg.norm(axes, axis=0)) for axes in (there, here)]
    cost = costs.min(axis=0) + np.abs(strength[0][:, None] - strength[1][None])
    number, match = linear_sum_assignment(cost)
    sign = np.where(costs[0] <= costs[1], 1.0, -1.0)
    return number, match, sign[number, match]


def features(scores: np.ndarray) -> np.ndarray:
    """Return quantiles and the signed root of skewness of each column, (k, features)."""
    quantiles = np.quantile(scores, QUANTILES, axis=0)
    return np.concatenate([quantiles, np.cbrt((scores**3).mean(axis=0))[None]]).T
