"""Measurements of a cell."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

NO_SUCCESS = ("mse", "nan_samples")
"""Scores of a guess of which more is not worse for the defender."""


@dataclass
class Outcome:
    """The measurements of one cell; plain numbers, ready to become a record.

    Attributes:
        utility: what the honest side keeps; higher is better (``test_accuracy`` in [0, 1]).
        risk: the threat's success; higher is always worse for the defender.
        cost: what the defense spends: ``seconds`` (of training), ``bytes_sent``, ``messages``, ``rounds``, ``epsilon``,
            ``delta``.
        diagnostics: everything else worth keeping, numbers or short strings.
        pictures: name -> images, float (rows, columns, channels, height, width) in [0, 1]; one row a kind of image.
        captions: name -> the captions of that picture's rows.
        curves: name -> a sequence of numbers (one a round, step or layer).
    """

    utility: dict[str, float] = field(default_factory=dict)
    risk: dict[str, float] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    diagnostics: dict[str, float | str] = field(default_factory=dict)
    pictures: dict[str, Tensor] = field(default_factory=dict)
    captions: dict[str, list[str]] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)

    def score(self, scores: dict[str, float]) -> None:
        """Sort what a metric said of a guess: successes into ``risk``, what is no success into ``diagnostics``."""
        for name, value in scores.items():
            (self.diagnostics if name in NO_SUCCESS else self.risk)[name] = value

    def picture(self, name: str, rows: dict[str, Tensor], columns: int = 8) -> None:
        """Keep the grid ``name``: a row for each entry, (n, channels, height, width), cut to ``columns`` images."""
        import torch

        self.pictures[name] = torch.stack([images[:columns].detach().float().cpu() for images in rows.values()])
        self.captions[name] = list(rows)
