"""MNIST and Fashion-MNIST whose whole training part is private, as in papers on differentially private generators."""

from __future__ import annotations

from pathlib import Path

from benchmark.data.base import PRIVATE_SPLITS, Dataset, Split, balanced_order, digest
from benchmark.data.torchvision_sets import MNIST, FashionMNIST, TorchvisionSource
from benchmark.errors import ConfigError
from benchmark.seeds import generator

VERSION = 1


class WholeTrainingPart(TorchvisionSource):
    """Base of sets in which ``owner`` is drawn from the training part and everybody else from the test part.

    The sampling rate of a private mechanism, and so its epsilon, hangs on the number of private samples. Here they are
    as many as in the papers, and samples that are not among them are still at hand.

    Args:
        sizes: as for every set; ``test: null`` takes what the other roles leave of the test part.
    """

    SIZES = {"owner": 60000, "attacker": 2000, "public": 500, "calibration": 2500, "test": None}

    def load(self, root: Path | None, seed: int) -> Dataset:
        train, test, num_classes = self.pools(root)
        rng = generator(seed, "data.split")
        sizes = {role: int(self.sizes.get(role) or 0) for role in (*PRIVATE_SPLITS, "test")}
        outside = {role: size for role, size in sizes.items() if role != "owner"}
        if sizes["owner"] > len(train) or sum(outside.values()) > len(test):
            raise ConfigError(
                f"dataset.sizes asks for {sizes['owner']} samples of the owner and {sum(outside.values())} others; the "
                f"training part holds {len(train)} and the test part {len(test)}."
            )
        splits = {"owner": train[balanced_order(train.y, rng)[: sizes["owner"]]]}
        if self.sizes.get("test") is None:
            outside["test"] += len(test) - sum(outside.values())
        order, start = balanced_order(test.y, rng), 0
        for role, size in outside.items():
            splits[role] = test[order[start : start + size]]
            start += size
        splits = {role: Split(split.x.float() / 255, split.y) for role, split in splits.items()}
        return Dataset(
            name=type(self).__name__.lower(),
            num_classes=num_classes,
            digest=digest(splits.values()),
            training_pool=None,
            **splits,
        )


class WholeMNIST(WholeTrainingPart, MNIST):
    """MNIST, of which the owner may hold all 60,000 training samples."""

    SIZES, option = WholeTrainingPart.SIZES, "mnist_whole"


class WholeFashionMNIST(WholeTrainingPart, FashionMNIST):
    """Fashion-MNIST, of which the owner may hold all 60,000 training samples."""

    SIZES, option = WholeTrainingPart.SIZES, "fashion_mnist_whole"
