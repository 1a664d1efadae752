"""Reported numbers: what a paper claims, as reviewed data in ``results/reported/NN-name.yaml``, one file a paper.

The fields are explained in ``results/reported/README.md``.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal, Self, get_args

from omegaconf import OmegaConf
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from benchmark.errors import GauntletError
from runners.config import catalogue
from runners.config.build import nearest

ROOT = Path(__file__).resolve().parents[2]
REPORTED = Path("results/reported")
NAMED = ("dataset", "model", "setting", "threat", "defense")
SECTIONS = ("utility.", "risk.", "cost.", "diagnostics.")
BOUNDS = (("at_least", "≥"), ("above", ">"), ("at_most", "≤"), ("below", "<"))
SLACK = 1e-9
"""Rounding error of a mean."""
Cells = dict[str, Any]
Rival = Literal["tie"] | float | Cells
"""Rival for which a claim must not hold: cells, a number in place of the claim's own, or a tie of what it compares."""
Kind = Literal["headline", "paper", "rerun", "gate"]
KINDS: tuple[str, ...] = get_args(Kind)
"""In the order in which they are shown: our own gates come last."""


class ClaimsError(GauntletError):
    """Error in a file of claims that cannot be read; the message names the file, the claim and the field."""


class Claim(BaseModel):
    """One number or qualitative statement, and which records answer it; the README there explains each field."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[\w.-]+$")
    text: str
    where: str
    kind: Kind
    known: Literal["printed", "code", "recalled"] = "printed"
    sentence: str | None = Field(default=None, pattern=r"^[a-z]$")
    scaled: str | None = None
    scale: Literal["smoke", "cpu", "full"] | None = None
    cells: Cells | None = None
    metric: str | None = None
    value: float | None = None
    tolerance: float | None = Field(default=None, ge=0)
    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None
    against: Cells | None = None
    against_metric: str | None = None
    by: Literal["difference", "ratio", "factor"] = "difference"
    reduce: Literal["mean", "min", "max"] | None = None
    budget: dict[str, float] = Field(default_factory=dict)
    must_fail: dict[str, Rival] = Field(default_factory=dict)
    why: str | None = None
    test: str | None = None
    miss: str | None = None
    note: str | None = None

    @field_validator("metric", "against_metric")
    @classmethod
    def _a_metric_of_a_record(cls, metric: str | None) -> str | None:
        if metric is not None and not metric.startswith(SECTIONS):
            raise ValueError(f"begins with {', '.join(SECTIONS)}: got {metric!r}")
        return metric

    @field_validator("budget")
    @classmethod
    def _metrics_of_a_record(cls, budget: dict[str, float]) -> dict[str, float]:
        for metric in budget:
            cls._a_metric_of_a_record(metric)
        return budget

    @model_validator(mode="after")
    def _one_kind_of_answer(self) -> Self:
        _demand(self.kind != "headline" or self.sentence is not None, "a headline names its `sentence` of the abstract")
        _demand(self.kind != "gate" or self.sentence is None, "a gate is ours and answers no `sentence`")
        if self.cells is None:
            _demand(bool(self.test or self.why), "give `cells`, a `test`, or `why` nothing here can answer it")
            return self
        for name in ("scale", "metric"):
            _demand(getattr(self, name) is not None, f"`{name}` is missing")
        bounded = any(getattr(self, name) is not None for name, _ in BOUNDS)
        _demand(bounded != (self.value is not None), "give either `value` or an inequality (`at_least`, `above`, ...)")
        _demand(self.value is None or self.tolerance is not None, "a `value` needs its `tolerance`")
        _demand(self.value is None or bool(self.why), "a `tolerance` needs its reason: give `why`")
        _demand(self.compares or self.by == "difference", f"`by: {self.by}` needs `against`")
        _demand(self.compares or "tie" not in self.must_fail.values(), "a `tie` needs `against`")
        _demand(self.kind == "rerun" or bool(self.must_fail), "name a rival that it must not hold for: `must_fail`")
        played = [self.with_(rival) for rival in self.must_fail.values() if isinstance(rival, dict)]
        _demand(self.cells not in played, "a rival in `must_fail` is the claim's own cell")
        _demand(
            self.kind == "rerun" or not self.praises_a_defense or bool(played),
            "an attack that does nothing has this risk too: name in `must_fail` the cells where the attack works",
        )
        return self

    @property
    def compares(self) -> bool:
        return self.against is not None or self.against_metric is not None

    @property
    def praises_a_defense(self) -> bool:
        """Return whether the claim is met by a defended risk of nothing at all."""
        risk = (self.metric or "").startswith("risk.") and not self.compares
        return risk and (self.cells or {}).get("defense", "none") != "none" and not self.too_low(0.0)

    @property
    def other(self) -> Cells | None:
        """Return the complete cells that this claim compares with; None where it compares nothing."""
        return self.with_(self.against or {}) if self.compares else None

    def with_(self, over: Cells) -> Cells:
        """Return ``cells`` with ``over`` on top; parameters of the components that it replaces fall away."""
        replaced = {name for name in over if "." not in name}
        return {path: value for path, value in (self.cells or {}).items() if path.split(".")[0] not in replaced} | over

    def too_low(self, number: float) -> bool:
        """Return whether ``number`` is below what the claim allows, by more than a rounding error."""
        low = self.at_least if self.value is None else self.value - (self.tolerance or 0.0)
        return bool(low is not None and number < low - SLACK) or bool(
            self.above is not None and number <= self.above + SLACK
        )

    def too_high(self, number: float) -> bool:
        """Return whether ``number`` is above what the claim allows, by more than a rounding error."""
        high = self.at_most if self.value is None else self.value + (self.tolerance or 0.0)
        return bool(high is not None and number > high + SLACK) or bool(
            self.below is not None and number >= self.below - SLACK
        )

    def keeps_budget(self, record: Mapping[str, Any]) -> bool:
        """Return whether ``record`` tells every number of ``budget``, and none is larger than that."""
        spent = {metric: record[metric.partition(".")[0]].get(metric.partition(".")[2]) for metric in self.budget}
        return all(
            isinstance(spent[metric], int | float) and spent[metric] <= most + SLACK
            for metric, most in self.budget.items()
        )

    def wanted(self) -> str:
        """Return the claim's number in a few characters: ``0.962 ± 0.02``, ``≥ 0.8``, ``> 0, cost.epsilon ≤ 10``."""
        limits = ((sign, getattr(self, name)) for name, sign in BOUNDS)
        wanted = " and ".join(f"{sign} {limit:g}" for sign, limit in limits if limit is not None) or "–"
        if self.value is not None:
            wanted = f"{self.value:g} ± {self.tolerance:g}"
        return ", ".join([wanted, *(f"{metric} ≤ {most:g}" for metric, most in self.budget.items())])


