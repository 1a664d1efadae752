"""Catalogue pages in Markdown, made from the YAML files of ``conf/`` and their classes' docstrings."""

from __future__ import annotations

import ast
import inspect
import posixpath
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import yaml
from components import (
    GROUPS,
    ROOT,
    Class,
    Option,
    kinds,
    literal,
    met_by,
    options,
    overridden,
)

from benchmark import parameters

TITLES = {
    "dataset": "Datasets",
    "model": "Models",
    "setting": "Settings",
    "threat": "Threats",
    "defense": "Defenses",
    "scale": "Scales",
    "sweep": "Sweeps",
}
INTRODUCTIONS = {
    "dataset": "Every dataset is cut into disjoint roles: `owner` (private data), `attacker`, `public`, `calibration` "
    "and `test`. Choose one with `dataset=NAME`. The description says where a download is needed; "
    "[Your data](../your-data.md) says where it has to lie.",
    "model": "The architecture that a cell trains. Choose one with `model=NAME`; most settings bring a default.",
    "setting": "A setting tells the story of a cell and decides what an adversary sees. A threat brings its own "
    "setting, so `setting=NAME` is needed only for a variant. [Interfaces](../interfaces.md) explains surfaces.",
    "threat": "Choose one with `threat=NAME`; `threat.adaptive=true` gives the form that knows the defense. A threat "
    "meets every defense that overrides a hook which acts on the threat's surface, unless one `needs` a trait that the "
    "cell does not have.",
    "defense": "Choose one with `defense=NAME`, several with `'defense=[first,second]'`. A defense meets every threat "
    "on whose surface one of its hooks acts, unless one `needs` a trait that the cell does not have.",
    "scale": "The size of a cell. Parameters that differ by scale are shown as smoke / cpu / full.",
    "sweep": "A sweep is a named set of cells: blocks of overrides, each a grid. Run one with "
    "`gauntlet sweep sweep=NAME`; see [Sweeps](../sweeps.md).",
}
SPLIT = ("threat", "defense")  # too many options for one page
SECTION = re.compile(r"^(Args|Attributes|Class attributes(?: \(.*\))?|Returns|Raises|Yields|Notes?|Examples?):$")


def prose(text: str) -> str:
    """Return a docstring's reStructuredText as Markdown: roles, double backticks and pipes."""
    text = re.sub(r":(?:class|func|meth|mod|data|attr):`~?([^`]*)`", r"`\1`", text)
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    return re.sub(r"`[~.]+(\w)", r"`\1", text)


def cell(text: Any) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ").strip()


def sections(docstring: str) -> tuple[str, dict[str, str]]:
    """Return a docstring's body and its Google-style sections."""
    body: list[str] = []
    parts: dict[str, list[str]] = {}
    current = body
    for line in docstring.splitlines():
        if heading := SECTION.match(line):
            current = parts.setdefault(heading[1].split(" (")[0], [])
        elif line and not line.startswith(" ") and current is not body:
            current = body
            current.append(line)
        else:
            current.append(line)
    return "\n".join(body).strip(), {name: inspect.cleandoc("\n".join(lines)) for name, lines in parts.items()}


def arguments(text: str) -> dict[str, str]:
    """Return the entries ``name: meaning`` of an Args section; one entry may explain several names."""
    found: dict[str, str] = {}
    current: list[str] = []
    for line in text.splitlines():
        if entry := re.match(r"^(\w+(?:, \w+)*): (.*)$", line):
            current = entry[1].split(", ")
            found |= dict.fromkeys(current, entry[2])
        elif line.strip():
            for name in current:
                found[name] += " " + line.strip()
    together = {}
    for name, meaning in found.items():  # "x: inputs; y: labels" explains y as well
        first, *others = re.split(r"[;.] (?=[a-z]\w*(?:, \w+)*: )", meaning)
        together[name] = first
        for other in others:
            names, _, meaning_of_other = other.partition(": ")
            together |= dict.fromkeys(names.split(", "), meaning_of_other)
    return together


def value(raw: Any) -> str:
    """Return a parameter's default as code; a value chosen by scale as ``smoke / cpu / full``."""
    if isinstance(raw, str) and (scaled := re.fullmatch(r"\$\{by_scale:(.*)\}", raw)):
        return f"`{cell(' / '.join(part.strip() for part in scaled[1].split(',')))}`"
    shown = raw if isinstance(raw, str) else yaml.safe_dump(raw, default_flow_style=True, sort_keys=False, width=10_000)
    shown = shown.removesuffix("...\n").strip()
    return f"`{cell(shown if len(shown) <= 120 else shown[:117] + '...') or ' '}`"


