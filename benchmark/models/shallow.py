"""Models of scikit-learn behind the interface of a module: random forest, support vector machine, neighbours."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.parameters import Checked, Count
from benchmark.seeds import child

VERSION = 1

KINDS = ("random_forest", "svm", "knn")
MIN_PROBABILITY = 1e-6  # lower bound of a probability before its logarithm
KEPT = 8
_fitted: dict[str, Any] = {}
"""The last fitted estimators of this process, oldest first, by what they were fitted on: cells share trainings."""


class Shallow(Checked, nn.Module):
    """Classifier without gradients; of soft labels it learns the likeliest.

    State dict: the training samples and the seed, from which the estimator is fitted again at its first call.
    That needs no pickle, and caches treat it like any weights.

    Args:
        shape: of one sample, flattened.
        num_classes: number of logits.
        kind: ``random_forest``, ``svm`` (Gaussian kernel) or ``knn``.
        trees: of a forest.
        neighbours: of knn.
    """

    place = "model"
    first_layer = "none"
    gradients = "no"
    x: Tensor
    y: Tensor
    seed: Tensor

    def __init__(
        self,
        *,
        shape: tuple[int, ...] = (9, 128),
        num_classes: int = 6,
        kind: Literal["random_forest", "svm", "knn"] = "random_forest",
        trees: Count = 100,
        neighbours: Count = 5,
    ) -> None:
        super().__init__()
        self.num_classes, self.kind, self.trees, self.neighbours = num_classes, kind, trees, neighbours
        self.register_buffer("x", torch.zeros(0, 1))
        self.register_buffer("y", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("seed", torch.zeros((), dtype=torch.int64))
        self.estimator: Any = None

    def fit(self, x: Tensor, y: Tensor, rng: torch.Generator) -> Shallow:
        """Train from scratch on (n, ...) and int64 (n,) or soft labels (n, classes)."""
        self.x, self.y = x.detach().flatten(1), y.argmax(dim=1) if y.ndim == 2 else y
        self.seed.fill_(child(rng))
        self.estimator = None
        return self

    def features(self, x: Tensor) -> Tensor:
        """Return the inputs themselves, (n, features), because no representation is learned."""
        return x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, classes): log-probabilities, or an SVM's decision values."""
        logits = torch.full((len(x), self.num_classes), float(np.log(MIN_PROBABILITY)))
        if len(self.x) == 0:
            return torch.zeros_like(logits).to(x.device)
        known = self.y.unique().cpu()
        if len(known) == 1:
            logits[:, known] = 0.0
            return logits.to(x.device)
        if self.estimator is None:
            self.estimator = self._fit(self.x.cpu().numpy(), self.y.cpu().numpy())
        logits[:, known] = torch.from_numpy(self._scores(x.detach().flatten(1).cpu().numpy())).float()
        return logits.to(x.device)

    def _fit(self, x: np.ndarray, y: np.ndarray) -> Any:
        """Return an estimator fitted on (n, features) and int64 (n,), or the one that was fitted so before."""
        told = f"{self.kind} {self.trees} {self.neighbours} {int(self.seed)} {x.shape} {x.dtype}"
        name = hashlib.sha256(told.encode() + x.tobytes() + y.tobytes()).hexdigest()
        if name not in _fitted:
            while len(_fitted) >= KEPT:
                del _fitted[next(iter(_fitted))]
            _fitted[name] = self._estimator().fit(x, y)
        return _fitted[name]

    def _estimator(self) -> Any:
        if self.kind == "random_forest":
            from sklearn.ensemble import RandomForestClassifier

            return RandomForestClassifier(self.trees, random_state=int(self.seed), n_jobs=1)
        if self.kind == "knn":
            from sklearn.neighbors import KNeighborsClassifier

            return KNeighborsClassifier(min(self.neighbours, len(self.x)))
        from sklearn.svm import SVC

        return SVC()

    def _scores(self, x: np.ndarray) -> np.ndarray:
        if self.kind != "svm":
            return np.log(self.estimator.predict_proba(x).clip(MIN_PROBABILITY))
        margin = self.estimator.decision_function(x)
        return np.stack([-margin / 2, margin / 2], axis=1) if margin.ndim == 1 else margin

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        self.x, self.y = torch.empty_like(state[f"{prefix}x"]), torch.empty_like(state[f"{prefix}y"])
        self.estimator = None
        super()._load_from_state_dict(state, prefix, *rest)
