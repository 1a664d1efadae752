"""The type checker that tests put on shapes and types of the suite's signatures, see ``tests/conftest.py``."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float
