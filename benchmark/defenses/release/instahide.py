"""InstaHide: images mixed with others under random pixel signs.

Huang, Song, Li, Arora, *InstaHide: Instance-hiding Schemes for Private Distributed Learning*, ICML 2020 (arXiv
2010.02772). Deviations: the public samples are the data set's own ``public`` split, and the released set holds
``encodings`` draws of each image, whereas the paper draws anew in every epoch.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.errors import ConfigError, Refused
from benchmark.parameters import AtLeastTwo, Count
from benchmark.seeds import child
from benchmark.settings.collaboration.defense import FederatedDefense
from benchmark.settings.release.defense import Release, ReleaseMechanism

VERSION = 1
MAX_WEIGHT = 0.65  # c1, bound of one image's weight
MIN_PAIR_WEIGHT = 0.3  # c2, least weight of the two private images in cross mode


class InstaHide(ReleaseMechanism, FederatedDefense):
    """Mechanism that releases ``sigma * sum_j lambda_j x_j`` with soft labels, sigma a random sign for every pixel.

    Images are first standardised by the mean and twice the standard deviation of the public samples, so that they lie
    about zero. Labels count private images only and are not renormalised.

    Args:
        k: images in one mixture.
        mode: ``inside``: all of them private; ``cross``: two private ones, the others public.
        encodings: T, released mixtures of each private image (it is the first one in each of them).
        signs: draw signs; without them it is mixup.
        inference: encoding of test inputs: ``plain`` (only standardised, as in the public code) or ``mixed`` with
            public images.
    """

    needs = {"dataset.kind": "image"}
    releases = frozenset({"attributes", "mixtures"})

    def __init__(
        self,
        *,
        k: AtLeastTwo = 4,
        mode: Literal["inside", "cross"] = "cross",
        encodings: Count = 1,
        signs: bool = True,
        inference: Literal["plain", "mixed"] = "plain",
    ) -> None:
        self.k, self.mode, self.encodings, self.signs, self.inference = k, mode, encodings, signs, inference

    def facts(self) -> dict[str, Any]:
        return {"mixing": {"k": self.k, "mode": self.mode, "encodings": self.encodings, "signs": self.signs}}

    def secrets(self) -> dict[str, Tensor]:
        """Return ``parts`` (m, 2), the first two private images of each row, and ``weights`` (m, 2), theirs."""
        return {"parts": self.parts, "weights": self.weights}

    def release(self, private: Split, rng: torch.Generator) -> Release:
        mixed, first = self._mixtures(private, self.encodings, rng)
        self.fresh = torch.Generator().manual_seed(child(rng))
        return Release(mixed.x, mixed.y, first)

    def encode(self, x: Tensor) -> Tensor:
        x = self._standard(x)
        if self.inference == "plain" or not len(x):
            return x
        weights = mixing_weights(len(x), self.k, self.mode, self.fresh).to(x)
        mixed = weights[:, :1].view(-1, 1, 1, 1) * x
        for j in range(1, self.k):
            mixed = mixed + weights[:, j].view(-1, 1, 1, 1) * self._public(len(x), self.fresh)
        return self._signed(mixed, self.fresh)

    def local_data(self, data: Split, rng: torch.Generator) -> Split:
        """Return one mixture of each of a party's samples, with partners of its own and, in cross mode, public ones."""
        return self._mixtures(data, 1, rng)[0]

    def _mixtures(self, private: Split, encodings: int, rng: torch.Generator) -> tuple[Split, Tensor]:
        """Return mixtures and the first private image of each, int64 (m,)."""
        if private.x.ndim != 4:
            raise ConfigError("instahide mixes images; choose an image dataset.")
        n, classes = len(private), self._classes(private)
        x, onehot = self._standard(private.x), F.one_hot(private.y, classes).float()
        first = torch.arange(n).repeat(encodings)
        weights = mixing_weights(len(first), self.k, self.mode, rng).to(x)
        count = self.k if self.mode == "inside" else 2
        parts = torch.stack([first, *(random_partners(first, n, rng) for _ in range(count - 1))], dim=1).to(x.device)
        self.parts, self.weights = parts[:, :2], weights[:, :2]
        mixed = sum(weights[:, j].view(-1, 1, 1, 1) * x[parts[:, j]] for j in range(count))
        labels = sum(weights[:, j, None] * onehot[parts[:, j]] for j in range(count))
        for j in range(count, self.k):
            mixed = mixed + weights[:, j].view(-1, 1, 1, 1) * self._public(len(first), rng)
        assert isinstance(mixed, Tensor) and isinstance(labels, Tensor)
        return Split(self._signed(mixed, rng), labels), first

    def _signed(self, mixed: Tensor, rng: torch.Generator) -> Tensor:
        return mixed * (2 * torch.randint(2, mixed.shape, generator=rng).to(mixed) - 1) if self.signs else mixed

    def _classes(self, private: Split) -> int:
        return self.context.num_classes if self.context else int(private.y.max()) + 1

    def _standard(self, x: Tensor) -> Tensor:
        public = self._samples().x
        mean, deviation = public.mean(dim=(0, 2, 3), keepdim=True), public.std(dim=(0, 2, 3), keepdim=True)
        return (x - mean) / (2 * deviation.clamp_min(1e-6))

    def _public(self, count: int, rng: torch.Generator) -> Tensor:
        public = self._samples().x
        return self._standard(public[torch.randint(len(public), (count,), generator=rng).to(public.device)])

    def _samples(self) -> Split:
        if self.context is None or not len(self.context.public):
            raise Refused("InstaHide standardises by public samples and mixes with them: raise dataset.sizes.public.")
        return self.context.public


def mixing_weights(count: int, k: int, mode: str, rng: torch.Generator) -> Float[Tensor, "count k"]:
    """Return lambda (count, k): normalised absolute normals, redrawn while one exceeds c1 or the first two miss c2."""
    weights = torch.empty(count, k)
    pending = torch.arange(count)
    largest = max(MAX_WEIGHT, 1 / k + 0.05)
    while len(pending):
        drawn = torch.randn((len(pending), k), generator=rng).abs()
        drawn = drawn / drawn.sum(dim=1, keepdim=True)
        weights[pending] = drawn
        bad = drawn.max(dim=1).values > largest
        if mode == "cross":
            bad |= drawn[:, :2].sum(dim=1) < MIN_PAIR_WEIGHT
        pending = pending[bad]
    return weights


def random_partners(first: Int[Tensor, " m"], n: int, rng: torch.Generator) -> Int[Tensor, " m"]:
    """Return a random partner among n images for each of ``first``, never itself unless it is alone."""
    return (first + torch.randint(1, n, (len(first),), generator=rng)) % n if n > 1 else torch.zeros_like(first)
