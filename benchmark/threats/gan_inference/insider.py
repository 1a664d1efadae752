"""GAN attack by a participant that trains a generator against the downloaded global model.

Hitaj, Ateniese, Perez-Cruz, *Deep Models Under the GAN: Information Leakage from Collaborative Deep Learning*, CCS 2017
(arXiv 1702.07464), algorithm 1. The generator learns to make the global model predict the victim's class. The active
insider also trains its own upload on the generated images under another label, so that the victim reveals more of the
class to distinguish its samples from them.

Such training oscillates, so the images of a single round depend on chance: the insider claims images of the generator's
running mean over its turns (Yazici et al., *The Unusual Effectiveness of Averaging in GAN Training*, ICLR 2019), which
on digits are nearer to real ones and vary little. Fakes come from the generator itself; fakes of the mean would stop
the training's progress.

Deviations: the active insider's upload passes through the protocol (share, clipping, noise), as an unobtrusive one
would; noise is normal, the generator is trained with Adam.
"""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.parameters import BelowOne, Count, CountOrZero, Index, Positive
from benchmark.settings.collaboration.games.global_models import GlobalModelSurface, InsiderMove, InsiderThreat
from benchmark.threats.gan_inference.networks import GENERATORS, Generator

VERSION = 2


@dataclass
class GeneratorTraining:
    """State of a generator in training: its weights, their running mean, the last loss and the most convincing mean.

    ``confidence`` is the probability of the target that the next model, which could learn from the fakes, gave to
    images of ``best``.
    """

    generator: Generator
    mean: Generator
    optimizer: torch.optim.Optimizer
    loss: float | Tensor = 0.0
    best: Generator | None = None
    confidence: float = 0.0

    @property
    def claimed(self) -> Generator:
        """Return the generator whose images are claimed."""
        return self.mean if self.best is None else self.best


