"""V-information: predictors trained on simulated uploads measure how much each layer's gradient reveals.

Mo et al., *Quantifying (and Localizing) Usable Information Leakage from Neural Network Gradients*, arXiv 2105.13929.
Only the abstracts could be read, so the families of predictors are the suite's choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn.functional import one_hot

from benchmark.parameters import Count
from benchmark.settings.collaboration.games.many_uploads import (
    AttributeBatches,
    Beliefs,
    ManyUploadsSurface,
    ManyUploadsThreat,
    draw_batches,
)
from benchmark.settings.threat import Floor
from benchmark.threats.gradient_leakage.v_families import classify, decode, of_the_alike
from benchmark.training.layers import layer_slices

VERSION = 2


class LatentVInformation(ManyUploadsThreat):
    """Measure of latent information: the sensitive attribute behind an upload.

    Args:
        families: of predictors, see :func:`~.v_families.classify`; the best on simulated uploads counts for a layer.
        victims: uploads to be judged.
        auxiliary: uploads that are simulated for the fit.
        scope: ``group``: all samples of a batch share the attribute; ``member``: it is that of the batch's first
            sample.
        trees: of a forest.
        adaptive: the simulation includes the defense.
    """

    goal = "secret"
    headline = "latent_bits"
    floor: ClassVar[Floor | None] = Floor("attribute_accuracy", 0.6)

    def __init__(
        self,
        *,
        families: Sequence[str] = ("linear", "forest", "mlp"),
        victims: Annotated[int, Ge(4)] = 300,
        auxiliary: Annotated[int, Ge(4)] = 800,
        scope: Literal["group", "member"] = "group",
        trees: Count = 100,
        adaptive: bool = False,
    ) -> None:
        super().__init__(victims=victims, auxiliary=auxiliary, scope=scope, adaptive=adaptive)
        self.families, self.trees = families, trees

    def attack(self, surface: ManyUploadsSurface, rng: torch.Generator) -> Beliefs:
        batches, known = simulated(self, surface, rng)
        secret = self.taught_values(batches, rng)
        told = Beliefs()
        for layer, part in layer_slices(surface.net.layout).items():
            seen, sorts = surface.uploads[:, part], one_hot(secret, int(secret.max()) + 1).to(known)
            found, best = classify(self.families, known[:, part], secret, seen, self.trees, rng)
            told.found[layer] = found[best]
            told.otherwise[layer] = of_the_alike(known[:, part], sorts, seen)
        return told

    def taught_values(self, batches: AttributeBatches, rng: torch.Generator) -> Tensor:
        """Return the values of the secret that the predictors learn."""
        return batches.secret


class ShuffledSecret(LatentVInformation):
    """Negative control: the same predictors, trained on values of the secret in random order.

    They find no information unless the estimate is biased.
    """

    control = "negative"
    floor = None

    def taught_values(self, batches: AttributeBatches, rng: torch.Generator) -> Tensor:
        return batches.secret[torch.randperm(len(batches.secret), generator=rng).to(batches.secret.device)]


class ToldSecret(ManyUploadsThreat):
    """Positive control that knows the attribute: one bit for any layer and any defense."""

    goal = "secret"
    headline = "latent_bits"
    control = "positive"
    knowledge = frozenset({"truth"})

    def __init__(
        self, *, victims: Annotated[int, Ge(4)] = 300, auxiliary: Annotated[int, Ge(4)] = 4, adaptive: bool = False
    ) -> None:
        super().__init__(victims=victims, auxiliary=auxiliary, adaptive=adaptive)

    def attack(self, surface: ManyUploadsSurface, rng: torch.Generator) -> Beliefs:
        secret = surface.truth.secret
        sure = one_hot(secret, int(secret.max()) + 1).to(surface.params).clamp(1e-6, 1).log()
        return Beliefs(dict.fromkeys(layer_slices(surface.net.layout), sure))


class OriginalVInformation(ManyUploadsThreat):
    """Measure of original information: the image behind an upload, or the mean image of its batch.

    Args:
        families: of decoders, see :func:`~.v_families.decode`; the best on simulated uploads counts for a layer.
        victims: uploads to be judged.
        auxiliary: uploads that are simulated for the fit.
        adaptive: the simulation includes the defense.
    """

    needs: ClassVar[Mapping[str, str]] = {**ManyUploadsThreat.needs, "dataset.kind": "image"}
    goal = "image"
    headline = "original_bits"
    floor = Floor("original_bits", 0.05)

    def __init__(
        self,
        *,
        families: Sequence[str] = ("ridge", "mlp"),
        victims: Annotated[int, Ge(4)] = 300,
        auxiliary: Annotated[int, Ge(4)] = 800,
        adaptive: bool = False,
    ) -> None:
        super().__init__(victims=victims, auxiliary=auxiliary, adaptive=adaptive)
        self.families = families

    def attack(self, surface: ManyUploadsSurface, rng: torch.Generator) -> Beliefs:
        batches, known = simulated(self, surface, rng)
        images = batches.x.mean(dim=1).flatten(start_dim=1)
        told = Beliefs()
        for layer, part in layer_slices(surface.net.layout).items():
            seen = surface.uploads[:, part]
            found, best = decode(self.families, known[:, part], images, seen, rng)
            told.found[layer] = found[best].view(-1, *surface.shape)
            told.otherwise[layer] = of_the_alike(known[:, part], images, seen).view(-1, *surface.shape)
        return told


def simulated(
    threat: ManyUploadsThreat, surface: ManyUploadsSurface, rng: torch.Generator
) -> tuple[AttributeBatches, Tensor]:
    """Return the adversary's own batches and the uploads (auxiliary, d) that they would cause."""
    batches = draw_batches(surface.own, threat.auxiliary, surface.batch_size, threat.scope, rng)
    return batches, (surface.rehearse_defended if threat.adaptive else surface.rehearse)(batches)
