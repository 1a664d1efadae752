"""A user runs a provider's model on private inputs and reveals nothing but its outputs.

The provider trains the model on its own labelled data (the ``owner`` split); the user's private inputs are the ``test``
split, and the user's small labelled set for auditing the model is ``calibration``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.errors import ConfigError
from benchmark.metrics.classification import accuracy
from benchmark.metrics.reconstruction import score_reconstruction
from benchmark.metrics.reconstruction_risk import Pixels, reconstruction_risk
from benchmark.outcome import Outcome
from benchmark.seeds import generator, isolated
from benchmark.settings.base import Artifact, Setting, Stage
from benchmark.threats.base import Guess, Reconstruction, Surface, Threat
from benchmark.training.loop import predict, train

VERSION = 1
RIDGE = 1e-2
BYTES_PER_FLOAT = 4

Reveal = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ProviderSurface(Surface):
    """What a provider holds when it trains the model.

    Attributes:
        data: its labelled training data.
        epochs: of the model's training, which a dishonest provider keeps to as well.
        shape, num_classes: of one sample and of the task.
        reveal: the user's treatment of logits, (n, classes) -> (n, classes) (grant ``mechanism``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {"reveal": "mechanism"}

    data: Split
    epochs: int
    shape: tuple[int, ...]
    num_classes: int
    reveal: Reveal


