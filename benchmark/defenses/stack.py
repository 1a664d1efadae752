"""Several defenses as one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.defenses.base import CHAINED, HOOKS, Defense, World
from benchmark.errors import ConfigError

if TYPE_CHECKING:
    from benchmark.training.functional import Layout


class Stack(Defense):
    """Several defenses as one; their hooks run in the order given.

    Raises:
        ConfigError: two members override the same hook that cannot be chained (e.g. two aggregators).
    """

    def __init__(self, members: Sequence[Defense]) -> None:
        self.members = list(members)
        for hook in HOOKS:
            owners = [type(member).__name__ for member in members if member.overrides(hook)]
            if len(owners) > 1 and hook not in CHAINED:
                raise ConfigError(f"{' and '.join(owners)} cannot be stacked: each of them replaces {hook!r}.")
            if owners:
                setattr(self, hook, self._chain(hook))

    def _chain(self, hook: str) -> Callable[..., Any]:
        acting = [getattr(member, hook) for member in self.members if member.overrides(hook)]

        def run(value: Any, *rest: Any) -> Any:
            for act in acting:
                value = act(value, *rest)
            return value

        return run if hook in CHAINED else acting[0]

    def __deepcopy__(self, memo: dict[int, Any]) -> Stack:
        # The hooks set above are bound to the members: a copy has to bind them to the copied ones.
        return Stack(copy.deepcopy(self.members, memo))

    def start(self, parties: int, layout: Layout) -> None:
        for member in self.members:
            member.start(parties, layout)

    def enter(self, world: World) -> None:
        for member in self.members:
            member.enter(world)

    def encode_people(self, people: Split) -> Split:
        for member in self.members:
            people = member.encode_people(people)
        return people

    def secrets(self) -> Mapping[str, Tensor]:
        return {name: secret for member in self.members for name, secret in member.secrets().items()}

    def models(self) -> Mapping[str, nn.Module]:
        return {name: model for member in self.members for name, model in member.models().items()}

    def facts(self) -> dict[str, Any]:
        known: dict[str, Any] = {}
        for facts in (member.facts() for member in self.members):
            both = {"mask": facts["mask"] & known["mask"]} if "mask" in facts and "mask" in known else {}
            known |= facts | both
        return known

    def trust(self) -> Tensor | None:
        return next((trust for member in self.members if (trust := member.trust()) is not None), None)

    def epsilon(self, **run: int) -> tuple[float, float] | None:
        # A guarantee survives what is done after it (post-processing), so the best one holds for the stack.
        known = [spent for member in self.members if (spent := member.epsilon(**run)) is not None]
        return min(known, default=None)

    def overrides(self, hook: str) -> bool:
        return any(member.overrides(hook) for member in self.members)
