"""A backdoor by owners who hand over whatever model they like: the worst that a vote can meet."""

from __future__ import annotations

from benchmark.threats.poisoning.badnets import BadNets

VERSION = 1


class ArbitraryModels(BadNets):
    """Knows that models vote: every malicious model is faultless on clean samples and always says the target on stamped
    ones (the worst case of SafeNet's analysis; spec 08, row ``worstcase``).

    Such models pass every filter that judges by clean samples, and no training on poisoned data can do better. Where no
    models are handed over, the malicious owners can only poison their data, as :class:`BadNets` does.
    """

    def __init__(self, *, target: int, size: int, share: float, fraction: float, follows_exchange: bool) -> None:
        super().__init__(
            target=target, size=size, share=share, fraction=fraction, follows_exchange=follows_exchange, adaptive=True
        )
        self.fixed_vote = target
