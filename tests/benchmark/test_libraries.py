"""Tests of components that adapt other people's libraries: without a library, and with it against its own output.

``python -m tests.benchmark.test_libraries`` prints the table of ``docs/other-libraries.md``.
"""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from benchmark.compatibility import refusal
from benchmark.data.base import Split
from benchmark.defenses.collaboration.aggregation.byzfl_aggregator import ByzflAggregator
from benchmark.defenses.collaboration.clients.dp_sgd import DPSGD
from benchmark.defenses.collaboration.clients.dp_sgd_opacus import DPSGDOpacus
from benchmark.defenses.none import NoDefense
from benchmark.errors import ConfigError
from benchmark.libraries import LIBRARIES, Library, built, fitting, named
from benchmark.metrics.reconstruction import score_reconstruction
from benchmark.seeds import child, generator, isolated
from benchmark.settings.collaboration.defense import LocalPlan, LocalStep, Round
from benchmark.settings.collaboration.games.contributions import ContributionSurface
from benchmark.settings.collaboration.rounds import local_updates
from benchmark.settings.collaboration.setting import Collaboration
from benchmark.settings.deployment.games.inputs import InputSurface
from benchmark.settings.deployment.setting import Deployment
from benchmark.settings.release.games.members import MemberSurface
from benchmark.threats.evasion.libraries import ArtEvasion, AutoAttack, Foolbox
from benchmark.threats.gradient_leakage.breaching import Breaching, configurations, invert
from benchmark.threats.membership_inference.art import ArtMembership
from benchmark.threats.poisoning.byzfl import Byzfl
from benchmark.threats.poisoning.ipm import IPM
from benchmark.training.functional import Layout, Net
from benchmark.training.loop import train
from runners.config import remembered
from runners.sweep.environment import libraries
from tests.benchmark.helpers import TinyMLP, TinyNet, digits_like, observe, partial_surface

NOWHERE = Library("nowhere", "nowhere", "gauntlet-nowhere")


# -- without a library ------------------------------------------------------------------------------------------------
@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (Foolbox, ByzflAggregator, DPSGDOpacus):
        monkeypatch.setattr(kind, "library", NOWHERE)


@pytest.mark.usefixtures("absent")
@pytest.mark.parametrize("kind", [Foolbox, ByzflAggregator, DPSGDOpacus])
def test_a_component_without_its_library_says_how_to_install_it(kind: type) -> None:
    with pytest.raises(
        ConfigError, match=rf"^{kind.__name__} needs gauntlet-nowhere, .*: pip install -e '.\[nowhere\]'.$"
    ):
        kind()


@pytest.mark.usefixtures("absent")
@pytest.mark.parametrize(
    ("setting", "threat", "defense", "lacking"),
    [(Deployment, Foolbox, NoDefense, Foolbox), (Collaboration, IPM, DPSGDOpacus, DPSGDOpacus)],
)
def test_a_plan_refuses_its_cells_and_a_matrix_keeps_its_pairs(
    setting: type[Any], threat: type[Any], defense: type[Any], lacking: type[Any]
) -> None:
    assert refusal(setting, threat, [defense]) is None
    known = {"model.gradients": "yes"}
    assert str(refusal(setting, threat, [defense], known)).startswith(f"{lacking.__name__} needs gauntlet-nowhere")


def test_plans_are_made_anew_after_an_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    before = remembered.state()
    monkeypatch.setattr(remembered, "LIBRARIES", (*LIBRARIES, Library("pytest", "pytest", "pytest")))
    assert remembered.state() != before


def test_a_record_tells_the_release_of_an_adapted_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Foolbox, "library", Library("pytest", "pytest", "pytest"))
    here = f"{Foolbox.__module__}.Foolbox"
    assert libraries([here, "benchmark.defenses.none.NoDefense"]) == {"pytest": pytest.__version__}
    assert libraries(["benchmark.defenses.none.NoDefense"]) == {}


