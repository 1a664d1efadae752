"""Base of data sets that a user brings: labels are coded, parts are cut, inputs are scaled by the owner's samples."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from benchmark.data.base import PRIVATE_SPLITS, Dataset, Source, Split, balanced_order, digest
from benchmark.data.content import content_digest, located, visible
from benchmark.data.grouped import TIMES
from benchmark.errors import ConfigError, DataMissing
from benchmark.parameters import Sizes
from benchmark.seeds import generator

SHARES = {"owner": 0.5, "attacker": 0.2, "public": 0.1, "calibration": 0.2}
"""Of the training samples, where ``dataset.sizes`` says nothing."""
TEST_SHARE = 0.3
"""Of all samples, or persons, where no test part is given."""
INSIDERS = 0.75
"""Of the training persons; the others are public."""
LEAST_PERSONS = 5  # one to test, one of the public, two insiders, and one more, so that each class may have a second
MOST_CLASSES = 1000
MOST_ATTRIBUTES = 50  # values of a sensitive attribute


class Features(Protocol):
    """Inputs of all samples as they were read, before they are scaled."""

    def fitted(self, owner: Tensor) -> Callable[[Tensor], Tensor]:
        """Return a function from rows (n,) to inputs (n, ...), float32, scaled and coded by the rows of the owner."""


@dataclass(frozen=True)
class Samples:
    """All samples of a data set, before roles are cut.

    Attributes:
        features: of all rows.
        y: int64 (n,), classes 0 to ``classes`` - 1.
        tested: how many rows at the end are the test part that the user gave; None where the suite is to cut one.
        sensitive, group: int64 (n,), or None.
        notes: sentences on what was changed in reading, for the record.
    """

    features: Features
    y: Tensor
    classes: int
    tested: int | None = None
    sensitive: Tensor | None = None
    group: Tensor | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class BroughtDataset(Dataset):
    """A data set with sentences on what was changed in reading."""

    notes: tuple[str, ...] = field(default=())


class Brought(Source):
    """Base of sources that read data of the user's.

    Whether samples are images, signals or tables, and what they carry, is known when they are read. Without a test
    part, three tenths of each class are cut off as one, the same for every seed. The rest is divided by the seed, class
    by class; a role whose size is null takes its share of what the others leave (``SHARES``). Scaling and coding are
    fitted on the owner's samples alone.

    Where samples have a ``group``, whole persons are tested, another set of whole persons is public, and the time of
    each remaining one is divided among owner, attacker and calibration, class by class, in the order of the rows.

    Args:
        path: of a file or folder, absolute or relative to where the command is typed, or else to the data root.
        content: required digest of what lies there, or None for any. The runners fill it in, as the identity of the
            data; see :func:`benchmark.data.content.content_digest`.
    """

    kind: str = "unread"
    has_sensitive: ClassVar[bool | None] = None
    has_group: ClassVar[bool | None] = None
    SIZES: ClassVar[Mapping[str, int | None]] = dict.fromkeys([*PRIVATE_SPLITS, "test"])

    def __init__(self, *, sizes: Sizes | None = None, path: str = "", content: str | None = None) -> None:
        super().__init__(sizes=sizes)
        self.path, self.content = path, content

    @abstractmethod
    def samples(self, root: Path | None) -> Samples:
        """Read all samples.

        Raises:
            DataMissing: there are none, or they cannot be used; the message says why, and the remedy.
        """

    def found_at(self, root: Path | None) -> Path:
        """Return where the data lie, with their digest held against ``content``.

        Raises:
            DataMissing: nothing lies there, or something else.
        """
        found = located(self.path, root)
        if found is None:
            places = " in this folder" if root is None else f" in this folder or in the data root {root}"
            where = "" if Path(self.path).is_absolute() else places
            raise DataMissing(
                f"dataset.path={self.path!r} names nothing{where}; give the path of your data, dataset.path=PATH."
            )
        if self.content is not None and content_digest(found) != self.content:
            raise DataMissing(
                f"{found} does not hold the data that dataset.content names; leave dataset.content out to use what "
                "lies there, which makes other cells."
            )
        return found

    def pools(self, root: Path | None) -> tuple[Split, Split, int]:
        raise NotImplementedError("inputs are scaled by the owner's samples, so there are no pools before the roles")

    def load(self, root: Path | None, seed: int) -> BroughtDataset:
        found = self.samples(root)
        rows = roles(found, self.sizes, seed)
        _refuse_too_few(found, rows)
        encode = found.features.fitted(rows["owner"])

        def split(at: Tensor) -> Split:
            extra = (None if value is None else value[at] for value in (found.sensitive, found.group))
            return Split(encode(at), found.y[at], *extra)

        splits = {role: split(at) for role, at in rows.items()}
        held_out = set(rows["test"].tolist())
        training = torch.tensor([row for row in range(_training(found)) if row not in held_out])
        dataset = BroughtDataset(
            name=type(self).__name__.lower(),
            num_classes=found.classes,
            digest=digest(splits.values()),
            training_pool=None if found.group is not None else lambda: split(training),
            notes=(*found.notes, *_absent(found, rows)),
            **splits,
        )
        self.kind = dataset.kind
        return dataset


# -- roles ------------------------------------------------------------------------------------------------------------
def roles(found: Samples, sizes: Mapping[str, int | None], seed: int) -> dict[str, Tensor]:
    """Return the rows of every role; they are disjoint.

    Raises:
        ConfigError: there are fewer samples than ``sizes`` asks for, or too few to divide.
    """
    cut = generator(_number(found), "data.test")
    rows = torch.arange(len(found.y))
    if found.tested is not None:
        train, test = rows[: _training(found)], rows[_training(found) :]
    elif found.group is not None:
        persons = _shuffled_persons(found.group, cut)
        tested = torch.isin(found.group, persons[: max(1, round(TEST_SHARE * len(persons)))])
        train, test = rows[~tested], rows[tested]
    else:
        order = balanced_order(found.y, cut)
        count = round(TEST_SHARE * len(order))
        train, test = order[count:].sort().values, order[:count].sort().values
    rng = generator(seed, "data.split")
    private = _by_person(found, train, sizes, rng) if found.group is not None else _by_class(found, train, sizes, rng)
    return {**private, "test": _first("test", found, test, sizes.get("test"), rng)}


def _by_class(
    found: Samples, train: Tensor, sizes: Mapping[str, int | None], rng: torch.Generator
) -> dict[str, Tensor]:
    order = train[balanced_order(found.y[train], rng)]
    divided, start = {}, 0
    for role, size in _divided(len(train), sizes).items():
        divided[role] = order[start : start + size]
        start += size
    return divided


def _divided(available: int, sizes: Mapping[str, int | None]) -> dict[str, int]:
    """Return the size of every private role: as given, or a share of what these leave."""
    asked = {role: sizes.get(role, 0) for role in PRIVATE_SPLITS}
    given = {role: size for role, size in asked.items() if size is not None}
    left = available - sum(given.values())
    if left < 0:
        raise ConfigError(
            f"dataset.sizes asks for {sum(given.values())} training samples ({given}), but there are {available}."
        )
    total = sum(SHARES[role] for role in PRIVATE_SPLITS if role not in given)
    divided = {role: given.get(role, int(left * SHARES[role] / total + 1e-9) if total else 0) for role in asked}
    if asked.get("owner", 0) is None:  # what rounding leaves is the owner's
        divided["owner"] += available - sum(divided.values())
    if empty := [role for role in divided if role not in given and divided[role] == 0]:
        raise ConfigError(
            f"There are {available} training samples, too few for the roles {', '.join(PRIVATE_SPLITS)}; bring more, "
            f"or leave roles out, dataset.sizes.{empty[0]}=0."
        )
    return divided


def _by_person(
    found: Samples, train: Tensor, sizes: Mapping[str, int | None], rng: torch.Generator
) -> dict[str, Tensor]:
    assert found.group is not None
    group, y = found.group[train], found.y[train]
    persons = _shuffled_persons(group, rng)
    if len(persons) < LEAST_PERSONS - 1:
        count = len(found.group.unique())
        raise ConfigError(
            f"The group names {count} persons, of whom {len(persons)} are left to train on; at least {LEAST_PERSONS} "
            "are needed. Leave the group out to cut sample by sample."
        )
    insiders = persons[: min(max(2, round(INSIDERS * len(persons))), len(persons) - 1)]
    rows: dict[str, list[Tensor]] = {role: [] for role in PRIVATE_SPLITS}
    rows["public"] = [train[~torch.isin(group, insiders)]]
    for person in insiders.tolist():
        for label in y[group == person].unique():
            own = train[(group == person) & (y == label)]
            for role, (start, stop) in TIMES.items():
                rows[role].append(own[round(start * len(own)) : round(stop * len(own))])
    candidates = {role: torch.cat(rows[role]) for role in PRIVATE_SPLITS}
    if empty := [role for role in TIMES if sizes.get(role, 0) is None and not len(candidates[role])]:
        raise ConfigError(
            f"No person has enough samples of a class to leave one to {empty[0]}; bring four or more of each, or leave "
            "the group out to cut sample by sample."
        )
    return {role: _first(role, found, at, sizes.get(role, 0), rng) for role, at in candidates.items()}


def _shuffled_persons(group: Tensor, rng: torch.Generator) -> Tensor:
    persons = group.unique()
    return persons[torch.randperm(len(persons), generator=rng)]


def _first(role: str, found: Samples, rows: Tensor, size: int | None, rng: torch.Generator) -> Tensor:
    """Return a class-balanced draw of ``size`` of the rows; None takes all."""
    if size is not None and size > len(rows):
        raise ConfigError(f"dataset.sizes asks for {size} samples of {role}, but there are {len(rows)}.")
    return rows[balanced_order(found.y[rows], rng)[: len(rows) if size is None else size]]


def _training(found: Samples) -> int:
    return len(found.y) - (found.tested or 0)


def _number(found: Samples) -> int:
    """Return a number for the content: its labels and persons, which are the same in every format of file."""
    state = hashlib.sha256(found.y.numpy().tobytes())
    if found.group is not None:
        state.update(found.group.numpy().tobytes())
    return int(state.hexdigest()[:15], 16)


def _refuse_too_few(found: Samples, rows: Mapping[str, Tensor]) -> None:
    """Raise DataMissing or ConfigError where nothing can be learnt or tested."""
    if found.tested is not None:
        known = found.y[: _training(found)].unique()
        if len(known) < 2:
            raise DataMissing("All training samples have the same label, so there is nothing to tell apart.")
        if unseen := set(found.y[_training(found) :].tolist()) - set(known.tolist()):
            raise DataMissing(
                f"No training sample has {'this class' if len(unseen) == 1 else f'these {len(unseen)} classes'} of the "
                "test part; leave its samples out."
            )
    if len(rows["test"]) == 0:
        raise ConfigError("No sample is left for testing; bring more samples.")
    if len(rows["owner"]) and len(found.y[rows["owner"]].unique()) < 2:
        raise ConfigError(
            f"The owner's {len(rows['owner'])} samples are of one class; bring more samples, or raise "
            "dataset.sizes.owner."
        )


def _absent(found: Samples, rows: Mapping[str, Tensor]) -> list[str]:
    """Return a sentence on each role that lacks a class."""
    told = []
    for role, at in rows.items():
        if len(at) and (lacking := found.classes - len(found.y[at].unique())):
            told.append(f"{lacking} of {found.classes} classes have no sample among those of {role}.")
    return told


# -- labels -----------------------------------------------------------------------------------------------------------
def classes_of(labels: np.ndarray, name: str) -> tuple[Tensor, int, list[str]]:
    """Return classes (n,) numbered 0 to count - 1 in the order of the labels, their count, and what was changed.

    Raises:
        DataMissing: the labels are no classes, or there is one class only.
    """
    codes, found, notes = coded(labels, name)
    if len(found) < 2:
        raise DataMissing(
            f"All of {name} is {found[0]!r}, so there is nothing to tell apart; bring two classes or more."
        )
    if len(found) > MOST_CLASSES or 2 * len(found) > len(codes):
        raise DataMissing(
            f"{name} has {len(found)} values in {len(codes)} samples: a quantity or a name, no class; name the "
            "column or array of the class, or bin the values."
        )
    if int(codes.bincount().min()) < 2:
        lonely = found[int(codes.bincount().argmin())]
        raise DataMissing(f"{name} has one sample of the class {lonely!r}; bring more of it, or leave it out.")
    return codes, len(found), notes


def coded(labels: np.ndarray, name: str) -> tuple[Tensor, list[object], list[str]]:
    """Return codes (n,) of the values in their order, the values, and a sentence if these are not 0, 1, 2, ...

    Raises:
        DataMissing: the values are not whole numbers or texts, or not one for each sample.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        hint = "; give the numbers of the classes, array.argmax(1)" if labels.ndim == 2 else ""
        raise DataMissing(f"{name} must be one value for each sample, it has the shape {labels.shape}{hint}.")
    if len(labels) == 0:
        raise DataMissing(f"{name} is empty; bring at least some samples.")
    if labels.dtype.kind == "f":
        if not np.isfinite(labels).all():
            raise DataMissing(f"{name} holds NaN or infinity; leave out the samples without a label.")
        if (labels != np.round(labels)).any():
            raise DataMissing(
                f"{name} holds {labels[labels != np.round(labels)][0]:g}: a quantity (regression), no class; bin it, "
                "or name another one."
            )
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "iubUO":
        raise DataMissing(f"{name} must hold whole numbers or texts, it is {labels.dtype}.")
    found, codes = np.unique(labels, return_inverse=True)
    values = found.tolist()
    as_they_are = [str(value) for value in values] == [str(number) for number in range(len(values))]
    notes = (
        [] if as_they_are else [f"{name[:1].upper()}{name[1:]}: {_listed(values)} are numbered from 0 in this order."]
    )
    return torch.from_numpy(codes.reshape(-1).astype(np.int64)), values, notes


