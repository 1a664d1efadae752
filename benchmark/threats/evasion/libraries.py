"""Attacks on inputs from foolbox, AutoAttack and ART, played as they are.

Rauber, Brendel, Bethge, *Foolbox*, 2017 (arXiv 1707.04131); Croce, Hein, *Reliable evaluation of adversarial robustness
with an ensemble of diverse parameter-free attacks*, ICML 2020 (arXiv 2003.01690); Nicolae et al., *Adversarial
Robustness Toolbox*, 2018 (arXiv 1807.01069). An adapter hands over the deployed classifier with bounds [0, 1] and the
inputs, and takes back what the library made of them; success is judged by the game. Parameters that are not named are
the library's own defaults. An untargeted attack counts by the error rate that it causes, whichever class comes out.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from benchmark.errors import ConfigError
from benchmark.libraries import ART, AUTOATTACK, FOOLBOX, built, classes, fitting, named
from benchmark.parameters import Arguments, Positive
from benchmark.seeds import child
from benchmark.settings.deployment.games.inputs import AdversarialExamples, InputSurface, InputThreat
from benchmark.settings.threat import Floor
from benchmark.threats.evasion.controls import never

VERSION = 1
PATH = "threat.parameters"
Steps = Literal["apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square"]
NEEDED_CLASSES = {"apgd-dlr": 3, "apgd-t": 4}
"""Of the difference-of-logits ratio, plain and targeted."""
ALWAYS_TARGETED = ("SaliencyMapMethod",)


class NamedAttack(InputThreat):
    """Base of adapters of an attack that is chosen by its class's name.

    Args:
        attack: name of the class.
        parameters: of its constructor.
        targeted: aim at the classes that the game asks for; False takes any wrong class.
    """

    family = "evasion"
    headline = "attack_success"
    floor: ClassVar[Floor | None] = Floor("attack_success", 0.1)

    def __init__(self, *, attack: str, parameters: Arguments | None, targeted: bool) -> None:
        super().__init__()
        self.name, self.parameters, self.targeted = attack, dict(parameters or {}), targeted
        if not targeted:  # this one's own
            self.headline, self.floor = "error_rate", Floor("error_rate", 0.1)  # type: ignore[misc]


class Foolbox(NamedAttack):
    """Attack of foolbox.

    Args:
        attack: a class of ``foolbox.attacks``, e.g. ``LinfPGD``, ``L2DeepFoolAttack``, ``HopSkipJumpAttack``.
        parameters: of its constructor, e.g. ``steps``; foolbox's defaults for the others.
        epsilon: largest distance in the attack's own norm; None asks an attack that looks for the smallest change how
            small it gets.
        targeted: as in :class:`NamedAttack`.
    """

    library = FOOLBOX

    def __init__(
        self,
        *,
        attack: str = "LinfPGD",
        parameters: Arguments | None = None,
        epsilon: Positive | None = 0.3,
        targeted: bool = True,
    ) -> None:
        super().__init__(attack=attack, parameters=parameters, targeted=targeted)
        module = FOOLBOX.load("attacks")
        kind = named(attack, classes(module, module.Attack), "threat.attack", FOOLBOX)
        fitting(kind, self.parameters, PATH)
        self.foreign, self.epsilon = built(kind, self.parameters, PATH), epsilon
        if epsilon is None and issubclass(kind, module.base.FixedEpsilonAttack):
            raise ConfigError(f"{attack} moves by a given distance: threat.epsilon must be above 0, got null.")

    def attack(self, surface: InputSurface, rng: torch.Generator) -> AdversarialExamples:
        foolbox = FOOLBOX.load()
        goal = (
            foolbox.criteria.TargetedMisclassification(surface.targets)
            if self.targeted
            else foolbox.criteria.Misclassification(surface.y)
        )
        model = foolbox.PyTorchModel(surface.model, bounds=(0, 1), device=surface.x.device)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                _, altered, _ = self.foreign(model, surface.x, goal, epsilons=self.epsilon)
        except ValueError as error:
            if "unsupported criterion" not in str(error):
                raise
            aim = "at a class" if self.targeted else "away from one"
            raise ConfigError(
                f"{self.name} cannot aim {aim}: threat.targeted={str(not self.targeted).lower()}."
            ) from error
        return AdversarialExamples(altered.detach(), never(surface.x))


class AutoAttack(InputThreat):
    """AutoAttack: an ensemble of attacks without parameters, each on the inputs that the ones before left.

    Args:
        norm: of the distance.
        eps: largest distance; for a norm other than Linf rather 0.5 and more.
        ensemble: the version of AutoAttack: ``standard``, ``plus`` or ``rand`` (for randomised classifiers) as the
            authors define them, or ``custom``, the ``attacks`` listed.
        attacks: in their order, for ``custom`` alone.
    """

    family = "evasion"
    headline = "error_rate"
    floor = Floor("error_rate", 0.1)
    library = AUTOATTACK
    needs = InputThreat.needs | {"dataset.kind": "image"}

    def __init__(
        self,
        *,
        norm: Literal["Linf", "L2", "L1"] = "Linf",
        eps: Positive = 0.3,
        ensemble: Literal["standard", "plus", "rand", "custom"] = "standard",
        attacks: Sequence[Steps] = (),
    ) -> None:
        super().__init__()
        if (ensemble == "custom") != bool(attacks):
            raise ConfigError("threat.attacks lists the attacks of threat.ensemble=custom, and of no other ensemble.")
        self.norm, self.eps, self.ensemble, self.attacks = norm, eps, ensemble, list(attacks)

    def attack(self, surface: InputSurface, rng: torch.Generator) -> AdversarialExamples:
        x, where = torch.unique(surface.x, dim=0, return_inverse=True)  # a victim stands here once for each target
        y = surface.y.new_empty(len(x)).index_copy_(0, where, surface.y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            altered, _ = self.foreign(surface.model, surface.num_classes, child(rng)).run_standard_evaluation(x, y)
        return AdversarialExamples(altered[where].detach(), never(surface.x))

    def foreign(self, model: nn.Module, num_classes: int, seed: int) -> Any:
        """Return the library's own object for a classifier of so many classes.

        Raises:
            ConfigError: an attack of the ensemble needs more classes.
        """
        found = AUTOATTACK.load().AutoAttack(
            model,
            norm=self.norm,
            eps=self.eps,
            version=self.ensemble,
            attacks=self.attacks or None,
            seed=seed,
            device=next(model.parameters()).device,
        )
        for name in found.attacks_to_run:
            if num_classes < NEEDED_CLASSES.get(name, 2):
                raise ConfigError(
                    f"{name} needs {NEEDED_CLASSES[name]} classes, but here are {num_classes}; name others, "
                    "threat.ensemble=custom threat.attacks=[apgd-ce,fab,square]."
                )
        for part in (found.apgd_targeted, found.fab):  # as the authors advise for few classes
            part.n_target_classes = min(part.n_target_classes, num_classes - 1)
        return found


class ArtEvasion(NamedAttack):
    """Evasion attack of the Adversarial Robustness Toolbox that takes a PyTorch classifier.

    Args:
        attack: a class of ``art.attacks.evasion``, e.g. ``SquareAttack``, ``ProjectedGradientDescent``.
        parameters: of its constructor, e.g. ``eps``, ``max_iter``; ART's defaults for the others.
        targeted: as in :class:`NamedAttack`.
    """

    library = ART

    def __init__(
        self, *, attack: str = "SquareAttack", parameters: Arguments | None = None, targeted: bool = False
    ) -> None:
        super().__init__(attack=attack, parameters=parameters, targeted=targeted)
        self.kind: Any = named(attack, classes(ART.load("attacks.evasion")), "threat.attack", ART)
        first, *takes = inspect.signature(self.kind).parameters
        always = attack in ALWAYS_TARGETED
        if targeted and not always and "targeted" not in takes:
            raise ConfigError(f"{attack} cannot aim at a class: threat.targeted=false.")
        if always and not targeted:
            raise ConfigError(f"{attack} only ever aims at a class: threat.targeted=true.")
        own = {"verbose": False, "targeted": targeted}
        fitting(self.kind, self.parameters, PATH, (first, *own))
        self.told = {name: value for name, value in own.items() if name in takes}
        self.foreign(nn.Linear(1, 2), (1,), 2)  # so that a value that ART refuses is told before anything is trained

    def foreign(self, model: nn.Module, shape: Sequence[int], num_classes: int) -> Any:
        """Return ART's attack on ``model``."""
        classifier = art_classifier(model, shape, num_classes)
        if not all(isinstance(classifier, wanted) for wanted in self.kind._estimator_requirements):
            raise ConfigError(
                f"{self.name} is for another kind of model than a PyTorch classifier; name another attack."
            )
        return built(partial(self.kind, classifier, **self.told), self.parameters, PATH)

    def attack(self, surface: InputSurface, rng: torch.Generator) -> AdversarialExamples:
        goal = surface.targets if self.targeted else surface.y
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            foreign = self.foreign(surface.model, surface.x.shape[1:], surface.num_classes)
            altered = foreign.generate(x=surface.x.cpu().numpy(), y=goal.cpu().numpy())
        return AdversarialExamples(torch.from_numpy(altered).to(surface.x), never(surface.x))


def art_classifier(model: nn.Module, shape: Sequence[int], num_classes: int) -> Any:
    """Return a copy of ``model`` as ART takes classifiers of inputs in [0, 1]; ART moves it to a device of its own."""
    parameter: Tensor = next(model.parameters())
    return ART.load("estimators.classification").PyTorchClassifier(
        copy.deepcopy(model),
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(shape),
        nb_classes=num_classes,
        clip_values=(0.0, 1.0),
        device_type="gpu" if parameter.is_cuda else "cpu",
    )
