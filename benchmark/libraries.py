"""Libraries of others that a few components adapt, each an optional extra of the suite.

A component names its library in the class attribute ``library``. Without it the component stands in the catalogue and
in every matrix as ever; plans refuse its cells, and its constructor refuses, with the command that installs it.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import metadata
from types import ModuleType
from typing import Any, TypeVar

from benchmark.errors import ConfigError

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Library:
    """A library that components need and the suite does not.

    Attributes:
        extra: of ``pyproject.toml``, which installs it.
        package: as it is imported.
        distribution: as it is called where packages are published.
    """

    extra: str
    package: str
    distribution: str

    def version(self) -> str | None:
        """Return the installed release, or None where there is none."""
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None

    def missing(self) -> str | None:
        """Return the end of a sentence on a component that needs it; None where it is installed. Nothing is imported.

        >>> Library("foolbox", "foolbox", "no-such-distribution").missing()
        "needs no-such-distribution, which is not installed: pip install -e '.[foolbox]'"
        """
        if self.version() is not None:
            return None
        return f"needs {self.distribution}, which is not installed: pip install -e '.[{self.extra}]'"

    def load(self, module: str = "") -> ModuleType:
        """Return the package, or a module in it.

        Raises:
            ConfigError: it cannot be imported.
        """
        name = ".".join(filter(None, [self.package, module]))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about what the libraries themselves use; nobody here can mend it
                return importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(
                f"{self.distribution} cannot be imported ({error}); install it anew: pip install -e '.[{self.extra}]'."
            ) from error


FOOLBOX = Library("foolbox", "foolbox", "foolbox")
AUTOATTACK = Library("autoattack", "pyautoattack", "pyautoattack")
ART = Library("art", "art", "adversarial-robustness-toolbox")
BYZFL = Library("byzfl", "byzfl", "byzfl")
BREACHING = Library("breaching", "breaching", "breaching")
OPACUS = Library("opacus", "opacus", "opacus")
TIMM = Library("timm", "timm", "timm")
LIBRARIES = (FOOLBOX, AUTOATTACK, ART, BYZFL, BREACHING, OPACUS, TIMM)

WITHHELD = ("args", "kwargs", "summary_writer", "tensorboard")
"""Names of parameters that nobody may set: they stand for any, or make a library write logs."""


def classes(module: ModuleType, base: type | None = None) -> dict[str, type]:
    """Return the classes of ``module`` that can be built, by their public names, also short ones for the same class.

    Args:
        base: only those that derive from it.
    """
    found = {name: value for name, value in vars(module).items() if inspect.isclass(value) and name[0] != "_"}
    return {
        name: kind
        for name, kind in found.items()
        if not inspect.isabstract(kind) and kind is not base and (base is None or issubclass(kind, base))
    }


def named(name: str, options: Mapping[str, Kind], path: str, library: Library) -> Kind:
    """Return the option called ``name``.

    Args:
        path: of the parameter that holds the name, for the message.

    Raises:
        ConfigError: there is none.
    """
    if name in options:
        return options[name]
    raise ConfigError(f"{path}={name}: {library.distribution} has no such class{nearest(name, options)}")


def fitting(kind: Callable[..., Any], arguments: Mapping[str, Any], path: str, taken: Collection[str] = ()) -> None:
    """Check the names of ``arguments`` against what ``kind`` takes.

    Args:
        path: of the parameter that holds them, for the message.
        taken: parameters of ``kind`` that the adapter fills in itself.

    Raises:
        ConfigError: one of them is no parameter of ``kind``.
    """
    known = [name for name in inspect.signature(kind).parameters if name not in (*taken, *WITHHELD)]
    for name in arguments:
        if name not in known:
            called = getattr(kind, "__name__", str(kind))
            raise ConfigError(f"{path}.{name}: {called} has no such parameter{nearest(name, known)}")


def built(kind: Callable[..., Kind], arguments: Mapping[str, Any], path: str) -> Kind:
    """Return ``kind(**arguments)``, where whole numbers become floats if the library's default is one, and back.

    Args:
        arguments: the user's, whose names are known to fit.
        path: of the parameter that holds them, for the message.

    Raises:
        ConfigError: the library refuses a value.
    """
    defaults = inspect.signature(kind).parameters
    try:
        return kind(**{name: _as_default(value, defaults[name].default) for name, value in arguments.items()})
    except (TypeError, ValueError, AssertionError) as error:
        told = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise ConfigError(f"{path}={dict(arguments)} is refused by the library: {told}.") from error


def _as_default(value: Any, default: Any) -> Any:
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if type(default) is int and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def nearest(name: str, options: Collection[str]) -> str:
    """Return the end of a sentence on an unknown ``name``: the closest of ``options``, or all of them."""
    close = get_close_matches(name.lower(), [option.lower() for option in options], n=3, cutoff=0.5)
    near = [option for wanted in close for option in options if option.lower() == wanted]
    if near:
        return f"; did you mean {' or '.join(dict.fromkeys(near))}?"
    return f"; there is {', '.join(sorted(options))}." if options else "; it takes none."
