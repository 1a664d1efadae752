"""The command ``gauntlet new``: the files of a new component, which plays as it is and is then changed."""

from __future__ import annotations

import keyword
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from benchmark.errors import ConfigError
from runners.cli.new_components import OTHERS, PROJECT, SETTINGS
from runners.cli.new_threats import SURFACES, Start
from runners.config import catalogue

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", flags=re.ASCII)
LONGEST = 30
TESTS = {"threat": "threats", "defense": "defenses", "dataset": "data", "model": "models"}
AGAINST = {"collaboration": "leakage_dlg", "release": "member_nearest", "service": "reconstruction_vicious"} | {
    "deployment": "evasion_fgsm"
}
"""Setting -> a threat that a new defense of this setting is first played against."""


@dataclass(frozen=True)
class Written:
    """Files of a new component, and shell commands that install it (None: it is in place), play it and test it."""

    files: list[Path]
    install: str | None
    play: str
    test: str


def new(kind: str, name: str, *, place: str, package: Path | None, root: Path) -> Written:
    """Write the files of a component.

    Args:
        kind: ``threat``, ``defense``, ``dataset`` or ``model``.
        name: of its option; a threat's gets the prefix of its family if it lacks it.
        place: surface of a threat, setting of a defense; of no meaning for the others.
        package: folder of a package of its own, made if there is none; None: the checkout ``root``.

    Raises:
        ConfigError: a name cannot be used, a file exists, or there is no checkout to write into.
    """
    _refuse_name(name, "NAME")
    start = _start(kind, place)
    stem = name.removeprefix(f"{start.prefix}_")
    option = f"{start.prefix}_{stem}" if start.prefix else stem
    if (catalogue.CONF / kind / f"{option}.yaml").is_file():
        raise ConfigError(f"{kind}={option} is an option of the suite already; choose another name.")
    class_name = "".join(map(str.capitalize, stem.split("_")))
    if re.search(rf"\b{class_name}\b", start.code):
        raise ConfigError(f"{class_name} would be the name of the class, which its module needs; choose another name.")
    words = {"Class": class_name, "option": option}
    if package is None:
        files = _in_checkout(kind, start, stem, words, root)
        written, install, ours = _write(files), None, ""
        test = f"pytest {list(files)[-1].relative_to(root)} tests/test_catalogue.py"
    else:
        _refuse_name(package.name, "The package")
        files = _in_package(kind, start, words, package)
        scaffold = {path: text for path, text in _scaffold(package).items() if not path.exists()}
        written, install = _write({**files, **scaffold}), f"pip install -e {shlex.quote(str(package))}"
        ours = f" 'hydra.searchpath=[pkg://{package.name}.conf]' 'trusted=[{package.name}.]'"
        test = f"pytest {shlex.quote(str(list(files)[-1]))}"
    against = f"threat={AGAINST[place]} " if kind == "defense" else ""
    return Written(written, install, f"gauntlet run {against}{kind}={option}{ours}", test)


def places(kind: str) -> list[str]:
    """Return where a component of this kind may act, the default first; empty where there is no choice."""
    return list({"threat": SURFACES, "defense": SETTINGS}.get(kind, {}))


def asked(kind: str, given: str | None, other: str | None) -> str:
    """Return the surface of a threat or the setting of a defense, asked for where a terminal can answer.

    Args:
        given: by its flag, or None. other: what the flag of the other kind holds.

    Raises:
        ConfigError: there is no such place, or the flag is of no use for this kind.
    """
    flags = {"threat": ("--surface", "--setting"), "defense": ("--setting", "--surface")}
    options = places(kind)
    if other is not None or (given is not None and not options):
        right = f"; it takes {flags[kind][0]}" if options else ""
        raise ConfigError(f"A {kind} takes no {flags.get(kind, ('--surface or --setting',) * 2)[1]}{right}.")
    if not options:
        return ""
    word = flags[kind][0].removeprefix("--")
    if given is None and sys.stdin.isatty():
        given = input(f"Which {word}? {', '.join(options)} [{options[0]}]: ").strip() or None
    if given is not None and given not in options:
        raise ConfigError(
            f"There is no beginning of a {kind} for the {word} {given!r}; there is one for {', '.join(options)}. For "
            "others take an existing component as a model, see docs/your-attack.md."
        )
    return given or options[0]


