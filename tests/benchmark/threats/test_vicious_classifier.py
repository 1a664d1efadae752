from dataclasses import replace
from functools import partial

import pytest
import torch

from benchmark.data.digits import Digits
from benchmark.defenses.service.argmax_only import ArgmaxOnly
from benchmark.defenses.service.logit_spread import LogitSpread
from benchmark.defenses.service.output_noise import OutputNoise
from benchmark.defenses.service.output_rounding import OutputRounding
from benchmark.defenses.service.output_top_k import OutputTopK
from benchmark.errors import ConfigError
from benchmark.models.convnet_bn import ConvNetBN
from benchmark.models.decoder import Decoder, new_decoder
from benchmark.settings.service.setting import Service
from benchmark.threats.reconstruction.output_controls import ClassMeanImage
from benchmark.threats.reconstruction.vicious_classifier import HonestPosthoc, ViciousClassifier, trainable
from benchmark.threats.reconstruction.vicious_evasive import Carrier, HiddenCarrier, HonestFinish, SpreadPenalty
from benchmark.training.reconstruction_loss import reconstruction_loss
from tests.benchmark.helpers import context, kept

SETTING = {"lr": 1e-3, "victims": None, "references": 3, "population": 1, "false_alarm_rate": 0.25}
REBUILDING = {"mse_weight": 5.0, "ssim_weight": 1.0, "width": 16, "blocks": 0}


def vicious(adaptive: bool = False, class_weight: float = 1.0, **changes) -> ViciousClassifier:
    options = {"rebuild_weight": 3.0} | REBUILDING | changes
    return ViciousClassifier(class_weight=class_weight, adaptive=adaptive, **options)


KEPT = {}


def play(threat, defense=None, epochs: int = 40):
    cache = kept(KEPT, setting=epochs, threat=threat, defense=defense)
    return Service(epochs=epochs, **SETTING).play(context(threat, defense, cache=cache))


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 9, 13), (1, 3, 3)])
def test_the_decoder_gives_images_of_any_shape(shape):
    images = Decoder(num_classes=7, shape=shape, width=16)(torch.randn(3, 7))
    assert images.shape == (3, *shape)
    assert images.min() >= 0 and images.max() <= 1


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 13)])
def test_the_residual_decoder_gives_images_of_any_shape(shape):
    images = new_decoder(num_classes=7, shape=shape, width=16, blocks=2)(torch.randn(3, 7))
    assert images.shape == (3, *shape)
    assert images.min() >= 0 and images.max() <= 1


def test_the_decoder_refuses_tables():
    with pytest.raises(ConfigError, match="rebuilds images"):
        Decoder(num_classes=2, shape=(5,), width=8)


def test_the_loss_is_half_the_squared_error_and_the_lack_of_likeness():
    x, guess = torch.rand(4, 1, 8, 8), torch.rand(4, 1, 8, 8)
    huber = torch.nn.functional.huber_loss(guess, x)
    assert reconstruction_loss(guess, x, mse_weight=2.0, ssim_weight=0.0).item() == pytest.approx(
        2 * huber.item(), rel=1e-4
    )
    assert reconstruction_loss(x, x, mse_weight=5.0, ssim_weight=1.0).item() == pytest.approx(0, abs=1e-4)


@pytest.mark.ci
def test_a_vicious_provider_reconstructs_more_than_the_posthoc_decoder_and_keeps_its_accuracy():
    """Uses real digits: synthetic ones differ from their class only by noise, which no decoder can reconstruct."""
    sizes = {"owner": 600, "public": 50, "calibration": 50, "test": 150}

    def measure(threat):
        cache = kept(KEPT, setting="real digits", threat=threat)
        cell = replace(
            context(threat, architecture=partial(ConvNetBN, channels=[16, 32, 32]), cache=cache),
            data=Digits(sizes=sizes).load(None, seed=0),
        )
        return Service(epochs=18, **SETTING | {"lr": 3e-3}).play(cell)

    attacked, honest = measure(vicious(width=48)), measure(HonestPosthoc(adaptive=False, **REBUILDING | {"width": 48}))
    assert attacked.utility["attacked_accuracy"] > honest.utility["test_accuracy"] - 0.05
    assert attacked.risk["psnr_db"] > honest.risk["psnr_db"] + 1
    assert attacked.risk["r_ridge"] > honest.risk["r_ridge"] > measure(ClassMeanImage()).risk["r_ridge"]


@pytest.mark.ci
def test_without_the_weight_on_classes_the_model_does_not_classify():
    assert play(vicious(class_weight=0.0)).utility["attacked_accuracy"] < 0.4


@pytest.mark.ci
def test_an_adaptive_provider_trains_for_what_the_user_reveals():
    naive, adaptive = play(vicious(), ArgmaxOnly()), play(vicious(adaptive=True), ArgmaxOnly())
    assert adaptive.risk["psnr_db"] > naive.risk["psnr_db"] + 1


