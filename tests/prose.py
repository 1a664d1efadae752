"""Checks of words and links: ``python -m tests.prose`` prints ``file:line: fault`` and ends with 1 if there is any.

``make lint`` runs it.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import posixpath
import re
import shlex
import sys
import tokenize
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
CODE = ("benchmark", "runners", "gauntlet", "hydra_plugins", "tests", "docs", "examples")
PLACES = (*CODE, "conf", "results")
GROUPS = "dataset|model|setting|threat|defense|scale|sweep"

RETIRED_NAMES = {"World", "Lesson", "Memo", "Malice", "Accomplice", "Watch", "Insight", "Course"} | {
    *("forgetful", "deal", "excitation", "shelf", "wording", "orphans"),
}
RETIRED_MODULES = {"world", "lesson", "memo", "malice", "accomplice", "watch", "course", "deal", "alone"} | {
    *("excitation", "shelf", "sources", "wording", "answers", "orphans"),
}
OUTSIDE = re.compile(
    r"\b(?:RE)?DESIGN\b|\bSTYLE\.md|\b[Ss]pecs?\b(?!\.|\()|\bspecification's?\b|\bM\d{1,2}\b|\bissues? #?\d+"
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
EXAMPLES = frozenset(
    {
        *("x", "mine", "leakage_mine", "leakage_yours", "public_lookup", "leakage_public_lookup", "rounding"),
        *("sign_upload", "step_back", "poison_step_back", "wine_cultivars"),
    }
)
"""Names of components that the docs make up, or that live in ``examples``."""
MADE = ("results/records", "results/boards", "results/media", "results/claims.csv")
"""Paths that commands make, or that a checkout need not have."""


class Fault(NamedTuple):
    path: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.text}"


# -- what is read -----------------------------------------------------------------------------------------------------
@cache
def markdown_files() -> tuple[Path, ...]:
    top = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "results/README.md")]
    found = [*top, *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    return tuple(sorted(path for path in found if path.is_file()))


@cache
def python_files() -> tuple[Path, ...]:
    return tuple(sorted(path for place in CODE for path in (ROOT / place).rglob("*.py") if path != Path(__file__)))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def lines_of_prose(path: Path) -> Iterator[tuple[int, str]]:
    """Give the numbered lines of a Markdown file; lines inside fences are left out."""
    fenced = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, line


def commands(path: Path) -> list[list[str]]:
    """Return the words of every command in the blocks ``console`` of a Markdown file; comments are left out."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                found.append(shlex.split(line.removeprefix("$ "), comments=True))
    return found


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield node.body[0].lineno, text


def comments(source: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


@cache
def generated() -> ModuleType:
    """Return ``docs/catalogue.py``, which makes pages that links may lead to."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        spec = importlib.util.spec_from_file_location("catalogue", ROOT / "docs" / "catalogue.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


@cache
def pages() -> dict[Path, str]:
    """Return the text of every page that a link may lead to: those in the checkout, and the generated ones."""
    made = {ROOT / "docs" / path: text for path, text in generated().pages().items()}
    return {**{path: path.read_text(encoding="utf-8") for path in markdown_files()}, **made}


# -- checks -----------------------------------------------------------------------------------------------------------
def what() -> Iterator[Fault]:
    """Yield docstrings whose first line begins with "What"."""
    for path in python_files():
        for line, text in docstrings(parsed(path)):
            if text.startswith("What"):
                yield Fault(path, line, f"docstring begins with 'What': {text.splitlines()[0][:60]}")


def retired() -> Iterator[Fault]:
    """Yield retired words used as module names or identifiers."""
    for path in python_files():
        if path.stem.removeprefix("test_") in RETIRED_MODULES:
            yield Fault(path, 1, f"module name {path.stem!r} is retired")
        for node in ast.walk(parsed(path)):
            yield from (
                Fault(path, node.lineno, f"the name {name!r} is retired")  # type: ignore[attr-defined]
                for name in _bound(node)
                if name in RETIRED_NAMES
            )


def _bound(node: ast.AST) -> list[str]:
    """Return the names that a statement or expression introduces."""
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.arg(arg=name):
            return [name]
        case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
            return [name]
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            return [alias.asname or alias.name for alias in aliases]
    return []


def outside() -> Iterator[Fault]:
    """Yield references to documents that are not in the repository."""
    texts: list[tuple[Path, int, str]] = []
    for path in python_files():
        source = path.read_text(encoding="utf-8")
        for start, text in docstrings(parsed(path)):
            texts += [(path, start + i, line) for i, line in enumerate(text.splitlines())]
        texts += [(path, number, line) for number, line in comments(source)]
    for path in markdown_files():
        texts += [(path, number, line) for number, line in lines_of_prose(path)]
    for path in sorted((ROOT / "conf").rglob("*.yaml")):
        numbered = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        texts += [(path, number, line.partition("#")[2]) for number, line in numbered if "#" in line]
    for path, number, line in texts:
        if found := OUTSIDE.search(re.sub(r"https?://\S+", "", line)):
            yield Fault(path, number, f"{found[0]!r} refers to a document outside the repository: {line.strip()[:70]}")


def links(files: tuple[Path, ...] | None = None) -> Iterator[Fault]:
    """Yield Markdown links whose file or anchor does not exist."""
    for path in files or markdown_files():
        for number, line in lines_of_prose(path):
            for match in LINK.finditer(re.sub(r"`[^`]*`", "", line)):
                target, _, fragment = match[1].partition("#")
                if "://" in target or target.startswith("mailto:"):
                    continue
                leads = Path(posixpath.normpath(path.parent / target)) if target else path
                if leads not in pages() and not leads.exists():
                    yield Fault(path, number, f"no file {target}")
                elif fragment and leads.suffix == ".md" and fragment not in anchors(leads):
                    yield Fault(path, number, f"no anchor #{fragment} in {leads.name}")


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page: headings as Python-Markdown and GitHub spell them, and explicit ones."""
    text = pages().get(path) or path.read_text(encoding="utf-8")
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.*)$", text, re.MULTILINE):
        if explicit := re.search(r"\{ *#([^ }]+) *\}$", heading):
            found.add(explicit[1])
            continue
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        found.add(re.sub(r"[^\w\s-]", "", plain).strip().lower().replace(" ", "-"))
    return found


