"""Dataset condensation: its distance in closed form, and that a class comes to look like itself."""

from __future__ import annotations

import pytest
import torch

from benchmark.defenses.release.dataset_condensation import DatasetCondensation, gradient_distance
from tests.benchmark.helpers import digits_like

DEFAULTS = {"per_class": 2, "lr": 0.1, "batch_size": 30, "network_steps": 5, "network_lr": 0.01, "width": 4}


def test_gradients_are_compared_by_direction_alone() -> None:
    a = (torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([1.0, 1.0]))
    assert gradient_distance(a, tuple(3 * part for part in a)).item() == pytest.approx(0, abs=1e-6)
    assert gradient_distance(a, tuple(-part for part in a)).item() == pytest.approx(6)  # two rows and a bias, 2 each


def test_a_few_images_of_each_class_come_nearer_to_its_mean() -> None:
    private = digits_like(60, 0, num_classes=3)

    def release(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(0)
        made = DatasetCondensation(descent_steps=steps, **DEFAULTS).release(private, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
        assert made.source is None and made.x.min() >= 0 and made.x.max() <= 1
        return made.x, made.y

    means = torch.stack([private.x[private.y == label].mean(dim=0) for label in range(3)])
    (start, y), (end, _) = release(0), release(40)
    assert y.tolist() == [0, 0, 1, 1, 2, 2]

    def likeness(x: torch.Tensor) -> float:
        own, other = ((images - images.mean(dim=(1, 2, 3), keepdim=True)).flatten(1) for images in (x, means[y]))
        return torch.cosine_similarity(own, other, dim=1).mean().item()

    assert likeness(end) > likeness(start) + 0.1