def test_a_library_that_cannot_be_imported_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match=r"gauntlet-nowhere cannot be imported \(No module named 'nowhere'\)"):
        NOWHERE.load("attacks")


class Attack:
    def __init__(self, model: object, steps: int = 3, step_size: float = 0.1) -> None:
        if steps < 1:
            raise ValueError("steps must be positive")
        self.steps, self.step_size = steps, step_size


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: named("LinfPDG", {"LinfPGD": 1, "FGSM": 2}, "threat.attack", NOWHERE), "did you mean LinfPGD?"),
        (lambda: named("other", {"LinfPGD": 1, "FGSM": 2}, "threat.attack", NOWHERE), "there is FGSM, LinfPGD."),
        (lambda: named("__init__", {"FGSM": 2}, "threat.attack", NOWHERE), "has no such class"),
        (lambda: fitting(Attack, {"step": 1}, "threat.parameters", ("model",)), "did you mean steps or step_size?"),
        (lambda: fitting(Attack, {"model": 1}, "threat.parameters", ("model",)), "Attack has no such parameter"),
        (lambda: built(Attack, {"model": 1, "steps": 0}, "threat.parameters"), "refused by the library: steps must be"),
    ],
)
def test_an_unknown_name_or_value_is_one_sentence(call: Callable[[], object], sentence: str) -> None:
    with pytest.raises(ConfigError, match="^threat[.]") as caught:
        call()
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_numbers_become_what_the_library_takes() -> None:
    made = built(Attack, {"model": None, "steps": 4.0, "step_size": 1}, "threat.parameters")
    assert (type(made.steps), type(made.step_size)) == (int, float)


# -- against the library's own output ---------------------------------------------------------------------------------
def crosscheck(library: str) -> pytest.MarkDecorator:
    """Mark a test that compares an adapter with its library, and skip it where that is not installed."""
    (found,) = [one for one in LIBRARIES if one.package == library]
    return lambda test: pytest.mark.crosscheck(  # type: ignore[return-value]
        pytest.mark.filterwarnings("ignore")(
            pytest.mark.skipif(found.version() is None, reason=f"pip install -e '.[{found.extra}]'")(test)
        )
    )


def classifier() -> InputSurface:
    """Return the surface of a small classifier with twenty inputs."""
    torch.manual_seed(0)
    own, data = digits_like(200, 0), digits_like(20, 4)
    model = train(TinyNet(), own.x, own.y, epochs=15, lr=3e-3, rng=torch.Generator().manual_seed(0))
    none = Split(own.x[:0], own.y[:0])
    return InputSurface(model.eval().requires_grad_(False), data.x, data.y, (data.y + 3) % 10, 10, {}, none, none)


def errors(surface: InputSurface, x: Tensor) -> float:
    return (surface.model(x).argmax(dim=1) != surface.y).double().mean().item()


def hits(surface: InputSurface, x: Tensor) -> float:
    return (surface.model(x).argmax(dim=1) == surface.targets).double().mean().item()


def foolbox_pair(surface: InputSurface, attack: str, epsilon: float | None, targeted: bool, **parameters: Any) -> Any:
    """Return what the adapter and foolbox itself make of the inputs."""
    import foolbox

    ours = Foolbox(attack=attack, parameters=parameters, epsilon=epsilon, targeted=targeted)(surface, seed=3).x
    goal = foolbox.criteria.TargetedMisclassification(surface.targets)
    if not targeted:
        goal = foolbox.criteria.Misclassification(surface.y)
    model = foolbox.PyTorchModel(surface.model, bounds=(0, 1), device="cpu")
    with isolated(3, "threat.Foolbox"):
        theirs = getattr(foolbox.attacks, attack)(**parameters)(model, surface.x, goal, epsilons=epsilon)[1]
    return ours, theirs


