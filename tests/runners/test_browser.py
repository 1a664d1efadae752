"""Tests of the web site in a browser: sorting, filtering, following a cell to its record, without errors or network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runners.report import board_text, boards, leaderboard, output
from runners.report.site import build
from runners.report.source import compact
from tests.runners.test_ranking import board, played
from tests.runners.test_site import everything

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)"),
    pytest.mark.filterwarnings("ignore"),
]


BOARD = "boards/leakage_test.html"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a site of records of a sweep, and of a board with a face."""
    folder = tmp_path_factory.mktemp("site")
    shown = leaderboard.of_records(list(compact(everything())), tmp_path_factory.mktemp("reported"))
    shown.boards.insert(0, board(played()))
    output.write(folder, dict(build.files(shown, "results")))
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra `dev`)")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """Return a page that fails the test at its end if any error occurred on it or anything came from the network."""
    opened = browser.new_page(viewport={"width": 1300, "height": 900})
    wrong: list[str] = []
    opened.on("console", lambda said: said.type in ("error", "warning") and wrong.append(f"console: {said.text}"))
    opened.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    opened.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or wrong.append(f"asked {asked.url}"))
    yield opened
    opened.close()
    missing = "net::ERR_FILE_NOT_FOUND"  # pictures, which synthetic records only name
    assert not [text for text in wrong if missing not in text]


PAGES = ("index.html", "pairs.html", BOARD, "boards/test.html", "defenses/cheap.html", "threats/leakage_dlg.html")


def column(page: Any, table: str, number: int) -> list[str]:
    return page.locator(f"{table} tbody tr td:nth-child({number})").all_inner_texts()


@pytest.mark.ci
def test_a_table_sorts_by_its_numbers_and_tells_so(page: Any, site: Path) -> None:
    page.goto((site / "pairs.html").as_uri())
    head = page.locator("#defenses th", has_text="worst risk")
    head.click()
    sorting = 'th[aria-sort="{}"]:has-text("worst risk")'  # wait: the table is drawn anew some time after the key
    page.wait_for_selector(f"#defenses {sorting.format('ascending')}")
    risks = [float(text.split()[0]) for text in column(page, "#defenses table", 11) if text[0].isdigit()]
    assert len(risks) >= 4 and risks == sorted(risks)
    head.press("Enter") if head.get_attribute("tabindex") else head.locator("[tabindex]").first.press("Enter")
    page.wait_for_selector(f"#defenses {sorting.format('descending')}")  # the keyboard sorts as well


def test_search_and_filters_leave_what_matches(page: Any, site: Path) -> None:
    page.goto((site / "pairs.html").as_uri())
    rows = page.locator("#defenses tbody tr")
    total = rows.count()
    page.locator("#defenses input[type=search]").fill("pruning")
    assert 0 < rows.count() < total
    page.locator("#defenses input[type=search]").fill("")
    page.select_option("[data-filter=dataset]", "mnist")
    assert rows.count() == 2 and set(column(page, "#defenses table", 5)) == {"mnist"}
    links = page.locator("#overview .matrix a.cell:visible")
    assert {links.nth(i).get_attribute("data-dataset") for i in range(links.count())} == {"mnist"}
    assert page.locator("#plot-board option").all_inner_texts() == ["test · collaboration · mnist · lenet · cpu · ssim"]


def test_a_cell_leads_to_the_command_that_plays_it_again(page: Any, site: Path) -> None:
    page.goto((site / "pairs.html").as_uri())
    page.locator("#overview .matrix tr", has_text="gradient_noise").locator("a.cell:visible").first.click()
    row = page.locator("tr:target")
    assert "leakage_dlg" in row.inner_text() and page.url.split("#")[0].endswith("defenses/gradient_noise.html")
    row.locator("summary").click()
    command = row.locator("code").first.inner_text()
    keys = [one["key"][:12] for one in everything() if one["config"]["defense"][0]["name"] == "gradient_noise"]
    assert command in {f"gauntlet again {key} --store results" for key in keys}


def test_the_plot_shows_every_defense_and_leads_to_its_page(page: Any, site: Path) -> None:
    page.goto((site / "pairs.html").as_uri())
    page.locator("#plot .main-svg").first.wait_for()
    page.select_option("#plot-board", "test · collaboration · digits · lenet · smoke · ssim")
    assert "gradient_pruning" in page.locator("#plot text").all_text_contents()
    assert page.evaluate("document.getElementById('plot').data.flatMap(trace => trace.x).length") >= 4


@pytest.mark.parametrize("width", [390, 1300])
def test_no_page_is_wider_than_its_window(page: Any, site: Path, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    for path in PAGES:
        page.goto((site / path).as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path


def ranking(page: Any) -> list[list[str]]:
    rows = page.locator("#ranking tbody tr")
    return [[cell.strip() for cell in row.locator("th, td").all_inner_texts()] for row in rows.all()]


def test_the_reader_of_a_board_chooses_what_he_faces_and_can_lose(page: Any, site: Path) -> None:
    """The page, its address opened again, and the command line tell the same ranking."""
    page.goto((site / BOARD).as_uri())
    found = board(played())
    assert found.contest is not None
    assert ranking(page) == board_text.ranking(found.contest, boards.ranked(found))[1]
    page.locator("#ranking-plot .main-svg").first.wait_for()
    page.get_by_label("leakage_idlg").uncheck()
    slider = page.get_by_role("slider")
    slider.focus()
    while float(slider.input_value()) > 0.02:
        slider.press("ArrowLeft")
    told = board_text.ranking(found.contest, boards.ranked(found, ["leakage_dlg"], float(slider.input_value())))[1]
    assert ranking(page) == told and [line[1] for line in told if line[0] == "1"] == ["holey"]
    assert "front" in (page.locator("#ranking tr[data-defense=holey]").get_attribute("class") or "")
    command = page.locator("#command").inner_text()
    assert command == f"gauntlet board leakage_test --threats leakage_dlg --max-utility-loss {slider.input_value()}"
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    assert ranking(page) == told
    page.get_by_role("button", name="All threats, any loss").press("Enter")
    page.wait_for_function("!location.hash")
    assert ranking(page) == board_text.ranking(found.contest, boards.ranked(found))[1]


@pytest.mark.parametrize(
    "path", [BOARD, *(pytest.param(path, marks=pytest.mark.ci) for path in PAGES if path != BOARD)]
)
def test_axe_finds_nothing_that_keeps_anybody_from_reading(page: Any, site: Path, path: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed (extra `dev`)")
    page.goto((site / path).as_uri())
    # The style sheets are not preloaded, since scripts of a page in a folder may not read them.
    found = axe.Axe().run(page, options={"preload": False})
    assert found.violations_count == 0, found.generate_report()
