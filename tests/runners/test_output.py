"""Tests of generated files: only files written before are ever deleted, and no symbolic link is followed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runners.report import output


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def test_stale_files_go_and_files_of_others_stay(tmp_path: Path) -> None:
    output.write(tmp_path, {"a.md": "a", "deep/b.md": "b"})
    (tmp_path / "mine.md").write_text("mine")
    output.write(tmp_path, {"a.md": "a2"})
    assert names(tmp_path) == {"a.md", "mine.md", output.MANIFEST}
    assert (tmp_path / "a.md").read_text() == "a2"


def test_a_file_that_holds_its_content_already_is_left_alone(tmp_path: Path) -> None:
    (path,) = output.write(tmp_path, {"a.md": "a"})
    before = path.stat().st_ino
    output.write(tmp_path, {"a.md": "a"})
    assert path.stat().st_ino == before


def test_no_link_is_followed_to_delete(tmp_path: Path) -> None:
    folder, precious = tmp_path / "boards", tmp_path / "precious"
    output.write(folder, {"deep/b.md": "b", "a.md": "a"})
    precious.mkdir()
    (precious / "b.md").write_text("precious")
    (folder / "deep" / "b.md").unlink()
    (folder / "deep").rmdir()
    (folder / "deep").symlink_to(precious)
    (folder / "a.md").unlink()
    (folder / "a.md").symlink_to(precious / "b.md")
    output.write(folder, {})
    assert (precious / "b.md").read_text() == "precious"
    assert (folder / "a.md").is_symlink()


def test_a_folder_that_is_a_link_loses_nothing(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "a.html").write_text("precious")
    (precious / output.MANIFEST).write_text(json.dumps(["a.html"]))
    (tmp_path / "site").symlink_to(precious)
    output.write(tmp_path / "site", {"b.html": "b"})
    assert (precious / "a.html").read_text() == "precious"


@pytest.mark.parametrize("listed", ['["../precious", "/precious", ""]', "{}", "no json", '[{"a": 1}]'])
def test_a_manifest_cannot_lead_out_of_its_folder(tmp_path: Path, listed: str) -> None:
    folder = tmp_path / "boards"
    folder.mkdir()
    (tmp_path / "precious").write_text("precious")
    (folder / output.MANIFEST).write_text(listed)
    output.write(folder, {"a.md": "a"})
    assert (tmp_path / "precious").read_text() == "precious"


def test_pictures_are_copied_once(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"one")
    (path,) = output.write(tmp_path / "site", {"media/a.png": tmp_path / "a.png"})
    before = path.stat().st_ino
    output.write(tmp_path / "site", {"media/a.png": tmp_path / "a.png"})
    assert path.read_bytes() == b"one" and path.stat().st_ino == before
    (tmp_path / "a.png").write_bytes(b"other")
    output.write(tmp_path / "site", {"media/a.png": tmp_path / "a.png"})
    assert path.read_bytes() == b"other"


@pytest.mark.parametrize("name", ["\x00", "a/\x00", "x" * 400])
def test_a_name_that_no_file_can_have_is_passed_over(tmp_path: Path, name: str) -> None:
    (tmp_path / output.MANIFEST).write_text(json.dumps([name, "stale.html"]))
    (tmp_path / "stale.html").write_text("old")
    assert output.write(tmp_path, {"index.html": "new"}) == [tmp_path / "index.html"]
    assert not (tmp_path / "stale.html").exists()
