"""Base of all datasets: splits, and how disjoint ones are drawn."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from benchmark.errors import ConfigError, DataMissing
from benchmark.parameters import Checked, Sizes
from benchmark.seeds import generator

PRIVATE_SPLITS = ("owner", "attacker", "public", "calibration")


@dataclass(frozen=True)
class Split:
    """Samples of one role.

    Attributes:
        x: float32 (n, channels, height, width) in [0, 1]; tabular data are (n, features).
        y: int64 (n,), the label of the task.
        sensitive: int64 (n,), a private attribute that is not the task, or None.
        group: int64 (n,), the subject or recording that a sample comes from, or None.
    """

    x: Tensor
    y: Tensor
    sensitive: Tensor | None = None
    group: Tensor | None = None

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: Tensor | slice) -> Split:
        return self._each(lambda tensor: tensor[index])

    def to(self, device: torch.device | str) -> Split:
        return self._each(lambda tensor: tensor.to(device))

    def joined(self, other: Split) -> Split:
        """Return these samples and then those of ``other``, which must carry the same attributes."""

        def both(name: str) -> Tensor | None:
            mine, theirs = getattr(self, name), getattr(other, name)
            return None if mine is None or theirs is None else torch.cat([mine, theirs])

        return Split(torch.cat([self.x, other.x]), torch.cat([self.y, other.y]), both("sensitive"), both("group"))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Split:
        sensitive = None if self.sensitive is None else change(self.sensitive)
        group = None if self.group is None else change(self.group)
        return Split(change(self.x), change(self.y), sensitive, group)


@dataclass(frozen=True)
class Dataset:
    """Private data with a task, cut into disjoint roles.

    Attributes:
        owner: the private data that a defense protects (in ``collaboration``: partitioned among the parties).
        attacker: the adversary's own samples of the same domain.
        public: samples known to everybody.
        calibration: held-out samples of the honest side (thresholds, validation, auditing).
        test: samples of the original test part; nobody trains on them.
        digest: SHA-256 over the tensors used, for the record.
        shifted: the same task in another population (another hospital, another handwriting), or None; nobody trains
            on it.
        training_pool: reads all training samples, of which the private splits are a draw; None where nothing is left
            to draw from.
    """

    name: str
    owner: Split
    attacker: Split
    public: Split
    calibration: Split
    test: Split
    num_classes: int
    digest: str
    shifted: Split | None = None
    training_pool: Callable[[], Split] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one sample, e.g. (channels, height, width)."""
        return tuple(self.test.x.shape[1:])

    @property
    def kind(self) -> str:
        """Return what the samples are by their shape: ``image``, ``tabular`` or ``signal``."""
        return {1: "tabular", 2: "signal"}.get(len(self.shape), "image")

    def to(self, device: torch.device | str) -> Dataset:
        moved = {role: getattr(self, role).to(device) for role in (*PRIVATE_SPLITS, "test")}
        return replace(self, **moved, shifted=None if self.shifted is None else self.shifted.to(device))


