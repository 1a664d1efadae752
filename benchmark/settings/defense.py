"""Base of all defenses, and how a setting's own kind of defense declares the hooks that a defense may override.

Each setting has a kind of defense with its own hooks: ``FederatedDefense``, ``ReleaseMechanism``, ``ServiceDefense``,
``DeploymentDefense``. A hook does nothing until a subclass overrides it. The threats that a defense meets are derived
from the hooks that it overrides (``benchmark.compatibility``), so a subclass must not override a hook only to call the
parent's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from benchmark.parameters import Checked

Method = TypeVar("Method", bound=Callable[..., Any])


def hook(*, chained: bool = False) -> Callable[[Method], Method]:
    """Declare a method as a hook.

    Args:
        chained: the hook hands its first argument on, so that stacked defenses act one after the other; of any other
            hook a stack may hold one.
    """

    def declare(method: Method) -> Method:
        method.chained = chained  # type: ignore[attr-defined]
        return method

    return declare


class Defense(Checked):
    """The honest side as it is without a defense.

    A record takes the parameters' values from the config, so a subclass only keeps what its hooks need.

    Class attributes:
        needs: traits that the dataset or model must have, e.g. ``{"dataset.kind": "image"}``.
    """

    place = "defense.{module}"
    needs: ClassVar[Mapping[str, str]] = {}

    def facts(self) -> dict[str, Any]:
        """Return what the defense's users would publish: parameters, never keys. An adaptive threat is granted it."""
        return {}

    @classmethod
    def declared_hooks(cls) -> dict[str, Callable[..., Any]]:
        """Return every hook of this kind of defense, by name, as its declaring class does nothing in it."""
        return {
            name: method
            for owner in reversed(cls.__mro__)
            for name, method in vars(owner).items()
            if hasattr(method, "chained")
        }

    @classmethod
    def hooks(cls) -> frozenset[str]:
        """Return the names of the hooks that this class overrides."""
        return frozenset(name for name, idle in cls.declared_hooks().items() if getattr(cls, name) is not idle)

    def overrides(self, hook: str) -> bool:
        """Return whether this defense does anything in ``hook``."""
        return hook in self.hooks()
