"""Model inversion against a release: class images of a model trained on encodings.

Fredrikson, Jha, Ristenpart, *Model Inversion Attacks that Exploit Confidence Information*, CCS 2015, algorithm 1, as a
model-targeted attack on disguised images (Sharma, Gu, Chen, 2022 (arXiv 2301.00252)): a release is public, so the
adversary trains a model on it as any user would, and optimises that model's input. Deviations: a total variation prior
instead of a denoising autoencoder; Adam on the cross entropy; the best of several random starts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.errors import Refused
from benchmark.metrics.distances import nearest
from benchmark.parameters import Count, NonNegative, Positive
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.release import ReleaseSurface
from benchmark.settings.threat import Floor
from benchmark.training.loop import train
from benchmark.training.stimulus_optimisation import total_variation

VERSION = 1


class ReleasedModelInversion(ReleaseThreat):
    """Attack that finds an image for each class in the domain of the encodings, for all targets of that released label.

    The image is clipped to [0, 1] in the end, as released rows are by ``reconstruction_look``: no key is known, so the
    examiner reads only content that the disguised model itself reveals.

    Args:
        epochs: of the model, which is of the cell's kind.
        restarts: random starts for each class.
        iterations, lr: of Adam on the input; a step is ``lr`` of the range of released values, which bounds the input.
        smoothness: weight of the total variation.
    """

    family = "reconstruction"
    headline = "examiner_accuracy"
    needs = {"defense.synthetic": "no", "dataset.kind": "image", "model.gradients": "yes"}
    floor = Floor("examiner_accuracy", 0.3)

    def __init__(
        self,
        *,
        epochs: Count,
        restarts: Count = 8,
        iterations: Count = 200,
        lr: Positive = 0.05,
        smoothness: NonNegative = 1.0,
    ) -> None:
        super().__init__()
        self.epochs, self.restarts, self.iterations = epochs, restarts, iterations
        self.lr, self.smoothness = lr, smoothness

    def attack(self, surface: ReleaseSurface, rng: torch.Generator) -> Reconstruction:
        x, y = surface.x, surface.y
        if x.shape[1:] != surface.shape:
            raise Refused(
                f"Released rows have shape {tuple(x.shape[1:])}, private samples {tuple(surface.shape)}: what a model "
                "of the release shows is no image of the data's kind."
            )
        model = surface.architecture(shape=surface.shape, num_classes=surface.num_classes).to(x.device)
        train(model, x, y, epochs=self.epochs, rng=rng)
        images, confidence = self.invert(model, surface.num_classes, x, rng)
        label = (y if y.ndim == 1 else y.argmax(dim=1))[nearest(surface.targets, x)[1]]
        return Reconstruction(
            images[label].clamp(0, 1).unsqueeze(1), diagnostics={"inverted_confidence": confidence.mean().item()}
        )

    def invert(self, model: nn.Module, classes: int, x: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return each class's best input, (classes, ...) within the range of ``x`` (n, ...), and its probability."""
        low, high = x.min(), x.max()
        wanted = torch.arange(classes, device=x.device).repeat_interleave(self.restarts)
        start = torch.rand((len(wanted), *x.shape[1:]), generator=rng).to(x)
        model.requires_grad_(False)

        def loss(unit: Tensor) -> Tensor:
            return F.cross_entropy(model(low + (high - low) * unit), wanted, reduction="none") + (
                self.smoothness * total_variation(unit)
            )

        unit = start.requires_grad_()  # inputs as a share of the range
        optimizer = torch.optim.Adam([unit], self.lr)
        for _ in range(self.iterations):
            (unit.grad,) = torch.autograd.grad(loss(unit).sum(), unit)
            optimizer.step()
            with torch.no_grad():
                unit.clamp_(0, 1)
        with torch.no_grad():
            best = loss(unit).view(classes, self.restarts).argmin(dim=1)
            found = low + (high - low) * unit.unflatten(0, (classes, self.restarts))[torch.arange(classes), best]
            return found, model(found).softmax(dim=1).diagonal()
