"""Domain GAN: a decoder of a release, trained without pairs against a discriminator of the adversary's own images.

A ciphertext-only attack (level 1) on disguised images (Sharma, Gu, Chen, 2022 (arXiv 2301.00252)). A generator turns
encodings into images, a discriminator tells these from plain ones (Goodfellow et al., *Generative Adversarial Nets*,
2014, non-saturating loss). The cycle is that of Zhu et al., *Unpaired Image-to-Image Translation*, 2017, in one
direction only: encodings must be recovered from the images. The linear generator that starts from the identity is that
of Conneau et al., *Word Translation Without Parallel Data*, 2018, without its steps towards orthogonality. No reference
code of such an attack on these disguises was available: networks and weights are our choice.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.errors import Diverged
from benchmark.models.by_shape import network_for
from benchmark.models.decoder import Decoder
from benchmark.parameters import AtLeastTwo, Count, NonNegative, Positive
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.release import ReleaseSurface
from benchmark.settings.threat import Floor
from benchmark.training.loop import predict, train

VERSION = 1
BETAS = (0.5, 0.999)  # of Adam, as in DCGAN
CRITIC_WIDTH = 0.5  # of the suite's network for images


class DomainGAN(ReleaseThreat):
    """Attack that learns a map from encodings to images from released rows and its own images, none of them private.

    Args:
        generator: ``linear``: one matrix, at first the identity where rows have as many values as images, which without
            a defense is already the solution (training only makes it worse); ``decoder``: transposed convolutions of
            ``width`` channels, which without labels may map a class to the images of another.
        width: of the decoder; times 4, of the network that recovers encodings.
        steps, batch_size, lr: alternating Adam steps of the generator and the discriminator.
        cycle: weight of the mean squared error of encodings recovered from the images, in units of their deviation.
        guided: weight of the released labels: a classifier of the adversary's own images must find them in the decoded
            images. Classes then come from the labels and not from the encodings: read ``identification_rate`` and
            ``retrieval_top1``, since ``examiner_accuracy`` is high with any disguise that a model can learn from.
        epochs: of that classifier.
    """

    family = "reconstruction"
    headline = "examiner_accuracy"
    needs = {"defense.synthetic": "no", "dataset.kind": "image"}
    floor = Floor("examiner_accuracy", 0.3)
    knowledge = frozenset({"attacker_data"})

    def __init__(
        self,
        *,
        generator: Literal["linear", "decoder"] = "linear",
        width: Count = 64,
        steps: Count = 200,
        batch_size: AtLeastTwo = 64,
        lr: Positive = 0.0002,
        cycle: NonNegative = 1.0,
        guided: NonNegative = 0.0,
        epochs: Count = 10,
    ) -> None:
        super().__init__()
        self.generator, self.width, self.steps, self.batch_size = generator, width, steps, batch_size
        self.lr, self.cycle, self.guided, self.epochs = lr, cycle, guided, epochs

    def attack(self, surface: ReleaseSurface, rng: torch.Generator) -> Reconstruction:
        center, scale = surface.x.mean(), surface.x.std().clamp_min(1e-6)
        encoded, targets = (((x - center) / scale).flatten(1) for x in (surface.x, surface.targets))
        decode = self._decoder(encoded.shape[1], surface.shape, center.item(), scale.item()).to(encoded.device)
        losses = self._train_adversarially(decode, encoded, surface, rng)
        x = predict(decode.eval(), targets).clamp(0, 1)
        return Reconstruction(x.unsqueeze(1), diagnostics=losses)

    def _decoder(self, values: int, shape: tuple[int, ...], center: float, scale: float) -> nn.Module:
        """Return (n, values), encodings of mean 0 and deviation 1, -> images (n, *shape); unclipped if linear."""
        if self.generator == "decoder":
            return Decoder(num_classes=values, shape=shape, width=self.width)
        matrix = nn.Linear(values, math.prod(shape))
        if values == math.prod(shape):
            with torch.no_grad():
                matrix.weight.copy_(scale * torch.eye(values))
                matrix.bias.fill_(center)
        return nn.Sequential(matrix, nn.Unflatten(1, shape))

    def _train_adversarially(
        self, decode: nn.Module, encoded: Tensor, surface: ReleaseSurface, rng: torch.Generator
    ) -> dict[str, float | str]:
        """Train ``decode`` against a discriminator, and return the last losses."""
        own, values, device = surface.attacker, encoded.shape[1], encoded.device
        critic = network_for(surface.shape, 1, CRITIC_WIDTH).to(device)
        pixels, hidden = math.prod(surface.shape), 4 * self.width
        encode = nn.Sequential(nn.Flatten(), nn.Linear(pixels, hidden), nn.ReLU(), nn.Linear(hidden, values)).to(device)
        classifier = self._label_classifier(surface, rng) if self.guided else None
        ours = torch.optim.Adam(chain(decode.parameters(), encode.parameters()), self.lr, BETAS)
        theirs = torch.optim.Adam(critic.parameters(), self.lr, BETAS)
        for _ in range(self.steps):
            index, real = (torch.randint(len(part), (self.batch_size,), generator=rng) for part in (encoded, own))
            images = decode(encoded[index])
            judged = critic(own.x[real]), critic(images.detach())
            discriminator_loss = F.softplus(-judged[0]).mean() + F.softplus(judged[1]).mean()
            theirs.zero_grad(set_to_none=True)
            discriminator_loss.backward()
            theirs.step()
            loss = generator_loss = F.softplus(-critic(images)).mean()
            if self.cycle:
                loss = loss + self.cycle * F.mse_loss(encode(images), encoded[index])
            if classifier is not None:
                loss = loss + self.guided * F.cross_entropy(classifier(images), surface.y[index])
            ours.zero_grad(set_to_none=True)
            loss.backward()
            ours.step()
        if not torch.isfinite(loss):
            raise Diverged(f"the generator's loss became {loss.item()}")
        return {"generator_loss": generator_loss.item(), "discriminator_loss": discriminator_loss.item()}

    def _label_classifier(self, surface: ReleaseSurface, rng: torch.Generator) -> nn.Module:
        """Return a frozen classifier trained on the adversary's own images."""
        own = surface.attacker
        classifier = network_for(surface.shape, surface.num_classes, CRITIC_WIDTH).to(own.x.device)
        return train(classifier, own.x, own.y, epochs=self.epochs, rng=rng).requires_grad_(False)
