"""Tests of the notebooks in ``examples/notebooks``: they run, and what they keep shows no path of a machine."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
ABSOLUTE = re.compile(r"(?<![\w.:/<])(?:/[\w.-]+){2,}|\b[A-Za-z]:\\")
MINUTES = 20


def texts(content: Any) -> list[str]:
    """Return every text in JSON content, but those of pictures."""
    if isinstance(content, dict):
        return [text for kind, value in content.items() if not kind.startswith("image/") for text in texts(value)]
    if isinstance(content, list):
        return [text for value in content for text in texts(value)]
    return [content] if isinstance(content, str) else []


def paths_in_outputs(notebook: dict[str, Any]) -> list[str]:
    """Return the absolute paths in the outputs that a notebook keeps."""
    kept = [text for cell in notebook["cells"] for text in texts(cell.get("outputs", []))]
    return [found for text in kept for found in ABSOLUTE.findall(text)]


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_kept_outputs_hold_no_absolute_path(path: Path) -> None:
    assert not paths_in_outputs(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/home/somebody/suite/x.py:3: UserWarning", ["/home/somebody/suite/x.py"]),
        ("File C:\\suite\\x.py", ["C:\\"]),
        ("<td>0.4</td></tr> 0.5/0.6, conf/threat/x.yaml, https://example.org/a/b", []),
    ],
)
def test_absolute_paths_are_found_in_texts_and_not_in_pictures(text: str, found: list[str]) -> None:
    outputs = [{"output_type": "display_data", "data": {"text/plain": [text], "image/png": "/home/base/64="}}]
    assert paths_in_outputs({"cells": [{"outputs": outputs}, {"cell_type": "markdown"}]}) == found


@pytest.mark.notebook
@pytest.mark.filterwarnings("default")
@pytest.mark.timeout(60 * MINUTES)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_of_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=60 * MINUTES, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()  # raises CellExecutionError at the first cell that fails
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code and all(cell.execution_count for cell in code)
    assert not any(output.output_type == "error" for cell in code for output in cell.outputs)