@crosscheck("foolbox")
@pytest.mark.parametrize(
    ("attack", "epsilon", "targeted"),
    [("LinfPGD", 0.3, True), ("LinfPGD", 0.3, False), ("L2DeepFoolAttack", None, False), ("LInfFMNAttack", 0.3, True)],
)
def test_foolbox_alters_inputs_as_when_it_is_called_itself(attack: str, epsilon: float | None, targeted: bool) -> None:
    surface = classifier()
    ours, theirs = foolbox_pair(surface, attack, epsilon, targeted)
    assert torch.equal(ours, theirs)
    assert errors(surface, ours) >= 0.1


@crosscheck("foolbox")
def test_an_attack_of_foolbox_that_needs_a_distance_is_told_one() -> None:
    with pytest.raises(ConfigError, match="LinfPGD moves by a given distance"):
        Foolbox(epsilon=None)


def autoattack_pair(surface: InputSurface, norm: str, eps: float, ensemble: str, attacks: tuple[str, ...] = ()) -> Any:
    import pyautoattack

    ours = AutoAttack(norm=norm, eps=eps, ensemble=ensemble, attacks=attacks)(surface, seed=3).x  # type: ignore[arg-type]
    with isolated(3, "threat.AutoAttack"):
        seed = child(generator(3, "threat.AutoAttack"))
        theirs = pyautoattack.AutoAttack(
            surface.model, norm=norm, eps=eps, version=ensemble, attacks=list(attacks) or None, seed=seed
        )
        x, _ = theirs.run_standard_evaluation(surface.x, surface.y)
    return ours, x


@crosscheck("pyautoattack")
@pytest.mark.parametrize(
    ("norm", "eps", "ensemble", "attacks"),
    [("Linf", 0.25, "custom", ("apgd-ce",)), ("L2", 2.0, "custom", ("apgd-ce",))],
)
def test_autoattack_leaves_the_robust_accuracy_that_it_reports(
    norm: str, eps: float, ensemble: str, attacks: tuple[str, ...]
) -> None:
    surface = classifier()
    ours, theirs = autoattack_pair(surface, norm, eps, ensemble, attacks)
    assert errors(surface, ours) == pytest.approx(errors(surface, theirs), abs=0.051), "other order of the inputs"
    assert errors(surface, ours) >= 0.1
    distance = (ours - surface.x).flatten(1).norm(dim=1, p=2 if norm == "L2" else torch.inf)
    assert distance.max() <= eps + 1e-5


@crosscheck("pyautoattack")
def test_a_victim_that_stands_in_several_rows_is_attacked_once() -> None:
    surface = classifier()
    twice = dataclasses.replace(
        surface,
        x=surface.x.repeat_interleave(2, 0),
        y=surface.y.repeat_interleave(2),
        targets=surface.targets.repeat(2),
    )
    x = AutoAttack(eps=0.1, ensemble="custom", attacks=["apgd-ce"])(twice, seed=0).x
    assert torch.equal(x[::2], x[1::2])
    assert (x[::2] - surface.x).abs().amax() <= 0.1 + 1e-6


def art_pair(surface: InputSurface, attack: str, targeted: bool, **parameters: Any) -> Any:
    import art.attacks.evasion as theirs
    from art.estimators.classification import PyTorchClassifier

    ours = ArtEvasion(attack=attack, parameters=parameters, targeted=targeted)(surface, seed=3).x
    model = PyTorchClassifier(
        surface.model, torch.nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0.0, 1.0), device_type="cpu"
    )
    more = {"targeted": True} if targeted else {}
    goal = (surface.targets if targeted else surface.y).numpy()
    with isolated(3, "threat.ArtEvasion"):
        altered = getattr(theirs, attack)(model, verbose=False, **more, **parameters).generate(surface.x.numpy(), goal)
    return ours, torch.from_numpy(altered)


