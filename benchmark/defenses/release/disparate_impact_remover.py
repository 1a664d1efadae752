"""Disparate impact remover: every number takes the value of the median group at its rank."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from benchmark.data.base import Split
from benchmark.errors import Refused
from benchmark.parameters import Fraction
from benchmark.settings.release.defense import Release, ReleaseMechanism
from benchmark.training.record_space import RecordSpace

VERSION = 2

QUANTILES = torch.linspace(0, 1, 201, dtype=torch.float64)


class DisparateImpactRemover(ReleaseMechanism):
    """Mechanism that repairs numeric columns group by group.

    Feldman et al., *Certifying and Removing Disparate Impact*, KDD 2015. In each numeric column, a value moves to the
    median over the groups of their quantile functions at its rank within its own group. A moved value of a discrete
    column goes to the nearest one that the private data have, as in the authors' program: between two ages it would
    tell that the record was repaired, and whose it is. Categories, the decision and the joint structure stay as they
    are; the attribute is needed at test time.

    Args:
        repair: level in [0, 1]; 0 changes nothing.
    """

    needs = {"dataset.kind": "tabular", "dataset.sensitive": "yes"}

    def __init__(self, *, repair: Fraction = 1.0) -> None:
        self.repair = repair

    def facts(self) -> dict[str, Any]:
        return {"mechanism": "disparate_impact_remover", "repair": self.repair, "needs_attribute_at_test": True}

    def release(self, private: Split, rng: torch.Generator) -> Release:
        if private.sensitive is None:
            raise Refused("The disparate impact remover works by group, and this dataset has no sensitive attribute.")
        x = private.x.double()
        self.space = RecordSpace.of(x)
        categorical = {column for start, end in self.space.blocks for column in range(start, end)}
        self.numeric = [column for column in range(x.shape[1]) if column not in categorical]
        levels, self.groups = QUANTILES.to(x.device), private.sensitive.unique().tolist()
        self.curves = torch.stack(
            [x[private.sensitive == group][:, self.numeric].quantile(levels, dim=0) for group in self.groups]
        )  # (groups, quantiles, numeric columns)
        mapped = self.encode_people(private)
        return Release(mapped.x, private.y, source=torch.arange(len(private)), sensitive=private.sensitive)

    def encode_people(self, people: Split) -> Split:
        """Return all records repaired; records of a group that the private data lack stay as they are."""
        assert people.sensitive is not None
        x, middle = people.x.clone(), self.curves.quantile(0.5, dim=0)
        for group, curve in zip(self.groups, self.curves, strict=True):
            members = people.sensitive == group
            for place, column in enumerate(self.numeric):
                own = people.x[members, column].double()
                moved = interpolate(own, curve[:, place].contiguous(), middle[:, place])
                mixed = (1 - self.repair) * own + self.repair * moved
                x[members, column] = torch.where(mixed == own, own, self.space.snap(mixed, column)).to(x.dtype)
        return replace(people, x=x)

    def encode(self, x: Tensor) -> Tensor:
        """Return the input unchanged, because a repair needs the attribute."""
        return x


def interpolate(
    values: Float[Tensor, " n"], quantiles: Float[Tensor, " q"], target: Float[Tensor, " q"]
) -> Float[Tensor, " n"]:
    """Return the quantile function ``target`` (q,) at the ranks of ``values`` (n,) in ``quantiles`` (q,).

    A value that fills several quantiles has their middle rank, one between two quantiles its place between their ranks.
    """
    low, high = torch.searchsorted(quantiles, values), torch.searchsorted(quantiles, values, right=True)
    before, after = quantiles[(low - 1).clamp_min(0)], quantiles[low.clamp_max(len(quantiles) - 1)]
    between = low - 1 + (values - before) / (after - before).clamp_min(torch.finfo(values.dtype).tiny)
    rank = torch.where(high > low, (low + high - 1).double() / 2, between).clamp(0, len(target) - 1)
    below = rank.floor().long()
    above = (below + 1).clamp_max(len(target) - 1)
    return target[below] + (rank - below) * (target[above] - target[below])
