"""Judgement of what can be played: whether the arguments of components are allowed, and whether their classes meet."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from runners.config.build import check, locate
from runners.config.catalogue import components
from runners.config.compose import ComposedCell
from runners.config.identity import SINGLE, canonical
from runners.config.remembered import keep, recall


class Judge:
    """Judge of cells by their classes: each component's arguments once, each combination of classes once.

    What it found of the suite's own classes is remembered, so that the next plan need not import them.

    Args:
        anywhere: refuse nothing for a library that is not installed here.
    """

    def __init__(self, *, anywhere: bool = False) -> None:
        self.anywhere = anywhere
        found = recall("judged") or {"checked": [], "known": {}}
        self.checked: set[str] = set(found["checked"])
        self.known: dict[str, str | None] = found["known"]
        self.size = len(self.checked) + len(self.known)
        self.strange: set[str] = set()
        self.passed: dict[int, Any] = {}

    def refusal(self, cell: ComposedCell) -> str | None:
        """Return why the cell is impossible, or None.

        Raises:
            ConfigError: a component is not allowed, or its arguments do not fit.
        """
        nodes = [(group, cell.nodes[group]) for group in SINGLE]
        nodes += [(f"defense.{name}", node) for name, node in cell.nodes["defense"].items()]
        for path, node in nodes:
            if self.passed.get(id(node)) is node:  # cells share their parts
                continue
            text = json.dumps(node, sort_keys=True)  # 1 and 1.0 are two types
            if (name := hashlib.sha256(text.encode()).hexdigest()) not in self.checked:
                check(node, path, cell.options.trusted)
                self.checked.add(name)
                self._mark(name, re.findall(r'"_target_":"([^"]*)"', canonical(node)))
            self.passed[id(node)] = node
        return self.known_refusal({path: node["_target_"] for path, node in nodes}, cell.options.trusted)

    def known_refusal(self, targets: Mapping[str, str], trusted: tuple[str, ...]) -> str | None:
        """Return why these classes do not meet, or None.

        Args:
            targets: where a component stands in the config -> its ``_target_``, in the order of :data:`SINGLE`, then
                the defenses.
            trusted: prefixes allowed beside the suite's own.
        """
        combination = " ".join([*targets.values(), *(["anywhere"] if self.anywhere else [])])
        if combination not in self.known:
            classes = [locate(target, path, trusted) for path, target in targets.items()]
            self.known[combination] = _refusal(*classes, anywhere=self.anywhere)
            self._mark(combination, targets.values())
        return self.known[combination]

    def remember(self) -> None:
        """Keep new answers, but for classes of other packages, whose changes would not be noticed."""
        if len(self.checked) + len(self.known) > self.size:
            found = recall("judged") or {"checked": [], "known": {}}  # another plan may have kept more meanwhile
            known = {name: reason for name, reason in self.known.items() if name not in self.strange}
            checked = (self.checked - self.strange).union(found["checked"])
            keep("judged", {"checked": sorted(checked), "known": found["known"] | known})

    def _mark(self, name: str, targets: Iterable[str]) -> None:
        if not components().issuperset(targets):
            self.strange.add(name)


def _refusal(dataset: Any, model: Any, setting: Any, threat: Any, *defenses: Any, anywhere: bool) -> str | None:
    from benchmark.cell import traits
    from benchmark.compatibility import refusal

    return refusal(setting, threat, defenses, traits(dataset, model), anywhere=anywhere)
