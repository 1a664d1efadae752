"""Type checker for the shapes and types in the suite's signatures, used by ``tests/conftest.py``."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float