@crosscheck("art")
@pytest.mark.parametrize(
    ("attack", "targeted", "parameters"),
    [
        ("SquareAttack", False, {"eps": 0.3, "max_iter": 20}),
        ("ProjectedGradientDescent", True, {"eps": 0.3, "eps_step": 0.06, "max_iter": 10, "num_random_init": 1}),
    ],
)
def test_art_alters_inputs_as_when_it_is_called_itself(attack: str, targeted: bool, parameters: dict[str, Any]) -> None:
    surface = classifier()
    ours, theirs = art_pair(surface, attack, targeted, **parameters)
    assert torch.equal(ours, theirs)
    assert errors(surface, ours) >= 0.1


@crosscheck("art")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"attack": "DPatch"}, "for another kind of model"),
        ({"targeted": True}, "SquareAttack cannot aim at a class"),
        ({"attack": "SaliencyMapMethod"}, "only ever aims at a class"),
        ({"parameters": {"epsilon": 0.1}}, "SquareAttack has no such parameter; did you mean eps?"),
        ({"parameters": {"eps": -1}}, "refused by the library"),
    ],
)
def test_what_art_cannot_do_is_told_before_anything_is_trained(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        ArtEvasion(**arguments)


@crosscheck("art")
def test_membership_is_inferred_as_when_art_is_called_itself() -> None:
    import art.attacks.inference.membership_inference as theirs
    from art.estimators.classification import PyTorchClassifier

    def wrapped(model: torch.nn.Module) -> Any:
        return PyTorchClassifier(model, torch.nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0.0, 1.0))

    private, own = digits_like(60, 0), digits_like(80, 1)
    surface = partial_surface(
        MemberSurface,
        x=private.x,
        y=private.y,
        shape=(1, 8, 8),
        num_classes=10,
        candidates=private.joined(digits_like(60, 2)),
        attacker=own,
        refit=lambda split, purpose: split,
    )
    threat = ArtMembership(parameters={"nn_model_epochs": 20}, epochs=10)
    ours = threat(surface, seed=0).scores
    asked = surface.candidates
    with isolated(0, "threat.ArtMembership"):
        rng = generator(0, "threat.ArtMembership")
        target = wrapped(threat.classifier(surface, surface.x, surface.y, rng))
        order = torch.randperm(80, generator=rng)
        inside, outside = own[order[:40]], own[order[40:]]
        shadow = wrapped(threat.classifier(surface, inside.x, inside.y, rng))
        attack = theirs.MembershipInferenceBlackBox(target, nn_model_epochs=20)
        told = {"pred": shadow.predict(inside.x.numpy()), "test_pred": shadow.predict(outside.x.numpy())}
        attack.fit(y=inside.y.numpy(), test_y=outside.y.numpy(), **told)
        found = attack.infer(asked.x.numpy(), asked.y.numpy(), probabilities=True)
    assert torch.equal(ours, torch.from_numpy(found[:, -1]).double())
    assert ours.unique().numel() > 60


# -- byzfl
def turn(uploads: Tensor) -> Round:
    d = uploads.shape[1]
    return Round(0, Layout(("w",), ((d,),)), torch.zeros(d), torch.arange(len(uploads)), generator(0, "round"))


RULES = (
    "Average",
    "Median",
    "TrMean",
    "GeometricMedian",
    "Krum",
    "MultiKrum",
    "CenteredClipping",
    "MDA",
    "MoNNA",
    "Meamed",
    "CAF",
    "SMEA",
)


def aggregator_difference(name: str, uploads: Tensor, f: int) -> float:
    """Return the largest difference of the adapter's aggregate and byzfl's own."""
    import byzfl

    kind = getattr(byzfl, name)
    ours = ByzflAggregator(aggregator=name, f_assumed=f)
    ours.start(len(uploads), turn(uploads).layout)
    theirs = kind(f=f) if ours.takes_f else kind()
    with isolated(child(turn(uploads).rng), "byzfl"):
        expected = theirs(uploads.clone())
    return float((ours.aggregate(uploads, turn(uploads)) - expected).abs().max())