def attribute(values: np.ndarray, name: str) -> tuple[Tensor, list[str]]:
    """Return codes (n,) of a sensitive attribute, and what was changed.

    Raises:
        DataMissing: it has one value, or more than :data:`MOST_ATTRIBUTES`.
    """
    codes, found, notes = coded(values, name)
    if not 2 <= len(found) <= MOST_ATTRIBUTES:
        raise DataMissing(
            f"{name} has {'one value' if len(found) == 1 else f'{len(found)} values'}; a sensitive attribute has 2 to "
            f"{MOST_ATTRIBUTES}. Group its values, or name another one."
        )
    return codes, notes


def _listed(values: list[object]) -> str:
    """Return ``0, 5, 9``, or the first three and the last of many, each cut to 30 characters."""
    shown = values if len(values) <= 5 else [*values[:3], "...", values[-1]]
    return ", ".join(visible(value)[:30] for value in shown)


# -- inputs -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Scaled:
    """Arrays as inputs: bytes as they are over 255, numbers in [0, 1] as they are, others by the owner's range.

    Args:
        x: (n, channels, height, width), (n, channels, steps) or (n, features).
        divisor: what all values are divided by; None scales each channel or column from the owner's least and greatest
            value to [0, 1] and clips what lies outside.
    """

    x: np.ndarray
    divisor: float | None

    def fitted(self, owner: Tensor) -> Callable[[Tensor], Tensor]:
        if (divisor := self.divisor) is not None:
            return lambda rows: torch.from_numpy(self.x[rows.numpy()].astype(np.float32)) / divisor
        over = (0, *range(2, self.x.ndim))
        known = self.x[owner.numpy()] if len(owner) else self.x
        low, high = (limit(known, axis=over, keepdims=True).astype(np.float64) for limit in (np.min, np.max))
        reach = np.where(high > low, high - low, 1.0)
        return lambda rows: torch.from_numpy(np.clip((self.x[rows.numpy()] - low) / reach, 0, 1).astype(np.float32))


