"""Soteria, withheld and encrypted layers, compression with memory, quantisation, dropout."""

import pytest
import torch
from torch import nn
from torch.func import jacrev

from benchmark.defenses.collaboration.clients.dropout import Dropout
from benchmark.defenses.collaboration.clients.gradient_compression import GradientCompression
from benchmark.defenses.collaboration.clients.gradient_noise import GradientNoise
from benchmark.defenses.collaboration.clients.gradient_pruning import GradientPruning
from benchmark.defenses.collaboration.clients.gradient_quantisation import GradientQuantisation
from benchmark.defenses.collaboration.clients.layer_encryption import LayerEncryption
from benchmark.defenses.collaboration.clients.layer_withholding import LayerWithholding
from benchmark.defenses.collaboration.clients.soteria import Soteria, _representation, representation_scores
from benchmark.errors import ConfigError
from benchmark.metrics.gradient_geometry import push_forward
from benchmark.models.strided_convnet import StridedConvNet
from benchmark.seeds import normal_like
from benchmark.settings.collaboration.defense import LocalStep, Round
from benchmark.settings.stack import Stack
from benchmark.threats.gradient_leakage.dlg import DLG
from benchmark.threats.gradient_leakage.matching import average_rounds, targets_of
from benchmark.threats.gradient_leakage.trap import Trap
from benchmark.training.functional import Net
from benchmark.training.layers import layer_mask, layer_slices, select_layers
from tests.benchmark.helpers import TinyNet, observe
from tests.benchmark.threats.test_gradient_leakage import quality


def two_stage(**_: object) -> StridedConvNet:
    return StridedConvNet(
        shape=(1, 8, 8), num_classes=10, channels=[8, 8], hidden=16, activation="tanh", init="default", kernel=3
    )


def net() -> Net:
    torch.manual_seed(0)
    return Net(two_stage())


def a_round(layout, parties: int = 3, index: int = 0) -> Round:
    return Round(index, layout, torch.zeros(layout.size), torch.arange(parties), torch.Generator().manual_seed(index))


def idlg(adaptive: bool, observations: int = 1) -> DLG:
    return DLG(iterations=80, restarts=2, labels="restored", observations=observations, adaptive=adaptive)


# -- layers ---------------------------------------------------------------------------------------


def test_layers_are_named_by_kind_and_cover_everything():
    layout = net().layout
    slices = layer_slices(layout)
    assert list(slices) == ["conv1", "conv2", "fc1", "fc2"]
    assert layer_mask(layout, list(slices)).all()
    assert select_layers(layout, ["fc", "first"], "x") == ["conv1", "fc1", "fc2"]
    with pytest.raises(ConfigError, match=r"\['fc3'\].*\['conv1', 'conv2', 'fc1', 'fc2'\]"):
        select_layers(layout, ["fc3"], "threat.layers")


# -- Soteria --------------------------------------------------------------------------------------


def test_soteria_zeroes_only_rows_of_the_protected_layer():
    model = net()
    x, y = torch.rand(4, 1, 8, 8), torch.arange(4)
    step = LocalStep(model, model.initial(), x, y, torch.Generator().manual_seed(0))
    plain, cut = (model.layout.split(g) for g in (step.gradient(), Soteria(ratio=0.5, probes=4).local_step(step)))
    weight = "body.5.weight"
    assert (cut[weight] == 0).all(dim=1).sum() == 8
    kept = ~(cut[weight] == 0).all(dim=1)
    torch.testing.assert_close(cut[weight][kept], plain[weight][kept])
    for name in plain:
        if not name.startswith("body.5"):
            assert torch.equal(cut[name], plain[name])


def test_soteria_ranks_units_as_the_exact_jacobian_does():
    model = net()
    x = torch.rand(1, 1, 8, 8)
    body = model.module.body
    rows = jacrev(lambda x: body(x)[0])(x).flatten(1).norm(dim=1)
    exact = body(x)[0].abs() / rows
    scores = representation_scores(model, model.initial(), x, True, 400, torch.Generator().manual_seed(1))
    torch.testing.assert_close(scores, exact, rtol=0.25, atol=0)