@crosscheck("byzfl")
@pytest.mark.parametrize("name", RULES)
def test_an_aggregator_of_byzfl_is_byzfls_own(name: str) -> None:
    uploads = torch.randn(11, 50, generator=generator(0, "uploads"))
    uploads[-2:] += 5
    assert aggregator_difference(name, uploads, 2) == 0


@crosscheck("byzfl")
def test_a_rule_with_a_memory_forgets_it_when_a_collaboration_begins() -> None:
    uploads = torch.randn(5, 4, generator=generator(1, "uploads"))
    rule = ByzflAggregator(aggregator="CenteredClipping", parameters={"tau": 1})
    first, second = rule.aggregate(uploads, turn(uploads)), rule.aggregate(uploads, turn(uploads))
    rule.start(5, turn(uploads).layout)
    assert torch.equal(rule.aggregate(uploads, turn(uploads)), first) and not torch.equal(first, second)


@crosscheck("byzfl")
@pytest.mark.parametrize("name", ["ALittleIsEnough", "SignFlipping", "Mimic", "Optimal_InnerProductManipulation"])
def test_malicious_parties_upload_what_byzfl_makes_of_the_others(name: str) -> None:
    import byzfl

    honest, own = torch.randn(8, 30, generator=generator(0, "h")), torch.zeros(3, 30)
    layout = Layout(("w",), ((30,),))
    view = ContributionSurface(0, torch.zeros(30), layout, 11, own, honest, lambda mine, others: mine[0])
    threat = Byzfl(attack=name)
    found = threat(view, seed=0).updates
    assert torch.equal(found, getattr(byzfl, name)()(honest).expand(3, -1))
    with pytest.raises(ConfigError, match="did you mean Mimic"):
        Byzfl(attack="Mimik")


# -- breaching
@crosscheck("breaching")
def test_configs_are_those_that_breaching_composes() -> None:
    import breaching

    found = configurations()
    assert {"invertinggradients", "modern", "deepleakage"} <= set(found)
    for name, config in found.items():
        theirs: Any = OmegaConf.to_container(breaching.get_attack_config(name))
        theirs = {key: None if value == "None" else value for key, value in theirs.items()}
        assert config == theirs, name


def breaching_pair(attack: str, iterations: int) -> tuple[float, float]:
    """Return the PSNR in dB of the adapter and of breaching with its own config."""
    import breaching

    surface = observe()
    ours = Breaching(attack=attack, iterations=iterations)(surface, seed=0).x
    config = breaching.get_attack_config(attack, [f"optim.max_iterations={iterations}"])
    if config.optim.warmup:
        config.optim.warmup = min(config.optim.warmup, iterations // 10)
    with isolated(0, "threat.Breaching"):
        theirs = torch.stack([invert(surface, upload, config)[0] for upload in surface.uploads[0]])
    return tuple(score_reconstruction(x, None, surface.truth, surface.labels)[0]["psnr_db"] for x in (ours, theirs))  # type: ignore[return-value]


@crosscheck("breaching")
@pytest.mark.parametrize("attack", ["invertinggradients", "modern"])
def test_an_inversion_is_breachings_own(attack: str) -> None:
    ours, theirs = breaching_pair(attack, 60)
    assert ours == theirs


# -- Opacus
def private_pair(noise: float, steps: int = 20, batch: int = 16) -> tuple[Tensor, Tensor, float, float]:
    """Return a party's parameters after local steps by the adapter and by Opacus' own loop, and epsilon of each."""
    from opacus import PrivacyEngine

    data = digits_like(160, 0)
    net = Net(TinyMLP())
    rows = torch.randint(160, (steps, batch), generator=generator(0, "rows"))
    x, y = data.x[rows], data.y[rows]
    defense = DPSGDOpacus(max_norm=1.0, noise_multiplier=noise, delta=1e-3)
    plan = LocalPlan(batch_size=batch, local_steps=steps, lr=0.2)
    start = net.initial()
    update = local_updates(net, defense, start, x[None], y[None], plan, [generator(0, "noise")])[0]
    ours = start - plan.lr * update

    model = TinyMLP()
    model.load_state_dict(net.module.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=plan.lr)
    engine = PrivacyEngine()
    loader = DataLoader(TensorDataset(data.x, data.y), batch_size=batch)
    model, optimizer, _ = engine.make_private(
        module=model,
        optimizer=optimizer,
        data_loader=loader,
        noise_multiplier=noise,
        max_grad_norm=1.0,
        poisson_sampling=False,
        noise_generator=generator(0, "noise"),
    )
    for here, labels in zip(x, y, strict=True):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(here), labels).backward()
        optimizer.step()
    theirs = torch.cat([p.detach().flatten() for p in model.parameters()])
    claimed = defense.claims(samples=160, batch_size=batch, steps=steps)["epsilon_by_opacus"]
    return ours, theirs, claimed, engine.get_epsilon(1e-3)


