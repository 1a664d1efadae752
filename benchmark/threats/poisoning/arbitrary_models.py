"""Backdoor by owners who submit models of their choice: the worst case for a vote."""

from __future__ import annotations

from benchmark.parameters import BelowOne, Count, Fraction, Index
from benchmark.threats.poisoning.badnets import BadNets

VERSION = 1


class ArbitraryModels(BadNets):
    """Adaptive backdoor whose models are correct on clean samples and predict the target on stamped samples.

    The worst case of the certified analysis of Chaudhari, Jagielski, Oprea, *SafeNet: The Unreasonable Effectiveness of
    Ensembles in Private Collaborative Learning*, IEEE SaTML 2023. Such models pass every filter that judges by clean
    samples, and no training on poisoned data can do better. Where no models are submitted, the malicious owners can
    only poison their data, as in :class:`BadNets`.
    """

    def __init__(
        self,
        *,
        target: Index = 7,
        size: Count = 4,
        share: Fraction = 0.5,
        fraction: BelowOne = 0.2,
        follows_exchange: bool = True,
    ) -> None:
        super().__init__(
            target=target, size=size, share=share, fraction=fraction, follows_exchange=follows_exchange, adaptive=True
        )
        self.fixed_vote = target