class Paper(BaseModel):
    """A paper and its claims."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str = Field(pattern=r"^\d\d$")
    title: str
    authors: str
    year: int
    sweep: str | None = None
    page: str | None = None
    abstract: dict[str, str] = Field(default_factory=dict)
    claims: tuple[Claim, ...]

    @model_validator(mode="after")
    def _unique_names(self) -> Self:
        names = [claim.id for claim in self.claims]
        twice = sorted({name for name in names if names.count(name) > 1})
        _demand(not twice, f"two claims have the same id: {', '.join(twice)}")
        return self

    @model_validator(mode="after")
    def _every_sentence_has_an_answer(self) -> Self:
        answered = {claim.sentence for claim in self.claims if claim.sentence}
        _demand(
            answered == set(self.abstract), f"claims answer sentences {sorted(answered)} of {sorted(self.abstract)}"
        )
        return self


def _demand(met: bool, otherwise: str) -> None:
    if not met:
        raise ValueError(otherwise)


# -- reading ----------------------------------------------------------------------------------------------------------
def load(folder: Path = REPORTED, system: str | None = None) -> list[Paper]:
    """Read the papers in ``folder``, sorted by system; only that of number ``system`` where one is given.

    Raises:
        ClaimsError: a file is not as it should be, or there is none for ``system``.
    """
    wanted = system.zfill(2) if system else None
    paths = sorted(path for path in Path(folder).glob("*.yaml") if wanted in (None, path.name[:2]))
    if wanted and not paths:
        known = ", ".join(path.stem for path in sorted(Path(folder).glob("*.yaml"))) or "none at all"
        raise ClaimsError(f"There is no {folder}/{wanted}-*.yaml; there are {known}.")
    return [read(path) for path in paths]


def read(path: Path) -> Paper:
    """Read the claims in ``path``.

    Raises:
        ClaimsError: it is no YAML, a field is wrong, or it names an option or a test that is not there.
    """
    try:
        content = _content(path, path.stat().st_mtime_ns)
    except Exception as error:  # of YAML, of OmegaConf and of the file system
        raise ClaimsError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    try:
        paper = Paper.model_validate(content)
    except ValidationError as error:
        raise ClaimsError("\n".join(f"{path}: {line}" for line in _told(error, content))) from error
    problems = [f"{path}: {claim.id}: {problem}" for claim in paper.claims for problem in problems_of(claim)]
    if not path.name.startswith(f"{paper.system}-"):
        problems.append(f"{path}: its name must begin with {paper.system}-, the system's number.")
    if problems:
        raise ClaimsError("\n".join(problems))
    return paper


@lru_cache
def _content(path: Path, changed: int) -> Any:
    """Return the parsed file ``path`` as of its time of change ``changed``; the caller must not modify it."""
    return OmegaConf.to_container(OmegaConf.load(path))


def _told(error: ValidationError, content: Any) -> list[str]:
    """Return a sentence for each invalid field."""
    lines = []
    for one in error.errors():
        place, message = list(one["loc"]), one["msg"].removeprefix("Value error, ")
        name = ".".join(str(part) for part in place)
        if len(place) > 1 and place[0] == "claims":
            claim = content["claims"][place[1]]
            known = claim.get("id") if isinstance(claim, dict) else None
            name = ".".join([str(known or f"claim {int(place[1]) + 1}"), *map(str, place[2:])])
        if one["type"] == "extra_forbidden":
            fields = Claim.model_fields if place[0] == "claims" else Paper.model_fields
            message = f"there is no such field{nearest(str(place[-1]), list(fields))}"
        lines.append(f"{name}: {message}" if name else message)
    return lines


# -- what the fields refer to -----------------------------------------------------------------------------------------
def problems_of(claim: Claim) -> list[str]:
    """Return the options, parameters and tests that ``claim`` and its rivals refer to and that do not exist."""
    rivals = [claim.with_(rival) for rival in claim.must_fail.values() if isinstance(rival, dict)]
    found = [problem for cells in (claim.cells, claim.other, *rivals) if cells for problem in _unknown(cells)]
    if claim.test and not _test_exists(claim.test):
        found.append(f"there is no test {claim.test}; write path::function, relative to the repository.")
    return list(dict.fromkeys(found))


def _unknown(cells: Cells) -> list[str]:
    problems = []
    for path, value in cells.items():
        group, *rest = path.split(".")
        if group not in NAMED:
            problems.append(f"cells has {path!r}; its first word is one of {', '.join(NAMED)}.")
        elif not rest:
            options = _options(group)
            absent = [name for name in names(value) if name not in options]
            problems += [f"there is no {group} {name!r}{nearest(name, options)}" for name in absent]
        elif group == "defense" and rest[0] not in names(cells.get("defense")):
            problems.append(f"{path!r} needs `defense` to hold {rest[0]!r}; write defense.NAME.parameter.")
        elif known := _parameters(group, rest[0] if group == "defense" else cells.get(group)):
            name = ".".join(rest[1:] if group == "defense" else rest)
            if name not in known:
                problems.append(f"{path!r} is no parameter{nearest(name, sorted(known))}")
    return problems


def names(value: Any) -> list[str]:
    """Return the options that ``a``, ``a+b`` or a list names."""
    if isinstance(value, list):
        return [str(name) for name in value]
    return [name.strip() for name in str(value).split("+")] if value is not None else []


@cache
def _options(group: str) -> list[str]:
    return [option.name for option in catalogue.options(group)]


@cache
def _parameters(group: str, option: str | None) -> frozenset[str]:
    """Return the dotted names in an option's YAML file; none where it builds on others, or no single file tells."""
    path = catalogue.CONF / group / f"{option}.yaml"
    content = OmegaConf.to_container(OmegaConf.load(path)) if path.is_file() else {}
    if not isinstance(content, dict) or group == "setting" or "defaults" in content:
        return frozenset()
    return frozenset(_dotted(content))


def _dotted(node: dict[Any, Any], prefix: str = "") -> list[str]:
    found = []
    for name, value in node.items():
        found.append(f"{prefix}{name}")
        if isinstance(value, dict):
            found += _dotted(value, f"{prefix}{name}.")
    return found


@cache
def _test_exists(name: str) -> bool:
    file, *parts = name.split("::")
    path = ROOT / file
    if not parts or not path.is_file():
        return False
    body: list[ast.stmt] = ast.parse(path.read_text(encoding="utf-8")).body
    for part in parts:
        found = [node for node in body if getattr(node, "name", None) == part.partition("[")[0]]
        if not found:
            return False
        body = getattr(found[0], "body", [])
    return True
