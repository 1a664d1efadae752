"""A detector of dishonest models: the user tries the attack and sees how much its own decoder recovers.

Ours (the authors of arXiv 2212.04223 announce a detector without publishing it).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.errors import ConfigError, positive
from benchmark.metrics.reconstruction_risk import Pixels, reconstruction_risk
from benchmark.models.decoder import Decoder
from benchmark.seeds import child
from benchmark.settings.service.defense import ServiceDefense
from benchmark.training.loop import predict, train
from benchmark.training.rebuilding import rebuilding_loss

VERSION = 1


class ReconstructionAudit(ServiceDefense):
    """Suspicion is the reconstruction risk (ridge form) of a decoder that is trained on the user's samples.

    Args:
        share: of the samples that train the decoder, in (0, 1); the others are rebuilt.
        epochs, lr, width: of the decoder's training, and of its coarsest map.
        mse_weight, ssim_weight: of the reconstruction loss.
        ridge: of the risk.
    """

    def __init__(
        self,
        *,
        share: float,
        epochs: int,
        lr: float,
        width: int,
        mse_weight: float,
        ssim_weight: float,
        ridge: float,
    ) -> None:
        if not 0 < share < 1:
            raise ConfigError(f"reconstruction_audit.share must be in (0, 1), got {share}.")
        positive("reconstruction_audit.epochs", epochs)
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
            return rebuilding_loss(guess, x, mse_weight=self.mse_weight, ssim_weight=self.ssim_weight)

        train(decoder, logits[:cut], data.x[:cut], epochs=self.epochs, lr=self.lr, rng=rng, loss=loss)
        rebuilt = predict(decoder, logits[cut:])
        return reconstruction_risk(data.x[cut:], rebuilt, Pixels.of(data.x[:cut]), ridge=self.ridge).mean().item()