def bounds(component: Class | None) -> dict[str, str]:
    """Return what each parameter of a class may be, in the words of the error that refuses another value."""
    found: dict[str, str] = {}
    for cls in component.lineage if component else ():
        if initial := cls.method("__init__"):
            for argument in (*initial.args.args[1:], *initial.args.kwonlyargs):
                if argument.annotation is not None:
                    found.setdefault(argument.arg, _described(ast.unparse(argument.annotation)))
    return found


@cache
def _described(annotation: str) -> str:
    """Return the words for an annotation; none where it names a class that is not one of a plain value."""
    try:
        return parameters.described(eval(annotation, dict(vars(parameters))))  # noqa: S307 - the suite's own source
    except NameError:
        return ""


def parameter_table(option: Option) -> Iterator[str]:
    """Yield the lines of the table of parameters with defaults and what may be given.

    Each parameter is explained by its Args entry, else by its comment in the YAML.
    """
    wanted = bounds(option.target)
    explained: dict[str, str] = {}
    for cls in reversed(option.target.lineage if option.target else ()):
        initial = cls.method("__init__")
        for docstring in (cls.docstring, (initial and ast.get_docstring(initial)) or ""):
            explained |= arguments(sections(docstring)[1].get("Args", ""))
    comments = option.comments
    if not option.parameters:
        return
    yield "| parameter | default | may be | meaning |"
    yield "|---|---|---|---|"
    for name, raw in option.parameters.items():
        texts = [prose(explained[name])] if name in explained else []
        if name in comments and not (texts and comments[name].rstrip(".") in texts[0]):
            texts.append(f"({comments[name]})" if texts else comments[name])
        yield f"| `{name}` | {value(raw)} | {cell(wanted.get(name, ''))} | {cell(' '.join(texts))} |"
    yield ""


def facts(option: Option) -> Iterator[tuple[str, str]]:
    """Give short facts of the class of a threat or a defense: (name, Markdown)."""
    cls = option.target
    if cls is None:
        return
    if option.group == "threat":
        setting, surface = literal(cls.attribute("setting")), literal(cls.attribute("surface"))
        yield "Setting, surface", f"`{setting}`, `{surface}`"
        yield "Headline", f"`{literal(cls.attribute('headline'))}`"
        floor = cls.attribute("floor")
        if isinstance(floor, ast.Call) and len(floor.args) == 2:
            yield "Floor without a defense", f"`{literal(floor.args[0])}` at least {ast.unparse(floor.args[1])}"
        if control := literal(cls.attribute("control")):
            yield "Control", control
        if knowledge := cls.names("knowledge"):
            yield "Knowledge", ", ".join(f"`{k}`" for k in sorted(knowledge))
    if option.group == "defense":
        if kind := kinds(option):
            yield "Kind", ", ".join(f"`{k}`" for k in kind)
        if hooks := overridden(option):
            yield "Hooks", ", ".join(f"`{h}`" for h in hooks)
        if "ReleaseMechanism" in kind and (carried := cls.names("releases")):
            yield "A release carries", ", ".join(f"`{c}`" for c in sorted(carried))
    needs = literal(cls.attribute("needs"))
    if needs:
        yield "Needs", ", ".join(f"`{trait}={wanted}`" for trait, wanted in needs.items())


def entry(option: Option) -> Iterator[str]:
    """Give the lines of one option's entry."""
    yield f"## {option.name} {{ #{anchor(option.name)} }}"
    yield ""
    if option.group == "sweep":
        yield f"{option.data.get('description', '').capitalize()}. {option.description}".strip(". ") + "."
        yield ""
        yield f'??? note "{option.path.relative_to(ROOT).as_posix()}"'
        yield "    ```yaml"
        yield from (f"    {line}" for line in option.text.splitlines())
        yield "    ```"
        yield ""
        return
    yield option.description
    yield ""
    if option.bases:
        yield "Builds on " + ", ".join(f"[{base}](#{anchor(base)})" for base in option.bases) + "."
        yield ""
    listed = list(facts(option))
    for name, text in listed:
        yield f"* **{name}:** {text}"
    if listed:
        yield ""
    if option.target:
        body, _ = sections(option.target.docstring)
        yield prose(body)
        yield ""
    if met := opponents(option):
        many = f"{len(met)} {TITLES[met[0].group].lower() if len(met) > 1 else met[0].group}"
        yield f'??? note "Meets {many}"'
        yield "    " + ", ".join(link(other, within=option) for other in met)
        yield ""
    yield from parameter_table(option)
    links = [option.path, *([option.target.path] if option.target else [])]
    up = "../" * (location(option).count("/") + 1)
    yield "Source: " + ", ".join(f"[{p.name}]({up}{p.relative_to(ROOT).as_posix()})" for p in links)
    yield ""


def anchor(name: str) -> str:
    return name.replace("/", "-")


