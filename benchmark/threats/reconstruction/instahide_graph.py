"""Graph attack on InstaHide: find the mixtures that share an image, then solve for the images.

Carlini, Deng, Garg, Jha, Mahloujifar, Mahmoody, Song, Thakurta, Tramer, *Is Private Learning Possible with Instance
Encoding?*, S&P 2021 (arXiv 2011.05315). Level 1: the adversary sees mixtures and labels only. Deviations: the
similarity network is the cell's own kind of model instead of WideResNet-28-6, and its scores are used for the
assignment too (no second network); colours are not repaired; images are scaled to the public samples' mean and
deviation instead of min-max.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from benchmark.errors import Refused
from benchmark.metrics.distances import nearest
from benchmark.parameters import Count, Positive
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.release import ReleaseSurface
from benchmark.threats.reconstruction.similarity_graph import fitted_weights, learned_graph

VERSION = 1
BRIGHTNESS = 0.05
START = 1e-3
LEARNED = ("learned", "unlabelled")
REFITS = 2  # of unknown weights


class InstaHideGraph(ReleaseThreat):
    """Attack that solves ``|E| = |A x|`` for the private images x, given which of them each mixture holds.

    Args:
        graph: ``learned``: as an adversary does it; ``unlabelled``: the same without the labels: weights are fitted to
            the mixtures and images solved for, in turn; ``oracle``: the true mixture, an upper bound that isolates the
            solving; ``random``: the true mixtures' weights on the wrong images, the control of both.
        iterations, lr: of Adam from signs of the public mean, which also fixes the sign of every pixel.
        mixtures: released rows that are solved for, the targets among them; the graph grows with their square.
        epochs: of the similarity network.
        image_pairs: training pairs of the similarity network.
    """

    family = "reconstruction"
    headline = "examiner_accuracy"
    needs = {"defense.mixtures": "yes", "dataset.kind": "image"}
    knowledge = frozenset({"public"})

    def __init__(
        self,
        *,
        graph: Literal["learned", "unlabelled", "oracle", "random"] = "learned",
        iterations: Count = 500,
        lr: Positive = 0.02,
        mixtures: Count = 800,
        epochs: Count = 5,
        image_pairs: Count = 6000,
        adaptive: bool = True,
    ) -> None:
        super().__init__(adaptive=adaptive)
        self.mixtures = mixtures
        self.graph, self.iterations, self.lr = graph, iterations, lr
        self.epochs, self.image_pairs = epochs, image_pairs
        self.knowledge |= {"refit", "attacker_data"} if graph in LEARNED else {"oracle"}

    def attack(self, surface: ReleaseSurface, rng: torch.Generator) -> Reconstruction:
        if surface.x.shape[1:] != surface.shape:
            raise Refused("Released rows have another shape than private samples: they are no mixtures of images.")
        targets = nearest(surface.targets, surface.x)[1]
        order = torch.randperm(len(surface.x), generator=rng).to(targets.device)
        rows = torch.cat([targets, order[~torch.isin(order, targets)]])[: max(self.mixtures, len(targets))]
        parts, weights = self._graph(surface, rows, rng)
        count = int(parts.max()) + 1
        public = surface.public.x.mean(dim=0).flatten() - surface.public.x.mean()
        encoded = surface.x[rows].flatten(1).abs()
        x = self._solve_images(encoded, parts, weights, public.sign())
        for _ in range(REFITS if self.graph == "unlabelled" else 0):
            x = self._solve_images(encoded, parts, fitted_weights(encoded, x, parts), public.sign())
        images = as_images(x, surface.public.x.flatten(1))
        first = parts[: len(targets), 0]
        return Reconstruction(images[first].view(len(targets), 1, *surface.shape), diagnostics={"images": count})

    def _solve_images(self, encoded: Tensor, parts: Tensor, weights: Tensor, start: Tensor) -> Tensor:
        mixing = torch.zeros((len(parts), int(parts.max()) + 1), device=weights.device)
        mixing.scatter_add_(1, parts, weights)
        return solve(encoded, mixing, start, iterations=self.iterations, lr=self.lr)

    def _graph(self, surface: ReleaseSurface, rows: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return two images of each of these ``rows``, int64 (m, 2), and their weights (m, 2), more certain first."""
        if self.graph in LEARNED:
            labelled = self.graph == "learned"
            return learned_graph(
                surface, rows, epochs=self.epochs, image_pairs=self.image_pairs, labelled=labelled, rng=rng
            )
        if "parts" not in surface.secrets:  # without mixing every row is one image
            own = torch.arange(len(rows), device=rows.device)
            parts, weights = own.unsqueeze(1), torch.ones((len(own), 1), device=own.device)
        else:
            parts, weights = surface.secrets["parts"][rows], surface.secrets["weights"][rows]
        if self.graph == "random":
            order = torch.randperm(len(parts), generator=rng).to(parts.device)
            parts = parts[order]
        return parts, weights


def solve(
    encoded: Float[Tensor, "m d"],
    mixing: Float[Tensor, "m count"],
    start: Float[Tensor, " d"],
    *,
    iterations: int,
    lr: float,
) -> Float[Tensor, "count d"]:
    """Return images that mix to the absolute values ``encoded`` under ``mixing``.

    Minimises ``mean(u^2) + 0.05 mean(1 - |x|)``, u the residual to the nearer of both signs. At zero the gradients of
    both signs cancel, hence the start at a small multiple of ``start`` (d,), the signs of the public mean.
    """
    x = (START * start).repeat(mixing.shape[1], 1).to(encoded).requires_grad_()
    optimizer = torch.optim.Adam([x], lr=lr)
    for _ in range(iterations):
        mixed = mixing @ x
        loss = (encoded - mixed.abs()).square().mean() + BRIGHTNESS * (1 - x.abs()).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return x.detach()


def as_images(x: Float[Tensor, "count d"], public: Float[Tensor, "n d"]) -> Float[Tensor, "count d"]:
    """Return ``x`` of unknown sign and scale as images with the public mean's sign and public contrast."""
    mean = public.mean(dim=0)
    centred = x - x.mean(dim=1, keepdim=True)
    sign = (centred @ (mean - mean.mean())).sign().unsqueeze(1)
    scaled = sign * centred / centred.std(dim=1, keepdim=True).clamp_min(1e-6)
    return (scaled * public.std(dim=1).mean() + public.mean()).clamp(0, 1)
