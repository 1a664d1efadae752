"""The fixture of all properties."""

from tests.fuzz.tiers import sandbox

__all__ = ["sandbox"]