@dataclass(frozen=True)
class OutputSurface(Surface):
    """What an adversary sees of a user's queries.

    Attributes:
        outputs: (n, classes) what was revealed, one row a private input.
        shape, num_classes: of one input and of the task.
        secret: what the threat kept when it supplied the model, trained; None for other threats.
        provider: the provider's side of the story (grant ``provider``); model: the model in use (grant ``provider``).
        public: everybody's samples (grant ``public``).
        truth, labels: (n, ...) and int64 (n,) the private inputs and what they show (grant ``truth``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {
        "provider": "provider",
        "model": "provider",
        "public": "public",
        "truth": "truth",
        "labels": "truth",
    }

    outputs: Tensor
    shape: tuple[int, ...]
    num_classes: int
    secret: nn.Module | None
    provider: ProviderSurface
    model: nn.Module
    public: Split
    truth: Tensor
    labels: Tensor


class OutputThreat(Threat):
    """An adversary of the revealed outputs; the model is honest."""

    setting = "service"
    surface = "outputs"


class ProviderThreat(OutputThreat):
    """An adversary who supplies the model. What it keeps is a module too, so that cells can share both."""

    @abstractmethod
    def secret(self, view: ProviderSurface) -> nn.Module:
        """A newly initialised module that the provider will train and keep, e.g. a decoder of outputs."""

    @abstractmethod
    def provide(self, model: nn.Module, secret: nn.Module, view: ProviderSurface, rng: torch.Generator) -> None:
        """Train ``model``, which the user will run, and ``secret`` in place."""

    def supply(self, model: nn.Module, view: ProviderSurface, *, seed: int) -> tuple[nn.Module, Callable[[], None]]:
        """The untrained secret and what trains both; seeded by purpose and blind to what was not granted."""
        purpose = f"threat.{type(self).__name__}.provide"
        seen = view.restrict(self.knowledge)
        with isolated(seed, purpose):
            secret = self.secret(seen)

        def work() -> None:
            with isolated(seed, purpose):
                self.provide(model, secret, seen, generator(seed, purpose))

        return secret, work


class Service(Setting):
    """Train the model at the provider's, run it at the user's, attack what the user reveals.

    Args:
        epochs: of the provider's training.
        victims: the user's private inputs.
    """

    name = "service"
    surfaces = {"outputs": frozenset({"screen_model", "reveal"})}

    def __init__(self, *, epochs: int, victims: int | None) -> None:
        if victims is not None and victims < 2:
            raise ConfigError(f"setting.victims must be at least 2 or null (all test samples), got {victims}.")
        self.epochs, self.victims = epochs, victims

    def play(self, stage: Stage) -> Outcome:
        threat, defense, user = stage.threat, stage.defense, stage.data.test
        assert isinstance(threat, OutputThreat)
        view = ProviderSurface(
            data=stage.data.owner,
            epochs=self.epochs,
            shape=stage.data.shape,
            num_classes=stage.data.num_classes,
            reveal=defense.reveal,
        )
        honest = self._honest(stage, view)
        outputs = defense.reveal(predict(honest, user.x)).detach()
        outcome = Outcome(
            utility={"test_accuracy": accuracy(outputs, user.y)},
            cost={"bytes_sent": float(BYTES_PER_FLOAT * outputs.shape[1])},  # one query
        )
        model, secret = honest, None
        if isinstance(threat, ProviderThreat):
            model, secret = self._supplied(stage, threat, view)
            outputs = defense.reveal(predict(model, user.x)).detach()
            outcome.utility["attacked_accuracy"] = accuracy(outputs, user.y)
        if defense.overrides("screen_model"):
            outcome.diagnostics["suspicion"] = defense.screen_model(model, stage.data.calibration)
            outcome.diagnostics["suspicion_of_honest"] = defense.screen_model(honest, stage.data.calibration)
        chosen = slice(self.victims)
        surface = OutputSurface(
            outputs=outputs[chosen],
            shape=stage.data.shape,
            num_classes=stage.data.num_classes,
            secret=secret,
            provider=view.restrict(threat.knowledge),
            model=model,
            public=stage.data.public,
            truth=user.x[chosen],
            labels=user.y[chosen],
        )
        self._score(outcome, threat(surface, seed=stage.seed), surface, stage.data.owner)
        return outcome

    def _honest(self, stage: Stage, view: ProviderSurface) -> nn.Module:
        """An honest provider's model, shared by all threats and defenses."""

        def build(model: nn.Module) -> nn.Module:
            return train(model, view.data.x, view.data.y, epochs=self.epochs, rng=stage.rng("provider.batches"))

        return stage.trained(("honest provider", "dataset", "model", "setting", "scale"), build)

    @staticmethod
    def _supplied(stage: Stage, threat: ProviderThreat, view: ProviderSurface) -> tuple[nn.Module, nn.Module]:
        """The model that a dishonest provider supplies, and what it keeps."""
        model = stage.fresh_model()
        secret, work = threat.supply(model, view, seed=stage.seed)
        pair = nn.ModuleDict({"model": model, "secret": secret}).to(stage.device)

        def build() -> Artifact:
            work()
            return {name: tensor.detach().cpu() for name, tensor in pair.state_dict().items()}

        # An adversary who knows the defense trains against it, so its model is of use with that defense only.
        parts = ("dataset", "model", "setting", "threat", "scale", *(("defense",) if threat.adaptive else ()))
        pair.load_state_dict(stage.memo(("dishonest provider", *parts), build))
        return model.eval(), secret.eval()

    @staticmethod
    def _score(outcome: Outcome, guess: Guess, surface: OutputSurface, known: Split) -> None:
        """Compare the guess with the truth, by the kind of guess; ``known`` tells what anybody could expect."""
        match guess:
            case Reconstruction():
                score_inputs(outcome, guess, surface, known)
            case _:
                raise TypeError(f"service cannot score a {type(guess).__name__}.")
        outcome.diagnostics.update(guess.diagnostics)
        outcome.diagnostics["attack_seconds"] = guess.seconds


def score_inputs(outcome: Outcome, guess: Reconstruction, surface: OutputSurface, known: Split) -> None:
    """Likeness to the private inputs, and the reconstruction risk against the training data's mean and covariance."""
    scores, matched = score_reconstruction(
        guess.x, guess.labels, surface.truth.unsqueeze(1), surface.labels.unsqueeze(1), guess.groups
    )
    outcome.score(scores)
    if matched is None:
        return
    rebuilt, pixels = matched.flatten(0, 1), Pixels.of(known.x)
    ridged = reconstruction_risk(surface.truth, rebuilt, pixels, ridge=RIDGE)
    faithful = reconstruction_risk(surface.truth, rebuilt, pixels)
    outcome.risk["r_ridge"] = ridged.mean().item()
    outcome.diagnostics |= {
        "r_ridge_median": ridged.median().item(),
        "r_faithful": faithful.mean().item(),
        "psnr_db_of_mean_mse": -10 * torch.tensor(outcome.diagnostics["mse"]).clamp_min(1e-6).log10().item(),
    }
    if len(surface.shape) == 3:
        outcome.picture("reconstruction", {"original": surface.truth, "reconstructed": rebuilt})