def _start(kind: str, place: str) -> Start:
    found: Mapping[str, Start] = {"threat": SURFACES, "defense": SETTINGS}.get(kind, OTHERS)
    return found[place or kind]


def _refuse_name(name: str, what: str) -> None:
    if not NAME.fullmatch(name) or keyword.iskeyword(name) or len(name) > LONGEST:
        raise ConfigError(
            f"{what} {name!r} must be lower-case words joined by '_', e.g. my_attack, of {LONGEST} characters at most, "
            "and no word of Python."
        )


def _in_checkout(kind: str, start: Start, stem: str, words: Mapping[str, str], root: Path) -> dict[Path, str]:
    if not all((root / part).exists() for part in ("pyproject.toml", "benchmark", "conf", "tests")):
        raise ConfigError("The suite is installed without its sources; give a package of your own, --package FOLDER.")
    module = f"benchmark.{start.folder.replace('/', '.')}.{stem}"
    texts = _texts(kind, start, {**words, "module": module, "constants": "", "ours": ""})
    paths = (
        root / "benchmark" / start.folder / f"{stem}.py",
        root / "conf" / kind / f"{words['option']}.yaml",
        root / "tests" / "benchmark" / TESTS[kind] / f"test_{stem}.py",
    )
    return dict(zip(paths, texts, strict=True))


def _in_package(kind: str, start: Start, words: Mapping[str, str], package: Path) -> dict[Path, str]:
    name, option = package.name, words["option"]
    constants = f'\nOURS = ("hydra.searchpath=[pkg://{name}.conf]", "trusted=[{name}.]")\n'
    texts = _texts(kind, start, {**words, "module": f"{name}.{option}", "constants": constants, "ours": ", *OURS"})
    paths = (
        package / name / f"{option}.py",
        package / name / "conf" / kind / f"{option}.yaml",
        package / "tests" / f"test_{option}.py",
    )
    return dict(zip(paths, texts, strict=True))


def _scaffold(package: Path) -> dict[Path, str]:
    """Return the files that make a folder a package whose options Hydra finds, also when it is installed."""
    words = {"package": package.name, "distribution": package.name.replace("_", "-")}
    return {
        package / "pyproject.toml": Template(PROJECT).substitute(words),
        package / package.name / "__init__.py": '"""Components for Gauntlet."""\n',
        package / package.name / "conf" / "__init__.py": "",
    }


def _texts(kind: str, start: Start, words: Mapping[str, str]) -> tuple[str, str, str]:
    """Return module, option and test."""
    code = Template(start.code).substitute(words)
    first = f"# @package defense.{words['option']}\n" if kind == "defense" else ""
    described = re.search(r'^class .*\n    """(.*?\.)(\s|""")', code, flags=re.MULTILINE)
    assert described is not None
    brought = "".join(f"  - {entry}\n" for entry in start.brings)
    defaults = f"defaults:\n{brought}  - _self_\n" if brought else ""
    target = f"_target_: {words['module']}.{words['Class']}\n"
    option = f"{first}# {described[1]}\n{defaults}{target}{start.lines}"
    return code, option, Template(start.test).substitute(words)


def _write(files: Mapping[Path, str]) -> list[Path]:
    """Write all files, or none where one of them exists."""
    if there := [path for path in files if path.exists()]:
        raise ConfigError(f"{there[0]} exists, and nothing is overwritten; choose another name, or move the file.")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    return list(files)


def told(written: Written, root: Path) -> Iterable[str]:
    """Yield the lines that the command prints."""
    for path in written.files:
        yield f"wrote    {path.relative_to(root) if path.is_relative_to(root) else path}"
    if written.install:
        yield f"install  {written.install}"
    yield f"play     {written.play}"
    yield f"test     {written.test}"