@crosscheck("opacus")
def test_training_with_opacus_is_opacus_own_loop() -> None:
    ours, theirs, epsilon, theirs_epsilon = private_pair(0.8)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert epsilon == theirs_epsilon > 0
    run = {"samples": 160, "batch_size": 16, "steps": 20}
    assert DPSGDOpacus(noise_multiplier=0.8).epsilon(**run) == DPSGD(noise_multiplier=0.8).epsilon(**run)


@crosscheck("opacus")
def test_without_noise_opacus_clips_as_the_suite_does() -> None:
    data, net = digits_like(12, 3), Net(TinyNet())
    step = LocalStep(net, net.initial(), data.x, data.y, generator(0, "noise"))
    ours, theirs = DPSGD(max_norm=0.5, noise_multiplier=0), DPSGDOpacus(max_norm=0.5, noise_multiplier=0)
    torch.testing.assert_close(theirs.local_step(step), ours.local_step(step), atol=1e-6, rtol=1e-4)
    assert theirs.epsilon(samples=100, batch_size=10, steps=5)[0] == float("inf")
    assert theirs.claims(samples=100, batch_size=10, steps=5) == {}


@crosscheck("opacus")
def test_a_model_that_opacus_does_not_take_is_told_in_a_sentence() -> None:
    class Recurrent(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells, self.last = torch.nn.LSTM(8, 4, batch_first=True), torch.nn.Linear(4, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.cells(x[:, 0])[0][:, -1])

    data, net = digits_like(4, 3), Net(Recurrent())
    step = LocalStep(net, net.initial(), data.x, data.y, generator(0, "noise"))
    with pytest.raises(
        ConfigError, match=r"^Opacus cannot make Recurrent private: We do not support nn.LSTM [^\n]*\.$"
    ):
        DPSGDOpacus().local_step(step)


def table() -> None:
    """Print the rows of the docs page."""
    surface = classifier()
    for attack, epsilon, targeted in (("LinfPGD", 0.25, True), ("L2DeepFoolAttack", 1.5, False)):
        score = hits if targeted else errors
        print(
            "foolbox", attack, *(f"{score(surface, x):.3f}" for x in foolbox_pair(surface, attack, epsilon, targeted))
        )
    for norm, eps in (("Linf", 0.15), ("L2", 1.2)):
        print(
            "autoattack", norm, *(f"{errors(surface, x):.3f}" for x in autoattack_pair(surface, norm, eps, "standard"))
        )
    print("art Square", *(f"{errors(surface, x):.3f}" for x in art_pair(surface, "SquareAttack", False, eps=0.2)))
    uploads = torch.randn(11, 50, generator=generator(0, "uploads"))
    print("byzfl", max(aggregator_difference(name, uploads, 2) for name in RULES))
    for attack in ("invertinggradients", "modern"):
        print("breaching", attack, *(f"{value:.2f}" for value in breaching_pair(attack, 300)))
    ours, theirs, *epsilons = private_pair(0.8)
    print("opacus", float((ours - theirs).abs().max()), *epsilons)


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.exit(table())
