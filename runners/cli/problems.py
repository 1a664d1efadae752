"""Errors of users as one or two plain sentences, and the exit codes of every command."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from benchmark.errors import GauntletError
from runners.cli import streams
from runners.config import catalogue
from runners.config.build import nearest


class CellsFailed(Exception):
    """Error for cells that ran and failed; their records say why. Exit code 1."""


def guarded(application: Callable[[], object]) -> int:
    """Run ``application`` and return the exit code: 0 done, 1 a cell failed, 2 a user's error, 130 interrupted."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and exiting
    streams.prepare()
    try:
        with streams.quiet_pipe():
            application()
    except CellsFailed as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted. Finished cells are recorded; the same command goes on with the rest.", file=sys.stderr)
        return 130
    except Exception as error:
        text = sentence(error)
        if text is None:
            raise
        print(text, *getattr(error, "__notes__", ()), file=sys.stderr)
        return 2
    return 0


def sentence(error: BaseException) -> str | None:
    """Return a sentence on a user's error and its remedy, or None when the error is not the user's."""
    if isinstance(error, GauntletError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, name = error.missing_cfg_file.rpartition("/")
        if deeper := [option.name for option in catalogue.options(group) if option.name.endswith(f"/{name}")]:
            return f"There is no {group} {name!r}; did you mean {' or '.join(deeper)}?"
        extra = EXTRAS.get(str(name).partition("_")[0]) if group == "hydra/launcher" else None
        if extra:
            return f"hydra/launcher={name} needs a package which is not installed: pip install -e '.[{extra}]'."
        return f"There is no {group} {name!r}{nearest(name, error.options)}"
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override!r} is not an override; write key=value. Brackets and quotes close, and a value with "
            "other characters than letters, digits and ./_-+ stands in quotes of its own inside those for the shell: "
            "'key=\"my value\"'."
        )
    if isinstance(error, ConfigCompositionException) and error.__cause__ is not None:
        return _composition(error.__cause__)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _first_line(error).removeprefix("ConfigError raised while resolving interpolation: ")
    return of_the_system(error) if isinstance(error, OSError) else None


EXTRAS = {"submitit": "slurm", "ray": "ray"}
"""Beginning of a launcher's name -> the extra that brings it."""
FULL = (errno.ENOSPC, errno.EDQUOT)
REFUSED = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP),
    *(errno.ENAMETOOLONG, errno.ENXIO, errno.ENODEV, errno.EINVAL, errno.ENOENT),
)
"""Error numbers of the system for a path that the user gave."""


def of_the_system(error: OSError) -> str | None:
    """Return what was wrong with a path, or None where the path was not the user's."""
    place = error.filename or "the store"
    if error.errno in FULL:
        return f"{error.strerror}: {place}. Finished cells are recorded; make room and start again."
    if error.errno in REFUSED and error.filename:
        return f"{place} cannot be used: {error.strerror}. Give another path, or the right to read and write it."
    return None


def _composition(cause: BaseException) -> str:
    parent, key = getattr(cause, "parent_node", None), getattr(cause, "key", None)
    if not isinstance(parent, DictConfig) or key is None or key in parent:
        return _first_line(cause)
    path = str(getattr(cause, "full_key", "") or key)
    where = path.rpartition(".")[0] or "the config"
    options = [str(option) for option in parent if option != "hydra"]
    return f"{path!r} cannot be set: {where} has no key {str(key)!r}{nearest(str(key), options)}"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
