"""Data valuation on a release: a population of sellers is worth what their models predict right on it.

Protocol of IPProtect (Singh et al., 2022, arXiv 2212.11468), reconstructed from its abstract: the buyer's evaluation
set (``owner``) is released, each seller predicts it, a broker who keeps the labels reports accuracies. Sellers train on
their own parts of ``calibration``, so that nobody's data are the buyer's (``owner``), the proxies' (``public``), the
adversary's (``attacker``) or the independent test's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from benchmark.data.base import Split
from benchmark.errors import ConfigError, Refused
from benchmark.metrics.classification import accuracy
from benchmark.metrics.valuation import compare_values, macro_f1
from benchmark.models.mlp import MLP
from benchmark.outcome import Outcome
from benchmark.parameters import AtLeastTwo, Count, Fraction
from benchmark.seeds import derive
from benchmark.settings.base import CellContext
from benchmark.settings.release.measures.base import Measure
from benchmark.settings.release.mechanism import Fitted
from benchmark.training.loop import predict, train

VERSION = 1
KINDS = ("cell", "mlp", "forest")

Predict = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Seller:
    """One party with data to sell.

    Attributes:
        number: 0, 1, ... kind: of its model, one of :data:`KINDS`.
        rows: int64 (n,) of the sellers' pool; y: int64 (n,) its labels, some of them wrong.
    """

    number: int
    kind: str
    rows: Tensor
    y: Tensor


class Valuation(Measure):
    """Values of sellers on the released set against their values on the raw one.

    Writes ``utility.valuation_fidelity`` (1 - mean absolute error), ``utility.valuation_tau`` (Kendall's, of the
    ranking), ``diagnostics.valuation_{mae,bias,spearman}``, the values as curves, and for a seller who games the broker
    by training on the release too: ``gaming_gain`` of its reported value, ``gaming_true_gain`` of its raw one.

    Args:
        direction: ``evaluation_set``; ``training_set``: sellers hold parts of ``owner``, train on what is released
            of them and are valued on ``test``.
        value: ``accuracy``, ``macro_f1``, or ``marginal``: what the seller's data add to the buyer's own (``public``).
        sellers: how many, of graded size, label noise and number of classes, with models of three kinds in turn.
        epochs: of networks; trees: of the forests.
        smallest, largest: samples of a seller (at most what there is). label_noise: of the noisiest, in [0, 1].
        fewest_classes: of the narrowest.
    """

    kinds: tuple[str, ...] = KINDS

    def __init__(
        self,
        *,
        direction: Literal["evaluation_set", "training_set"],
        value: Literal["accuracy", "macro_f1", "marginal"],
        sellers: AtLeastTwo,
        epochs: Count,
        trees: Count,
        smallest: Count,
        largest: Count,
        label_noise: Fraction,
        fewest_classes: Count,
    ) -> None:
        if sellers < 2 or not 0 <= label_noise <= 1 or smallest < 1 or largest < smallest:
            raise ConfigError(
                "valuation needs at least 2 sellers, label_noise in [0, 1] and 1 <= smallest <= largest; got "
                f"{sellers}, {label_noise}, {smallest}, {largest}."
            )
        self.direction, self.value, self.sellers, self.epochs, self.trees = direction, value, sellers, epochs, trees
        self.smallest, self.largest = smallest, largest
        self.label_noise, self.fewest_classes = label_noise, fewest_classes

    def __call__(self, context: CellContext, fitted: Fitted, outcome: Outcome) -> None:
        if fitted.release.x.shape[1:] != context.data.shape:
            outcome.diagnostics["valuation"] = "none: released rows have another shape than the sellers' data"
            return
        pair = self._evaluated if self.direction == "evaluation_set" else self._trained_on
        raw, released = pair(context, fitted, outcome)
        utility, notes = compare_values(raw, released)
        outcome.utility.update(utility)
        outcome.diagnostics.update(notes)
        outcome.curves["seller_value_raw"] = raw.tolist()
        outcome.curves["seller_value_released"] = released.tolist()

    # -- the two directions ------------------------------------------------------------------------
    def _evaluated(self, context: CellContext, fitted: Fitted, outcome: Outcome) -> tuple[Tensor, Tensor]:
        """Return values (sellers,) of models trained on raw data, on the raw and on the released evaluation set."""
        raw, released = context.data.owner, _with_classes(fitted)
        pool, sellers = self._population(context, context.data.calibration)
        models = [self._model(context, seller, pool) for seller in sellers]
        on_raw, on_released = (self._values(context, sellers, models, split) for split in (raw, released))
        worst = int(on_raw.argmin())
        gamer = self._model(context, sellers[worst], pool, also=released)
        before = {"gain": (released, on_released), "true_gain": (raw, on_raw)}
        for name, (split, values) in before.items():
            gained = self._values(context, [sellers[worst]], [gamer], split)[0] - values[worst]
            outcome.diagnostics[f"gaming_{name}"] = gained.item()
        return on_raw, on_released

    def _trained_on(self, context: CellContext, fitted: Fitted, outcome: Outcome) -> tuple[Tensor, Tensor]:
        """Return values (sellers,) on the test set of models trained on raw data, and on what is released of them."""
        if fitted.release.source is None:
            raise Refused("A synthetic release has no seller's rows: leave valuation.direction at evaluation_set.")
        pool, sellers = self._population(context, context.data.owner)
        first = torch.stack([(fitted.release.source == row).int().argmax() for row in range(len(pool))])
        disguised = replace(pool, x=fitted.release.x[first.to(pool.x.device)])
        return tuple(  # type: ignore[return-value]
            self._values(context, sellers, [self._model(context, s, data, tag) for s in sellers], context.data.test)
            for tag, data in (("", pool), ("released.", disguised))
        )

    # -- sellers -----------------------------------------------------------------------------------
    def _population(self, context: CellContext, pool: Split) -> tuple[Split, list[Seller]]:
        if len(pool) < 2:
            raise Refused("Sellers need data of their own: raise dataset.sizes.calibration.")
        rng, classes = context.rng("sellers"), context.data.num_classes
        largest = min(self.largest, len(pool))
        smallest = min(self.smallest, largest)
        sizes = smallest * (largest / smallest) ** _grades(self.sellers, rng)
        noises = self.label_noise * (2 * _grades(self.sellers, rng) - 1).clamp_min(0)  # half of them make no mistakes
        narrow = (2 * _grades(self.sellers, rng) - 1).clamp_min(0)  # half of them know all classes
        known = (classes - narrow * max(0, classes - self.fewest_classes)).round().int()
        y, sellers = pool.y.cpu(), []
        for number in range(self.sellers):
            allowed = torch.randperm(classes, generator=rng)[: int(known[number])]
            order = torch.randperm(len(pool), generator=rng)
            rows = order[torch.isin(y[order], allowed)][: int(sizes[number].round())]
            rows = rows if len(rows) else order[:1]
            wrong = torch.rand(len(rows), generator=rng) < noises[number]
            labels = torch.where(wrong, torch.randint(classes, (len(rows),), generator=rng), y[rows])
            device = pool.y.device
            sellers.append(Seller(number, self.kinds[number % len(self.kinds)], rows.to(device), labels.to(device)))
        return pool, sellers

    def _model(
        self, context: CellContext, seller: Seller, pool: Split, tag: str = "", also: Split | None = None
    ) -> Predict:
        """Return the seller's model: inputs (n, ...) -> classes (n,). ``also``: a release, for a gaming seller."""
        own = Split(pool.x[seller.rows], seller.y)
        if self.value == "marginal":
            own = own.joined(Split(context.data.public.x, context.data.public.y))
        if also is not None:
            own, tag = own.joined(also), "gaming."
        return self._fitted(context, seller.kind, own, str(seller.number), tag)

    def _fitted(self, context: CellContext, kind: str, own: Split, name: str, tag: str = "") -> Predict:
        """Return a model of ``kind`` trained on ``own``; ``tag`` names what the release had a part in.

        It is seeded by ``name`` alone, so that raw and released data are used with the same weights and batches.
        """
        if kind == "forest":
            return _forest(own, self.trees, derive(context.seed, f"seller.{name}") % 2**32)
        parts = ("dataset", "model", "setting", "scale", *(["defense"] if tag else []))
        if kind == "mlp":
            context = replace(context, architecture=partial(MLP, hidden=[64], activation="relu"))

        def build(model: nn.Module) -> nn.Module:
            return train(model, own.x, own.y, epochs=self.epochs, rng=context.rng(f"seller.{name}.batches"))

        model = context.trained((f"seller.{tag}{name}", *parts), build, purpose=f"seller.{name}.init")
        return lambda x: predict(model, x).argmax(dim=1)

    def _values(self, context: CellContext, sellers: list[Seller], models: list[Predict], split: Split) -> Tensor:
        """Return the value of each seller's model on ``split``, float64 (sellers,)."""
        measure = macro_f1 if self.value == "macro_f1" else accuracy
        values = [measure(model(split.x), split.y) for model in models]
        if self.value == "marginal":
            public = Split(context.data.public.x, context.data.public.y)
            alone = {
                kind: measure(self._fitted(context, kind, public, f"buyer_{kind}")(split.x), split.y)
                for kind in {seller.kind for seller in sellers}
            }
            values = [value - alone[seller.kind] for value, seller in zip(values, sellers, strict=True)]
        return torch.tensor(values, dtype=torch.float64)


class AlikeValuation(Valuation):
    """Valuation with sellers who all have the cell's model.

    How much of the values carries over depends on how similar the sellers' models are to the proxies.
    """

    kinds = ("cell",)


def _grades(count: int, rng: torch.Generator) -> Tensor:
    """Return ``count`` even steps from 0 to 1, shuffled."""
    return torch.linspace(0, 1, count, dtype=torch.float64)[torch.randperm(count, generator=rng)]


def _with_classes(fitted: Fitted) -> Split:
    """Return the released rows with the broker's labels; of soft ones the heaviest class."""
    release = fitted.release
    return Split(release.x, release.y if release.y.ndim == 1 else release.y.argmax(dim=1))


def _forest(own: Split, trees: int, seed: int) -> Predict:
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(n_estimators=trees, random_state=seed, n_jobs=1)
    forest.fit(own.x.flatten(1).cpu().numpy(), own.y.cpu().numpy())
    return lambda x: torch.as_tensor(forest.predict(x.flatten(1).cpu().numpy()), device=x.device)
