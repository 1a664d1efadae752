"""MkDocs hooks: add the generated pages, and make links into the repository work inside the site."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import catalogue
from mkdocs.structure.files import File, Files

ROOT = catalogue.ROOT
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
ROOT_PAGES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}


def on_config(config: Any) -> Any:
    """Put the generated pages into the navigation, before the systems."""
    where = next(i for i, part in enumerate(config.nav) if "Systems" in part)
    config.nav.insert(where, {"Catalogue": catalogue.navigation()})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the catalogue and the pages from the repository's root."""
    generated = dict(catalogue.pages())
    for page, source in ROOT_PAGES.items():
        generated[page] = re.sub(
            r"\]\((?!https?:|#)([^)]+)\)", lambda m: f"](../{m[1]})", (ROOT / source).read_text(encoding="utf-8")
        ).replace("](../docs/", "](")
    for path, content in generated.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point links that leave ``docs/`` to a copy of the file in the site; a link to a folder becomes its name."""

    def redirected(match: re.Match[str]) -> str:
        text, target, fragment = match[1], match[2], match[3] or ""
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        within = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page.file.src_uri), target))
        if within.startswith("docs/"):
            return match[0]
        if within in ROOT_PAGES.values():
            name = next(name for name, source in ROOT_PAGES.items() if source == within)
            return f"[{text}]({up(page)}{name}{fragment})"
        path = ROOT / within
        if not path.is_file():
            return text if text.startswith("`") else f"`{text}`"
        copied = f"source/{within}.txt"
        if files.get_file_from_path(copied) is None:
            files.append(File.generated(config, copied, content=path.read_text(encoding="utf-8")))
        return f"[{text}]({up(page)}{copied})"

    return LINK.sub(redirected, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Let paths in code break after a slash."""
    return re.sub(r"<code>([^<]*/[^<]*)</code>", lambda m: f"<code>{m[1].replace('/', '/<wbr>')}</code>", html)


def up(page: Any) -> str:
    """Return the relative path from a page's folder to the root of the docs."""
    return "../" * Path(page.file.src_uri).parent.joinpath("_").as_posix().count("/")
