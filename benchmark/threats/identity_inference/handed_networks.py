"""Identity inference by an attacker who holds the identity networks that the suppression deceived."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from benchmark.errors import Refused
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.identities import IdentityGuess, IdentitySurface
from benchmark.training.loop import predict, train
from benchmark.training.stimulus_optimisation import anonymity_loss

VERSION = 1


class HandedNetworks(ReleaseThreat):
    """Attack that learns to recognise participants in recordings on which the owner's identity networks fail.

    Released rows show no person to those networks; any identity left in them is invisible to the networks. So the
    adversary suppresses its own recordings of the participants, ``x <- x - lr * sd * sign(grad KL(uniform || I(x)))``
    on the mean of the networks' losses, keeps their names, and trains the cell's model on recordings of both kinds.

    It has no floor: without suppression there is no network to hold. It must succeed against ``anonymous_stimuli`` with
    ``suppress`` 0, whose networks deceived nobody.

    Args:
        epochs: of its classifier.
        steps, lr: of the suppression of recordings, in standard deviations of the data.
    """

    family = "identity_inference"
    surface = "identities"
    headline = "confident_share"
    needs = {"dataset.group": "yes", "defense.identities": "yes"}
    knowledge = frozenset({"recordings", "models", "mechanism"})

    def __init__(self, *, epochs: int = 30, steps: int = 20, lr: float = 0.05) -> None:
        super().__init__()
        self.adaptive = True  # it attacks this mechanism only
        self.epochs, self.steps, self.lr = epochs, steps, lr

    def attack(self, surface: IdentitySurface, rng: torch.Generator) -> IdentityGuess:
        networks = [network for name, network in surface.models.items() if name.startswith("identity_")]
        if not networks:
            raise Refused("This threat holds the owner's identity networks, and the defense has none.")
        known = surface.recordings
        assert known.group is not None
        blank = suppressed(known.x, networks, self.steps, self.lr)
        x, persons = torch.cat([known.x, blank]), known.group.repeat(2)
        model = surface.architecture(shape=surface.shape, num_classes=surface.persons).to(known.x.device)
        model = train(model, x, persons, epochs=self.epochs, rng=rng)
        before, left = (recognised(networks, part, known.group) for part in (known.x, blank))
        return IdentityGuess(
            *(predict(model, rows).softmax(dim=1) for rows in (surface.targets, surface.real)),
            diagnostics={"handed_accuracy": before, "handed_accuracy_suppressed": left},
        )


def suppressed(
    x: Float[Tensor, "n ..."], networks: Sequence[nn.Module], steps: int, lr: float
) -> Float[Tensor, "n ..."]:
    """Return recordings after ``steps`` signed steps of ``lr`` standard deviations towards anonymity."""
    scale, x = lr * float(x.std()), x.clone()
    for _ in range(steps):
        x.requires_grad_()
        loss = torch.stack([anonymity_loss(network(x)).sum() for network in networks]).mean()
        (slope,) = torch.autograd.grad(loss, x)
        x = x.detach() - scale * slope.sign()
    return x


def recognised(networks: Sequence[nn.Module], x: Float[Tensor, "n ..."], persons: Int[Tensor, " n"]) -> float:
    """Return the share of recordings in [0, 1] that the networks' mean prediction assigns to the right person."""
    belief = torch.stack([predict(network, x).softmax(dim=1) for network in networks]).mean(dim=0)
    return (belief.argmax(dim=1) == persons).double().mean().item()