def names(files: tuple[Path, ...] | None = None) -> Iterator[Fault]:
    """Yield paths, modules and options that a page names and that do not exist."""
    for path in files or markdown_files():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for code in re.findall(r"`([^`]+)`", line):
                if (reason := _missing_path(code)) or (reason := _missing_module(code)):
                    yield Fault(path, number, reason)
            for group, chosen in re.findall(rf"(?<![\w.])({GROUPS})=([a-z0-9_/,]+)(?![\w(*.])", line):
                for option in chosen.strip(",").split(","):
                    if not _option_exists(group, option):
                        yield Fault(path, number, f"no option {group}={option}")


def _missing_path(code: str) -> str | None:
    if not re.fullmatch(r"[\w./*{},-]+", code) or code.startswith(MADE) or Path(code).stem in EXAMPLES:
        return None
    if code.split("/")[0] in PLACES and "/" in code:
        options = _braces(code)
        return None if all(any(ROOT.glob(o.rstrip("/"))) for o in options) else f"no path {code}"
    if re.fullmatch(r"[\w*]+\.(py|yaml)", code):
        return None if any(file.match(code) for file in _files()) else f"no file is called {code}"
    return None


def _braces(pattern: str) -> list[str]:
    found = re.search(r"\{([^}]*)\}", pattern)
    return [pattern] if not found else [pattern.replace(found[0], part) for part in found[1].split(",")]


@cache
def _files() -> tuple[Path, ...]:
    return tuple(path for place in (*CODE, "conf") for path in (ROOT / place).rglob("*") if path.is_file())


def _missing_module(code: str) -> str | None:
    dotted = re.match(r"((?:benchmark|runners)(?:\.\w+)+)", code)
    if dotted is None or "/" in code or any(part in EXAMPLES for part in dotted[1].split(".")):
        return None
    parts = dotted[1].split(".")
    at = ROOT
    for i, part in enumerate(parts):
        if (at / part).is_dir():
            at = at / part
            continue
        module = at / f"{part}.py"
        rest = parts[i + 1 :] if module.is_file() else parts[i:]
        source = module if module.is_file() else at / "__init__.py"
        known = not rest or re.search(rf"\b{rest[0]}\b", source.read_text(encoding="utf-8"))
        return None if known else f"no {dotted[1]}"
    return None


def _option_exists(group: str, option: str) -> bool:
    if option in EXAMPLES or option.endswith("_"):
        return True
    return (ROOT / "conf" / group / f"{option}.yaml").is_file()


def pages_named_in_code() -> Iterator[Fault]:
    """Yield pages of ``docs/`` that docstrings, comments or YAML files name and that do not exist."""
    for path in (*python_files(), *sorted((ROOT / "conf").rglob("*.yaml"))):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for page in re.findall(r"\bdocs/[\w/-]+\.md\b", line):
                if ROOT / page not in pages():
                    yield Fault(path, number, f"no page {page}")


CHECKS: dict[str, Callable[[], Iterator[Fault]]] = {
    "what": what,
    "retired": retired,
    "outside": outside,
    "links": links,
    "names": names,
    "pages": pages_named_in_code,
}


def main(chosen: list[str]) -> int:
    """Run the named checks, or all, and print their faults; return 1 if there is any."""
    found = [fault for name, check in CHECKS.items() if not chosen or name in chosen for fault in sorted(check())]
    print("\n".join(map(str, found)) or "no faults")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
