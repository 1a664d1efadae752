"""Gradient-boosted trees (XGBoost) behind the interface of a module, for tabular data."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.errors import ConfigError
from benchmark.parameters import Checked, Count, NonNegative, Positive, Share
from benchmark.seeds import child

VERSION = 1


class BoostedTrees(Checked, nn.Module):
    """Gradient-boosted trees as a classifier: logits out, the fitted booster in the state dict.

    The booster is kept as the bytes of XGBoost's own format in a buffer, so that caches and checkpoints treat it like
    any weights. No gradient reaches the inputs.

    Args:
        shape: of one sample, flattened.
        num_classes: number of logits.
        rounds: boosting rounds.
        eta: learning rate.
        max_depth: of a tree.
        min_child_weight: least weight of a leaf.
        subsample, colsample: share of the samples and of the features for each tree.
    """

    place = "model"
    first_layer = "trees"
    gradients = "no"
    booster: Tensor

    def __init__(
        self,
        *,
        shape: tuple[int, ...] = (9,),
        num_classes: int = 2,
        rounds: Count = 10,
        eta: Positive = 0.1,
        max_depth: Count = 6,
        min_child_weight: NonNegative = 1.0,
        subsample: Share = 0.8,
        colsample: Share = 0.8,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ConfigError(f"model=xgboost needs at least 2 classes, got {num_classes}.")
        self.num_classes, self.rounds = num_classes, rounds
        self.options: dict[str, Any] = {
            "eta": eta,
            "max_depth": max_depth,
            "min_child_weight": min_child_weight,
            "subsample": subsample,
            "colsample_bytree": colsample,
            "tree_method": "hist",
            "nthread": 1,
            "verbosity": 0,
        }
        if num_classes == 2:
            self.options["objective"] = "binary:logistic"
        else:
            self.options |= {"objective": "multi:softprob", "num_class": num_classes}
        self.register_buffer("booster", torch.zeros(0, dtype=torch.uint8))

    def fit(self, x: Tensor, y: Tensor, rng: torch.Generator) -> BoostedTrees:
        """Train from scratch on (n, ...) and int64 (n,)."""
        return self.fit_weighted(x, y, torch.ones(len(y)), seed=child(rng))

    def fit_weighted(self, x: Tensor, y: Tensor, weight: Tensor, *, seed: int) -> BoostedTrees:
        """Train from scratch with a weight (n,) for each sample."""
        import xgboost

        data = xgboost.DMatrix(_table(x), label=y.cpu().numpy(), weight=weight.cpu().numpy(), nthread=1)
        booster = xgboost.train({**self.options, "seed": seed}, data, num_boost_round=self.rounds)
        self.booster = torch.from_numpy(np.frombuffer(booster.save_raw("ubj"), dtype=np.uint8).copy()).to(x.device)
        return self

    def features(self, x: Tensor) -> Tensor:
        """Return the inputs themselves, (n, features), because trees learn no representation."""
        return x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        import xgboost

        if len(self.booster) == 0:
            return torch.zeros(len(x), self.num_classes, device=x.device)
        booster = xgboost.Booster({"nthread": 1})
        booster.load_model(bytearray(self.booster.cpu().numpy().tobytes()))
        table = xgboost.DMatrix(_table(x), nthread=1)
        margin = torch.from_numpy(booster.predict(table, output_margin=True)).to(x.device)
        # XGBoost gives one margin for two classes: the log-odds, which is the difference of two logits.
        return torch.stack([-margin / 2, margin / 2], dim=1) if self.num_classes == 2 else margin

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        self.booster = torch.empty_like(state[f"{prefix}booster"])  # a booster's size is known only once it is fitted
        super()._load_from_state_dict(state, prefix, *rest)


def _table(x: Tensor) -> np.ndarray:
    return x.detach().flatten(1).cpu().numpy()
