"""Constrained disagreement classifiers (Ginsberg, Liang, Krishnan, ICLR 2023, section 3; arXiv 2212.02742).

A copy of a classifier is trained to agree with it on its training data and to disagree with it on other inputs. On
inputs like the training data the copy cannot do both.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.errors import ConfigError, Refused
from benchmark.metrics.classification import accuracy
from benchmark.models.boosted_trees import BoostedTrees
from benchmark.training.loop import predict


@dataclass(frozen=True)
class Tuning:
    """Training parameters of one copy.

    Attributes:
        epochs, lr, batch_size: of gradient descent (trees are grown from scratch instead).
        tolerance: training stops, and the last epoch is undone, when accuracy on validation data falls further than
            this below the classifier's; None: never.
    """

    epochs: int
    lr: float
    batch_size: int
    tolerance: float | None


def disagreement_loss(logits: Float[Tensor, "n classes"], predicted: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the cross-entropy to the uniform distribution over all classes but ``predicted``, (n,).

    ``logsumexp(z) - sum_{c != predicted} z_c / (C - 1)``; with two classes, cross-entropy with the flipped label.

    Args:
        logits: (n, C); predicted: int64 (n,).
    """
    others = logits.sum(dim=1) - logits.gather(1, predicted.unsqueeze(1)).squeeze(1)
    return logits.logsumexp(dim=1) - others / (logits.shape[1] - 1)


def train_disagreeing(
    model: nn.Module, train: Split, validation: Split, x: Tensor, tuning: Tuning, rng: torch.Generator, member: int
) -> nn.Module:
    """Return a copy of ``model`` trained to agree with it on ``train`` and to disagree on ``x`` (n, ...).

    Neural networks start from the weights of ``model`` and are held to its predictions on ``train``; trees are grown
    anew with the true labels, as in the paper's code. Agreeing on one more training sample weighs more than all of
    ``x``.

    Args:
        member: index of this copy in an ensemble. Trees draw their samples and features by it, as in the paper's code:
            the same for every batch, so that batches differ by their content and not by the draw.

    Raises:
        ConfigError: trees of more than two classes, or no training sample fits into a batch beside ``x``.
        Refused: neither a network nor boosted trees.
    """
    if isinstance(model, BoostedTrees):
        return _trees(model, train, x, member)
    if getattr(model, "gradients", "yes") == "no":
        raise Refused(f"{type(model).__name__} has no gradients to disagree by; choose model=xgboost or a network.")
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
    fresh = tuning.batch_size - len(x)
    count = len(train) // fresh if fresh > 0 else 0  # of batches, each with all of x; the remainder is dropped
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
    copied = copy.deepcopy(model).requires_grad_(True).eval()  # eval: x must not move the statistics of batch norm
    optimizer = torch.optim.Adam(copied.parameters(), lr=tuning.lr)
    for _ in range(tuning.epochs):
        before = copy.deepcopy(copied.state_dict())
        for index in torch.randperm(len(train), generator=rng)[: count * fresh].view(count, fresh).to(x.device):
            logits = copied(torch.cat([train.x[index], x]))
            agree = F.cross_entropy(logits[:fresh], agreed[index], reduction="sum")
            disagree = disagreement_loss(logits[fresh:], avoided).sum()
            optimizer.zero_grad(set_to_none=True)
            ((agree + weight * disagree) / tuning.batch_size).backward()
            optimizer.step()
        if floor > 0 and accuracy(predict(copied, validation.x), validation.y) < floor:
            copied.load_state_dict(before)
            break
    return copied.requires_grad_(False)