@pytest.mark.parametrize(("architecture", "by_rows"), [(two_stage, True), (TinyNet, False)])
def test_soteria_scores_of_all_probes_at_once_are_those_of_one_after_the_other(architecture, by_rows):
    torch.manual_seed(0)
    model, x = Net(architecture()), torch.rand(5, 1, 8, 8)
    scores = representation_scores(model, model.initial(), x, by_rows, 8, torch.Generator().manual_seed(1))

    def represent(x: torch.Tensor) -> torch.Tensor:
        return _representation(model, model.initial(), x, by_rows)

    rng = torch.Generator().manual_seed(1)
    changes = [push_forward(represent, x, normal_like(x, rng))[1] for _ in range(8)]
    norms = (sum(change.square() for change in changes) / 8).sqrt().clamp_min(1e-12)
    # On an AMD processor they are equal to the last bit, on an Intel one but for the last.
    torch.testing.assert_close(scores, (represent(x).abs() / norms).mean(dim=0), rtol=1e-6, atol=0)


def test_soteria_cuts_the_columns_of_a_head_that_is_alone():
    model = Net(TinyNet())
    step = LocalStep(model, model.initial(), torch.rand(1, 1, 8, 8), torch.tensor([1]), torch.Generator())
    weight = model.layout.split(Soteria(ratio=0.25, probes=2).local_step(step))["layers.5.weight"]
    assert (weight == 0).all(dim=0).sum() == 32


def test_soteria_ranks_the_rows_of_a_layer_that_a_server_put_in_front():
    model = Net(Trap(TinyNet(), pixels=64, rows=6, ceiling=1.0, readout=1e-3))
    step = LocalStep(model, model.initial(), torch.rand(4, 1, 8, 8), torch.arange(4), torch.Generator().manual_seed(1))
    trap = model.module.trap
    distances = (trap(step.x.flatten(1)).abs() / trap.weight.norm(dim=1)).mean(dim=0)
    plain, cut = (model.layout.split(g) for g in (step.gradient(), Soteria(ratio=0.5, probes=400).local_step(step)))
    farthest = distances.topk(3).indices
    assert (cut["trap.weight"][farthest] == 0).all() and (cut["trap.bias"][farthest] == 0).all()
    kept = [row for row in range(6) if row not in farthest]
    assert torch.equal(cut["trap.weight"][kept], plain["trap.weight"][kept])


@pytest.mark.ci
def test_leaving_the_layer_out_sees_through_soteria():
    surface = observe(Soteria(ratio=0.5, probes=8), architecture=two_stage, victims=2)
    naive, adaptive = quality(idlg(False), surface), quality(idlg(True), surface)
    assert adaptive > 30
    assert naive < adaptive - 10


# -- withheld and encrypted layers ----------------------------------------------------------------


def test_withheld_layers_are_zero_and_published():
    surface = observe(LayerWithholding(layers=["fc1"]), architecture=two_stage)
    part = layer_slices(surface.net.layout)["fc1"]
    assert (surface.uploads[..., part] == 0).all()
    mask = surface.published[0].mask
    assert not mask[part].any() and mask.sum() == mask.numel() - (part.stop - part.start)


def test_encrypted_layers_are_hidden_and_still_averaged():
    layout, defense = net().layout, LayerEncryption(layers=["first"])
    defense.start(3, layout)
    turn, updates = a_round(layout), torch.randn(3, layout.size)
    uploads = defense.protect(updates, turn)
    assert (uploads[:, layer_slices(layout)["conv1"]] == 0).all()
    torch.testing.assert_close(defense.aggregate(uploads, turn), updates.mean(dim=0))


def test_masks_of_stacked_defenses_add_up():
    surface = observe(
        Stack([LayerWithholding(layers=["conv1"]), GradientPruning(ratio=0.5)]), architecture=two_stage, victims=2
    )
    mask = surface.published[0].mask
    assert not mask[:, layer_slices(surface.net.layout)["conv1"]].any()
    assert (surface.uploads[0][~mask] == 0).all()


