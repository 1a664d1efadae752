"""Controls for attacks on released data: releases of private samples, or of other people's."""

from __future__ import annotations

import torch

from benchmark.data.base import Split
from benchmark.errors import Refused
from benchmark.parameters import Fraction, NonNegative
from benchmark.seeds import normal_like
from benchmark.settings.release.defense import Release, ReleaseMechanism

VERSION = 1


class Memoriser(ReleaseMechanism):
    """Mechanism that releases private samples with a little noise, filled up with public samples.

    It counts as synthetic, because a row carries no link to its source: it is what an over-fitted generator does.

    Args:
        share: of the released rows that are private samples, in [0, 1]. 1 is the positive control (memoriser), 0 the
            negative one (disjoint), 0.05 a release that averages and the DCR test do not detect.
        noise: standard deviation of the noise on every row.
    """

    releases = frozenset({"attributes", "synthetic"})

    def __init__(self, *, share: Fraction = 1.0, noise: NonNegative = 0.05) -> None:
        self.share, self.noise = share, noise

    def release(self, private: Split, rng: torch.Generator) -> Release:
        own = round(self.share * len(private))
        rows = private[torch.randperm(len(private), generator=rng)[:own].to(private.y.device)]
        if own < len(private):
            rows = rows.joined(self._public_samples(len(private) - own, rng))
        return Release(rows.x + self.noise * normal_like(rows.x, rng), rows.y, sensitive=rows.sensitive)

    def _public_samples(self, count: int, rng: torch.Generator) -> Split:
        public = None if self.context is None else self.context.public
        if public is None or not len(public):
            raise Refused("The memoriser fills up with public samples, but there are none: raise dataset.sizes.public.")
        return public[torch.randint(len(public), (count,), generator=rng).to(public.y.device)]
