"""Griffe extension: docstrings as the reference shows them, with examples in fences and roles as plain code."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).parent))
from catalogue import prose

EXAMPLE = re.compile(r"(?:^ *(?:>>>|\.\.\.) .*\n?)+", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Griffe extension that rewrites every docstring as its object is read."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        if obj.docstring:
            text = prose(obj.docstring.value)
            obj.docstring.value = EXAMPLE.sub(lambda m: f"\n```pycon\n{m[0].rstrip()}\n```\n", text)
