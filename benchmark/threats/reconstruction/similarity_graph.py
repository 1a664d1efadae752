"""Similarity graph of mixtures that share a private image, learned from mixtures of the adversary's own samples.

Steps a, b and d of the graph attack of Carlini et al., *Is Private Learning Possible with Instance Encoding?*, S&P 2021
(arXiv 2011.05315): a network scores pairs of mixtures, greedy clusters of high mutual score stand for one private image
each, labels give its weight in a mixture. Without labels the weights start equal and are fitted to the mixtures
afterwards (:func:`fitted_weights`).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmark.errors import Refused
from benchmark.settings.release.games.release import ReleaseSurface
from benchmark.training.loop import predict, train

GRID = 11  # levels of a weight


def learned_graph(
    surface: ReleaseSurface,
    chosen: Tensor,
    *,
    epochs: int,
    image_pairs: int,
    labelled: bool,
    rng: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return two images of each of the ``chosen`` mixtures, int64 (m, 2), and their weights (m, 2), the larger first.

    Args:
        labelled: use the soft labels; otherwise all weights are 1 / 2, and the more likely image is first.

    Raises:
        Refused: the release has no mixtures with soft labels.
    """
    own = surface.refit(surface.attacker, "mixtures")
    if own.source is None or surface.y.ndim != 2:
        raise Refused("The learned graph needs mixtures with soft labels, as InstaHide releases them.")
    pairs, same = sampled_pairs(own.source.cpu(), image_pairs, rng)
    channels, *size = surface.shape
    model = surface.architecture(shape=(2 * channels, *size), num_classes=2).to(own.x.device)
    mine = own.x.abs()
    train(model, torch.cat([mine[pairs[:, 0]], mine[pairs[:, 1]]], dim=1), same.to(mine.device), epochs=epochs, rng=rng)
    scores = all_scores(model, surface.x[chosen].abs())
    per_image = len(own.x) // len(surface.attacker)
    images = max(len(surface.x) // per_image, 2)
    cores = clusters(scores, min(images, max(2, len(chosen) // 2)))
    if labelled:
        return assign(scores, cores, surface.y[chosen])
    affinity = torch.stack([scores[:, core].mean(dim=1) for core in cores], dim=1)
    best = affinity.topk(min(2, len(cores)), dim=1).indices
    return best, torch.full(best.shape, 0.5, device=best.device)


def fitted_weights(
    encoded: Float[Tensor, "m d"], images: Float[Tensor, "count d"], parts: Int[Tensor, "m k"]
) -> Float[Tensor, "m k"]:
    """Return the weights under which ``|w1 x1 + w2 x2|`` is nearest to each mixture: the best point of a grid.

    Args:
        encoded: absolute values of the mixtures.
        images: the images that were solved for.
        parts: the images in each mixture, k at most 2.
    """
    levels = torch.linspace(0, 1, GRID, device=images.device)
    first, second = images[parts[:, 0]], images[parts[:, -1]]
    best = torch.full((len(parts),), torch.inf, device=images.device)
    weights = torch.zeros((len(parts), 2), device=images.device)
    for pair in torch.cartesian_prod(levels, levels):
        if pair.sum() > 1:
            continue
        error = (encoded - (pair[0] * first + pair[1] * second).abs()).square().mean(dim=1)
        weights[error < best] = pair
        best = torch.minimum(best, error)
    return weights[:, : parts.shape[1]]


def sampled_pairs(
    source: Int[Tensor, " m"], count: int, rng: torch.Generator
) -> tuple[Int[Tensor, "count 2"], Int[Tensor, " count"]]:
    """Return pairs of rows, half of them with the same first image, and 1 for those pairs, else 0.

    Args:
        source: grouped in rounds: row i and i + n show the same image.
    """
    n = int(source.max()) + 1
    left = torch.randint(len(source), (count,), generator=rng)
    rounds = len(source) // n
    shift = torch.randint(1, max(rounds, 2), (count,), generator=rng)
    partner = (left + n * shift) % len(source)
    other = torch.randint(len(source), (count,), generator=rng)
    same = torch.arange(count) % 2
    right = torch.where(same.bool(), partner, other)
    return torch.stack([left, right], dim=1), (source[left] == source[right]).long()


def all_scores(model: torch.nn.Module, x: Float[Tensor, "m ..."]) -> Float[Tensor, "m m"]:
    """Return symmetric log-odds that two of the mixtures share an image."""
    rows = []
    for i in range(len(x)):
        pair = torch.cat([x[i : i + 1].expand_as(x), x], dim=1)
        logits = predict(model, pair)
        rows.append(logits[:, 1] - logits[:, 0])
    scores = torch.stack(rows)
    return (scores + scores.T) / 2


def clusters(scores: Float[Tensor, "m m"], count: int) -> list[Tensor]:
    """Return ``count`` cores of mixtures that share an image, each grown greedily from the tightest remaining seed."""
    size = max(2, len(scores) // count)
    scores = scores.clone().fill_diagonal_(0)
    tightness = scores.topk(min(size, len(scores) - 1), dim=1).values.sum(dim=1)
    used = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    cores: list[Tensor] = []
    for seed in tightness.argsort(descending=True).tolist():
        if len(cores) == count:
            break
        if used[seed]:
            continue
        core = [seed]
        total = scores[seed].clone()
        total[seed] = -torch.inf
        while len(core) < size:
            best = int(total.argmax())
            core.append(best)
            total = total + scores[best]
            total[best] = -torch.inf
        members = torch.tensor(core, device=scores.device)
        if used[members].float().mean() < 0.5:
            used[members] = True
            cores.append(members)
    return cores


def assign(
    scores: Float[Tensor, "m m"], cores: list[Tensor], labels: Float[Tensor, "m classes"]
) -> tuple[Int[Tensor, "m k"], Float[Tensor, "m k"]]:
    """Return at most two clusters of each mixture, the best scores first, and the weights that its soft label allows.

    Args:
        labels: (m, classes) soft labels.
    """
    affinity = torch.stack([scores[:, core].mean(dim=1) for core in cores], dim=1)
    classes = torch.stack([labels[core].sum(dim=0).argmax() for core in cores])
    share = labels[:, classes]
    affinity = affinity.masked_fill(share <= 0, -torch.inf)
    best = affinity.topk(min(2, len(cores)), dim=1).indices
    weights = share.gather(1, best)
    alike = (classes[best[:, 0]] == classes[best[:, -1]]) & (best.shape[1] == 2)
    weights = torch.where(alike.unsqueeze(1), weights / 2, weights)
    order = weights.argsort(dim=1, descending=True)
    return best.gather(1, order), weights.gather(1, order)
