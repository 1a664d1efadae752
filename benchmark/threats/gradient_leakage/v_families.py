"""Families V of predictors that read the gradient of one layer; each contains the constant predictors.

Each is fitted on simulated gradients, calibrated on a part of them that the fit did not use, and replaced by a constant
where it is no better there: otherwise over-fitted predictors report negative information.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from benchmark.errors import ConfigError
from benchmark.seeds import child

VALIDATION = 4  # every 4th simulated upload is held back from the fit
COMPONENTS = 60
FLOOR = 1e-6  # least probability, so that one confident error cannot make the mean infinite
ALIKE = 5
RIDGE_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


def held_back(count: int) -> Bool[Tensor, " count"]:
    """Return the mask of the simulated uploads that evaluate a fit and take no part in it."""
    return torch.arange(count) % VALIDATION == 0


def classify(
    families: Sequence[str],
    known: Float[Tensor, "m d"],
    secret: Int[Tensor, " m"],
    seen: Float[Tensor, "n d"],
    trees: int,
    rng: torch.Generator,
) -> tuple[dict[str, Tensor], str]:
    """Return each family's log-probabilities (n, values) of the secret behind the gradients ``seen``, and the best one.

    The best family is that of the least loss on the simulated uploads that no fit used; the uploads to be judged have
    no say in it.

    Args:
        families: ``linear`` (PCA, logistic regression), ``forest``, ``mlp`` (PCA, two hidden layers of 128).
        known: (m, d), gradients for the fit.
        secret: int64 (m,), their secrets, of which each value occurs in the fit.
        trees: number of trees of a forest.

    Raises:
        ConfigError: an unknown family.
    """
    makers: dict[str, Callable[[int], Any]] = {"linear": _linear, "forest": partial(_forest, trees), "mlp": _mlp}
    _check(families, makers)
    held = held_back(len(known)).numpy()
    raw = [rows.cpu().numpy() for rows in (known, seen)]
    reduced = [rows.cpu().numpy() for rows in principal(known, seen, COMPONENTS)]
    y = secret.cpu().numpy()
    found, losses = {}, {}
    for family in families:
        x, new = raw if family == "forest" else reduced
        model = makers[family](child(rng))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # iteration limits are part of a family
            model.fit(x[~held], y[~held])
        factor, losses[family] = _temperature(_logs(model.predict_proba(x[held])), y[held])
        scaled = torch.as_tensor(_logs(model.predict_proba(new)) * factor, dtype=torch.float32)
        found[family] = scaled.log_softmax(dim=1).to(seen)
    return found, min(losses, key=losses.__getitem__)


def decode(
    families: Sequence[str],
    known: Float[Tensor, "m d"],
    images: Float[Tensor, "m pixels"],
    seen: Float[Tensor, "n d"],
    rng: torch.Generator,
) -> tuple[dict[str, Tensor], str]:
    """Return each family's images (n, pixels) guessed from the gradients ``seen``, and the best family.

    The best one errs least on the simulated uploads that no fit used.

    Args:
        families: ``ridge`` (strength by validation), ``mlp`` (PCA, one hidden layer of 128).
        known: (m, d), gradients for the fit.
        images: (m, pixels), their images.

    Raises:
        ConfigError: an unknown family.
    """
    _check(families, ("ridge", "mlp"))
    held = held_back(len(known))
    constant = images[~held].mean(dim=0)
    found, losses = {}, {}
    for family in families:
        x, new = principal(known, seen, len(known) if family == "ridge" else COMPONENTS)
        if family == "ridge":
            candidates = _ridge(x[~held], images[~held])
        else:
            candidates = [_mlp_decoder(x[~held], images[~held], child(rng))]
        candidates.append(lambda rows: constant.expand(len(rows), -1))
        errors = [float((predict(x[held]) - images[held]).square().mean()) for predict in candidates]
        losses[family] = min(errors)
        found[family] = candidates[errors.index(losses[family])](new).clamp(0, 1)
    return found, min(losses, key=losses.__getitem__)


def of_the_alike(
    known: Float[Tensor, "m d"], answers: Float[Tensor, "m values"], seen: Float[Tensor, "n d"]
) -> Float[Tensor, "n values"]:
    """Return the mean of ``answers`` over the :data:`ALIKE` simulated gradients of least angle to each of ``seen``.

    An attack of another make than all families: nothing is fitted.
    """
    similar = F.normalize(seen, dim=1) @ F.normalize(known, dim=1).T
    return answers[similar.topk(min(ALIKE, len(known)), dim=1).indices].mean(dim=1)


def principal(
    known: Float[Tensor, "m d"], seen: Float[Tensor, "n d"], count: int
) -> tuple[Float[Tensor, "m k"], Float[Tensor, "n k"]]:
    """Return at most ``count`` principal components of standardised gradients.

    Mean, spread and axes come from the rows of ``known`` that are not held back, through their small Gram matrix. The
    first component has unit variance.
    """
    base = known[~held_back(len(known))]
    mean, std = base.mean(dim=0), base.std(dim=0)
    scale = torch.where(std > 0, 1 / std.clamp_min(1e-20), 0.0)
    base, known, seen = ((rows - mean) * scale for rows in (base, known, seen))
    values, vectors = torch.linalg.eigh((base @ base.T).double())
    keep = (values > 1e-9 * values.max()).nonzero().squeeze(1).flip(0)[:count]
    if not len(keep):
        return torch.zeros(len(known), 1).to(known), torch.zeros(len(seen), 1).to(seen)
    axes = base.T @ (vectors[:, keep] / values[keep].sqrt()).to(base) * float((len(base) / values.max()).sqrt())
    return known @ axes, seen @ axes


def _check(families: Sequence[str], known: Iterable[str]) -> None:
    unknown = [family for family in families if family not in known]
    if unknown or not families:
        raise ConfigError(f"threat.families may hold {', '.join(known)}, not {', '.join(unknown) or 'nothing'}.")


def _linear(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))


def _forest(trees: int, seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(trees, min_samples_leaf=2, random_state=seed)


def _mlp(seed: int) -> Any:
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    network = MLPClassifier(hidden_layer_sizes=(128, 128), max_iter=40, alpha=1e-2, random_state=seed)
    return make_pipeline(StandardScaler(), network)


def _logs(probabilities: np.ndarray) -> np.ndarray:
    logs: np.ndarray = np.log(probabilities.clip(FLOOR, 1 - FLOOR))
    return logs


def _temperature(logs: np.ndarray, secret: np.ndarray) -> tuple[float, float]:
    """Return the factor in [0, 2] on log-probabilities (m, values) with the least validation loss, and that loss.

    A factor of 0 is the constant prediction.
    """
    factors = np.concatenate([[0.0], np.geomspace(0.01, 2, 40)])
    told, truth = torch.as_tensor(logs), torch.as_tensor(secret)
    losses = [F.cross_entropy(factor * told, truth).item() for factor in factors]
    best = int(np.argmin(losses))
    return float(factors[best]), losses[best]


Decoder = Callable[[Tensor], Tensor]


def _ridge(x: Tensor, images: Tensor) -> list[Decoder]:
    """Return ridge regressions of all strengths; the components ``x`` (m, k) are uncorrelated, so each has its own
    solution."""
    constant = images.mean(dim=0)
    power = x.square().sum(dim=0)
    product = x.T @ (images - constant)
    decoders: list[Decoder] = []
    for strength in RIDGE_STRENGTHS:
        weights = product / (power + strength * power.mean())[:, None]
        decoders.append(lambda rows, weights=weights: rows @ weights + constant)  # type: ignore[misc]
    return decoders


def _mlp_decoder(x: Tensor, images: Tensor, seed: int) -> Decoder:
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    network = MLPRegressor(hidden_layer_sizes=(128,), max_iter=40, alpha=1e-2, random_state=seed)
    chain = make_pipeline(StandardScaler(), network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chain.fit(x.cpu().numpy(), images.cpu().numpy())
    return lambda rows: torch.as_tensor(chain.predict(rows.cpu().numpy()), dtype=rows.dtype).to(rows)
