"""Tests of the web site: no missing cell goes unexplained, links lead somewhere, no network, needed contents."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from runners.config import catalogue
from runners.report import leaderboard
from runners.report.site import build
from runners.report.source import compact
from tests.runners.synthetic import noise, record, store, with_pictures
from tests.runners.test_claims import CLAIM, written


def undone(name: str) -> list[dict[str, Any]]:
    """Return records of a defense that holds until the attacker knows it, over three seeds."""
    rows = []
    for seed in range(3):
        for adaptive, risk in ((False, 0.1), (True, 0.85)):
            rows.append(with_pictures(record(risk=0.9, seed=seed, adaptive=adaptive), "grid"))
            rows.append(record(defense=name, risk=risk + 0.01 * seed, seed=seed, adaptive=adaptive, accuracy=0.9))
    return rows


def everything() -> list[dict[str, Any]]:
    """Return one of each: broken, untested, failed, invalid, a stack, a second data set, a stale record."""
    stale = {"name": "krum", "provider": "benchmark", "version": -1}
    return [
        *undone("gradient_noise"),
        record(defense="gradient_pruning", risk=0.2),
        record(defense="dp_sgd", status="failed"),
        record(defense=[noise(0.1), {"name": "dp_sgd", "provider": "d", "version": 1}], risk=0.3),
        record("leakage_idlg", risk=0.2),
        record("leakage_idlg", "gradient_pruning", risk=0.1),
        record("leakage_control_mean", risk=0.05, control="negative"),
        *(record(risk=0.8, dataset={"name": "mnist"}, scale="cpu", seed=seed) for seed in range(2)),
        record(defense="gradient_noise", risk=0.4, dataset={"name": "mnist"}, scale="cpu"),
        record(defense=[stale], risk=0.5),
    ]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    reported = tmp_path_factory.mktemp("reported")
    cells = {"dataset": "digits", "threat": "leakage_dlg", "threat.adaptive": True, "defense": "gradient_noise"}
    base = CLAIM | {"scale": "smoke", "cells": cells, "sentence": "a"}
    gate = base | {"kind": "gate"}
    del gate["sentence"]
    head = {name: CLAIM[name] for name in ("text", "where", "kind")}
    written(
        reported,
        base | {"id": "holds", "at_most": 0.89},
        base | {"id": "fails", "at_most": 0.5},
        base | {"id": "missed", "at_most": 0.5, "miss": "fewer steps"},
        base | {"id": "later", "scale": "full"},
        base | {"id": "undecided", "at_most": 0.87},
        base | {"id": "empty", "at_most": 0.95},
        gate | {"id": "ours", "at_most": 0.89},
        head | {"id": "unknown", "why": "not printed"},
        abstract={"a": "It holds."},
    )
    return made(everything(), reported)


def made(records: list[dict[str, Any]], reported: Path) -> dict[str, str]:
    return build.files(leaderboard.of_records(list(compact(records)), reported), "results")


class Links(HTMLParser):
    """Parser that collects every address that a page refers to, and every id in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.found += [str(given[name]) for name in ("href", "src") if given.get(name)]
        self.ids |= {str(given["id"])} if given.get("id") else set()


def resolved(page: str, link: str) -> str:
    parts: list[str] = []
    for part in (PurePosixPath(page).parent / link).parts:
        if part == "..":
            parts.pop() if parts else parts.append("..")
        else:
            parts.append(part)
    return "/".join(parts)


def test_every_link_leads_to_a_file_of_the_site_or_a_picture(files: dict[str, str]) -> None:
    pages = {path: Links(text) for path, text in files.items() if path.endswith(".html")}
    for path, page in pages.items():
        for link in page.found:
            target, _, anchor = link.partition("#")
            assert not re.match(r"\w+:", target) or target == "data:,", f"{path} needs the network: {link}"
            goal = resolved(path, target) if target and target != "data:," else path
            if not goal.startswith("media/"):
                assert goal in files, f"{path} links to {link}"
                if anchor:
                    assert anchor in pages[goal].ids, f"{path} links to {link}"


def test_no_pair_of_a_threat_and_a_defense_is_a_silent_hole(files: dict[str, str]) -> None:
    rows = list(csv.DictReader(io.StringIO(files["matrix.csv"])))
    told = {(row["threat"], row["defense"]) for row in rows}
    threats, defenses = ([option.name for option in catalogue.options(group)] for group in ("threat", "defense"))
    assert {(threat, defense) for threat in threats for defense in defenses} <= told
    for row in rows:
        state = row["state"]
        assert state in {"ok", "invalid", "failed", "timeout", "diverged", "no number", "not run", "refused"}
        assert (state in {"ok", "invalid"}) == bool(row["risk"])
        assert row["reason"] or state in {"ok", "not run"}


def test_the_overview_names_what_became_of_a_pair(files: dict[str, str]) -> None:
    page = files["pairs.html"]
    for text in ("invalid", "failed", "not run", "are refused here"):
        assert text in page
    assert "it failed" in page, "the reason of a failure is there"


def test_a_defense_that_its_adaptive_attack_breaks_says_so_in_plain_sight(files: dict[str, str]) -> None:
    page = files["defenses/gradient_noise.html"]
    assert page.index("Broken by its adaptive attack") < page.index("<table")
    assert "0.110 by leakage_dlg → <strong>0.860</strong> by leakage_dlg · adaptive" in page


