"""Attribute inference from the distribution gap between a release and a group that was never mapped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from benchmark.data.base import Split
from benchmark.errors import Refused
from benchmark.parameters import AtLeastTwo, Count
from benchmark.seeds import child
from benchmark.settings.release.games.attributes import AttributeGuess, AttributeSurface
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.threat import Floor
from benchmark.threats.attribute_inference.attackers import MAX_ROWS, guess, known_attackers
from benchmark.threats.membership_inference.statistics import comparable
from benchmark.training.record_space import with_decision

VERSION = 1

SURE = 1e-3
"""Least distance of a probability from 0 and 1 before its logit is taken."""


class DensityGap(ReleaseThreat):
    """Attack whose feature is the density ratio between the release and real people of one group.

    A map moves people onto a target group. Where the density of the release differs from that of the real group, it
    reveals whom the map moved. For each group of which the adversary has samples, boosted trees separate released
    records from those samples, and their logit becomes a feature of the record; the logits of records that the trees
    learnt from come from folds. The target group is one of the groups; a mechanism that names none is attacked all the
    same.

    The attackers are those of :class:`~benchmark.threats.attribute_inference.strongest.StrongestAttacker` on records
    with logits, and ``gap_alone``: boosting on only the logits.

    Args:
        attackers: names of :data:`benchmark.threats.attribute_inference.attackers.ATTACKERS`.
        decision: the attackers also see the record's label.
        folds: of the cross-fitting.
        trees, depth: of the classifier that estimates the ratio.
    """

    family = "attribute_inference"
    surface = "attributes"
    headline = "attribute_accuracy"
    floor = Floor("attribute_advantage", 0.05)
    needs = {"dataset.kind": "tabular", "dataset.sensitive": "yes", "defense.attributes": "yes"}
    knowledge = frozenset({"labelled", "attacker_data"})

    def __init__(
        self,
        *,
        attackers: Sequence[str] = ("boosting", "mlp", "svm", "tree", "forest"),
        decision: bool = True,
        folds: AtLeastTwo = 3,
        trees: Count = 50,
        depth: Count = 3,
    ) -> None:
        super().__init__()
        self.adaptive = True  # it attacks maps to a group only
        self.attackers, self.decision = known_attackers(attackers), decision
        self.folds, self.trees, self.depth = folds, trees, depth

    def attack(self, surface: AttributeSurface, rng: torch.Generator) -> AttributeGuess:
        labelled, own = surface.labelled, surface.attacker
        if own.sensitive is None:
            raise Refused("The density-gap attack compares the release with people of known attribute; there are none.")
        assert labelled.sensitive is not None
        rows = torch.randperm(len(labelled), generator=rng)[:MAX_ROWS].to(labelled.y.device)
        known = self._records(surface, labelled[rows])
        targets, known = comparable(self._records(surface, Split(surface.targets, surface.targets_y)), known)
        real, known = comparable(self._records(surface, own), known)
        gaps = [
            gap(known, real[own.sensitive == group], targets, self.folds, self.trees, self.depth, child(rng))
            for group in own.sensitive.unique()
            if int((own.sensitive == group).sum()) >= self.folds
        ]
        of_known, of_targets = (torch.stack(part, dim=1).to(known) for part in zip(*gaps, strict=True))
        s = labelled.sensitive[rows]
        labels, scores = guess(
            self.attackers, torch.cat([known, of_known], dim=1), s, torch.cat([targets, of_targets], dim=1), rng
        )
        for part, by_gap in zip((labels, scores), guess(["boosting"], of_known, s, of_targets, rng), strict=True):
            if by_gap:  # no scores of more than two groups
                part["gap_alone"] = by_gap["boosting"]
        return AttributeGuess(labels, scores, diagnostics={"largest_mean_gap": float(of_known.mean(dim=0).abs().max())})

    def _records(self, surface: AttributeSurface, people: Split) -> Tensor:
        return with_decision(people, surface.num_classes) if self.decision else people.x.flatten(start_dim=1)


def gap(
    released: Float[Tensor, "m d"],
    real: Float[Tensor, "k d"],
    targets: Float[Tensor, "n d"],
    folds: int,
    trees: int,
    depth: int,
    seed: int,
) -> tuple[Float[Tensor, " m"], Float[Tensor, " n"]]:
    """Return the log density ratio of the release to ``real`` people, up to a constant, at its records and at targets.

    The value of a released record comes from a classifier that did not learn from it.

    Args:
        released: released records.
        real: people of one group, at least ``folds``.
        targets: records to be judged.
        folds: of the cross-fitting.
        trees, depth: of the classifier.
        seed: of folds and trees.
    """
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    x = torch.cat([released, real]).double().cpu().numpy()
    is_released = np.arange(len(x)) < len(released)
    weights = np.where(is_released, len(x) / len(released), len(x) / len(real))  # both sides count the same
    model = GradientBoostingClassifier(n_estimators=trees, max_depth=depth, random_state=seed)
    cut = StratifiedKFold(folds, shuffle=True, random_state=seed)
    inside: Any = cross_val_predict(
        model, x, is_released, cv=cut, method="predict_proba", params={"sample_weight": weights}
    )
    model.fit(x, is_released, sample_weight=weights)
    outside = model.predict_proba(targets.double().cpu().numpy())
    return _logit(inside[: len(released), 1]), _logit(outside[:, 1])


def _logit(probability: np.ndarray) -> Tensor:
    return torch.as_tensor(probability).clamp(SURE, 1 - SURE).logit()
