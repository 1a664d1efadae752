"""Base of settings and of their games, and the context in which a cell is played."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from benchmark.data.base import Dataset
from benchmark.outcome import Outcome
from benchmark.parameters import Checked
from benchmark.seeds import generator, isolated
from benchmark.settings.stack import Stack
from benchmark.settings.threat import Guess, Surface, Threat
from benchmark.training.loop import train

Artifact = dict[str, Tensor]
ArtifactCache = Callable[[tuple[str, ...], Callable[[], Artifact]], Artifact]
"""``cache(key, build)`` returns the result of ``build()``, perhaps from an earlier cell. The key is a name followed by
the parts of the cell that the artifact depends on, e.g. ``("federation", "dataset", "model", "setting", "defense")``;
the seed always counts. A ``build`` with a method ``fits(artifact)`` is asked whether what was found can be used."""


@runtime_checkable
class CacheOfData(Protocol):
    """A cache that has to know the data which artifacts are made from, and calls them by their content."""

    def on_data(self, digest: str) -> ArtifactCache:
        """Return the cache of cells on these data."""

    def name(self, key: tuple[str, ...]) -> str:
        """Return what tells the artifact from all others."""


PARTS = ("dataset", "model", "setting", "threat", "defense", "scale")


def no_cache(key: tuple[str, ...], build: Callable[[], Artifact]) -> Artifact:
    """Build the artifact anew: the cache that remembers nothing."""
    return build()


def nameless(key: tuple[str, ...]) -> str:
    """Return "": nothing tells the artifact from others."""
    return ""


@dataclass(frozen=True)
class ModelBuild:
    """Builder of an artifact that is the state of ``model``, as ``train`` leaves it.

    Attributes:
        seed, purpose: of the random numbers that training draws from global state, e.g. for dropout.
    """

    model: nn.Module
    train: Callable[[nn.Module], nn.Module]
    seed: int
    purpose: str

    def __call__(self) -> Artifact:
        with isolated(self.seed, self.purpose):
            return {name: tensor.detach().cpu() for name, tensor in self.train(self.model).state_dict().items()}

    def fits(self, found: Artifact) -> bool:
        """Return whether ``found`` is the state of a model like this one; training may fill empty tensors."""
        own = self.model.state_dict()
        return own.keys() == found.keys() and all(
            found[name].dtype == tensor.dtype and (tensor.numel() == 0 or found[name].shape == tensor.shape)
            for name, tensor in own.items()
        )


@dataclass(frozen=True)
class CellContext:
    """Everything that a game is played with.

    Attributes:
        data: on ``device``.
        architecture: ``architecture(shape=..., num_classes=...)`` returns a new module.
        defense, threat: already built.
        seed: the cell's; random streams are derived from it by purpose.
        device: where tensors live.
        cache: shares expensive artifacts between cells.
        artifact_name: what tells an artifact of this cell from all others, by its key; "" where nothing does.
        trained_architecture: the same as ``architecture``, but the module starts from weights that its owner has
            trained; None: there are none.
    """

    data: Dataset
    architecture: Callable[..., nn.Module]
    defense: Stack
    threat: Threat
    seed: int
    device: torch.device
    cache: ArtifactCache = no_cache
    artifact_name: Callable[[tuple[str, ...]], str] = nameless
    trained_architecture: Callable[..., nn.Module] | None = None

    def rng(self, purpose: str) -> torch.Generator:
        """Return a new generator for ``purpose``."""
        return generator(self.seed, purpose)

    def fresh_model(self, purpose: str = "model.init", *, owners: bool = False, **overrides: object) -> nn.Module:
        """Return a newly initialised model; the same seed and purpose give the same weights.

        Args:
            owners: it is the model under attack, which starts from the weights that its owner has trained, if any.
                Models of anybody else never do: they would know the private data from the start.
        """
        arguments = {"shape": self.data.shape, "num_classes": self.data.num_classes, **overrides}
        make = self.trained_architecture if owners and self.trained_architecture else self.architecture
        with isolated(self.seed, purpose):
            return make(**arguments).to(self.device)

    def trained(
        self,
        key: tuple[str, ...],
        build: Callable[[nn.Module], nn.Module],
        *,
        purpose: str = "model.init",
        owners: bool = False,
        **overrides: object,
    ) -> nn.Module:
        """Return ``build(fresh model)``, shared through the cache; ``key`` as for :data:`ArtifactCache`."""
        model = self.fresh_model(purpose, owners=owners, **overrides)

        model.load_state_dict(self.cache(key, ModelBuild(model, build, self.seed, f"{key[0]}.train")))
        return model.to(self.device).eval()

    def examiner(self, epochs: int) -> nn.Module:
        """Return a classifier of plain inputs, trained on the attacker's own split: it judges reconstructions."""

        def build(model: nn.Module) -> nn.Module:
            own = self.data.attacker
            return train(model, own.x, own.y, epochs=epochs, rng=self.rng("examiner.batches"))

        return self.trained(("examiner", "dataset", "model", "setting", "scale"), build, purpose="examiner.init")


Honest = TypeVar("Honest")


class Game(ABC, Generic[Honest]):
    """One question that threats of one surface answer. The game holds the truth and scores the answer.

    Most games ``observe`` (build the surface, of which the threat sees what it was granted), ask the threat once and
    ``score`` its guess. In some the threat acts during training as well.

    Class attributes:
        surface: its name.
        hooks: hooks of defenses that act on the surface. Which defense meets which threat is derived from this.
        guess: the kind of answer that the game can score.

    Args:
        honest: the honest side, which all games of a setting share: its sizes and how it trains.
    """

    surface: ClassVar[str]
    hooks: ClassVar[frozenset[str]]
    guess: ClassVar[type[Guess]]

    def __init__(self, honest: Honest) -> None:
        self.honest = honest

    @abstractmethod
    def play(self, context: CellContext) -> Outcome:
        """Let the honest side work and the threat attack, and measure both."""

    def ask(self, context: CellContext, surface: Surface) -> Any:
        """Return the threat's guess.

        Raises:
            TypeError: the threat gave another kind of answer than the game scores.
        """
        guess = context.threat(surface, seed=context.seed)
        if not isinstance(guess, self.guess):
            raise TypeError(f"A game on the surface {self.surface!r} cannot score a {type(guess).__name__}.")
        return guess


def note(outcome: Outcome, guess: Guess) -> None:
    """Add the threat's own numbers and its time to ``outcome``."""
    outcome.diagnostics |= {**guess.diagnostics, "attack_seconds": guess.seconds}


class Setting(Checked, ABC):
    """Base of all settings: an honest side, and one game for each surface that it shows.

    Class attributes:
        name: its noun.
        games: one class for each surface.
        surfaces: surface -> the defense hooks that act on it; derived from ``games``.
        needs: traits that the model or dataset must have, whatever the threat.

    Attributes:
        honest: the honest side, with which each game is built.
    """

    place = "setting"
    name: ClassVar[str]
    games: ClassVar[tuple[type[Game[Any]], ...]] = ()
    surfaces: ClassVar[Mapping[str, frozenset[str]]] = {}
    needs: ClassVar[Mapping[str, str]] = {}
    honest: Any

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "games" in vars(cls):
            cls.surfaces = {game.surface: game.hooks for game in cls.games}

    def play(self, context: CellContext) -> Outcome:
        """Play the game of the threat's surface once."""
        game = next(game for game in self.games if game.surface == context.threat.surface)
        return game(self.honest).play(context)
