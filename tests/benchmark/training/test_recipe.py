"""Tests of recipes: what a training does beside its epochs and rate."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmark.errors import ConfigError
from benchmark.seeds import generator
from benchmark.training.loop import train
from benchmark.training.recipe import Recipe, cropped


@pytest.mark.parametrize(
    ("recipe", "make", "schedule"),
    [
        (None, lambda weights: torch.optim.Adam(weights, lr=0.1), None),
        (Recipe(), lambda weights: torch.optim.Adam(weights, lr=0.1), None),
        (
            Recipe(optimizer="adamw", weight_decay=0.1, schedule="cosine"),
            lambda weights: torch.optim.AdamW(weights, lr=0.1, weight_decay=0.1),
            lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6),
        ),
        (
            Recipe(optimizer="sgd", weight_decay=0.1, schedule="one_cycle"),
            lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
            lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=6),
        ),
    ],
)
def test_training_takes_the_steps_of_the_recipe(recipe, make, schedule) -> None:
    x, y = torch.randn(20, 3, generator=generator(0, "x")), torch.arange(20) % 2
    module = nn.Linear(3, 2)
    plain = copy.deepcopy(module)
    train(module, x, y, epochs=2, lr=0.1, batch_size=8, rng=generator(0, "batches"), recipe=recipe)
    optimizer, rng = make(plain.parameters()), generator(0, "batches")
    rate = schedule(optimizer) if schedule else None
    for _ in range(2):
        for index in torch.randperm(20, generator=rng).split(8):
            optimizer.zero_grad()
            F.cross_entropy(plain(x[index]), y[index]).backward()
            optimizer.step()
            if rate:
                rate.step()
    assert torch.equal(module.weight, plain.weight)


def test_images_are_cut_from_their_margin_and_mirrored() -> None:
    x = torch.arange(1.0, 1 + 600 * 2 * 9).reshape(600, 2, 3, 3)
    altered = Recipe(crop=1, flip=True).augmented(x, generator(0, "augment"))
    padded = F.pad(x, (1, 1, 1, 1))
    allowed = torch.stack(
        [
            image[:, :, top : top + 3, left : left + 3]
            for image in (padded, padded.flip(-1))
            for top in range(3)
            for left in range(3)
        ]
    )
    matches = (allowed == altered).flatten(2).all(dim=2)  # (18 ways, 600 images)
    assert torch.equal(matches.sum(dim=0), torch.ones(600, dtype=torch.int64)), "each in exactly one way"
    assert (matches.sum(dim=1) > 10).all(), "each way is drawn, about 33 times"
    assert Recipe(crop=1, flip=True).augmented(x.flatten(1), generator(0, "augment")).equal(x.flatten(1))
    corner = torch.zeros(600, dtype=torch.int64)
    assert torch.equal(cropped(x, corner, corner + 1, size=(3, 2)), x[..., 1:])


def test_weight_decay_wants_an_optimiser_that_has_it() -> None:
    with pytest.raises(ConfigError, match="adamw or sgd"):
        Recipe(weight_decay=0.1)
