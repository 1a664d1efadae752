"""A user runs a provider's model on private inputs and reveals nothing but its outputs.

The provider trains the model on its own labelled data (the ``owner`` split); the user's private inputs are the ``test``
split, and the user's small labelled set for auditing the model is ``calibration``. A user who screens models trains
honest references on ``public`` samples and refuses a model that looks worse than these: its p-value is at most the rate
of false alarms. How often that happens is counted over a population of models of the same provider; a user who refuses
reveals nothing and is not served, so risk and utility are expectations over the population.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.errors import ConfigError, positive
from benchmark.metrics.classification import accuracy
from benchmark.metrics.detection import telling_apart
from benchmark.metrics.reconstruction import score_reconstruction
from benchmark.metrics.reconstruction_risk import Pixels, reconstruction_risk
from benchmark.outcome import Outcome
from benchmark.seeds import derive, isolated
from benchmark.settings.base import Artifact, CellContext, Setting
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.service.games.outputs import (
    OutputSurface,
    OutputThreat,
    ProviderSurface,
    ProviderThreat,
)
from benchmark.settings.threat import Guess
from benchmark.training.loop import predict, train

VERSION = 2
RIDGE = 1e-2
SUBSPACE = 0.99  # share of the variance
BYTES_PER_FLOAT = 4


class Service(Setting):
    """Train the model at the provider's, run it at the user's, attack what the user reveals.

    Args:
        epochs, lr: of the provider's training.
        victims: the user's private inputs.
        references: honest models that a user who screens trains, and population: models of each provider that are
            screened.
        false_alarm_rate: a model is refused when its p-value against the references is at most this, in (0, 1).
    """

    name = "service"
    surfaces = {"outputs": frozenset({"screen_model", "reveal"})}

    def __init__(
        self,
        *,
        epochs: int,
        lr: float,
        victims: int | None,
        references: int,
        population: int,
        false_alarm_rate: float,
    ) -> None:
        if victims is not None and victims < 2:
            raise ConfigError(f"setting.victims must be at least 2 or null (all test samples), got {victims}.")
        positive("setting.lr", lr)
        positive("setting.population", population)
        if not 0 < false_alarm_rate < 1 or references < 1 / false_alarm_rate - 1 - 1e-9:
            raise ConfigError(
                f"setting.references={references} models cannot give a p-value as low as setting.false_alarm_rate="
                f"{false_alarm_rate}: raise one of them."
            )
        self.epochs, self.lr, self.victims = epochs, lr, victims
        self.references, self.population, self.false_alarm_rate = references, population, false_alarm_rate

    def play(self, context: CellContext) -> Outcome:
        threat, defense, user = context.threat, context.defense, context.data.test
        assert isinstance(threat, OutputThreat)
        view = ProviderSurface(
            data=context.data.owner,
            epochs=self.epochs,
            lr=self.lr,
            shape=context.data.shape,
            num_classes=context.data.num_classes,
            reveal=defense.reveal,
        )
        honest = self._honest(context, view)
        outputs = self._reveal(context, honest)
        outcome = Outcome(
            utility={"test_accuracy": accuracy(outputs, user.y)},
            cost={"bytes_sent": float(BYTES_PER_FLOAT * outputs.shape[1])},  # one query
        )
        model, secret = honest, None
        if isinstance(threat, ProviderThreat):
            model, secret = self._supplied(context, threat, view)
            outputs = self._reveal(context, model)
            outcome.utility["attacked_accuracy"] = accuracy(outputs, user.y)
        chosen = slice(self.victims)
        surface = OutputSurface(
            outputs=outputs[chosen],
            shape=context.data.shape,
            num_classes=context.data.num_classes,
            secret=secret,
            provider=view.restrict(threat.knowledge),
            model=model,
            public=context.data.public,
            truth=user.x[chosen],
            labels=user.y[chosen],
        )
        self._score(outcome, threat(surface, seed=context.seed), surface, context.data.owner)
        if defense.overrides("screen_model"):
            self._screen(context, outcome, view, surface)
        return outcome

    @staticmethod
    def _reveal(context: CellContext, model: nn.Module) -> Tensor:
        """What the user reveals of the model's answers to the private inputs."""
        logits = predict(model, context.data.test.x)
        with isolated(context.seed, "user.reveal"):  # a treatment may draw noise
            return context.defense.reveal(logits).detach()

    def _honest(self, context: CellContext, view: ProviderSurface, member: int = 0) -> nn.Module:
        """An honest provider's model, shared by all threats and defenses; ``member``: of the population."""
        return self._plainly(context, view.data, "honest provider", "model.init", "provider.batches", member)

    def _plainly(self, context: CellContext, data: Split, name: str, init: str, order: str, member: int) -> nn.Module:
        """A model trained on ``data`` for the task and nothing else; members differ in the two purposes' streams."""
        suffix = f" {member}" if member else ""

        def build(model: nn.Module) -> nn.Module:
            return train(model, data.x, data.y, epochs=self.epochs, lr=self.lr, rng=context.rng(order + suffix))

        key = (name + suffix, "dataset", "model", "setting", "scale")
        return context.trained(key, build, purpose=init + suffix)

    def _screen(self, context: CellContext, outcome: Outcome, view: ProviderSurface, surface: OutputSurface) -> None:
        """Judge a population of models as the user would, and reckon with the models that are refused."""
        parts = ("dataset", "model", "setting", "scale")
        guarded = (*parts, "defense")
        public = context.data.public
        if len(public) == 0 or len(context.data.calibration) == 0:
            raise ConfigError(
                "A user who screens models trains references on public samples and judges by calibration samples: set "
                "dataset.sizes.public and dataset.sizes.calibration above 0."
            )
        members = range(self.population)
        references = self._suspicions(
            context,
            ("suspicion of references", *guarded),
            (
                self._plainly(context, public, "reference", "reference.init", "reference.batches", number)
                for number in range(1, self.references + 1)
            ),
        )
        honest = self._suspicions(
            context, ("suspicion of the honest", *guarded), (self._honest(context, view, member) for member in members)
        )
        supplied = honest
        if isinstance(threat := context.threat, ProviderThreat):
            models = (self._supplied(context, threat, view, member)[0] for member in members)
            supplied = self._suspicions(context, ("suspicion of the supplied", *guarded, "threat"), models)
        found = telling_apart(honest, supplied, references, self.false_alarm_rate)
        outcome.diagnostics |= {
            **found,
            "suspicion": supplied.mean().item(),
            "suspicion_of_honest": honest.mean().item(),
            "suspicion_of_references": references.mean().item(),
            "suspicion_ratio": (supplied.mean() / honest.mean().clamp_min(1e-12)).item(),
        }
        nothing = Outcome()
        mean = context.data.owner.x.mean(dim=0).expand(len(surface.truth), 1, *surface.shape)
        score_inputs(nothing, Reconstruction(mean), surface, context.data.owner)
        expect(outcome, nothing, power=found["detection_power"], false_alarms=found["false_alarm_rate"])

    @staticmethod
    def _suspicions(context: CellContext, key: tuple[str, ...], models: Iterable[nn.Module]) -> Tensor:
        """The suspicion of every model, float64 (n,); each starts from the same draws."""

        def judge(model: nn.Module) -> float:
            with isolated(context.seed, "user.screen"):
                return context.defense.screen_model(model, context.data.calibration)

        def build() -> Artifact:
            return {"suspicions": torch.tensor([judge(model) for model in models], dtype=torch.float64)}

        return context.cache(key, build)["suspicions"]

    @staticmethod
    def _supplied(
        context: CellContext, threat: ProviderThreat, view: ProviderSurface, member: int = 0
    ) -> tuple[nn.Module, nn.Module]:
        """The model that a dishonest provider supplies, and what it keeps; ``member``: of the population."""
        suffix = f" {member}" if member else ""
        model = context.fresh_model("model.init" + suffix)
        seed = derive(context.seed, f"provider{suffix}") if member else context.seed
        secret, work = threat.supply(model, view, seed=seed)
        pair = nn.ModuleDict({"model": model, "secret": secret}).to(context.device)

        def build() -> Artifact:
            work()
            return {name: tensor.detach().cpu() for name, tensor in pair.state_dict().items()}

        # An adversary who knows how outputs are treated trains for it, so its model is of use with that defense only.
        knows = threat.adaptive and context.defense.overrides("reveal")
        parts = ("dataset", "model", "setting", "threat", "scale", *(("defense",) if knows else ()))
        pair.load_state_dict(context.cache((f"dishonest provider{suffix}", *parts), build))
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
    subspace = reconstruction_risk(surface.truth, rebuilt, pixels, variance=SUBSPACE)
    span = (surface.truth.max() - surface.truth.min()).item()
    outcome.risk["r_ridge"] = ridged.mean().item()
    outcome.diagnostics |= {
        "r_ridge_median": ridged.median().item(),
        "r_faithful": faithful.mean().item(),
        "r_faithful_median": faithful.median().item(),
        "r_subspace": subspace.mean().item(),
        "psnr_db_of_mean_mse": 10 * math.log10(span**2 / max(float(outcome.diagnostics["mse"]), 1e-6)),
    }
    if len(surface.shape) == 3:
        outcome.picture("reconstruction", {"original": surface.truth, "reconstructed": rebuilt})


def expect(outcome: Outcome, nothing: Outcome, *, power: float, false_alarms: float) -> None:
    """Risk and utility of a user who refuses some models, in place.

    Args:
        outcome: of a user who refuses none; its figures are kept among the diagnostics as ``..._if_admitted``.
        nothing: of the guess that needs no outputs.
        power, false_alarms: shares of the supplied and of the honest models that are refused.
    """
    for name, value in nothing.risk.items():
        if name in outcome.risk:
            outcome.diagnostics[f"{name}_if_admitted"] = outcome.risk[name]
            outcome.risk[name] = (1 - power) * outcome.risk[name] + power * value
    outcome.utility["test_accuracy"] *= 1 - false_alarms
    if "attacked_accuracy" in outcome.utility:
        outcome.diagnostics["attacked_accuracy_if_admitted"] = outcome.utility["attacked_accuracy"]
        outcome.utility["attacked_accuracy"] *= 1 - power
