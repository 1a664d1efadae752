"""Networks whose features an adversary uses to compare released rows with private ones."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from benchmark.errors import Refused
from benchmark.settings.release.games.base import ReleasedData
from benchmark.training.loop import train


def feature_networks(surface: ReleasedData, rng: torch.Generator, *, epochs: int, adaptive: bool) -> list[nn.Module]:
    """Return the mechanism's proxies for an adaptive adversary, else one network trained on the adversary's samples.

    Raises:
        Refused: an adaptive adversary asks for proxies that the defense does not have.
    """
    if not adaptive:
        model = surface.architecture(shape=surface.shape, num_classes=surface.num_classes).to(surface.x.device)
        train(model, surface.attacker.x, surface.attacker.y, epochs=epochs, rng=rng)
        return [model.requires_grad_(False)]
    found = [model for name, model in surface.models.items() if name.startswith("proxy")]
    if not found:
        raise Refused("The adaptive form uses the defense's proxy networks, but it hands out none.")
    return [model.eval().requires_grad_(False) for model in found]


def joint_features(networks: list[nn.Module], x: Float[Tensor, "n ..."]) -> Float[Tensor, "n features"]:
    """Return the outputs of all networks for x, concatenated."""
    return torch.cat([network(x) for network in networks], dim=1)


def same_shape(surface: ReleasedData) -> None:
    """Check that released rows have the shape of private samples, so that the adversary's networks can read them.

    Raises:
        Refused: released rows have another shape than private samples.
    """
    if surface.x.shape[1:] != surface.shape:
        raise Refused("Released rows have another shape than private samples, so the adversary's networks cannot read.")