class GANInsider(InsiderThreat):
    """GAN attack of an insider.

    Args:
        target: the victim's class.
        active: train the upload on fakes (False: passive, the upload is honest).
        fakes: images per round that an active insider mixes into its own samples.
        fake_label: ``extra``: the output that no class uses; ``own``: the insider's first class, as in the paper.
        generator: ``dense`` or ``dcgan``, of width ``hidden`` and noise of size ``latent``.
        steps, batch_size, lr: Adam steps of the generator at each turn. 1 step is too weak to show any leak.
        games: trainings of the generator at each turn; between two trainings the insider's own copy of the model takes
            ``game_steps`` local steps of ``game_lr`` on the fakes, so that a turn holds a whole game.
        samples: images claimed in the end.
        decay: of the running mean of the generator's weights, in [0, 1), per turn; 0 claims the latest generator.
        claim: ``last``: images of the last mean; ``confident``: of the most convincing mean of all turns.
        view: ``global``: the model that it downloads. ``victim``: the server colludes, and the insider learns from the
            model after the latest upload of the target's holder (as mGAN-AI does, Wang et al., INFOCOM 2019).
        memory: number of latest downloaded models of which the adaptive form draws one for each training, so that the
            generator fits all of them and not the noise of one.
        adaptive: the insider knows that uploads are perturbed, and which coordinates it downloaded: for the others it
            keeps the server's latest value instead of the result of its own training.
    """

    def __init__(
        self,
        *,
        target: Index = 3,
        active: bool = True,
        fakes: CountOrZero = 75,
        fake_label: Literal["extra", "own"] = "extra",
        generator: Literal["dense", "dcgan"] = "dense",
        steps: CountOrZero = 10,
        batch_size: Count = 64,
        lr: Positive = 0.002,
        games: Count = 1,
        game_steps: Count = 5,
        game_lr: Positive = 0.05,
        latent: Count = 32,
        hidden: Count = 128,
        samples: Count = 1000,
        decay: BelowOne = 0.85,
        claim: Literal["last", "confident"] = "last",
        view: Literal["global", "victim"] = "global",
        memory: Count = 5,
        adaptive: bool = False,
    ) -> None:
        super().__init__(target=target, adaptive=adaptive)
        if view == "victim":
            self.knowledge = self.knowledge | {"uploads"}
        self.active, self.fakes, self.fake_label, self.architecture = active, fakes, fake_label, generator
        self.steps, self.batch_size, self.lr = steps, batch_size, lr
        self.games, self.game_steps, self.game_lr = games, game_steps, game_lr
        self.latent, self.hidden, self.samples = latent, hidden, samples
        self.decay, self.claim, self.view, self.memory = decay, claim, view, memory if adaptive else 1

    def start(self) -> None:
        self.training: GeneratorTraining | None = None
        self.seen: deque[Tensor] = deque(maxlen=self.memory)
        self.freshest: Tensor | None = None

    def attack(self, surface: GlobalModelSurface, rng: torch.Generator) -> InsiderMove:
        device = surface.params.device
        if self.training is None:
            make = GENERATORS[self.architecture]
            made = make(shape=surface.shape, latent=self.latent, hidden=self.hidden).to(device)
            self.training = GeneratorTraining(
                made, copy.deepcopy(made), torch.optim.Adam(made.parameters(), self.lr, (0.5, 0.999))
            )
        if self.claim == "confident" and surface.round > 0:
            self._keep_if_better(surface, self.training, rng)
        if not surface.last:  # each round has a new model to learn from; the last call only claims
            self.seen.append(self._model_to_fit(surface))
            self._take_turn(surface, self.training, rng)
        loss: dict[str, float | str] = {"generator_loss": float(self.training.loss)}
        move = InsiderMove(self.training.claimed.draw(self.samples, rng, device), diagnostics=loss)
        if self.active and not surface.last:
            move.train_on = self._with_fakes(surface, self.training.generator.draw(self.fakes, rng, device))
        return move

    def _model_to_fit(self, surface: GlobalModelSurface) -> Tensor:
        """Return the model (d,) to learn from at this turn."""
        if self.view == "victim":
            return surface.params if surface.heard is None else surface.heard
        downloaded = surface.published.downloaded if self.adaptive else None
        if downloaded is None or self.freshest is None:
            self.freshest = surface.params
        else:
            self.freshest = torch.where(downloaded, surface.params, self.freshest)
        return self.freshest

    def _keep_if_better(self, surface: GlobalModelSurface, training: GeneratorTraining, rng: torch.Generator) -> None:
        """Keep the running mean if it convinces the present model more than the best one convinced its own."""
        images = training.mean.draw(self.batch_size, rng, surface.params.device)
        with torch.no_grad():
            probability = surface.net.logits(surface.params, images).softmax(dim=1)[:, self.target].mean().item()
        if probability > training.confidence:
            training.best, training.confidence = copy.deepcopy(training.mean), probability

    def _take_turn(self, surface: GlobalModelSurface, training: GeneratorTraining, rng: torch.Generator) -> None:
        """Train the generator, and with ``games`` above 1 the copy of the model in between."""
        params = self.seen[int(torch.randint(len(self.seen), (), generator=rng))]
        for game in range(self.games):
            if game > 0:
                params = self._train_copy(surface, params, training, rng)
            self._train_generator(surface, params, training, rng)
        with torch.no_grad():
            for mean, latest in zip(training.mean.parameters(), training.generator.parameters(), strict=True):
                mean.lerp_(latest, 1 - self.decay)

    def _train_generator(
        self, surface: GlobalModelSurface, params: Tensor, training: GeneratorTraining, rng: torch.Generator
    ) -> None:
        """Take generator steps towards ``target`` under the frozen model ``params`` (d,)."""
        wanted = torch.full((self.batch_size,), self.target, device=params.device)
        for _ in range(self.steps):
            z = torch.randn((self.batch_size, self.latent), generator=rng).to(params.device, non_blocking=True)
            loss = F.cross_entropy(surface.net.logits(params, training.generator(z)), wanted)
            training.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            training.optimizer.step()
            training.loss = loss.detach()

    def _train_copy(
        self, surface: GlobalModelSurface, params: Tensor, training: GeneratorTraining, rng: torch.Generator
    ) -> Tensor:
        """Return the insider's copy (d,) after local steps on its own samples and new fakes."""
        data = self._with_fakes(surface, training.generator.draw(self.fakes, rng, params.device))
        for _ in range(self.game_steps):
            rows = torch.randperm(len(data), generator=rng)[: self.batch_size]
            batch = data[rows.to(params.device, non_blocking=True)]
            params = params - self.game_lr * surface.net.gradient(params, batch.x, batch.y)
        return params

    def _with_fakes(self, surface: GlobalModelSurface, fakes: Tensor) -> Split:
        """Return the insider's own samples and the fakes with a label other than the target's."""
        own = surface.own
        label = surface.num_classes if self.fake_label == "extra" or len(own) == 0 else int(own.y.min())
        labels = torch.full((len(fakes),), label, dtype=own.y.dtype, device=fakes.device)
        return Split(torch.cat([own.x, fakes]), torch.cat([own.y, labels]))
