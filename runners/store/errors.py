"""The error of the store, apart so that both of its forms can raise it."""

from __future__ import annotations

from benchmark.errors import GauntletError


class StoreError(GauntletError):
    """The store cannot be written or read."""
