"""Surface of outputs: a provider or an eavesdropper reconstructs a user's private inputs from revealed outputs."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.metrics.classification import accuracy
from benchmark.metrics.detection import telling_apart
from benchmark.metrics.reconstruction import score_reconstruction
from benchmark.metrics.reconstruction_risk import Pixels, reconstruction_risk
from benchmark.outcome import Outcome
from benchmark.seeds import derive, generator, isolated
from benchmark.settings.base import Artifact, CellContext, Game, note
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.service.provision import SHARED, Provision, suspicions
from benchmark.settings.threat import Surface, Threat
from benchmark.training.recipe import Recipe

RIDGE = 1e-2
SUBSPACE = 0.99  # share of the variance
BYTES_PER_FLOAT = 4

Reveal = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ProviderSurface(Surface):
    """View of a provider that trains the model.

    Attributes:
        data: its labelled training data.
        epochs, lr, batch_size, recipe: of the model's training, which a dishonest provider keeps to as well.
        shape, num_classes: of one sample and of the task.
        reveal: the user's treatment of logits, (n, classes) -> (n, classes) (grant ``mechanism``).
    """

    granted_by: ClassVar[Mapping[str, str]] = {"reveal": "mechanism"}

    data: Split
    epochs: int
    lr: float
    batch_size: int
    shape: tuple[int, ...]
    num_classes: int
    reveal: Reveal
    recipe: Recipe | None = None

    @property
    def budget(self) -> dict[str, Any]:
        """Return what :func:`benchmark.training.loop.train` takes of the view."""
        return {"epochs": self.epochs, "lr": self.lr, "batch_size": self.batch_size, "recipe": self.recipe}


@dataclass(frozen=True)
class OutputSurface(Surface):
    """View of an adversary of a user's queries.

    Attributes:
        outputs: (n, classes) what was revealed, one row a private input.
        shape, num_classes: of one input and of the task.
        secret: what the threat kept when it supplied the model, trained; None for other threats.
        provider: the provider's own view (grant ``provider``); model: the model in use (grant ``provider``).
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

    outputs: Float[Tensor, "n outputs"]
    shape: tuple[int, ...]
    num_classes: int
    secret: nn.Module | None
    provider: ProviderSurface
    model: nn.Module
    public: Split
    truth: Float[Tensor, " n *sample"]
    labels: Int[Tensor, " n"]


class OutputThreat(Threat):
    """Base of adversaries of the revealed outputs; the model is honest."""

    setting = "service"
    surface = "outputs"


class ProviderThreat(OutputThreat):
    """Base of adversaries who supply the model. What they keep is a module too, so that cells can share both."""

    @abstractmethod
    def secret(self, view: ProviderSurface) -> nn.Module:
        """Return a newly initialised module that the provider will train and keep, e.g. a decoder of outputs."""

    @abstractmethod
    def provide(self, model: nn.Module, secret: nn.Module, view: ProviderSurface, rng: torch.Generator) -> None:
        """Train ``model``, which the user will run, and ``secret`` in place."""

    def supply(self, model: nn.Module, view: ProviderSurface, *, seed: int) -> tuple[nn.Module, Callable[[], None]]:
        """Return the untrained secret and a function that trains both; seeded by purpose, from granted fields only."""
        purpose = f"threat.{type(self).__name__}.provide"
        seen = view.restrict(self.knowledge)
        with isolated(seed, purpose):
            secret = self.secret(seen)

        def work() -> None:
            with isolated(seed, purpose):
                self.provide(model, secret, seen, generator(seed, purpose))

        return secret, work