# -- compression ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["top_k", "random_k", "sign"])
def test_what_compression_leaves_out_is_sent_later(method):
    layout = net().layout
    defense = GradientCompression(method=method, share=0.1, error_feedback=True)
    defense.start(3, layout)
    updates = torch.randn(3, layout.size)
    sent = sum(defense.protect(updates, a_round(layout, index=i)) for i in range(12))
    torch.testing.assert_close(sent + defense.memory, 12 * updates, atol=1e-4, rtol=1e-4)


def test_without_memory_the_error_is_lost():
    layout = net().layout
    defense = GradientCompression(method="top_k", share=0.1, error_feedback=False)
    defense.start(3, layout)
    updates = torch.randn(3, layout.size)
    first, second = (defense.protect(updates, a_round(layout, index=i)) for i in range(2))
    assert torch.equal(first, second)


def test_error_feedback_gives_the_update_away_over_rounds():
    surface = observe(
        GradientCompression(method="top_k", share=0.05, error_feedback=True),
        architecture=two_stage,
        victims=2,
        observations=100,
    )
    plain = observe(architecture=two_stage, victims=2).uploads[0]
    mean, mask = average_rounds(surface.uploads, surface.published)
    assert mask.float().mean() > 0.5  # ten times the share of one round; what is never sent is small
    assert (mean - plain).norm() < 0.25 * plain.norm()


def test_random_masks_are_averaged_over_the_rounds_that_sent_a_coordinate():
    surface = observe(GradientCompression(method="random_k", share=0.2, error_feedback=False), observations=40)
    plain = observe().uploads[0]
    mean, mask = average_rounds(surface.uploads, surface.published)
    torch.testing.assert_close(mean[mask], plain[mask], atol=1e-6, rtol=1e-4)


# -- quantisation and dropout ---------------------------------------------------------------------


def test_quantisation_keeps_what_it_says():
    layout = net().layout
    updates, turn = torch.randn(2, layout.size), a_round(layout, 2)
    for method, error in (("fp16", 1e-3), ("int8", 2e-2)):
        rounded = GradientQuantisation(method=method).protect(updates, turn)
        assert (rounded - updates).abs().max() < error * 2
    signs = GradientQuantisation(method="sign").protect(updates, turn)
    assert torch.equal(signs.sign(), updates.sign()) and turn.published.signs
    assert turn.bytes_sent < 0


def test_matching_signs_aims_at_the_truth():
    surface = observe(GradientQuantisation(method="sign"), victims=2)
    assert targets_of(surface, adaptive=True).signs
    assert quality(idlg(True), surface) > quality(idlg(False), surface)


def test_dropout_changes_gradients_and_leaves_no_hooks():
    model = net()
    step = LocalStep(model, model.initial(), torch.rand(4, 1, 8, 8), torch.arange(4), torch.Generator().manual_seed(0))
    plain = step.gradient()
    assert not torch.allclose(Dropout(rate=0.5).local_step(step), plain)
    assert torch.equal(Dropout(rate=0.0).local_step(step), plain)
    assert all(not module._forward_pre_hooks for module in model.module.modules())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Soteria(ratio=1.0, probes=1), "soteria.ratio"),
        (lambda: Dropout(rate=1.0), "dropout.rate"),
        (lambda: GradientCompression(method="x", share=0.1, error_feedback=True), "top_k, random_k, sign"),
        (lambda: GradientQuantisation(method="x"), "sign, int8, fp16"),
        (lambda: observe(LayerWithholding(layers=["x"])), "layer_withholding.layers"),
        (
            lambda: observe(Stack([GradientNoise(std=0.1, distribution="gaussian"), Soteria(ratio=-1.0, probes=1)])),
            "got",
        ),
    ],
)
def test_bad_parameters_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_model_without_fully_connected_layers_is_refused():
    model = Net(nn.Sequential(nn.Conv2d(1, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    with pytest.raises(ConfigError, match="fully connected"):
        Soteria(ratio=0.5, probes=1).start(1, model.layout)
