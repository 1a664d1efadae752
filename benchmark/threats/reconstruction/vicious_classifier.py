"""Vicious classifier: a provider's model that writes the input into its outputs, and the honest baseline.

Malekzadeh, Gunduz, *Vicious Classifiers: Data Reconstruction Attack at Inference Time*, arXiv 2212.04223. Classifier F
and secret decoder G are trained together on ``beta_C * CE(F(x), y) + beta_R * L_R(G(F(x)), x)`` (one Adam, which equals
the authors' two of the same rate). Deviations: SSIM with the suite's 7x7 window, no augmentation, no selection by
validation, and a small decoder in place of the residual one wherever ``blocks`` is 0.

The adaptive provider knows how the user treats the outputs and trains through it; where that has no gradient (a bare
label, rounding) the gradient is passed straight through the more similar of a softmax and the identity.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.models.decoder import new_decoder
from benchmark.parameters import Count, CountOrZero, NonNegative
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.service.games.outputs import (
    OutputSurface,
    OutputThreat,
    ProviderSurface,
    ProviderThreat,
    Reveal,
)
from benchmark.settings.threat import Floor
from benchmark.training.loop import Loss, predict, train
from benchmark.training.reconstruction_loss import reconstruction_loss

VERSION = 2


class ViciousClassifier(ProviderThreat):
    """Joint training of the classifier and a decoder.

    Args:
        class_weight, rebuild_weight: beta_C and beta_R.
        mse_weight, ssim_weight: alpha_mse and alpha_ssim of the reconstruction loss.
        width: of the decoder's coarsest map.
        blocks: in each residual group of the decoder, or 0 for the small decoder.
        adaptive: train through the user's treatment of the outputs.
    """

    family = "reconstruction"
    headline = "explained_variance"
    floor = Floor("explained_variance", 0.5)
    needs = {"dataset.kind": "image", "model.gradients": "yes"}

    def __init__(
        self,
        *,
        class_weight: NonNegative = 1.0,
        rebuild_weight: NonNegative = 3.0,
        mse_weight: NonNegative = 5.0,
        ssim_weight: NonNegative = 1.0,
        width: Count = 64,
        blocks: CountOrZero = 4,
        adaptive: bool = False,
    ) -> None:
        super().__init__(adaptive=adaptive)
        self.class_weight, self.rebuild_weight = class_weight, rebuild_weight
        self.decoder = partial(new_decoder, width=width, blocks=blocks)
        self.rebuilding = partial(reconstruction_loss, mse_weight=mse_weight, ssim_weight=ssim_weight)

    def secret(self, view: ProviderSurface) -> nn.Module:
        return self.decoder(num_classes=view.num_classes, shape=view.shape)

    def provide(self, model: nn.Module, secret: nn.Module, view: ProviderSurface, rng: torch.Generator) -> None:
        self.train_jointly(model, secret, view, rng)

    def train_jointly(
        self,
        model: nn.Module,
        secret: nn.Module,
        view: ProviderSurface,
        rng: torch.Generator,
        extra: Loss | None = None,
    ) -> None:
        """Train classifier and decoder on the joint loss, plus ``extra(logits, y)`` if given."""

        def loss(result: Any, y: Tensor) -> Tensor:
            logits, rebuilt, x = result
            value = self.class_weight * F.cross_entropy(logits, y) + self.rebuild_weight * self.rebuilding(rebuilt, x)
            return value if extra is None else value + extra(logits, y)

        joint = JointModel(model, secret, self.treatment(view))
        train(joint, view.data.x, view.data.y, **view.budget, rng=rng, loss=loss)

    def treatment(self, view: ProviderSurface) -> Reveal:
        """Return the part of the logits that the decoder receives, as far as the provider knows."""
        return trainable(view.reveal, view.num_classes) if self.adaptive else nn.Identity()

    def attack(self, surface: OutputSurface, rng: torch.Generator) -> Reconstruction:
        assert surface.secret is not None
        return Reconstruction(predict(surface.secret, surface.outputs).unsqueeze(1))


class HonestPosthoc(OutputThreat):
    """Baseline: the same decoder with the same budget, trained on the frozen outputs of an honest classifier.

    Args:
        mse_weight, ssim_weight, width, blocks: as of :class:`ViciousClassifier`.
        adaptive: fit the decoder to the outputs as the user reveals them.
    """

    family = "reconstruction"
    headline = "explained_variance"
    floor = Floor("explained_variance", 0.5)
    needs = {"dataset.kind": "image"}
    knowledge = frozenset({"provider"})

    def __init__(
        self,
        *,
        mse_weight: NonNegative = 5.0,
        ssim_weight: NonNegative = 1.0,
        width: Count = 64,
        blocks: CountOrZero = 4,
        adaptive: bool = False,
    ) -> None:
        super().__init__(adaptive=adaptive)
        self.decoder = partial(new_decoder, width=width, blocks=blocks)
        self.rebuilding = partial(reconstruction_loss, mse_weight=mse_weight, ssim_weight=ssim_weight)

    def attack(self, surface: OutputSurface, rng: torch.Generator) -> Reconstruction:
        view = surface.provider
        decoder = self.decoder(num_classes=view.num_classes, shape=view.shape).to(surface.outputs.device)
        reveal = view.reveal if self.adaptive else nn.Identity()
        fit_decoder(decoder, surface.model, reveal, view, rng, self.rebuilding)
        return Reconstruction(predict(decoder, surface.outputs).unsqueeze(1))


def fit_decoder(
    decoder: nn.Module, model: nn.Module, reveal: Reveal, view: ProviderSurface, rng: torch.Generator, loss: Loss
) -> None:
    """Train ``decoder`` on what ``reveal`` keeps of the frozen model's outputs, drawn anew in every batch."""
    logits = predict(model, view.data.x)
    train(RevealedDecoder(reveal, decoder), logits, view.data.x, **view.budget, rng=rng, loss=loss)


class RevealedDecoder(nn.Module):
    """Module from logits to the reconstruction from their revealed part."""

    def __init__(self, reveal: Reveal, decoder: nn.Module) -> None:
        super().__init__()
        self.reveal, self.decoder = reveal, decoder

    def forward(self, logits: Tensor) -> Tensor:
        return self.decoder(self.reveal(logits))


class JointModel(nn.Module):
    """Module x -> (logits, reconstruction, x), the inputs of the joint loss."""

    def __init__(self, model: nn.Module, decoder: nn.Module, reveal: Reveal) -> None:
        super().__init__()
        self.model, self.decoder, self.reveal = model, decoder, reveal

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = self.model(x)
        return logits, self.decoder(self.reveal(logits)), x


def trainable(reveal: Reveal, num_classes: int) -> Reveal:
    """Return ``reveal`` with a non-zero gradient: its own, or that of a similar function, passed straight through.

    The similar function is a softmax (for a bare label or rounded probabilities) or the identity (for rounded logits).
    """
    probe = torch.linspace(-4.0, 4.0, num_classes).unsqueeze(0).requires_grad_()
    revealed = reveal(probe)
    if revealed.requires_grad:
        (slope,) = torch.autograd.grad(revealed.square().sum(), probe)
        if slope.abs().max() > 0:
            return reveal

    logits, revealed = probe.detach(), revealed.detach()
    softer = (revealed - logits.softmax(dim=1)).norm() <= (revealed - logits).norm()

    def straight_through(logits: Tensor) -> Tensor:
        like = logits.softmax(dim=1) if softer else logits
        return like + (reveal(logits) - like).detach()

    return straight_through
