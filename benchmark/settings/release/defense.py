"""Release mechanisms: their hooks, and their releases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.settings.defense import Defense, hook


@dataclass(frozen=True)
class Release:
    """Release: published in place of the private data.

    Attributes:
        x: (m, ...) released inputs; y: (m,) labels or (m, classes) soft labels.
        source: int64 (m,), the private sample that row i stems from, or None for synthetic data. It is the truth
            that metrics need and stays with the setting.
        sensitive: int64 (m,), the sensitive attribute where the mechanism publishes one with each row, else None.
        epsilon, delta: what an accountant computed for this very run, or None without such a guarantee.
    """

    x: Float[Tensor, "m ..."]
    y: Shaped[Tensor, " m *classes"]
    source: Int[Tensor, " m"] | None = None
    sensitive: Int[Tensor, " m"] | None = None
    epsilon: float | None = None
    delta: float | None = None


@dataclass(frozen=True)
class MechanismContext:
    """Everything that a release mechanism may use beside the private data.

    Attributes:
        public: everybody's samples (mixing partners, proxies' training data, start images); no private sample is in it.
        num_classes: of the task.
        architecture: ``architecture(shape=..., num_classes=...)`` gives the cell's model, newly initialised.
    """

    public: Split
    num_classes: int
    architecture: Callable[..., nn.Module]


class ReleaseMechanism(Defense):
    """Base of release mechanisms, which derive a release from the private data.

    Class attributes:
        releases: what a release is and carries:

            * ``attributes``: the sensitive attribute of its rows is known, by their source or as it is published;
            * ``synthetic``: no row stems from one private sample, so threats that need such rows are refused;
            * ``mixtures``: rows are mixtures of samples;
            * ``generator``: it comes with the generator that made it (``models()["generator"]``);
            * ``identities``: networks that know the participants are at hand (``models()["identity_0"]`` and so on);
            * ``map``: people get the network that maps their records (``models()["map"]``).

    Attributes:
        context: set before any hook is called by a played cell; None in a notebook that calls hooks by itself.
    """

    releases: ClassVar[frozenset[str]] = frozenset({"attributes"})
    context: MechanismContext | None = None

    def enter(self, context: MechanismContext) -> None:
        """Keep the context. Not a hook."""
        self.context = context

    @hook()
    def release(self, private: Split, rng: torch.Generator) -> Release:
        """Derive what is published from the private data. ``rng`` is the secret key's randomness.

        May be called again on other data with another ``rng`` (shadow attacks and controls do), each time on a copy of
        the defense as it was built. The global generators are seeded around it too.
        """
        return Release(private.x, private.y, torch.arange(len(private)))

    @hook(chained=True)
    def encode(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """Encode a test-time input as the released inputs were, (n, ...) -> (n, ...). Called after :meth:`release`."""
        return x

    def encode_people(self, people: Split) -> Split:
        """Return people at test time as the mechanism would publish them; called after :meth:`release`.

        For maps that need more than the input (the sensitive attribute) or also change labels. Not a hook.
        """
        return replace(people, x=self.encode(people.x))

    def secrets(self) -> Mapping[str, Tensor]:
        """Return the owner's secrets after :meth:`release`, for attacks as upper bounds (knowledge ``oracle``)."""
        return {}

    def models(self) -> Mapping[str, nn.Module]:
        """Return networks that the owner hands out beside the release (a generator, a teacher, a map), by name."""
        return {}