@cache
def opponents(option: Option) -> tuple[Option, ...]:
    """Return the defenses that act on a threat's surface, or the threats on whose surface a defense acts."""
    if option.group == "threat" and option.target:
        setting, surface = literal(option.target.attribute("setting")), literal(option.target.attribute("surface"))
        return tuple(defense for defense in options("defense") if met_by(defense, setting, surface))
    if option.group == "defense":
        return tuple(threat for threat in options("threat") if option in opponents(threat))
    return ()


def family(option: Option) -> str:
    """Return the page on which a threat or a defense stands: the threat's family, the setting of a defense's kind."""
    if option.group == "threat":
        return str(literal(option.target.attribute("family")) if option.target else "other")
    return {
        "FederatedDefense": "collaboration",
        "ReleaseMechanism": "release",
        "ServiceDefense": "service",
        "DeploymentDefense": "deployment",
    }.get(next(iter(kinds(option)), ""), "none")


def location(option: Option) -> str:
    """Return the generated page that holds ``option``, below ``docs/``."""
    folder = TITLES[option.group].lower()
    return f"catalogue/{folder}/{family(option)}.md" if option.group in SPLIT else f"catalogue/{folder}.md"


def link(option: Option, within: Option) -> str:
    page = posixpath.relpath(location(option), posixpath.dirname(location(within)))
    return f"[{option.name}]({page}#{anchor(option.name)})"


def overview(group: str, chosen: Iterable[Option], page: str) -> Iterator[str]:
    yield f"| `{group}=` | |"
    yield "|---|---|"
    for option in chosen:
        target = posixpath.relpath(location(option), posixpath.dirname(page)) if location(option) != page else ""
        text = option.description or option.data.get("description", "")
        yield f"| [{option.name}]({target}#{anchor(option.name)}) | {cell(first_sentence(text))} |"
    yield ""


def first_sentence(text: str) -> str:
    return re.split(r"(?<=[^.A-Z][.])\s+(?=[A-Z])", text, maxsplit=1)[0]


def heading(name: str) -> str:
    return name.replace("_", " ").capitalize().replace("Gan ", "GAN ")


@cache
def families(group: str) -> dict[str, list[Option]]:
    """Return the options of a group that is split over pages, by page."""
    found: dict[str, list[Option]] = {}
    for option in options(group):
        found.setdefault(family(option), []).append(option)
    return dict(sorted(found.items(), key=lambda item: (item[0] == "none", item[0])))


def pages_of(group: str) -> Iterator[tuple[str, str]]:
    """Give each page of ``group``: its path below ``docs/``, and its Markdown."""
    folder = TITLES[group].lower()
    top = [f"# {TITLES[group]}", "", INTRODUCTIONS[group], ""]
    if group not in SPLIT:
        path = f"catalogue/{folder}.md"
        top += overview(group, options(group), path)
        for option in options(group):
            top += entry(option)
        yield path, "\n".join(top)
        return
    index_path = f"catalogue/{folder}/index.md"
    for name, members in families(group).items():
        path = f"catalogue/{folder}/{name}.md"
        lines = [f"# {TITLES[group]}: {heading(name).lower()}" if name != "none" else "# No defense", ""]
        lines += overview(group, members, path)
        for option in members:
            lines += entry(option)
        yield path, "\n".join(lines)
        top += [f"## [{heading(name)}]({name}.md)", "", *overview(group, members, index_path)]
    yield index_path, "\n".join(top)


def index() -> str:
    """Return the page that lists the groups."""
    lines = [
        "# Catalogue",
        "",
        "Every option is one YAML file in `conf/`. These pages are made from those files and the docstrings of the "
        "classes that they name, each time the docs are built. `gauntlet list` prints the same names in a terminal.",
        "",
        "| group | options | on the command line |",
        "|---|---|---|",
    ]
    for group in GROUPS:
        page = f"{TITLES[group].lower()}{'/index' if group in SPLIT else ''}.md"
        lines.append(f"| [{TITLES[group]}]({page}) | {len(options(group))} | `{group}=NAME` |")
    return "\n".join(lines)


def pages() -> dict[str, str]:
    """Return every generated page: its path below ``docs/``, and its Markdown."""
    found = {"catalogue/index.md": index()}
    for group in GROUPS:
        found |= pages_of(group)
    return {path: text.rstrip() + "\n" for path, text in found.items()}


def navigation() -> list[Any]:
    """Return the part of MkDocs' ``nav`` that holds the generated pages."""
    nav: list[Any] = ["catalogue/index.md"]
    for group in GROUPS:
        folder = TITLES[group].lower()
        if group in SPLIT:
            parts = [{heading(name): f"catalogue/{folder}/{name}.md"} for name in families(group)]
            nav.append({TITLES[group]: [f"catalogue/{folder}/index.md", *parts]})
        else:
            nav.append({TITLES[group]: f"catalogue/{folder}.md"})
    return nav