def test_a_defense_without_an_adaptive_threat_says_so(files: dict[str, str]) -> None:
    assert "No adaptive threat met." in files["defenses/gradient_pruning.html"]
    assert "No adaptive threat met." not in files["defenses/gradient_noise.html"]


def test_a_stack_has_a_page_of_its_own(files: dict[str, str]) -> None:
    assert "<h1>gradient_noise + dp_sgd</h1>" in files["defenses/gradient_noise-dp_sgd.html"]


def test_each_number_shows_its_records_and_the_command_that_plays_them_again(files: dict[str, str]) -> None:
    key = next(one["key"] for one in everything() if one["config"]["threat"]["adaptive"])
    assert f"gauntlet again {key[:12]} --store results" in files["defenses/none.html"]


def test_records_of_changed_components_are_marked(files: dict[str, str]) -> None:
    assert '<span class="badge stale"' in files["defenses/krum.html"]
    assert '<span class="badge stale"' not in files["defenses/gradient_pruning.html"]


def test_a_paper_shows_claims_and_measurements_side_by_side(files: dict[str, str]) -> None:
    page = files["papers/02.html"]
    for state in ("inside", "outside", "known miss", "undecided", "vacuous", "not run", "unavailable"):
        assert f'<span class="badge s-{state.replace(" ", "-")}">{state}</span>' in page
    assert "0.86 [0.835, 0.885] (n=3)" in page and "fewer steps" in page
    assert "undefended: 0.9" in page, "what it must fail for is told"


def test_a_paper_begins_with_its_verdict_and_folds_our_own_gates(files: dict[str, str]) -> None:
    page = files["papers/02.html"]
    assert page.index("<strong>contradicted</strong>: (a) contradicted") < page.index("<table")
    assert page.index('id="unknown"') < page.index('<details class="gates">') < page.index('id="ours"')
    assert "contradicted" in files["index.html"]


def test_claims_are_a_table_as_well(files: dict[str, str]) -> None:
    rows = {row["claim"]: row for row in csv.DictReader(io.StringIO(files["claims.csv"]))}
    assert (rows["holds"]["state"], rows["holds"]["measured"], rows["holds"]["seeds"]) == ("inside", "0.86", "3")
    assert rows["unknown"]["note"] == "not printed"


def test_text_of_records_and_claims_is_never_taken_for_markup(tmp_path: Path) -> None:
    written(tmp_path, CLAIM | {"text": "<script>alert(1)</script>"})
    evil = record(status="failed") | {"reason": "<img src=x onerror=alert(1)>"}
    for path, text in made([evil, record(seed=1)], tmp_path).items():
        if path.endswith(".html"):
            assert "<script>alert" not in text and "<img src=x" not in text


def test_tables_have_headers_and_pictures_have_words(files: dict[str, str]) -> None:
    for path, text in files.items():
        if path.endswith(".html"):
            assert '<html lang="en">' in text
            for table in re.findall(r"<table.*?</table>", text, flags=re.DOTALL):
                assert '<th scope="col">' in table and '<th scope="row">' in table, path
            for picture in re.findall(r"<img[^>]*>", text):
                assert 'alt="' in picture


def contrast(one: str, other: str) -> float:
    """Return the WCAG 2 contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        colour = colour * 2 if len(colour) == 3 else colour
        parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_coloured_cells_and_marks_can_be_read() -> None:
    sheet = (Path(leaderboard.__file__).parent / "site" / "static" / "site.css").read_text("utf-8")
    ink = "1b1f24"
    rules = re.findall(
        r"\.((?:r\d+|r-none|[vs]-[\w-]+)) \{ background: #(\w+);(?: color: (#\w+|var\(--dim\));)?", sheet
    )
    assert len(rules) > 18
    for name, background, colour in rules:
        text = {"": ink, "var(--dim)": "57606a"}.get(colour, colour.removeprefix("#"))
        assert contrast(background, text) >= 4.5, f"{name}: {contrast(background, text):.2f}"


def test_latex_escapes_what_latex_would_take_for_commands(files: dict[str, str]) -> None:
    table = files["boards/test.tex"]
    assert r"gradient\_noise" in table and r"\begin{tabular}" in table
    assert not re.search(r"(?<!\\)_", table)


def test_equal_records_give_equal_bytes(files: dict[str, str], tmp_path: Path) -> None:
    one, other = (made(records, tmp_path) for records in (everything(), everything()[::-1]))
    assert one == other


@pytest.mark.ci
def test_pictures_are_copied_into_a_site_elsewhere_and_referred_to_from_one_in_the_store(tmp_path: Path) -> None:
    home = store(tmp_path / "results", [one := with_pictures(record(), "grid")])
    path = one["media"]["grid"]
    picture = home / path
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"png")
    build.write(home, tmp_path / "site")
    assert (tmp_path / "site" / path).read_bytes() == b"png"
    assert f'src="../{path}"' in (tmp_path / "site" / "boards" / "test.html").read_text("utf-8")
    build.write(home, home / "site")
    assert not (home / "site" / "media").exists()
    assert f'src="../../{path}"' in (home / "site" / "boards" / "test.html").read_text("utf-8")
