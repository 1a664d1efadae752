"""Attacks on uploads: closed forms, oracles, and the defenses that each adaptive form must overcome."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmark.defenses.collaboration.clients.batch_aggregation import BatchAggregation
from benchmark.defenses.collaboration.clients.gradient_clipping import GradientClipping
from benchmark.defenses.collaboration.clients.gradient_noise import GradientNoise
from benchmark.defenses.collaboration.clients.gradient_pruning import GradientPruning
from benchmark.errors import ConfigError, Refused
from benchmark.metrics.images import psnr_db
from benchmark.settings.collaboration.defense import FederatedDefense
from benchmark.settings.threat import AccessError, Threat
from benchmark.threats.gradient_leakage.analytic import AnalyticFC
from benchmark.threats.gradient_leakage.controls import Copy, MeanImage, UniformNoise
from benchmark.threats.gradient_leakage.dlg import DLG
from benchmark.threats.gradient_leakage.inverting_gradients import InvertingGradients
from benchmark.threats.gradient_leakage.labels import LabelRestoration, restore_labels
from benchmark.threats.gradient_leakage.matching import (
    Matcher,
    Targets,
    best_explained,
    cosine_distance,
    sign_distance,
    squared_distance,
    targets_of,
    total_variation,
)
from benchmark.threats.gradient_leakage.regularised_inversion import features_of
from benchmark.training.functional import Net
from tests.benchmark.helpers import TinyMLP, TinyNet, observe


def idlg(adaptive: bool = False, observations: int = 50) -> DLG:
    return DLG(iterations=50, restarts=2, labels="restored", observations=observations, adaptive=adaptive)


def quality(threat: Threat, surface) -> float:
    """Return the mean PSNR (dB) of the guess on a surface, image order kept."""
    return likeness(threat(surface, seed=0), surface)


def likeness(guess, surface) -> float:
    return psnr_db(guess.x.flatten(0, 1), surface.truth.flatten(0, 1)).mean().item()


# -- labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.Sigmoid])
def test_the_label_of_one_sample_is_exact(activation):
    torch.manual_seed(0)
    net = Net(nn.Sequential(nn.Flatten(), nn.Linear(64, 16), activation(), nn.Linear(16, 10)))
    x, y = torch.rand(300, 1, 8, 8), torch.randint(10, (300,))
    gradients = net.per_sample_gradients(net.initial(), x, y)
    for method in ("bias_corrected", "row_minimum"):
        # A row sum can be zero when no ReLU fires, so row_sum is only exact for positive features.
        assert torch.equal(restore_labels(gradients, net.layout, 1, method).squeeze(1), y)


def test_repeated_labels_of_a_batch_are_counted():
    torch.manual_seed(0)
    net = Net(TinyNet())
    y = torch.tensor([3, 3, 3, 7, 7, 1, 0, 0])
    gradient = net.gradient(net.initial(), torch.rand(8, 1, 8, 8), y)
    assert sorted(restore_labels(gradient[None], net.layout, 8)[0].tolist()) == sorted(y.tolist())


def test_an_unknown_label_method_is_refused():
    with pytest.raises(ConfigError, match="bias_corrected.*not by 'magic'"):
        restore_labels(torch.zeros(1, 10), Net(nn.Linear(1, 5)).layout, 1, "magic")


def test_label_restoration_reads_every_victim():
    surface = observe(victims=6)
    guess = LabelRestoration(method="bias_corrected", observations=1, adaptive=False)(surface, seed=0)
    assert guess.x is None
    assert torch.equal(guess.labels, surface.labels)


# -- the matching objective -----------------------------------------------------------------------


def one_hot(surface, targets):
    y = nn.functional.one_hot(surface.labels, surface.num_classes).float()
    return y.view(-1, targets.members, surface.batch_size, surface.num_classes)


@pytest.mark.parametrize("distance", [squared_distance, cosine_distance])
def test_the_objective_is_zero_at_the_truth(distance):
    surface = observe(victims=3)
    targets = targets_of(surface, adaptive=False)
    matcher = Matcher(surface, targets, distance=distance)
    value, *_ = matcher.objective(surface.truth.unsqueeze(1), one_hot(surface, targets))
    assert value.abs().max() < 1e-5


@pytest.mark.parametrize("distance", [squared_distance, cosine_distance, sign_distance])
def test_a_batch_of_distances_equals_single_distances(distance):
    ours, theirs = torch.randn(2, 5, 3, 40)
    one_by_one = [[distance(a, b) for a, b in zip(*pair, strict=True)] for pair in zip(ours, theirs, strict=True)]
    torch.testing.assert_close(distance(ours, theirs), torch.tensor(one_by_one))


def test_the_cosine_distance_equals_torchs_and_has_a_gradient_at_zero():
    ours, theirs = torch.randn(2, 5, 40, dtype=torch.float64)
    expected = 1 - nn.functional.cosine_similarity(ours, theirs)
    torch.testing.assert_close(cosine_distance(ours, theirs), expected)
    nothing = torch.zeros(1, 40, requires_grad=True)
    cosine_distance(nothing, torch.ones(1, 40)).sum().backward()
    assert nothing.grad.isfinite().all()


def test_cosine_matching_ignores_the_scale_of_the_gradient():
    surface = observe(victims=2)
    scaled = type(surface)(**{**vars_of(surface), "uploads": 7 * surface.uploads})
    x = torch.rand(2, 1, 1, *surface.shape)
    values = [
        Matcher(s, t, distance=cosine_distance).objective(x, one_hot(s, t))[0]
        for s in (surface, scaled)
        for t in [targets_of(s, adaptive=False)]
    ]
    torch.testing.assert_close(*values)


def vars_of(surface) -> dict:
    return {name: getattr(surface, name) for name in surface.visible()}


def test_the_batched_objective_equals_a_plain_loop_over_inversions():
    surface = observe(victims=3, batch=2)
    targets = targets_of(surface, adaptive=False)
    matcher = Matcher(surface, targets, distance=cosine_distance, restarts=2, total_variation=(0.1,))
    x = torch.rand(6, 1, 2, *surface.shape)
    y = one_hot(surface, targets).repeat_interleave(2, dim=0)
    value, gradient, _ = matcher.objective(x, y)
    for i in range(6):
        single = x[i].clone().requires_grad_()
        module, weights = surface.net.module, list(surface.net.module.parameters())
        loss = nn.functional.cross_entropy(module(single[0]), y[i, 0])
        dummy = torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights, create_graph=True)])
        slow = cosine_distance(dummy, targets.gradients[i // 2]) + 0.1 * total_variation(single)
        torch.testing.assert_close(value[i], slow.detach(), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(gradient[i], torch.autograd.grad(slow, single)[0], atol=1e-5, rtol=1e-3)


def test_the_best_restart_is_chosen_by_the_distance_and_nan_never_wins():
    surface = observe(victims=2)
    matcher = Matcher(surface, targets_of(surface, False), distance=squared_distance, restarts=3)
    value = torch.tensor([3.0, float("nan"), 1.0, float("nan"), 5.0, 9.0])
    found, best, _ = matcher.best(torch.arange(6), value)
    assert found.tolist() == [2, 4]
    assert best.tolist() == [1.0, 5.0]


def test_the_strongest_prior_that_explains_the_gradient_is_kept():
    distance = torch.tensor([[0.100, 0.102, 0.104, 0.200], [0.0, 1e-8, 1e-3, 0.5], [0.3, 0.2, float("nan"), 0.9]])
    prior = torch.tensor([0.001, 0.01, 0.05, 0.2]).expand(3, 4)
    assert best_explained(distance, prior).tolist() == [2, 1, 1]
    assert best_explained(torch.tensor([[0.3, 0.1, 0.2]]), torch.ones(1, 3)).tolist() == [1]


def test_each_weight_gets_its_own_inversions_of_each_target():
    surface = observe(victims=2)
    targets = targets_of(surface, adaptive=False)
    matcher = Matcher(surface, targets, distance=cosine_distance, restarts=2, total_variation=(0.0, 0.5))
    assert (matcher.count, matcher.per_target) == (8, 4)
    x = torch.rand(1, 1, 1, *surface.shape).expand(8, -1, -1, -1, -1, -1)
    y = matcher.for_each(one_hot(surface, targets))
    value, distance = matcher.objective(x, y)[0], matcher.distances(x, y)
    torch.testing.assert_close(value - distance, torch.tensor([0.0, 0.5] * 4) * total_variation(x))
    assert distance[:4].unique().numel() == 1 and distance[0] != distance[4]


@pytest.mark.ci
def test_the_weight_of_the_prior_is_chosen_from_the_uploads_alone():
    """These images are not smooth, so a strong prior is false: the gradient tells, clear or noisy."""
    for surface in (observe(victims=3), observe(GradientNoise(std=0.02, distribution="gaussian"), victims=3)):
        results = {}
        for weights in ([1e-4, 1e-2, 0.5], 0.5):
            threat = InvertingGradients(iterations=150, total_variation=weights)
            results[str(weights)] = threat(surface.restrict(()), seed=0)  # neither labels nor truth are granted
        chosen, strong = (psnr_db(guess.x[:, 0], surface.truth[:, 0]).mean() for guess in results.values())
        assert chosen > strong + 8


def test_features_are_exact_for_one_sample_and_per_label_in_a_batch():
    torch.manual_seed(0)
    net = Net(nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10)))
    x, labels = torch.rand(3, 1, 8, 8), torch.tensor([[4], [4], [7]])
    gradients = net.per_sample_gradients(net.initial(), x, labels[:, 0])
    seen = net.module[:3](x)
    torch.testing.assert_close(features_of(gradients, net.layout, labels)[:, 0], seen, atol=1e-4, rtol=1e-3)
    found = features_of(gradients.mean(dim=0, keepdim=True), net.layout, labels.T)[0]
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    similarity = nn.functional.cosine_similarity
    assert similarity(found[2], seen[2], dim=0) > similarity(found[0], seen[2], dim=0)


# -- attacks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", ["joint", "restored"])
def test_dlg_recovers_single_images(labels):
    threat = DLG(iterations=120, restarts=2, labels=labels, observations=1, adaptive=False)
    assert quality(threat, observe(victims=3)) > 30


def test_inverting_gradients_recovers_single_images():
    threat = InvertingGradients(
        iterations=250, step=0.1, total_variation=1e-4, restarts=1, observations=1, adaptive=False
    )
    assert quality(threat, observe(victims=2)) > 20


def test_the_analytic_attack_is_exact_in_double_precision():
    surface = observe(architecture=TinyMLP, victims=4)
    net = Net(surface.net.module.double())
    params, x = net.initial(), surface.truth.double()
    uploads = net.gradients(params, x, surface.labels)[None]
    exact = type(surface)(**{**vars_of(surface), "net": net, "params": params, "uploads": uploads, "truth": x})
    guess = AnalyticFC(observations=1, adaptive=False)(exact, seed=0)
    assert (guess.x - x).square().mean() < 1e-8
    assert torch.equal(guess.labels, surface.labels)


def test_a_row_that_only_one_sample_activates_gives_that_sample():
    net = Net(nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 2)))
    with torch.no_grad():
        net.module[1].weight.copy_(torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]]))
        net.module[1].bias.zero_()
    x = torch.tensor([[0.9, 0.4, 0.0, 0.0], [0.0, 0.0, 0.3, 0.8]]).view(2, 1, 2, 2)
    weight, bias = list(net.layout.split(net.gradient(net.initial(), x, torch.tensor([0, 1]))[None]).values())[:2]
    from benchmark.threats.gradient_leakage.analytic import row_ratio

    found = row_ratio(weight, bias, 2)[0]
    for sample in x.flatten(1):
        assert (found - sample).abs().amax(dim=1).min() < 1e-5


# -- what each defense does, and what its adaptive attack sees through ----------------------------


def test_pruning_stops_the_naive_attack_and_not_the_one_that_knows_the_mask():
    surface = observe(GradientPruning(ratio=0.9), victims=3)
    naive, adaptive = quality(idlg(), surface), quality(idlg(adaptive=True), surface)
    assert adaptive > 30
    assert naive < adaptive - 10


def test_averaging_repeated_rounds_removes_noise():
    noise = GradientNoise(std=0.03, distribution="gaussian")
    naive = quality(idlg(), observe(noise, victims=3))
    adaptive = quality(idlg(adaptive=True), observe(noise, victims=3, observations=100))
    assert adaptive > naive + 5


def test_clipping_stops_matching_of_magnitudes_but_not_of_directions():
    surface = observe(GradientClipping(max_norm=0.05), victims=3)
    assert quality(idlg(), surface) < 15
    assert quality(idlg(adaptive=True), surface) > 30


@pytest.mark.ci
def test_unrolling_local_steps_beats_taking_the_update_for_one_gradient():
    surface = observe(BatchAggregation(batch_size=1, local_steps=4), victims=2)
    assert quality(idlg(adaptive=True), surface) > quality(idlg(), surface) + 10


def test_the_sum_of_a_mixed_pair_is_inverted_as_one_batch():
    class Swap(FederatedDefense):
        """Defense in which partners exchange every other coordinate."""

        def exchange(self, updates, round):
            mask = torch.arange(updates.shape[1]) % 2 == 0
            round.publish(groups=torch.arange(len(updates)) // 2)
            partner = updates.view(-1, 2, updates.shape[1]).flip(1).reshape(updates.shape)
            return torch.where(mask, partner, updates)

    surface = observe(Swap(), victims=4)
    targets = targets_of(surface, adaptive=True)
    assert (targets.members, targets.rows.tolist()) == (2, [[0, 1], [2, 3]])
    honest = observe(victims=4).uploads[0]
    torch.testing.assert_close(targets.gradients, honest.view(2, 2, -1).mean(1), atol=1e-6, rtol=1e-4)
    guess = idlg(adaptive=True)(surface, seed=0)
    assert guess.x.shape == surface.truth.shape
    assert torch.equal(guess.groups, torch.tensor([0, 0, 1, 1]))


@pytest.mark.ci
def test_an_adaptive_adversary_keeps_the_plain_result_where_it_explains_the_uploads_better():
    class Stuck(DLG):
        """DLG whose search fails whenever it knows more than the plain attack."""

        def invert(self, surface, targets, rng):
            found = super().invert(surface, targets, rng)
            return replace(found, x=torch.rand_like(found.x)) if targets.steps > 1 else found

    surface = observe(BatchAggregation(batch_size=1, local_steps=2), victims=2)
    plain = quality(idlg(), surface)
    stuck = Stuck(iterations=50, restarts=2, labels="restored", observations=1, adaptive=True)(surface, seed=0)
    assert stuck.diagnostics["plain_kept"] == 1.0
    assert likeness(stuck, surface) == pytest.approx(plain, abs=1e-3)
    assert idlg(adaptive=True)(surface, seed=0).diagnostics["plain_kept"] == 0.0


def test_without_facts_the_adaptive_form_is_the_plain_one():
    surface = observe(victims=2)
    guess = idlg(adaptive=True, observations=1)(surface, seed=0)
    assert "plain_kept" not in guess.diagnostics  # nothing else to try
    assert torch.equal(guess.x, idlg()(surface, seed=0).x)


def test_mixed_results_return_to_the_order_of_the_targets():
    gradients, rows = torch.zeros(2, 5), torch.tensor([[0, 3], [2, 1]])
    targets = Targets(gradients, None, 2, rows, None, 1, False)
    found = torch.arange(2 * 6).view(2, 6)  # two members with three samples each
    assert torch.equal(targets.gather(targets.scatter(found)), found)


# -- access, controls, determinism ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "grant"), [("published", "mechanism"), ("truth", "truth"), ("labels", "labels"), ("public", "public")]
)
def test_fields_that_are_not_granted_raise(field, grant):
    surface = observe(victims=2)
    with pytest.raises(AccessError, match=f"'{field}' is hidden.*'{grant}'"):
        getattr(surface.restrict(()), field)
    assert getattr(surface.restrict([grant]), field) is not None


def test_only_adaptive_attacks_read_the_mechanism():
    blind = observe(victims=2).restrict(())
    idlg()(blind, seed=0)
    assert "mechanism" not in idlg().knowledge
    assert idlg(adaptive=True).knowledge == {"mechanism"}


def test_controls_bound_the_attacks():
    surface = observe(victims=3)
    assert quality(Copy(), surface) == 60
    assert quality(UniformNoise(), surface) < 12
    assert quality(MeanImage(), surface) < 20


def test_an_attack_is_reproducible_whatever_ran_before():
    surface = observe(victims=2)
    first = idlg()(surface, seed=3)
    torch.rand(17)
    again = idlg()(surface, seed=3)
    assert torch.equal(first.x, again.x)
    assert not torch.equal(first.x, idlg()(surface, seed=4).x)


def test_groups_of_different_sizes_are_refused():
    class LeaveOneOver(FederatedDefense):
        def exchange(self, updates, round):
            round.publish(groups=torch.tensor([0, 0, 1]))
            return updates

    with pytest.raises(Refused, match="choose setting.victims so that nobody is left over"):
        targets_of(observe(LeaveOneOver(), victims=3), adaptive=True)
