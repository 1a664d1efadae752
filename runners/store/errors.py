"""Error of the store, in a module of its own so that loose and packed records can both raise it."""

from __future__ import annotations

from benchmark.errors import GauntletError


class StoreError(GauntletError):
    """Error of a store that cannot be written or read."""