def scaled(x: np.ndarray, name: str, *, image: bool) -> tuple[Scaled, list[str]]:
    """Return numbers as inputs, and a sentence where they do not lie in [0, 1] and are no bytes.

    Raises:
        DataMissing: there are none, they are no numbers, or one is NaN or infinite.
    """
    if x.dtype.kind not in "iubf":
        raise DataMissing(f"{name} must hold numbers, it is {x.dtype}.")
    if x.size == 0:
        raise DataMissing(f"{name} is empty, it has the shape {x.shape}; bring at least some samples.")
    x = x.astype(x.dtype.newbyteorder("="), copy=False)
    low, high = float(x.min()), float(x.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataMissing(f"{name} holds NaN or infinity; fill these in or leave the samples out.")
    if len(x) > 1 and bool((x == x[:1]).all()):
        raise DataMissing(f"All samples of {name} are the same, so there is nothing to learn.")
    if x.dtype == np.uint8 and image:
        return Scaled(x, 255), []
    if low >= 0 and high <= 1:
        return Scaled(x, 1), []
    spans = f"{name} spans {low:g} to {high:g}"
    if image and low >= 0 and high <= 255:
        return Scaled(x, 255), [f"{spans}: it is divided by 255."]
    if image and x.dtype == np.uint16:
        return Scaled(x, 65535), [f"{name} has 16 bits: it is divided by 65535."]
    each = "" if image else ", each channel or column by itself"
    return Scaled(x, None), [f"{spans}: it is scaled to [0, 1] by the owner's range{each}."]


def joined(train: np.ndarray, test: np.ndarray, names: tuple[str, str]) -> np.ndarray:
    """Return two parts as one array.

    Raises:
        DataMissing: their samples differ in shape, or in kind, such as numbers and dates.
    """
    if train.ndim == 0 or train.ndim != test.ndim or train.shape[1:] != test.shape[1:]:
        raise DataMissing(
            f"{names[0]} holds samples of the shape {train.shape[1:]}, {names[1]} of {test.shape[1:]}; both parts must "
            "have the same."
        )
    try:
        return np.concatenate([train, test])
    except TypeError as error:
        raise DataMissing(
            f"{names[0]} holds {train.dtype}, {names[1]} {test.dtype}; both parts must hold the same."
        ) from error


def told(dataset: Dataset) -> str:
    """Return what was changed in reading a data set, in sentences; empty where nothing was."""
    return " ".join(getattr(dataset, "notes", ()))
