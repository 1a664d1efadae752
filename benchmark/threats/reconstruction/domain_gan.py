"""A domain GAN: decodes a release without pairs, until its pictures cannot be told from the adversary's own images.

A ciphertext-only attack (level 1) on disguised images (Sharma, Gu, Chen, 2022, arXiv 2301.00252). A generator turns
encodings into images, a discriminator tells these from plain ones (Goodfellow et al., *Generative Adversarial Nets*,
2014, non-saturating loss). The cycle is that of Zhu et al., *Unpaired Image-to-Image Translation*, 2017, one way only:
encodings have to be found again in the images. The linear generator that starts from the identity is that of Conneau et
al., *Word Translation Without Parallel Data*, 2018, without its steps towards orthogonality. No reference code of such
an attack on these disguises was at hand: networks and weights are our choice.
"""

from __future__ import annotations

import math
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.errors import ConfigError, Diverged, positive
from benchmark.models.by_shape import network_for
from benchmark.models.decoder import Decoder
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.release import ReleaseSurface
from benchmark.settings.threat import Floor
from benchmark.training.loop import predict, train

VERSION = 1
GENERATORS = ("linear", "decoder")
BETAS = (0.5, 0.999)  # of Adam, as in DCGAN
CRITIC_WIDTH = 0.5  # of the suite's network for images


class DomainGAN(ReleaseThreat):
    """Learns encodings -> images from released rows and its own images, none of which is a private one.

    Args:
        generator: ``linear``: one matrix, at first the identity where rows have as many values as images, which without
            a defense is the answer (training only loses some of it); ``decoder``: transposed convolutions of ``width``
            channels, which without labels may give a class the images of another.
        width: of the decoder; also, times 4, of the network that finds encodings again.
        steps, batch_size, lr: Adam steps of the generator and of the discriminator in turn.
        cycle: weight of the mean squared error of encodings found again in the images, in units of their deviation.
        guided: weight of the released labels: a classifier of the adversary's own images has to read them in the
            decoded ones. Classes are then known from the labels and not from the encodings: read
            ``identification_rate`` and ``retrieval_top1``, for ``examiner_accuracy`` is high with any disguise that a
            model can learn from.
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
        generator: str,
        width: int,
        steps: int,
        batch_size: int,
        lr: float,
        cycle: float,
        guided: float,
        epochs: int,
    ) -> None:
        super().__init__()
        if generator not in GENERATORS:
            raise ConfigError(f"threat.generator is linear or decoder, not {generator!r}.")
        for name, value in (("width", width), ("steps", steps), ("lr", lr), ("epochs", epochs)):
            positive(f"threat.{name}", value)
        if batch_size < 2:
            raise ConfigError(f"threat.batch_size must be at least 2, for batch normalisation; got {batch_size}.")
        for name, value in (("cycle", cycle), ("guided", guided)):
            if value < 0:
                raise ConfigError(f"threat.{name} is a weight and must be at least 0, where 0 is off; got {value}.")
        self.generator, self.width, self.steps, self.batch_size = generator, width, steps, batch_size
        self.lr, self.cycle, self.guided, self.epochs = lr, cycle, guided, epochs

    def attack(self, surface: ReleaseSurface, rng: torch.Generator) -> Reconstruction:
        center, scale = surface.x.mean(), surface.x.std().clamp_min(1e-6)
        encoded, targets = (((x - center) / scale).flatten(1) for x in (surface.x, surface.targets))
        decode = self._decoder(encoded.shape[1], surface.shape, center.item(), scale.item()).to(encoded.device)
        notes = self._play(decode, encoded, surface, rng)
        x = predict(decode.eval(), targets).clamp(0, 1)
        return Reconstruction(x.unsqueeze(1), diagnostics=notes)

    def _decoder(self, values: int, shape: tuple[int, ...], center: float, scale: float) -> nn.Module:
        """(n, values), encodings of mean 0 and deviation 1, -> images (n, *shape); the linear one's are not clipped."""
        if self.generator == "decoder":
            return Decoder(num_classes=values, shape=shape, width=self.width)
        matrix = nn.Linear(values, math.prod(shape))
        if values == math.prod(shape):
            with torch.no_grad():
                matrix.weight.copy_(scale * torch.eye(values))
                matrix.bias.fill_(center)
        return nn.Sequential(matrix, nn.Unflatten(1, shape))

    def _play(
        self, decode: nn.Module, encoded: Tensor, surface: ReleaseSurface, rng: torch.Generator
    ) -> dict[str, float | str]:
        """Train ``decode`` against a discriminator, and return the last losses."""
        own, values, device = surface.attacker, encoded.shape[1], encoded.device
        critic = network_for(surface.shape, 1, CRITIC_WIDTH).to(device)
        pixels, hidden = math.prod(surface.shape), 4 * self.width
        encode = nn.Sequential(nn.Flatten(), nn.Linear(pixels, hidden), nn.ReLU(), nn.Linear(hidden, values)).to(device)
        reader = self._reader(surface, rng) if self.guided else None
        ours = torch.optim.Adam(chain(decode.parameters(), encode.parameters()), self.lr, BETAS)
        theirs = torch.optim.Adam(critic.parameters(), self.lr, BETAS)
        for _ in range(self.steps):
            index, real = (torch.randint(len(part), (self.batch_size,), generator=rng) for part in (encoded, own))
            images = decode(encoded[index])
            judged = critic(own.x[real]), critic(images.detach())
            doubt = F.softplus(-judged[0]).mean() + F.softplus(judged[1]).mean()
            theirs.zero_grad(set_to_none=True)
            doubt.backward()
            theirs.step()
            loss = fooling = F.softplus(-critic(images)).mean()
            if self.cycle:
                loss = loss + self.cycle * F.mse_loss(encode(images), encoded[index])
            if reader is not None:
                loss = loss + self.guided * F.cross_entropy(reader(images), surface.y[index])
            ours.zero_grad(set_to_none=True)
            loss.backward()
            ours.step()
        if not torch.isfinite(loss):
            raise Diverged(f"the generator's loss became {loss.item()}")
        return {"generator_loss": fooling.item(), "discriminator_loss": doubt.item()}

    def _reader(self, surface: ReleaseSurface, rng: torch.Generator) -> nn.Module:
        """A classifier of the adversary's own images, frozen."""
        own = surface.attacker
        reader = network_for(surface.shape, surface.num_classes, CRITIC_WIDTH).to(own.x.device)
        return train(reader, own.x, own.y, epochs=self.epochs, rng=rng).requires_grad_(False)
