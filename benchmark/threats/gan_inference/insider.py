"""A participant that trains a generator against the global model it downloads.

Hitaj, Ateniese, Perez-Cruz, *Deep Models Under the GAN*, CCS 2017 (arXiv 1702.07464), algorithm 1. The generator learns
to make the global model say the victim's class. The active insider also trains its own upload on the generated images
under another label, so that the victim, to be told from them, has to reveal more of the class.

Training of this kind oscillates, so that the images of any one round are a matter of luck: the insider claims images of
the generator's running mean over its turns (Yazici et al., ICLR 2019), which on digits lie nearer to real ones and
hardly waver. Fakes come from the generator itself; fakes of the mean would let the game stall.

Deviations: the active insider uploads what the protocol makes of its update (share, clipping, noise), as one that
does not want to be noticed would; noise is normal, the generator fully connected and trained with Adam.
"""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.errors import ConfigError
from benchmark.settings.participation_surfaces import GlobalModelSurface, InsiderThreat, Insight
from benchmark.threats.gan_inference.networks import Generator

VERSION = 1
FAKE_LABELS = ("extra", "own")


@dataclass
class Pupil:
    """A generator in training, the running mean of its weights, and its last loss."""

    generator: Generator
    mean: Generator
    optimizer: torch.optim.Optimizer
    loss: float = 0.0


class GANInsider(InsiderThreat):
    """The GAN attack.

    Args:
        target: the victim's class.
        active: train the upload on fakes (False: passive, the upload is honest).
        fakes: images a round that an active insider mixes into its own samples.
        fake_label: ``extra``: the output that no class uses; ``own``: the insider's first class, as in the paper.
        steps, batch_size, lr: Adam steps of the generator at each turn. 1 step is too weak to show any leak.
        latent, hidden: of the generator.
        samples: images claimed in the end.
        decay: of the running mean of the generator's weights, in [0, 1), per turn; 0 claims the latest generator.
        memory: latest downloaded models of which the adaptive form draws one for each step, so that the generator has
            to please all of them and not the noise of one.
        adaptive: the insider knows that uploads are perturbed.
    """

    def __init__(
        self,
        *,
        target: int,
        active: bool,
        fakes: int,
        fake_label: str,
        steps: int,
        batch_size: int,
        lr: float,
        latent: int,
        hidden: int,
        samples: int,
        decay: float,
        memory: int,
        adaptive: bool = False,
    ) -> None:
        super().__init__(target=target, adaptive=adaptive)
        if fake_label not in FAKE_LABELS:
            raise ConfigError(f"threat.fake_label must be extra or own, got {fake_label!r}.")
        if not 0 <= decay < 1:
            raise ConfigError(f"threat.decay must be in [0, 1), got {decay}.")
        self.active, self.fakes, self.fake_label = active, fakes, fake_label
        self.steps, self.batch_size, self.lr = steps, batch_size, lr
        self.latent, self.hidden, self.samples = latent, hidden, samples
        self.decay, self.memory = decay, memory if adaptive else 1

    def start(self) -> None:
        self.pupil: Pupil | None = None
        self.seen: deque[Tensor] = deque(maxlen=self.memory)

    def attack(self, surface: GlobalModelSurface, rng: torch.Generator) -> Insight:
        device = surface.params.device
        if self.pupil is None:
            made = Generator(shape=surface.shape, latent=self.latent, hidden=self.hidden).to(device)
            self.pupil = Pupil(made, copy.deepcopy(made), torch.optim.Adam(made.parameters(), self.lr, (0.5, 0.999)))
        if not surface.last:  # a new round is a new model to learn from; the last look is for the claim alone
            self.seen.append(surface.params)
            self._teach(surface, self.pupil, rng)
        loss: dict[str, float | str] = {"generator_loss": self.pupil.loss}
        insight = Insight(self.pupil.mean.draw(self.samples, rng, device), diagnostics=loss)
        if self.active and not surface.last:
            insight.train_on = self._bait(surface, self.pupil.generator.draw(self.fakes, rng, device))
        return insight

    def _teach(self, surface: GlobalModelSurface, pupil: Pupil, rng: torch.Generator) -> None:
        """Generator steps towards ``target`` under the frozen models seen last."""
        wanted = torch.full((self.batch_size,), self.target, device=surface.params.device)
        for _ in range(self.steps):
            params = self.seen[int(torch.randint(len(self.seen), (), generator=rng))]
            z = torch.randn((self.batch_size, self.latent), generator=rng).to(params.device)
            loss = F.cross_entropy(surface.net.logits(params, pupil.generator(z)), wanted)
            pupil.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            pupil.optimizer.step()
            pupil.loss = loss.item()
        with torch.no_grad():
            for mean, latest in zip(pupil.mean.parameters(), pupil.generator.parameters(), strict=True):
                mean.lerp_(latest, 1 - self.decay)

    def _bait(self, surface: GlobalModelSurface, fakes: Tensor) -> Split:
        """The insider's own samples and the fakes under a label that is not the target's."""
        label = surface.num_classes if self.fake_label == "extra" else int(surface.own.y.min())
        labels = torch.full((len(fakes),), label, dtype=surface.own.y.dtype, device=fakes.device)
        return Split(torch.cat([surface.own.x, fakes]), torch.cat([surface.own.y, labels]))
