"""No cell is `ok` with a parameter out of its bounds, and none inside them ends in a traceback."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Interval, Le, Lt
from hypothesis import strategies as st

from benchmark.parameters import constructor_hints
from runners.config import catalogue
from runners.config.build import locate
from runners.store.records import Store
from tests.fuzz.test_inputs import node
from tests.fuzz.tiers import Sandbox, both, gauntlet, hold
from tests.runners.conftest import composed

CELLS = {
    "leakage_control_mean": ["none", "gradient_noise", "gradient_clipping", "dp_sgd"],
    "leakage_analytic": ["none", "gradient_pruning", "gradient_noise"],
    "poison_sign_flip": ["none", "krum", "trimmed_mean", "coordinate_median"],
    "poison_label_flip": ["none", "krum", "trimmed_mean"],
    "reconstruction_control_mean": ["none", "rmt"],
    "reconstruction_known_pairs": ["none", "rmt"],
    "evasion_fgsm": ["none", "defensive_distillation"],
    "shift_rotation_noise": ["none"],
}
"""Cheap threats, each with defenses that it meets."""
SMALL = (
    *("dataset=digits", "model=mlp", "scale=smoke", "device=cpu", "dataset.sizes.owner=120", "dataset.sizes.test=40"),
    *("dataset.sizes.attacker=60", "dataset.sizes.public=40", "dataset.sizes.calibration=40", "model.hidden=[8]"),
)
INSIDE = {int: [1, 2, 3], float: [1e-300, 1e-6, 0.1, 0.5, 1, 3.0, 1e30], bool: [True, False]}
OUTSIDE: list[Any] = [-1, 0, 0.5, 1, 1.5, -1e-9, 2.5, 1e400, -1e400, math.nan, 10**30, None, True, "x", "", [], [1], {}]


def allowed(annotation: Any, value: Any) -> bool:
    """Return whether ``value`` is what ``annotation`` says, by its words and none of the suite's checks."""
    if value is None:
        return type(None) in options(annotation)
    return any(fits(option, value) for option in options(annotation))


def options(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) not in (Annotated, Literal, None) else (annotation,)


def fits(option: Any, value: Any) -> bool:
    if get_origin(option) is Literal:
        return value in get_args(option)
    kind, *bounds = get_args(option) if get_origin(option) is Annotated else (option,)
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    if kind is str:
        return isinstance(value, str)
    if kind not in (int, float) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    if kind is int and value != int(value):
        return False
    return all(holds(bound, value) for item in bounds for bound in (item if isinstance(item, Interval) else [item]))


def holds(bound: Any, value: float) -> bool:
    match bound:
        case Ge(ge=limit):
            return value >= limit
        case Gt(gt=limit):
            return value > limit
        case Le(le=limit):
            return value <= limit
        case Lt(lt=limit):
            return value < limit
    return True


@cache
def parameters(group: str, option: str) -> dict[str, Any]:
    """Return the annotation of each parameter of an option that is a number, a truth value or a choice."""
    found = composed(f"{group}={option}").nodes[group][option] if group == "defense" else node_of(group, option)
    hints = constructor_hints(locate(found["_target_"], group))
    return {name: hint for name, hint in hints.items() if name in found and simple(hint)}


@cache
def node_of(group: str, option: str) -> dict[str, Any]:
    return dict(composed(f"{group}={option}").nodes[group]) if group != "dataset" else node(option)


def simple(annotation: Any) -> bool:
    return all(kind in (int, float, bool, type(None)) or get_origin(o) is Literal for o, kind in kinds(annotation))


def kinds(annotation: Any) -> Iterator[tuple[Any, Any]]:
    for option in options(annotation):
        yield option, get_args(option)[0] if get_origin(option) is Annotated else option


def inside(annotation: Any) -> list[Any]:
    """Return values that the annotation allows, of which none makes a cell long."""
    found: list[Any] = []
    for option, kind in kinds(annotation):
        found += get_args(option) if get_origin(option) is Literal else INSIDE.get(kind, [None])
    found += [0, 1]
    return [value for value in found if allowed(annotation, value)]


def spelled(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value) if isinstance(value, float) else "''" if value == "" else str(value)


@st.composite
def cells(draw: st.DrawFn) -> tuple[list[str], bool]:
    """Lines of a cell with one to three parameters changed, and whether all of them are inside their bounds."""
    threat = draw(st.sampled_from(sorted(CELLS)))
    defense = draw(st.sampled_from(CELLS[threat]))
    setting = composed(f"threat={threat}").config["setting"]["name"]
    places = [("threat", threat, "threat"), ("setting", setting, "setting")]
    if defense != "none":
        places += [("defense", defense, f"defense.{defense}")] * 2
    lines, good = [f"threat={threat}", f"defense={defense}", f"seed={draw(st.integers(0, 3))}"], True
    for _ in range(draw(st.integers(1, 3))):
        group, option, path = draw(st.sampled_from(places))
        found = parameters(group, option)
        if not found:
            continue
        name = draw(st.sampled_from(sorted(found)))
        within = draw(st.integers(0, 3)) > 0
        value = draw(st.sampled_from(inside(found[name]) if within else OUTSIDE))
        if any(line.startswith(f"{path}.{name}=") for line in lines):
            continue
        lines.append(f"{path}.{name}={spelled(value)}")
        good = good and allowed(found[name], value)
    return lines, good


@both
def test_a_cell_is_ok_only_within_its_bounds(tier: str, sandbox: Sandbox) -> None:
    def plays(drawn: tuple[list[str], bool]) -> None:
        lines, good = drawn
        store = Store(sandbox.store)
        before = {key: path.read_bytes() for key, path in store.loose().items()}
        with sandbox.untouched():
            code, told = gauntlet("run", *SMALL, *lines, f"store={sandbox.store}")
        after = {key: path.read_bytes() for key, path in store.loose().items()}
        new = [key for key in after if after[key] != before.get(key)]
        assert before.keys() <= after.keys() and len(new) <= 1
        assert all(store.sound(key) is not None for key in after)
        if not good:
            assert code == 2 and not new, "played out of its bounds"
        elif code == 2:
            assert not new and told.strip()
        else:
            (key,) = new
            found = store.read(key)
            assert (
                found is not None and found["status"] in ("ok", "diverged") and (found["status"] == "ok") == (code == 0)
            )
            json.dumps(found, allow_nan=False)

    hold(tier, (1, 150), plays, cells())


def test_the_cells_are_of_the_catalogue() -> None:
    known = {option.name for group in ("threat", "defense") for option in catalogue.options(group)}
    assert {*CELLS, *(name for names in CELLS.values() for name in names)} <= known
    assert not allowed(Annotated[int, Ge(1)], 0) and allowed(Annotated[int, Ge(1)] | None, None)
