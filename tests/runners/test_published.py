"""The committed leaderboard is what the committed records say, byte for byte."""

from __future__ import annotations

import pytest

from runners.report import leaderboard
from runners.store.table import read_all
from tests.runners.conftest import ROOT

RESULTS = ROOT / "results"
BOARD = RESULTS / "leaderboard"


@pytest.mark.timeout(300)
@pytest.mark.skipif(not (BOARD / "index.html").is_file(), reason="no leaderboard is committed yet")
def test_the_committed_leaderboard_is_made_from_the_committed_records() -> None:
    made = leaderboard.files(read_all(RESULTS), "results", RESULTS / "reported")
    lie = {path.relative_to(BOARD).as_posix(): path for kind in leaderboard.KINDS for path in BOARD.rglob(f"*.{kind}")}
    differing = {name for name in made.keys() | lie.keys() if name not in lie or name not in made}
    differing |= {name for name in made.keys() & lie.keys() if lie[name].read_text("utf-8") != made[name]}
    assert not differing, f"`make leaderboard` and commit: {len(differing)} files differ, e.g. {sorted(differing)[:5]}"
