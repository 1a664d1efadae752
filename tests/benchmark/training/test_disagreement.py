"""Constrained disagreement: the loss against its definition, and that a copy does both things asked of it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmark.data.base import Split
from benchmark.errors import ConfigError, Refused
from benchmark.models.boosted_trees import BoostedTrees
from benchmark.models.shallow import Shallow
from benchmark.training.disagreement import Tuning, disagreement_loss, train_disagreeing

TUNING = Tuning(epochs=20, lr=1e-2, batch_size=64, tolerance=0.05)


def trees() -> BoostedTrees:
    return BoostedTrees(
        shape=(2,), num_classes=2, rounds=10, eta=0.3, max_depth=3, min_child_weight=1, subsample=1, colsample=1
    )


def blobs(count: int, seed: int) -> Split:
    """Return two classes a unit square apart, as a split."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 2
    return Split(torch.rand((count, 2), generator=rng) + 2.0 * y.unsqueeze(1), y)


def test_loss_is_cross_entropy_to_all_other_classes() -> None:
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    predicted = torch.tensor([0, 1, 2, 3, 0])
    weights = (1 - F.one_hot(predicted, 4)) / 3
    assert torch.allclose(disagreement_loss(logits, predicted), F.cross_entropy(logits, weights, reduction="none"))


def test_loss_of_two_classes_is_cross_entropy_with_the_flipped_label() -> None:
    logits, predicted = torch.randn(6, 2), torch.tensor([0, 1, 0, 1, 1, 0])
    assert torch.allclose(
        disagreement_loss(logits, predicted), F.cross_entropy(logits, 1 - predicted, reduction="none")
    )


@pytest.mark.parametrize("kind", ["network", "trees"])
def test_a_copy_disagrees_far_from_the_training_data_only(kind: str) -> None:
    train, validation = blobs(200, 0), blobs(60, 1)
    if kind == "trees":
        model: nn.Module = trees().fit(train.x, train.y, torch.Generator().manual_seed(0))
    else:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(100):
            optimizer.zero_grad()
            F.cross_entropy(model(train.x), train.y).backward()
            optimizer.step()
    before = copy.deepcopy(model.state_dict())
    far, near = torch.tensor([[-8.0, 9.0]]).repeat(10, 1), blobs(10, 2).x

    def disagreed(x: torch.Tensor) -> float:
        twin = train_disagreeing(model, train, validation, x, TUNING, torch.Generator().manual_seed(0), 1)
        agreement = (twin(train.x).argmax(1) == model(train.x).argmax(1)).double().mean()
        assert agreement > 0.94
        return (twin(x).argmax(1) != model(x).argmax(1)).double().mean().item()

    assert disagreed(near) <= 0.1
    if kind == "network":  # trees are piecewise constant: far away they answer as at the border
        assert disagreed(far) >= 0.9
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_copy_that_loses_agreement_is_undone() -> None:
    train = blobs(60, 0)
    torch.manual_seed(0)
    model = nn.Linear(2, 2)
    perfect = Split(train.x, model(train.x).argmax(1))
    tuning = Tuning(epochs=3, lr=10.0, batch_size=40, tolerance=0.0)
    twin = train_disagreeing(model, perfect, perfect, train.x[:20], tuning, torch.Generator().manual_seed(0), 1)
    assert (twin(train.x).argmax(1) == perfect.y).all()


def test_a_tree_of_an_ensemble_draws_the_same_for_every_batch() -> None:
    train = blobs(100, 0)
    model = trees()
    model.options["subsample"] = 0.5
    model = model.fit(train.x, train.y, torch.Generator())

    def grown(seed: int, member: int) -> torch.Tensor:
        rng = torch.Generator().manual_seed(seed)
        return train_disagreeing(model, train, train, train.x[:5], TUNING, rng, member)(train.x)

    assert torch.equal(grown(0, 1), grown(1, 1))
    assert not torch.equal(grown(0, 1), grown(0, 2))


def test_too_large_a_batch_is_refused_with_the_remedy() -> None:
    train = blobs(20, 0)
    with pytest.raises(ConfigError, match=r"raise the detector's batch_size or lower setting\.batch"):
        train_disagreeing(nn.Linear(2, 2), train, train, train.x, Tuning(1, 1e-3, 16, None), torch.Generator(), 1)


def test_a_model_that_neither_descends_nor_grows_by_weights_is_refused() -> None:
    train = blobs(20, 0)
    with pytest.raises(Refused, match=r"Shallow has no gradients to disagree by; choose model=xgboost or a network"):
        train_disagreeing(Shallow(shape=(2,), num_classes=2), train, train, train.x[:4], TUNING, torch.Generator(), 1)


def test_trees_survive_their_state_dict_and_give_log_odds() -> None:
    train = blobs(100, 0)
    fitted = trees().fit(train.x, train.y, torch.Generator().manual_seed(0))
    again = trees()
    assert again(train.x).abs().max() == 0, "unfitted trees know nothing"
    again.load_state_dict(fitted.state_dict())
    assert torch.equal(again(train.x), fitted(train.x))
    assert (fitted(train.x).argmax(1) == train.y).double().mean() > 0.95
