"""Stacks of defenses: several defenses as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.errors import ConfigError
from benchmark.settings.collaboration.defense import (
    FederatedDefense,
    Federation,
    LocalPlan,
    LocalStep,
    Predictor,
    Round,
    TrainingTask,
)
from benchmark.settings.defense import Defense
from benchmark.settings.deployment.defense import DeploymentDefense, DetectorContext
from benchmark.settings.release.defense import MechanismContext, Release, ReleaseMechanism
from benchmark.settings.service.defense import ServiceDefense
from benchmark.training.functional import Layout, Net

Kind = TypeVar("Kind", bound=Defense)


class UniversalDefense(FederatedDefense, ReleaseMechanism, ServiceDefense, DeploymentDefense):
    """A defense with the hooks of every setting."""


class _Members(UniversalDefense):
    """The members of a stack, and the two ways in which their hooks are combined.

    Args:
        members: the defenses, in the order in which their hooks run.

    Raises:
        ConfigError: two members override the same hook that cannot be chained (e.g. two aggregators).
    """

    def __init__(self, members: Sequence[Defense]) -> None:
        self.members = list(members)
        self._idle = UniversalDefense()
        self._acting = {
            name: [member for member in members if member.overrides(name)] for name in UniversalDefense.declared_hooks()
        }
        for name, acting in self._acting.items():
            if len(acting) > 1 and not getattr(UniversalDefense, name).chained:
                owners = " and ".join(type(member).__name__ for member in acting)
                raise ConfigError(f"{owners} cannot be stacked: each of them replaces {name!r}.")

    def overrides(self, hook: str) -> bool:
        return bool(self._acting.get(hook))

    def _of(self, kind: type[Kind]) -> list[Kind]:
        """Return the members of one setting's kind."""
        return [member for member in self.members if isinstance(member, kind)]

    def _pass_on(self, name: str, value: Any, *rest: Any) -> Any:
        """Return ``value`` after all members that override the chained hook ``name``."""
        for member in self._acting[name]:
            value = getattr(member, name)(value, *rest)
        return value

    def _only(self, name: str) -> Callable[..., Any]:
        """Return the hook ``name`` of the one member that overrides it, or of an idle defense."""
        return getattr(next(iter(self._acting[name]), self._idle), name)


class _FederatedStack(_Members):
    """Hooks of a collaboration, member by member."""

    def start(self, parties: int, layout: Layout) -> None:
        for member in self._of(FederatedDefense):
            member.start(parties, layout)

    def local_data(self, data: Split, rng: torch.Generator) -> Split:
        return self._pass_on("local_data", data, rng)

    def local_plan(self, plan: LocalPlan) -> LocalPlan:
        return self._pass_on("local_plan", plan)

    def screen_broadcast(self, net: Net, params: Float[Tensor, " *each d"], round: Round) -> Bool[Tensor, " n"]:
        return self._only("screen_broadcast")(net, params, round)

    def download(
        self, params: Float[Tensor, " d"], local: Float[Tensor, "n d"], round: Round
    ) -> Float[Tensor, "n d"] | None:
        return self._only("download")(params, local, round)

    def local_step(self, step: LocalStep) -> Float[Tensor, " d"]:
        return self._only("local_step")(step)

    def protect(self, updates: Float[Tensor, "n d"], round: Round) -> Float[Tensor, "n d"]:
        return self._pass_on("protect", updates, round)

    def select(self, candidates: Int[Tensor, " n"], round: Round) -> Int[Tensor, " chosen"]:
        return self._pass_on("select", candidates, round)

    def exchange(self, updates: Float[Tensor, "n d"], round: Round) -> Float[Tensor, "n d"]:
        return self._pass_on("exchange", updates, round)

    def preaggregate(self, uploads: Float[Tensor, "n d"], round: Round) -> Float[Tensor, "m d"]:
        return self._pass_on("preaggregate", uploads, round)

    def aggregate(self, uploads: Float[Tensor, "n d"], round: Round) -> Float[Tensor, " d"]:
        return self._only("aggregate")(uploads, round)

    def learn(self, task: TrainingTask) -> Federation:
        return self._only("learn")(task)

    def finish(self, net: Net, run: Federation, rng: torch.Generator) -> Predictor:
        return self._only("finish")(net, run, rng)

    @property
    def mpc(self) -> bool:  # type: ignore[override]
        return any(member.mpc for member in self._of(FederatedDefense))

    def secure_costs(self, net: Net, samples: int, parties: int) -> dict[str, float | str]:
        told = (member.secure_costs(net, samples, parties) for member in self._of(FederatedDefense))
        return next((costs for costs in told if costs), {})

    def trust(self) -> Float[Tensor, " parties"] | None:
        return next((trust for member in self._of(FederatedDefense) if (trust := member.trust()) is not None), None)

    def epsilon(self, **run: int) -> tuple[float, float] | None:
        # A guarantee survives what is done after it (post-processing), so the best one holds for the stack.
        known = [spent for member in self._of(FederatedDefense) if (spent := member.epsilon(**run)) is not None]
        return min(known, default=None)

    def claims(self, **run: int) -> dict[str, float]:
        return {name: value for member in self._of(FederatedDefense) for name, value in member.claims(**run).items()}


class _ReleaseStack(_Members):
    """Hooks of a release, member by member."""

    def enter(self, context: MechanismContext) -> None:
        for member in self._of(ReleaseMechanism):
            member.enter(context)

    def release(self, private: Split, rng: torch.Generator) -> Release:
        return self._only("release")(private, rng)

    def encode(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        return self._pass_on("encode", x)

    def encode_people(self, people: Split) -> Split:
        for member in self._of(ReleaseMechanism):
            people = member.encode_people(people)
        return people

    def secrets(self) -> Mapping[str, Tensor]:
        return {name: secret for member in self._of(ReleaseMechanism) for name, secret in member.secrets().items()}

    def models(self) -> Mapping[str, nn.Module]:
        return {name: model for member in self._of(ReleaseMechanism) for name, model in member.models().items()}


class Stack(_FederatedStack, _ReleaseStack):
    """Several defenses as one: what every game plays with. Hooks run in the order of the members."""

    def facts(self) -> dict[str, Any]:
        known: dict[str, Any] = {}
        for facts in (member.facts() for member in self.members):
            both = {"mask": facts["mask"] & known["mask"]} if "mask" in facts and "mask" in known else {}
            known |= facts | both
        return known

    def screen_model(self, model: nn.Module, data: Split) -> float:
        return self._only("screen_model")(model, data)

    def reveal(self, logits: Float[Tensor, "n classes"]) -> Float[Tensor, "n outputs"]:
        return self._pass_on("reveal", logits)

    def fit(self, fresh: Callable[[], nn.Module], data: Split, train: Callable[..., nn.Module]) -> nn.Module:
        return self._only("fit")(fresh, data, train)

    def screen_inputs(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        return self._only("screen_inputs")(x)

    def screen_batches(self, batches: Float[Tensor, "q n ..."], context: DetectorContext) -> Float[Tensor, " q *each"]:
        return self._only("screen_batches")(batches, context)