class Source(Checked, ABC):
    """Base of loaders: subclasses read the raw pools, this base draws class-balanced, disjoint splits from them.

    Args:
        sizes: samples per role (``owner``, ``attacker``, ``public``, ``calibration``, ``test``). A role may be left
            out or 0 (empty); ``test: null`` takes the whole test pool. None: the class's ``SIZES``.

    Class attributes:
        kind: ``image``, ``tabular`` or ``signal``; ``unread`` where only the data tell, until they are loaded.
        has_sensitive, has_group: whether samples carry ``Split.sensitive`` and ``Split.group``; None where only the
            data tell.
    """

    place = "dataset"
    kind: str = "image"
    shift: ClassVar[str] = "none"
    """``natural`` if the set has a shifted population, which :meth:`shifted_pool` reads."""
    has_sensitive: ClassVar[bool | None] = False
    has_group: ClassVar[bool | None] = False
    SIZES: ClassVar[Mapping[str, int | None]] = {}

    def __init__(self, *, sizes: Sizes | None = None) -> None:
        sizes = self.SIZES if sizes is None else sizes
        unknown = set(sizes) - {*PRIVATE_SPLITS, "test"}
        if unknown:
            raise ConfigError(
                f"dataset.sizes has no role {sorted(unknown)}; the roles are {[*PRIVATE_SPLITS, 'test']}."
            )
        if sizes.get("test") == 0:
            raise ConfigError(
                "dataset.sizes.test must be a whole number of at least 1 or null (all test samples), got 0."
            )
        self.sizes = dict(sizes)

    @abstractmethod
    def pools(self, root: Path | None) -> tuple[Split, Split, int]:
        """Return the training pool, the test pool and the number of classes.

        Images may be uint8, 0 to 255: ``load`` scales only the samples that it keeps, to avoid a float copy of the
        rest.

        Args:
            root: the folder of all data sets (``data.root``), or None if the user named none.

        Raises:
            DataMissing: the files are not there; the message says where they are expected.
        """

    def load(self, root: Path | None, seed: int) -> Dataset:
        """Draw the splits of ``seed``; the same seed gives the same samples for every threat and defense.

        Raises:
            ConfigError: the pools hold fewer samples than ``sizes`` asks for.
        """
        train, test, num_classes = self.pools(root)
        rng = generator(seed, "data.split")
        wanted = {role: int(self.sizes.get(role) or 0) for role in PRIVATE_SPLITS}
        if sum(wanted.values()) > len(train):
            raise ConfigError(
                f"dataset.sizes asks for {sum(wanted.values())} training samples ({wanted}), "
                f"but there are {len(train)}."
            )
        if (self.sizes.get("test") or 0) > len(test):
            raise ConfigError(f"dataset.sizes asks for {self.sizes['test']} test samples, but there are {len(test)}.")
        order = balanced_order(train.y, rng)
        splits, start = {}, 0
        for role, size in wanted.items():
            splits[role] = _scaled(train[order[start : start + size]])
            start += size
        held_out = balanced_order(test.y, rng)[: self.sizes.get("test")]
        splits["test"] = _scaled(test[held_out])
        shifted = self.shifted_pool(root)
        return Dataset(
            name=type(self).__name__.lower(),
            num_classes=num_classes,
            digest=digest([*splits.values(), *([] if shifted is None else [shifted])]),
            shifted=shifted,
            training_pool=partial(self._training_pool, root),
            **splits,
        )

    def _training_pool(self, root: Path | None) -> Split:
        return _scaled(self.pools(root)[0])

    def shifted_pool(self, root: Path | None) -> Split | None:
        """Return the whole shifted population, with inputs as :meth:`load` returns them, or None."""
        return None


def no_root(option: str) -> DataMissing:
    """Return the error of a data set that lives in files when no data root is set."""
    return DataMissing(
        f"dataset={option} lies in the data root, which is not set: name the folder with data.root=PATH or "
        "GAUNTLET_DATA, or use dataset=digits, which needs no files."
    )


def file_in_root(option: str, root: Path | None, path: str | Path, remedy: str) -> Path:
    """Return the file ``path`` under the data root.

    Args:
        option: name of the data set, for the message.
        remedy: a sentence on how to get the file.

    Raises:
        DataMissing: there is no root or no such file.
    """
    if root is None:
        raise no_root(option)
    file = root / path
    if not file.is_file():
        raise DataMissing(f"dataset={option} is expected at {file}, where there is no file{remedy}")
    return file


def _scaled(split: Split) -> Split:
    """Return uint8 images as float32 in [0, 1]; float samples as they are."""
    return replace(split, x=split.x.float() / 255) if split.x.dtype == torch.uint8 else split


def balanced_order(y: Int[Tensor, " n"], rng: torch.Generator) -> Int[Tensor, " n"]:
    """Return a random order of the indices (n,) of ``y`` whose prefixes are class-balanced as far as samples last.

    Sample i of a class gets position (i + u) / n_c with one u in [0, 1) for each class, so classes interleave in
    proportion to their share.
    """
    position = torch.empty(len(y), dtype=torch.float64)
    for label in y.unique():
        members = (y == label).nonzero().squeeze(1)
        members = members[torch.randperm(len(members), generator=rng)]
        offset = torch.rand((), generator=rng, dtype=torch.float64)
        position[members] = (torch.arange(len(members), dtype=torch.float64) + offset) / len(members)
    return position.argsort()


def digest(splits: Iterable[Split]) -> str:
    """Return the SHA-256 over the bytes of all splits' tensors."""
    state = hashlib.sha256()
    for split in splits:
        for tensor in (split.x, split.y, split.sensitive, split.group):
            if tensor is not None:
                state.update(tensor.contiguous().numpy().tobytes())
    return state.hexdigest()