class OutputsGame(Game[Provision]):
    """The user reveals outputs of an honest or of the threat's model, and the threat reconstructs the inputs."""

    surface = "outputs"
    hooks = frozenset({"screen_model", "reveal"})
    guess = Reconstruction

    def play(self, context: CellContext) -> Outcome:
        threat, user = context.threat, context.data.test
        assert isinstance(threat, OutputThreat)
        view = ProviderSurface(
            data=context.data.owner,
            epochs=self.honest.epochs,
            lr=self.honest.lr,
            batch_size=self.honest.batch_size,
            shape=context.data.shape,
            num_classes=context.data.num_classes,
            reveal=context.defense.reveal,
            recipe=self.honest.recipe,
        )
        model, secret = self.honest.honest(context), None
        outputs = self.honest.reveal(context, model)
        outcome = Outcome(
            utility={"test_accuracy": accuracy(outputs, user.y)},
            cost={"bytes_sent": float(BYTES_PER_FLOAT * outputs.shape[1])},  # one query
        )
        if isinstance(threat, ProviderThreat):
            model, secret = supplied(context, threat, view)
            outputs = self.honest.reveal(context, model)
            outcome.utility["attacked_accuracy"] = accuracy(outputs, user.y)
        chosen = slice(self.honest.victims)
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
        guess = self.ask(context, surface)
        score_inputs(outcome, guess, surface, context.data.owner, pool_pixels(context))
        note(outcome, guess)
        if context.defense.overrides("screen_model"):
            self._screen(context, outcome, view, surface)
        return outcome

    def _screen(self, context: CellContext, outcome: Outcome, view: ProviderSurface, surface: OutputSurface) -> None:
        """Judge a population of models as the user would, and account for the models that are refused."""
        references, honest = self.honest.suspicions_of_references(context), self.honest.suspicions_of_honest(context)
        judged = honest
        if isinstance(threat := context.threat, ProviderThreat):
            models = (supplied(context, threat, view, member)[0] for member in range(self.honest.population))
            judged = suspicions(context, ("suspicion of the supplied", *SHARED, "defense", "threat"), models)
        found = telling_apart(honest, judged, references, self.honest.false_alarm_rate)
        outcome.diagnostics |= {
            **found,
            "suspicion": judged.mean().item(),
            "suspicion_of_honest": honest.mean().item(),
            "suspicion_of_references": references.mean().item(),
            "suspicion_ratio": (judged.mean() / honest.mean().clamp_min(1e-12)).item(),
        }
        nothing = Outcome()
        mean = context.data.owner.x.mean(dim=0).expand(len(surface.truth), 1, *surface.shape)
        score_inputs(nothing, Reconstruction(mean), surface, context.data.owner, pool_pixels(context))
        expect(outcome, nothing, power=found["detection_power"], false_alarms=found["false_alarm_rate"])


def supplied(
    context: CellContext, threat: ProviderThreat, view: ProviderSurface, member: int = 0
) -> tuple[nn.Module, nn.Module]:
    """Return the model that a dishonest provider supplies, and what it keeps; ``member``: of the population."""
    suffix = f" {member}" if member else ""
    model = context.fresh_model("model.init" + suffix, owners=True)
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


def pool_pixels(context: CellContext) -> Pixels:
    """Return mean and covariance of the whole training pool, by which the paper's R measures distances."""

    def build() -> Artifact:
        data = context.data
        pool = data.owner if data.training_pool is None else data.training_pool()
        pixels = Pixels.of(pool.x)
        return {"mean": pixels.mean.cpu(), "covariance": pixels.covariance.cpu()}

    kept = context.cache(("pixels of the training pool", "dataset"), build)
    return Pixels(kept["mean"].to(context.device), kept["covariance"].to(context.device))


def score_inputs(outcome: Outcome, guess: Reconstruction, surface: OutputSurface, known: Split, pool: Pixels) -> None:
    """Report likeness to the private inputs, and reconstruction risk.

    ``r`` is the paper's R, by mean and covariance of the whole training pool; ``r_ridge`` keeps the order of attacks
    right where pixels hardly vary. Both weigh all directions alike, of which photographs have hundreds and ten outputs
    can tell ten: on CIFAR-10 R is near 1 however good a reconstruction looks. ``explained_variance``, the share of the
    squared distance to the mean that the guess saves, tells attacks apart on every set of images.

    Args:
        known: the provider's training data, by whose mean and covariance the variants of R measure.
        pool: of the whole training pool.
    """
    scores, matched = score_reconstruction(
        guess.x, guess.labels, surface.truth.unsqueeze(1), surface.labels.unsqueeze(1), guess.groups
    )
    outcome.score(scores)
    if matched is None:
        return
    rebuilt, pixels = matched.flatten(0, 1), Pixels.of(known.x)
    ridged = reconstruction_risk(surface.truth, rebuilt, pixels, ridge=RIDGE)
    faithful = reconstruction_risk(surface.truth, rebuilt, pool)
    subspace = reconstruction_risk(surface.truth, rebuilt, pixels, variance=SUBSPACE)
    span = (surface.truth.max() - surface.truth.min()).item()
    squares = (surface.truth.flatten(start_dim=1) - pixels.mean.to(surface.truth)).square().mean().item()
    outcome.risk["explained_variance"] = 1 - float(outcome.diagnostics["mse"]) / max(squares, 1e-12)
    outcome.risk["r_ridge"] = ridged.mean().item()
    outcome.risk["r"] = faithful.mean().item()
    outcome.diagnostics |= {
        "r_ridge_median": ridged.median().item(),
        "r_median": faithful.median().item(),
        "r_subspace": subspace.mean().item(),
        "psnr_db_of_mean_mse": 10 * math.log10(span**2 / max(float(outcome.diagnostics["mse"]), 1e-6)),
    }
    if len(surface.shape) == 3:
        outcome.picture("reconstruction", {"original": surface.truth, "reconstructed": rebuilt})


def expect(outcome: Outcome, nothing: Outcome, *, power: float, false_alarms: float) -> None:
    """Turn risk and utility into those of a user who refuses some models, in place.

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
