"""A participant that trains a generator against the global model it downloads.

Hitaj, Ateniese, Perez-Cruz, *Deep Models Under the GAN*, CCS 2017 (arXiv 1702.07464), algorithm 1. The generator learns
to make the global model say the victim's class. The active insider also trains its own upload on the generated images
under another label, so that the victim, to be told from them, has to reveal more of the class.

Training of this kind oscillates, so that the images of any one round are a matter of luck: the insider claims images of
the generator's running mean over its turns (Yazici et al., ICLR 2019), which on digits lie nearer to real ones and
hardly waver. Fakes come from the generator itself; fakes of the mean would let the game stall.

Deviations: the active insider uploads what the protocol makes of its update (share, clipping, noise), as one that
does not want to be noticed would; noise is normal, the generator is trained with Adam.
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
from benchmark.settings.collaboration.games.global_models import GlobalModelSurface, InsiderMove, InsiderThreat
from benchmark.threats.gan_inference.networks import GENERATORS, Generator

VERSION = 2
CHOICES = {
    "fake_label": ("extra", "own"),
    "generator": tuple(GENERATORS),
    "view": ("global", "victim"),
    "claim": ("last", "confident"),
}


@dataclass
class Pupil:
    """A generator in training, the running mean of its weights, its last loss, and the mean that convinced most.

    ``confidence`` is the probability of the target that the next model, which had its chance to learn of the fakes,
    gave to images of ``best``.
    """

    generator: Generator
    mean: Generator
    optimizer: torch.optim.Optimizer
    loss: float = 0.0
    best: Generator | None = None
    confidence: float = 0.0

    @property
    def claimed(self) -> Generator:
        return self.mean if self.best is None else self.best


class GANInsider(InsiderThreat):
    """The GAN attack.

    Args:
        target: the victim's class.
        active: train the upload on fakes (False: passive, the upload is honest).
        fakes: images a round that an active insider mixes into its own samples.
        fake_label: ``extra``: the output that no class uses; ``own``: the insider's first class, as in the paper.
        generator: ``dense`` or ``dcgan``, of width ``hidden`` and noise of size ``latent``.
        steps, batch_size, lr: Adam steps of the generator at each turn. 1 step is too weak to show any leak.
        games: how often at each turn the generator is trained; between two trainings the insider lets its own copy of
            the model take ``game_steps`` local steps of ``game_lr`` on the fakes, so that a turn holds a whole game.
        samples: images claimed in the end.
        decay: of the running mean of the generator's weights, in [0, 1), per turn; 0 claims the latest generator.
        claim: ``last``: images of the last mean; ``confident``: of that mean of all turns which convinced most.
        view: ``global``: the model that it downloads. ``victim``: the server colludes with it, and it learns from what
            the latest upload of the target's holder makes of the model (as mGAN-AI does, Wang et al., INFOCOM 2019).
        memory: latest downloaded models of which the adaptive form draws one for each training, so that the generator
            has to please all of them and not the noise of one.
        adaptive: the insider knows that uploads are perturbed, and which coordinates it downloaded: of the others it
            keeps the latest value that the server gave, instead of what its own training made of them.
    """

    def __init__(
        self,
        *,
        target: int,
        active: bool,
        fakes: int,
        fake_label: str,
        generator: str,
        steps: int,
        batch_size: int,
        lr: float,
        games: int,
        game_steps: int,
        game_lr: float,
        latent: int,
        hidden: int,
        samples: int,
        decay: float,
        claim: str,
        view: str,
        memory: int,
        adaptive: bool = False,
    ) -> None:
        super().__init__(target=target, adaptive=adaptive)
        for name, value in (("fake_label", fake_label), ("generator", generator), ("view", view), ("claim", claim)):
            if value not in CHOICES[name]:
                raise ConfigError(f"threat.{name} must be {' or '.join(CHOICES[name])}, got {value!r}.")
        if not 0 <= decay < 1:
            raise ConfigError(f"threat.decay must be in [0, 1), got {decay}.")
        if games < 1:
            raise ConfigError(f"threat.games must be at least 1, got {games}.")
        if view == "victim":
            self.knowledge = self.knowledge | {"uploads"}
        self.active, self.fakes, self.fake_label, self.architecture = active, fakes, fake_label, generator
        self.steps, self.batch_size, self.lr = steps, batch_size, lr
        self.games, self.game_steps, self.game_lr = games, game_steps, game_lr
        self.latent, self.hidden, self.samples = latent, hidden, samples
        self.decay, self.claim, self.view, self.memory = decay, claim, view, memory if adaptive else 1

    def start(self) -> None:
        self.pupil: Pupil | None = None
        self.seen: deque[Tensor] = deque(maxlen=self.memory)
        self.freshest: Tensor | None = None

    def attack(self, surface: GlobalModelSurface, rng: torch.Generator) -> InsiderMove:
        device = surface.params.device
        if self.pupil is None:
            make = GENERATORS[self.architecture]
            made = make(shape=surface.shape, latent=self.latent, hidden=self.hidden).to(device)
            self.pupil = Pupil(made, copy.deepcopy(made), torch.optim.Adam(made.parameters(), self.lr, (0.5, 0.999)))
        if self.claim == "confident" and surface.round > 0:
            self._compare(surface, self.pupil, rng)
        if not surface.last:  # a new round is a new model to learn from; the last look is for the claim alone
            self.seen.append(self._view(surface))
            self._play(surface, self.pupil, rng)
        loss: dict[str, float | str] = {"generator_loss": self.pupil.loss}
        insight = InsiderMove(self.pupil.claimed.draw(self.samples, rng, device), diagnostics=loss)
        if self.active and not surface.last:
            insight.train_on = self._bait(surface, self.pupil.generator.draw(self.fakes, rng, device))
        return insight

    def _view(self, surface: GlobalModelSurface) -> Tensor:
        """The model (d,) to learn from at this turn."""
        if self.view == "victim":
            return surface.params if surface.heard is None else surface.heard
        downloaded = surface.published.downloaded if self.adaptive else None
        if downloaded is None or self.freshest is None:
            self.freshest = surface.params
        else:
            self.freshest = torch.where(downloaded, surface.params, self.freshest)
        return self.freshest

    def _compare(self, surface: GlobalModelSurface, pupil: Pupil, rng: torch.Generator) -> None:
        """Keep the running mean if it convinces the model at hand more than the best one convinced its own."""
        images = pupil.mean.draw(self.batch_size, rng, surface.params.device)
        with torch.no_grad():
            odds = surface.net.logits(surface.params, images).softmax(dim=1)[:, self.target].mean().item()
        if odds > pupil.confidence:
            pupil.best, pupil.confidence = copy.deepcopy(pupil.mean), odds

    def _play(self, surface: GlobalModelSurface, pupil: Pupil, rng: torch.Generator) -> None:
        """One turn: the generator's training, and with ``games`` above 1 the copy's answers to it."""
        params = self.seen[int(torch.randint(len(self.seen), (), generator=rng))]
        for game in range(self.games):
            if game > 0:
                params = self._answer(surface, params, pupil, rng)
            self._teach(surface, params, pupil, rng)
        with torch.no_grad():
            for mean, latest in zip(pupil.mean.parameters(), pupil.generator.parameters(), strict=True):
                mean.lerp_(latest, 1 - self.decay)

    def _teach(self, surface: GlobalModelSurface, params: Tensor, pupil: Pupil, rng: torch.Generator) -> None:
        """Generator steps towards ``target`` under the frozen model ``params`` (d,)."""
        wanted = torch.full((self.batch_size,), self.target, device=params.device)
        for _ in range(self.steps):
            z = torch.randn((self.batch_size, self.latent), generator=rng).to(params.device)
            loss = F.cross_entropy(surface.net.logits(params, pupil.generator(z)), wanted)
            pupil.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            pupil.optimizer.step()
            pupil.loss = loss.item()

    def _answer(self, surface: GlobalModelSurface, params: Tensor, pupil: Pupil, rng: torch.Generator) -> Tensor:
        """The insider's copy (d,) after local steps on its own samples and fresh fakes."""
        bait = self._bait(surface, pupil.generator.draw(self.fakes, rng, params.device))
        for _ in range(self.game_steps):
            batch = bait[torch.randperm(len(bait), generator=rng)[: self.batch_size]]
            params = params - self.game_lr * surface.net.gradient(params, batch.x, batch.y)
        return params

    def _bait(self, surface: GlobalModelSurface, fakes: Tensor) -> Split:
        """The insider's own samples and the fakes under a label that is not the target's."""
        own = surface.own
        label = surface.num_classes if self.fake_label == "extra" or len(own) == 0 else int(own.y.min())
        labels = torch.full((len(fakes),), label, dtype=own.y.dtype, device=fakes.device)
        return Split(torch.cat([own.x, fakes]), torch.cat([own.y, labels]))
