"""Power and false alarms of detectors of shifted batches or of dishonest models."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from benchmark.metrics.classification import auc, tpr_at_fpr

SMALLEST_P = 1e-300


def threshold(null: Float[Tensor, " r"], level: float) -> float:
    """Return the smallest value that at most a share ``level`` of the suspicions ``null`` (r,) exceed."""
    ordered = null.double().sort(descending=True).values
    return ordered[min(int(level * len(ordered) + 1e-9), len(ordered) - 1)].item()


def flagged(suspicion: Float[Tensor, " q"], alarm: float) -> float:
    """Return the share of the batches, in [0, 1], whose suspicion is above the alarm (ties are not)."""
    return (suspicion.double() > alarm).double().mean().item()


def p_values(suspicion: Float[Tensor, " q"], null: Float[Tensor, " r"]) -> Float[Tensor, " q"]:
    """Return ``(1 + #{null >= s}) / (r + 1)`` for each suspicion s: valid for exchangeable batches with any ties."""
    below = torch.searchsorted(null.double().sort().values, suspicion.double())
    return (1 + len(null) - below).double() / (len(null) + 1)


def power(
    shifted: Float[Tensor, " q"], null: Float[Tensor, " r"], held_out: Float[Tensor, " held_out"], level: float
) -> dict[str, float]:
    """Return power and false alarms of the alarm that ``null`` calibrates.

    Args:
        shifted, null, held_out: suspicions of shifted batches, of the usual ones that set the alarm, and of further
            usual ones; higher is more suspicious.
        level: the share of false alarms allowed, in [0, 1).

    Returns:
        ``power``: share of shifted batches that are flagged; ``false_alarms``: the share of ``null`` that is, at most
        ``level`` and below it where suspicions are discrete; ``held_out_false_alarms``; ``auc`` of shifted against
        null; ``p_value``: the mean over shifted batches.
    """
    alarm = threshold(null, level)
    positive = torch.cat([torch.ones(len(shifted)), torch.zeros(len(null))])
    return {
        "power": flagged(shifted, alarm),
        "false_alarms": flagged(null, alarm),
        "held_out_false_alarms": flagged(held_out, alarm),
        "auc": auc(torch.cat([shifted.double(), null.double()]), positive),
        "p_value": p_values(shifted, null).mean().item(),
    }


def telling_apart(
    honest: Float[Tensor, " m"], dishonest: Float[Tensor, " n"], references: Float[Tensor, " r"], rate: float
) -> dict[str, float]:
    """Return how well suspicions separate ``dishonest`` from ``honest``, with an alarm at p-values up to ``rate``.

    Args:
        references: (r,) suspicions of others that are known to be honest, for the p-values.

    Returns:
        ``detection_power`` and ``false_alarm_rate``: shares of both groups that raise the alarm; ``detection_auc`` and
        ``detection_tpr_at_5_fpr`` need no references; all in [0, 1].
    """
    scores = torch.cat([honest.double(), dishonest.double()])
    positive = torch.arange(len(scores)) >= len(honest)
    return {
        "detection_power": (p_values(dishonest, references) <= rate).double().mean().item(),
        "false_alarm_rate": (p_values(honest, references) <= rate).double().mean().item(),
        "detection_auc": auc(scores, positive),
        "detection_tpr_at_5_fpr": tpr_at_fpr(scores, positive, 0.05),
    }


def ks_suspicion(samples: Float[Tensor, " n"], reference: Float[Tensor, " m"]) -> float:
    """Return ``-log10 p`` of the two-sample Kolmogorov-Smirnov test, at least 0."""
    from scipy.stats import ks_2samp

    p = float(ks_2samp(samples.double().cpu().numpy(), reference.double().cpu().numpy()).pvalue)
    return -math.log10(max(p, SMALLEST_P))