@pytest.mark.ci
def test_an_adaptive_decoder_is_fitted_to_what_the_user_reveals():
    naive = play(HonestPosthoc(adaptive=False, **REBUILDING), ArgmaxOnly())
    adaptive = play(HonestPosthoc(adaptive=True, **REBUILDING), ArgmaxOnly())
    assert adaptive.risk["psnr_db"] > naive.risk["psnr_db"] + 1


def test_labels_alone_pass_a_gradient_straight_through():
    logits = torch.randn(4, 10, requires_grad=True)
    revealed = trainable(ArgmaxOnly().reveal, 10)(logits)
    assert torch.allclose(revealed, ArgmaxOnly().reveal(logits), atol=1e-6)
    revealed[:, 0].sum().backward()
    assert logits.grad.abs().sum() > 0


def test_rounding_has_a_zero_gradient_and_is_passed_straight_through():
    logits = torch.randn(4, 10, requires_grad=True)
    trainable(torch.round, 10)(logits).sum().backward()
    assert torch.equal(logits.grad, torch.ones(4, 10))


def test_rounded_probabilities_pass_the_gradient_of_a_softmax():
    logits = torch.randn(4, 10, requires_grad=True)
    trainable(lambda z: (4 * z.softmax(dim=1)).round() / 4, 10)(logits)[:, 0].sum().backward()
    soft = logits.detach().softmax(dim=1)
    torch.testing.assert_close(logits.grad[:, 0], soft[:, 0] * (1 - soft[:, 0]))


@pytest.mark.parametrize(
    "defense", [OutputTopK(k=3), OutputRounding(bits=-1), OutputNoise(std=2.0)], ids=lambda d: type(d).__name__
)
def test_a_provider_trains_through_every_treatment(defense):
    adaptive = play(vicious(adaptive=True), defense, epochs=10)
    assert adaptive.risk["psnr_db"] > play(vicious(), defense, epochs=10).risk["psnr_db"] - 0.2


def test_treatments_with_a_gradient_keep_it():
    reveal = lambda logits: logits.softmax(dim=1)  # noqa: E731
    assert trainable(reveal, 10) is reveal


@pytest.mark.ci
def test_the_detector_is_told_about_both_models():
    diagnostics = play(vicious(), LogitSpread()).diagnostics
    assert diagnostics["suspicion"] > 0 and diagnostics["suspicion_of_honest"] > 0


def evasive(kind, **changes):
    return kind(**({"class_weight": 1.0, "rebuild_weight": 3.0} | REBUILDING | changes))


@pytest.mark.slow
def test_the_penalty_reduces_the_spread():
    plain = play(vicious(), LogitSpread(), epochs=30).diagnostics["suspicion"]
    hiding = play(evasive(SpreadPenalty, spread_weight=3.0), LogitSpread(), epochs=30)
    assert hiding.diagnostics["suspicion"] < plain
    assert hiding.diagnostics["attacked_accuracy_if_admitted"] > 0.5, "ten classes, after a short training"


@pytest.mark.ci
def test_an_honest_finish_leaves_a_working_classifier_and_a_decoder_for_it():
    outcome = play(evasive(HonestFinish, finish=0.5), epochs=20)
    assert outcome.utility["attacked_accuracy"] > 0.9
    assert outcome.risk["psnr_db"] > play(vicious(rebuild_weight=0.0), epochs=20).risk["psnr_db"] + 1


def test_each_carrier_reads_only_its_part():
    outputs = torch.tensor([[5.2, 1.3, -0.9]])
    torch.testing.assert_close(Carrier("low_order", 1.0)(outputs), torch.tensor([[0.2, 0.3, 0.1]]))
    torch.testing.assert_close(Carrier("non_top", 1.0)(outputs), torch.tensor([[0.0, 1.1, -1.1]]))
    torch.testing.assert_close(Carrier("non_top", 1.0)(outputs + 3), torch.tensor([[0.0, 1.1, -1.1]]))


# A sawtooth has a poor gradient: at this size the digits after the point carry little.
@pytest.mark.ci
@pytest.mark.parametrize(("carrier", "at_least_db"), [("non_top", 1.0), ("low_order", 0.0)])
def test_a_hidden_carrier_classifies_and_leaks(carrier, at_least_db):
    outcome = play(evasive(HiddenCarrier, carrier=carrier, step=1.0), epochs=30)
    assert outcome.risk["psnr_db"] > play(vicious(rebuild_weight=0.0), epochs=30).risk["psnr_db"] + at_least_db
    assert outcome.utility["attacked_accuracy"] > 0.8


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (HonestFinish, {"finish": 1.0}, "finish must be in"),
        (HiddenCarrier, {"carrier": "top", "step": 1.0}, "non_top or low_order"),
    ],
)
def test_impossible_parameters_are_refused(kind, change, message):
    with pytest.raises(ConfigError, match=message):
        evasive(kind, **change)
