"""Data whose samples come from persons or recordings, in time order, and splits that respect both."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.data.base import PRIVATE_SPLITS, Dataset, Source, Split, balanced_order, digest
from benchmark.errors import ConfigError
from benchmark.parameters import AtLeastTwo, Sizes
from benchmark.seeds import generator

OUTSIDERS = ("public", "test")
TIMES = {"owner": (0.0, 0.5), "attacker": (0.5, 0.75), "calibration": (0.75, 1.0)}


class GroupedSource(Source):
    """Base of sources that divide persons into insiders and outsiders and an insider's time into roles.

    * insiders: the first half of their time is ``owner``, the third quarter ``attacker`` (recordings of the same people
      at another time, which an identity attacker needs), the last quarter ``calibration`` (held out);
    * outsiders: half of these persons are ``public``, half ``test``, so a model is tested on unseen people.

    Windows that overlap their neighbours in time meet only at the two cuts, where ``GAP`` samples are dropped. With
    ``WITHIN_CLASS`` the time of each class is cut separately, for people who do one activity after the other.

    Args:
        insiders: persons in the owner's data, drawn by the seed; at least two more persons must remain.
    """

    has_group: ClassVar[bool] = True
    GAP: ClassVar[int] = 0
    WITHIN_CLASS: ClassVar[bool] = False

    def __init__(self, *, sizes: Sizes | None = None, insiders: AtLeastTwo = 10) -> None:
        super().__init__(sizes=sizes)
        self.insiders = insiders

    @abstractmethod
    def everything(self, root: Path | None) -> tuple[Split, int]:
        """Return all samples with ``group``, each group in time order, and the number of classes."""

    def pools(self, root: Path | None) -> tuple[Split, Split, int]:
        raise NotImplementedError("grouped sources are split by person and time, not from two pools")

    def load(self, root: Path | None, seed: int) -> Dataset:
        data, num_classes = self.everything(root)
        assert data.group is not None
        rng = generator(seed, "data.split")
        persons = data.group.unique()
        if self.insiders + 2 > len(persons):
            raise ConfigError(
                f"dataset.insiders={self.insiders} leaves no two of {len(persons)} persons for public and test samples."
            )
        persons = persons[self._order(data, persons, rng)]
        inside, outside = persons[: self.insiders], persons[self.insiders :]
        rows = {role: self._timed(data, inside, *TIMES[role]) for role in TIMES}
        half = len(outside) // 2
        for role, group in zip(OUTSIDERS, (outside[:half], outside[half:]), strict=True):
            rows[role] = torch.isin(data.group, group).nonzero().squeeze(1)
        splits = {role: self._cut(data, rows[role], role, rng) for role in (*PRIVATE_SPLITS, "test")}
        return Dataset(
            name=type(self).__name__.lower(),
            num_classes=num_classes,
            digest=digest(splits.values()),
            training_pool=None,
            **splits,
        )

    @staticmethod
    def _order(data: Split, persons: Tensor, rng: torch.Generator) -> Tensor:
        """Return a random order of persons, balanced in the sensitive attribute where each person has one."""
        assert data.group is not None
        if data.sensitive is None:
            return torch.randperm(len(persons), generator=rng)
        return balanced_order(torch.stack([data.sensitive[data.group == p].mode().values for p in persons]), rng)

    def _timed(self, data: Split, persons: Tensor, start: float, stop: float) -> Tensor:
        """Return the rows of ``persons`` between two shares of each one's time, without the gap at inner cuts."""
        kept = []
        for person in persons.tolist():
            own = (data.group == person).nonzero().squeeze(1)
            runs = [own[data.y[own] == label] for label in data.y[own].unique()] if self.WITHIN_CLASS else [own]
            for run in runs:
                first = round(start * len(run)) + (self.GAP if start > 0 else 0)
                kept.append(run[first : round(stop * len(run))])
        return torch.cat(kept)

    def _cut(self, data: Split, rows: Tensor, role: str, rng: torch.Generator) -> Split:
        """Draw a class-balanced sample of the given size; null (test) and sizes beyond the data take all."""
        split = data[rows]
        size = self.sizes.get(role, None if role == "test" else 0)
        return split[balanced_order(split.y, rng)[: len(split) if size is None else size]]
