"""One cell from Python: composed from options of ``conf/`` and from objects of your own, and played in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException

from benchmark.errors import ConfigError
from benchmark.outcome import Outcome
from runners.cli.problems import sentence
from runners.config.compose import SINGLE, ComposedCell, cell_of, register

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

    from benchmark.cell import Cell


@dataclass(repr=False)
class Result(Outcome):
    """Outcome of a played cell.

    Attributes:
        key: of the cell, under which a store keeps its record; None for a cell with objects of your own.
        label: a line for humans.
        data: digest of the data that was used.
    """

    key: str | None = None
    label: str = ""
    data: str = ""

    def __repr__(self) -> str:
        """Return the cell with its utility and risk; pictures and curves would fill pages."""
        return f"Result({self.label!r}, utility={self.utility}, risk={self.risk})"

    def figure(self, name: str | None = None) -> Figure:
        """Return the picture ``name`` (default: the first one) as a matplotlib figure.

        Raises:
            ConfigError: the cell left no such picture.
        """
        from matplotlib.figure import Figure

        from runners.report.pictures import grid

        if not self.pictures or (name is not None and name not in self.pictures):
            there_is = ", ".join(self.pictures) or "none"
            raise ConfigError(f"This cell left no picture {name or ''}".rstrip() + f"; there is {there_is}.")
        name = name or next(iter(self.pictures))
        image = grid(self.pictures[name].numpy(), self.captions.get(name, []))
        figure = Figure(figsize=(image.width / 80, image.height / 80 + 0.4), layout="constrained")
        axes = figure.subplots()
        axes.imshow(image, cmap="gray")
        axes.set_axis_off()
        axes.set_title(f"{name}: {self.label}", fontsize=9)
        return figure

    def _repr_html_(self) -> str:
        """Return the numbers as a small table for notebooks."""
        rows = [
            f"<tr><td>{section}</td><td>{name}</td><td>{value:.4g}</td></tr>"
            for section in ("utility", "risk", "cost")
            for name, value in getattr(self, section).items()
        ]
        return f"<table><caption>{self.label}</caption>{''.join(rows)}</table>"


@dataclass(frozen=True)
class PlayableCell:
    """A composed cell.

    Attributes:
        composed: the cell as the command line would compose it.
        objects: group -> a component built by hand that takes the place of the composed one.
    """

    composed: ComposedCell
    objects: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str | None:
        """Return the key of the cell; None where an object of your own is part of it, which no config describes."""
        return None if self.objects else self.composed.key

    @property
    def config(self) -> dict[str, Any]:
        """Return all components with their parameters, as plain data."""
        return self.composed.config

    @property
    def label(self) -> str:
        if not self.objects:
            return self.composed.label
        names = {group: part["name"] for group, part in self.config.items() if group in SINGLE}
        names["defense"] = "+".join(part["name"] for part in self.config["defense"])
        names |= {group: _name(value) for group, value in self.objects.items()}
        place = f"{names['dataset']}/{names['model']}{self.composed.reduced}"
        return f"{names['threat']} vs {names['defense']} on {place}, seed {self.config['seed']}"

    def build(self) -> Cell:
        """Return the cell with its components instantiated, for ``benchmark.cell.play``."""
        from runners.sweep.execute import build_cell

        names = {"model": "architecture", "defense": "defenses"}
        found = {names.get(group, group): value for group, value in self.objects.items()}
        if "defenses" in found and not isinstance(found["defenses"], Sequence):
            found["defenses"] = [found["defenses"]]
        return replace(build_cell(self.composed), **found)

    def play(self) -> Result:
        """Play the cell in this process, and keep no record of it (``gauntlet run`` and sweeps keep one).

        Raises:
            GauntletError: threat and defense do not meet, data is missing, training diverged.
        """
        from benchmark.cell import play
        from runners.sweep import devices

        options = self.composed.options
        with _threads(options.threads):
            outcome, data = play(self.build(), root=options.data_root, device=devices.assign(options.device))
        values = {part.name: getattr(outcome, part.name) for part in fields(Outcome)}
        return Result(**values, key=self.key, label=self.label, data=data)


def cell(*overrides: str, **choices: Any) -> PlayableCell:
    """Compose a cell from the catalogue.

    Args:
        overrides: as on the command line: ``"threat=leakage_dlg"``, ``"threat.iterations=50"``.
        choices: the same by keyword, for names without a dot: ``dataset="digits"``, ``seed=1``,
            ``defense=["gradient_clipping", "gradient_noise"]``. A component built by hand may stand for an option:
            ``threat=MyAttack()``, ``defense=GradientNoise(std=0.1)``.

    Raises:
        ConfigError: an option or parameter does not exist or has a wrong value.

    >>> gauntlet.cell("threat.iterations=50", threat="leakage_dlg", defense="dp_sgd").key[:8]
    """
    lines, objects = list(overrides), {}
    for name, value in choices.items():
        if isinstance(value, str | int | float | bool | None) or _names(value):
            lines.append(f"{name}={_spelled(value)}")
        elif name in (*SINGLE, "defense"):
            objects[name] = value
        else:
            raise ConfigError(f"{name} must be a name, a number or a list of names, got {value!r}.")
    threat = objects.get("threat")
    if threat is not None and not any(line.startswith("setting=") for line in lines):
        lines.append(f"setting={threat.setting}")
    register()
    with _hydra():
        try:
            config = compose("config", lines, return_hydra_config=True)
        except HydraException as error:
            raise ConfigError(sentence(error) or str(error)) from None
    return PlayableCell(cell_of(config, config.hydra.runtime.choices), objects)


def _name(value: Any) -> str:
    parts = value if isinstance(value, Sequence) else [value]
    return "+".join(type(part).__name__ for part in parts)


def _names(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(part, str) for part in value)


def _spelled(value: Any) -> str:
    if value is None:
        return "null"
    return f"[{','.join(value)}]" if _names(value) else str(value)


@contextmanager
def _hydra() -> Iterator[None]:
    """Let this process compose configs apart from a Hydra application that may be running in it."""
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module(config_module="conf", version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = running


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Calculate with ``count`` threads, as a sweep's workers do, and put back what was set before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
