"""Feature inversion: a smooth image with the features of the released one.

Mahendran, Vedaldi, *Understanding Deep Image Representations by Inverting Them*, CVPR 2015 (arXiv 1412.0035): descent
on the distance of features with a total-variation prior. IPProtect (Singh et al., 2022) argues that it must fail, since
many images share the features that a sanitiser keeps.
"""

from __future__ import annotations

import torch

from benchmark.metrics.images import variation
from benchmark.parameters import Count, NonNegative, Positive
from benchmark.settings.guesses import Reconstruction
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.settings.release.games.release import ReleaseSurface
from benchmark.threats.proxies import feature_networks, joint_features, same_shape

VERSION = 1


class FeatureInversion(ReleaseThreat):
    """Descent from the mean of the adversary's samples to the features of the released rows.

    Args:
        descent_steps, lr: of Adam within [0, 1].
        smooth: weight of total variation.
        epochs: of the adversary's own network, whose logits are the features of the plain form.
        adaptive: the features are those of the mechanism's own proxies, which the adversary knows.
    """

    family = "reconstruction"
    headline = "explained_variance"
    needs = {"defense.synthetic": "no", "dataset.kind": "image"}

    def __init__(
        self,
        *,
        descent_steps: Count = 200,
        lr: Positive = 0.05,
        smooth: NonNegative = 0.05,
        epochs: Count = 30,
        adaptive: bool = False,
    ) -> None:
        super().__init__(adaptive=adaptive)
        self.descent_steps, self.lr, self.smooth, self.epochs = descent_steps, lr, smooth, epochs
        self.knowledge |= {"attacker_data", "models"} if adaptive else {"attacker_data"}

    def attack(self, surface: ReleaseSurface, rng: torch.Generator) -> Reconstruction:
        same_shape(surface)
        networks, own = feature_networks(surface, rng, epochs=self.epochs, adaptive=self.adaptive), surface.attacker.x
        with torch.no_grad():
            wanted, spread = (
                joint_features(networks, surface.targets),
                joint_features(networks, own).var(dim=0).clamp_min(1e-6),
            )
        x = own.mean(dim=0).expand(len(surface.targets), *surface.shape).clone().requires_grad_()
        optimizer = torch.optim.Adam([x], lr=self.lr)
        for _ in range(self.descent_steps):
            apart = ((joint_features(networks, x) - wanted).square() / spread).mean(dim=1)
            optimizer.zero_grad(set_to_none=True)
            (apart + self.smooth * variation(x)).sum().backward()
            optimizer.step()
            with torch.no_grad():
                x.clamp_(0, 1)
        return Reconstruction(x.detach().unsqueeze(1), diagnostics={"feature_error": apart.mean().item()})
