"""Attribute inference with the weights of a fair map: the group that explains a mapped record best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.errors import Refused
from benchmark.metrics.distances import nearest
from benchmark.parameters import Count, CountOrZero, Positive
from benchmark.settings.release.games.attributes import AttributeGuess, AttributeSurface
from benchmark.settings.release.games.base import ReleaseThreat
from benchmark.threats.attribute_inference.attackers import guess, known_attackers
from benchmark.training.adversarial_groups import CriticAndDiscriminator
from benchmark.training.record_space import RecordSpace, with_decision

VERSION = 1


class JointInversion(ReleaseThreat):
    """Attack that inverts the map under each group's prior, compares likelihoods and uses the owner's critic networks.

    For a mapped record ``t`` and a group g the adversary searches for the person of g who is most likely behind it,

        ``max_x  log p_g(x) - sum_j (G(x)_j - t_j)^2 / 2 v_j``,

    with ``p_g`` a Gaussian kernel density of its own people of g, one bandwidth for all groups, and ``v_j`` the square
    of that bandwidth plus the mean square of the change by decoding in column j. It starts from those of g whose images
    are nearest to t. ``inversion`` answers with the most likely group, weighted by the groups' shares; the other
    attackers learn from labelled released records with these features: the log-likelihoods, the residuals of the
    inversion, the change by a second application of G, and the outputs of critic and discriminator.

    It has no floor: without a map there is nothing to invert. It must succeed against the map without its protection
    (``fair_wgan``).

    Args:
        attackers: names of :data:`benchmark.threats.attribute_inference.attackers.ATTACKERS`.
        rows: largest number of labelled records that they learn from.
        starts: of each search.
        steps, lr: of Adam on the searched records.
    """

    family = "attribute_inference"
    surface = "attributes"
    headline = "attribute_accuracy"
    needs = {"dataset.sensitive": "yes", "defense.attributes": "yes", "defense.map": "yes"}
    knowledge = frozenset({"labelled", "attacker_data", "models", "mechanism"})

    def __init__(
        self,
        *,
        attackers: Sequence[str] = ("boosting", "mlp", "svm", "tree", "forest"),
        rows: Count = 2000,
        starts: Count = 2,
        steps: CountOrZero = 60,
        lr: Positive = 0.02,
    ) -> None:
        super().__init__()
        self.adaptive = True  # it attacks this mechanism only
        self.attackers, self.rows = known_attackers(attackers), rows
        self.starts, self.steps, self.lr = starts, steps, lr

    def attack(self, surface: AttributeSurface, rng: torch.Generator) -> AttributeGuess:
        labelled, own = surface.labelled, surface.attacker
        if own.sensitive is None or labelled.sensitive is None:
            raise Refused("The joint inversion needs people of known attribute for its priors, and there are none.")
        chosen = torch.randperm(len(labelled), generator=rng)[: self.rows].to(labelled.y.device)
        known = with_decision(labelled[chosen], surface.num_classes)
        targets = with_decision(Split(surface.targets, surface.targets_y), surface.num_classes)
        inverse = Inversion(surface.models, own, surface.num_classes, self, rng)
        (fit_known, far_known), (fit_targets, far_targets) = inverse(known), inverse(targets)
        s, shares = labelled.sensitive[chosen], inverse.shares
        features = [
            torch.cat([x, fit, far, *network_features(surface.models, x, rng)], dim=1).float()
            for x, fit, far in ((known, fit_known, far_known), (targets, fit_targets, far_targets))
        ]
        labels, scores = guess(self.attackers, features[0], s, features[1], rng)
        belief = fit_targets + shares.log()
        labels["inversion"] = inverse.groups[belief.argmax(dim=1)]
        if len(shares) == 2:
            scores["inversion"] = belief[:, 1] - belief[:, 0]
        return AttributeGuess(labels, scores, diagnostics={"inversion_residual": float(far_targets.amin(1).median())})


class Inversion:
    """Search for the person behind a mapped record, for each group: ``inverse(records) -> (fit, residual)``.

    Attributes:
        groups: int64 (k,), groups of which the adversary has samples.
        shares: (k,), their frequency among these samples.
    """

    def __init__(
        self, models: Mapping[str, nn.Module], own: Split, num_classes: int, how: JointInversion, rng: torch.Generator
    ) -> None:
        assert own.sensitive is not None
        self.map, self.how, self.rng = models["map"], how, rng
        people = with_decision(own, num_classes)
        self.groups, counts = own.sensitive.unique(return_counts=True)
        self.shares = counts.double() / counts.sum()
        self.people = [people[own.sensitive == group] for group in self.groups]
        self.width = bandwidth(people)
        with torch.no_grad():
            raw = self.map(people, rng)
        lost = RecordSpace.of(people).decode(raw) - raw
        self.variance = lost.square().mean(dim=0) + self.width**2  # (d,)

    def __call__(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return the groups' best log-likelihoods and residuals ``|G(x) - t|`` for records (n, d), (n, k) each."""
        found = [self._search(seen, people) for people in self.people]
        return torch.stack([fit for fit, _ in found], dim=1), torch.stack([far for _, far in found], dim=1)

    def _search(self, seen: Tensor, people: Tensor) -> tuple[Tensor, Tensor]:
        starts = min(self.how.starts, len(people))
        with torch.no_grad():
            images = self.map(people, self.rng)
        near = torch.cdist(seen, images).topk(starts, largest=False).indices
        x = people[near.flatten()].clone().requires_grad_()  # (n * starts, d)
        wanted = seen.repeat_interleave(starts, dim=0)
        optimizer = torch.optim.Adam([x], lr=self.how.lr)
        for _ in range(self.how.steps):
            optimizer.zero_grad(set_to_none=True)
            (-self._likelihood(x, wanted, people)[0].sum()).backward()
            optimizer.step()
        with torch.no_grad():
            fit, far = (part.view(-1, starts) for part in self._likelihood(x, wanted, people))
        best = fit.argmax(dim=1, keepdim=True)
        return fit.gather(1, best).squeeze(1).double(), far.gather(1, best).squeeze(1).double()

    def _likelihood(self, x: Tensor, wanted: Tensor, people: Tensor) -> tuple[Tensor, Tensor]:
        squares = (self.map(x, self.rng) - wanted).square()
        prior = torch.logsumexp(-torch.cdist(x, people).square() / (2 * self.width**2), dim=1) - math.log(len(people))
        return prior - (squares / (2 * self.variance)).sum(dim=1), squares.sum(dim=1).sqrt()


def bandwidth(people: Float[Tensor, "n d"]) -> float:
    """Return the bandwidth of a kernel density of ``people``.

    It is Scott's rule for the mean deviation of their columns, or, where that is too narrow for many columns, the
    distance to the nearest neighbour per column.
    """
    count, columns = people.shape
    scott = float(people.std(dim=0).mean()) * count ** (-1 / (columns + 4))
    half = count // 2
    return max(scott, float(nearest(people[:half], people[half:])[0].median()) / math.sqrt(columns))


@torch.no_grad()
def network_features(models: Mapping[str, nn.Module], x: Tensor, rng: torch.Generator) -> list[Tensor]:
    """Return the outputs of the owner's networks for records (n, d): the map's second change, critic, discriminator."""
    outputs = [models["map"](x, rng) - x]
    judges = models.get("judges")
    if isinstance(judges, CriticAndDiscriminator):
        outputs += [judges.critic(x).unsqueeze(1), judges.groups(x)]
    return outputs
