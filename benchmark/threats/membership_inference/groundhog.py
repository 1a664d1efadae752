"""Groundhog attack: a classifier of whole releases that separates those with a record from those without.

Stadler, Oprisanu, Troncoso, *Synthetic Data: Anonymisation Groundhog Day*, USENIX Security 2022. Deviation: features
are taken in principal components of the adversary's own samples (means, deviations, correlations, quantiles), and the
distances from the record to the nearest released rows are added to them.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from benchmark.errors import ConfigError
from benchmark.metrics.distances import exact_cdist
from benchmark.parameters import AtLeastTwo, Count
from benchmark.seeds import child
from benchmark.settings.guesses import MembershipScores
from benchmark.settings.release.games.records import RecordSurface, RecordThreat
from benchmark.settings.threat import Floor
from benchmark.threats.membership_inference.statistics import SMALLEST, comparable, principal_components

VERSION = 2
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
NEAREST = 5


class Groundhog(RecordThreat):
    """Attack that runs the mechanism on its own samples with and without each record and learns the difference.

    Args:
        records, trials: see the base class.
        shadows: runs for each record, half of them with it; at least 4.
        components: of the features.
        trees: of the random forest.
    """

    family = "membership_inference"
    headline = "attack_auc"
    floor = Floor("attack_auc", 0.7)
    knowledge = frozenset({"attacker_data", "refit"})

    def __init__(
        self,
        *,
        records: Count = 3,
        trials: AtLeastTwo = 10,
        shadows: Annotated[int, Ge(4)] = 30,
        components: Count = 5,
        trees: Count = 100,
        adaptive: bool = True,
    ) -> None:
        super().__init__(adaptive=adaptive)
        if shadows < 4 or shadows % 2 or trials < 2:
            raise ConfigError(
                f"threat.shadows must be even and at least 4, threat.trials at least 2; got {shadows} and {trials}."
            )
        self.records, self.trials, self.shadows = records, trials, shadows
        self.components, self.trees = components, trees

    def attack(self, surface: RecordSurface, rng: torch.Generator) -> MembershipScores:
        from sklearn.ensemble import RandomForestClassifier

        own, scores = surface.attacker, torch.zeros(len(surface.asked), dtype=torch.float64)
        points = comparable(surface.records.x, surface.releases[0])[0]
        to_components = principal_components(own.x.flatten(1), self.components)

        def seen(x: Tensor, number: int) -> Tensor:
            rows = comparable(surface.records.x, x)[1]
            return features(to_components(rows), exact_cdist(points[number : number + 1], rows)[0])

        for number in range(len(surface.records)):
            learned, labels = [], []
            for shadow in range(self.shadows):
                half = own[torch.randperm(len(own), generator=rng)[: surface.size].to(own.y.device)]
                if inside := shadow % 2:
                    half = half[1:].joined(surface.records[number : number + 1])
                learned.append(seen(surface.refit(half, f"groundhog.{number}.{shadow}").x, number))
                labels.append(inside)
            forest = RandomForestClassifier(self.trees, random_state=child(rng) % 2**32, n_jobs=1)
            forest.fit(torch.stack(learned).cpu().numpy(), labels)
            rows = (surface.asked == number).nonzero().squeeze(1).tolist()
            asked = torch.stack([seen(surface.releases[row], number) for row in rows])
            scores[rows] = torch.as_tensor(forest.predict_proba(asked.cpu().numpy())[:, 1])
        return MembershipScores(scores, threshold=0.5)


def features(rows: Float[Tensor, "m components"], distances: Float[Tensor, " m"]) -> Float[Tensor, " f"]:
    """Return the features of a release in float64.

    Args:
        rows: released rows.
        distances: from the record to each row.
    """
    quantiles = torch.quantile(rows, torch.tensor(LEVELS, dtype=rows.dtype, device=rows.device), dim=0)
    correlations = torch.corrcoef(rows.T).nan_to_num().flatten() if rows.shape[1] > 1 else rows.new_zeros(0)
    near = distances.topk(min(NEAREST, len(distances)), largest=False).values.clamp_min(SMALLEST).log()
    near = torch.cat([near, near[-1:].expand(NEAREST - len(near))])
    return torch.cat([rows.mean(dim=0), rows.std(dim=0).nan_to_num(), quantiles.flatten(), correlations, near])
