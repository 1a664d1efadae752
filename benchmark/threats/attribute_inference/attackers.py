"""Classifiers that guess a sensitive attribute; attribute inference always reports the best of them.

Gradient boosting, MLP, RBF-SVM, decision tree and random forest: the external attackers of Aivodji et al. (GANSan) and
of later work on fair mappings. Rows with many features are first reduced to 50 principal components, and attackers
learn from at most 4,000 rows, so that images take only seconds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.errors import ConfigError
from benchmark.seeds import child

MAX_FEATURES, COMPONENTS, MAX_ROWS = 100, 50, 4000


def _boosting(seed: int) -> Any:
    from sklearn.ensemble import GradientBoostingClassifier

    return GradientBoostingClassifier(n_estimators=100, learning_rate=0.1, max_depth=3, random_state=seed)


def _mlp(seed: int) -> Any:
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier(random_state=seed)


def _svm(seed: int) -> Any:
    from sklearn.svm import SVC

    return SVC(kernel="rbf", class_weight="balanced", random_state=seed)


def _tree(seed: int) -> Any:
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(random_state=seed)


def _forest(seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_estimators=100, max_depth=10, random_state=seed)


ATTACKERS: dict[str, Callable[[int], Any]] = {
    "boosting": _boosting,
    "mlp": _mlp,
    "svm": _svm,
    "tree": _tree,
    "forest": _forest,
}


def known_attackers(names: Sequence[str]) -> list[str]:
    """Return ``names`` as a list.

    Raises:
        ConfigError: no name, or an unknown one.
    """
    unknown = set(names) - set(ATTACKERS)
    if unknown or not names:
        raise ConfigError(f"threat.attackers are some of {', '.join(ATTACKERS)}, got {list(names)}.")
    return list(names)


def guess(
    names: Sequence[str], x: Tensor, s: Tensor, targets: Tensor, rng: torch.Generator
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return each attacker's labels, int64 (n,), and for attributes of two values its scores (n,), by name.

    Args:
        names: of :data:`ATTACKERS`.
        x: (m, ...) records of known attribute.
        s: int64 (m,), their attributes.
        targets: (n, ...) the others.
    """
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    rows = torch.randperm(len(x), generator=rng)[:MAX_ROWS].to(x.device)
    known, asked = (_array(part.flatten(start_dim=1)) for part in (x[rows], targets))
    values = s[rows].cpu().numpy()
    scaler = StandardScaler().fit(known)
    known, asked = scaler.transform(known), scaler.transform(asked)
    if known.shape[1] > MAX_FEATURES and len(known) > COMPONENTS:
        reduce = PCA(COMPONENTS, random_state=child(rng)).fit(known)
        known, asked = reduce.transform(known), reduce.transform(asked)
    labels, scores = {}, {}
    for name in names:
        model = ATTACKERS[name](child(rng))
        if len(np.unique(values)) < 2:
            labels[name] = torch.full((len(asked),), int(values[0]))
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the MLP stops at its default number of iterations on purpose
            model.fit(known, values)
        labels[name] = torch.as_tensor(model.predict(asked), dtype=torch.int64)
        if len(model.classes_) == 2:
            scores[name] = torch.as_tensor(_scores(model, asked))
    return labels, scores


def _scores(model: Any, asked: np.ndarray) -> np.ndarray:
    return model.predict_proba(asked)[:, 1] if hasattr(model, "predict_proba") else model.decision_function(asked)


def _array(x: Tensor) -> np.ndarray:
    return x.detach().cpu().double().numpy()
