"""Constrained disagreement classifiers (Ginsberg, Liang, Krishnan, ICLR 2023, section 3; arXiv 2212.02742).

A copy of a classifier is trained to agree with it on its training data and to disagree with it on other inputs. Where
the classifier knows what it does, the copy cannot do both.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.errors import ConfigError
from benchmark.metrics.classification import accuracy
from benchmark.models.boosted_trees import BoostedTrees
from benchmark.training.loop import predict


@dataclass(frozen=True)
class Tuning:
    """How one copy is trained.

    Attributes:
        epochs, lr, batch_size: of gradient descent (trees are grown from scratch instead).
        tolerance: training stops, and the last epoch is undone, when accuracy on validation data falls further than
            this below the classifier's; None: never.
    """

    epochs: int
    lr: float
    batch_size: int
    tolerance: float | None


def disagreement_loss(logits: Tensor, predicted: Tensor) -> Tensor:
    """Cross-entropy to the uniform distribution over all classes but ``predicted``, (n,).

    ``logsumexp(z) - sum_{c != predicted} z_c / (C - 1)``; with two classes, cross-entropy with the flipped label.

    Args:
        logits: (n, C); predicted: int64 (n,).
    """
    others = logits.sum(dim=1) - logits.gather(1, predicted.unsqueeze(1)).squeeze(1)
    return logits.logsumexp(dim=1) - others / (logits.shape[1] - 1)


def disagreeing(
    model: nn.Module, train: Split, validation: Split, x: Tensor, tuning: Tuning, rng: torch.Generator, member: int
) -> nn.Module:
    """A copy of ``model`` that agrees with it on ``train`` and disagrees on ``x`` (n, ...), as far as it can do both.

    Neural networks start from the weights of ``model`` and are held to its predictions on ``train``; trees are grown
    anew with the true labels, as in the paper's code. One more training sample agreed on weighs more than all of ``x``.

    Args:
        member: which copy of an ensemble this is. Trees draw their samples and features by it, as in the paper's code:
            the same for every batch, so that batches differ by what is in them and not by the draw.
    """
    if isinstance(model, BoostedTrees):
        return _trees(model, train, x, member)
    return _network(model, train, validation, x, tuning, rng)


def _trees(model: BoostedTrees, train: Split, x: Tensor, member: int) -> BoostedTrees:
    flipped = 1 - model(x).argmax(dim=1)
    if model.num_classes != 2:
        raise ConfigError("Trees disagree by flipping a label, so detectron with model=xgboost needs two classes.")
    weight = torch.cat([torch.ones(len(train)), torch.full((len(x),), 1 / (len(x) + 1))])
    grown = copy.deepcopy(model)
    return grown.fit_weighted(torch.cat([train.x, x]), torch.cat([train.y, flipped]), weight, seed=member)


def _network(
    model: nn.Module, train: Split, validation: Split, x: Tensor, tuning: Tuning, rng: torch.Generator
) -> nn.Module:
    room = tuning.batch_size - len(x)
    count = len(train) // room if room > 0 else 0  # of batches, each with all of x; what is left over is dropped
    if count == 0:
        raise ConfigError(
            f"Every batch of {tuning.batch_size} holds all {len(x)} judged inputs beside training samples, of "
            f"which there are {len(train)}: raise the detector's batch_size or lower setting.batch."
        )
    weight = 1 / (count * len(x) + 1)
    agreed, avoided = predict(model, train.x).argmax(dim=1), predict(model, x).argmax(dim=1)
    floor = 0.0
    if tuning.tolerance is not None and len(validation) > 0:
        floor = accuracy(predict(model, validation.x), validation.y) - tuning.tolerance
    twin = copy.deepcopy(model).requires_grad_(True).eval()  # eval: x must not move the statistics of batch norm
    optimizer = torch.optim.Adam(twin.parameters(), lr=tuning.lr)
    for _ in range(tuning.epochs):
        before = copy.deepcopy(twin.state_dict())
        for index in torch.randperm(len(train), generator=rng)[: count * room].view(count, room).to(x.device):
            logits = twin(torch.cat([train.x[index], x]))
            agree = F.cross_entropy(logits[:room], agreed[index], reduction="sum")
            disagree = disagreement_loss(logits[room:], avoided).sum()
            optimizer.zero_grad(set_to_none=True)
            ((agree + weight * disagree) / tuning.batch_size).backward()
            optimizer.step()
        if floor > 0 and accuracy(predict(twin, validation.x), validation.y) < floor:
            twin.load_state_dict(before)
            break
    return twin.requires_grad_(False)
