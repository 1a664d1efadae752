"""Detector of dishonest models by trying the attack: the user trains a decoder of the outputs and measures its success.

A detector of this suite: the authors of arXiv 2212.04223 announce one without publishing it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.errors import ConfigError
from benchmark.metrics.reconstruction_risk import Pixels, reconstruction_risk
from benchmark.models.decoder import Decoder
from benchmark.parameters import Count, NonNegative, Positive, Rate
from benchmark.seeds import child
from benchmark.settings.service.defense import ServiceDefense
from benchmark.training.loop import predict, train
from benchmark.training.reconstruction_loss import reconstruction_loss

VERSION = 1


class ReconstructionAudit(ServiceDefense):
    """Model screen by the reconstruction risk (ridge form) of a decoder trained on the user's samples.

    Args:
        share: of the samples that train the decoder, in (0, 1); the others are reconstructed.
        epochs, lr: of the decoder's training.
        width: channels of the decoder's coarsest map.
        mse_weight, ssim_weight: of the reconstruction loss.
        ridge: of the risk.

    Raises:
        ConfigError: when it screens with fewer than two samples to train or to reconstruct.
    """

    def __init__(
        self,
        *,
        share: Rate = 0.67,
        epochs: Count = 50,
        lr: Positive = 0.003,
        width: Count = 32,
        mse_weight: NonNegative = 5.0,
        ssim_weight: NonNegative = 1.0,
        ridge: NonNegative = 0.01,
    ) -> None:
        self.share, self.epochs, self.lr, self.width = share, epochs, lr, width
        self.mse_weight, self.ssim_weight, self.ridge = mse_weight, ssim_weight, ridge

    def screen_model(self, model: nn.Module, data: Split) -> float:
        cut = round(self.share * len(data))
        if min(cut, len(data) - cut) < 2:
            raise ConfigError("An audit trains and tests on calibration samples: raise dataset.sizes.calibration.")
        logits = predict(model, data.x)
        rng = torch.Generator().manual_seed(child(torch.default_generator))
        shape = tuple(data.x.shape[1:])
        decoder = Decoder(num_classes=logits.shape[1], shape=shape, width=self.width).to(logits.device)

        def loss(guess: Tensor, x: Tensor) -> Tensor:
            return reconstruction_loss(guess, x, mse_weight=self.mse_weight, ssim_weight=self.ssim_weight)

        train(decoder, logits[:cut], data.x[:cut], epochs=self.epochs, lr=self.lr, rng=rng, loss=loss)
        reconstructed = predict(decoder, logits[cut:])
        return reconstruction_risk(data.x[cut:], reconstructed, Pixels.of(data.x[:cut]), ridge=self.ridge).mean().item()
