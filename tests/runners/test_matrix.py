from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmark.compatibility import refusal
from benchmark.errors import ConfigError
from runners.cli import main as cli
from runners.config import catalogue
from runners.config import pairs as matrix
from runners.config import static_analysis as sources
from runners.config.build import locate
from tests.runners.conftest import composed


def target(group: str, name: str) -> type:
    nodes = composed(f"{group}={name}").nodes[group]
    found: type = locate((nodes[name] if group == "defense" else nodes)["_target_"], group)
    return found


def test_what_the_sources_say_is_what_the_classes_say() -> None:
    settings = {cls.name: cls for cls in (target("setting", o.name) for o in catalogue.options("setting"))}  # type: ignore[attr-defined]
    threats = {option.name: target("threat", option.name) for option in catalogue.options("threat")}
    defenses = {option.name: target("defense", option.name) for option in catalogue.options("defense")}
    derived = matrix.derive()
    assert {name: cls.hooks() for name, cls in defenses.items()} == derived.hooks  # type: ignore[attr-defined]
    assert {name: dict(cls.needs) for name, cls in threats.items()} == derived.needs  # type: ignore[attr-defined]
    pairs = derived.pairs()
    assert len(pairs) == len(threats) * len(defenses)
    for pair in pairs:
        threat = threats[pair.threat]
        reason = refusal(settings[threat.setting], threat, [defenses[pair.defense]])  # type: ignore[attr-defined]
        assert (reason is None) == (pair.reason is None), pair
    assert {pair.reason is None for pair in pairs} == {True, False}


def module(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text)


def test_sources_follow_names_over_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    module(tmp_path, "w1_base", "A = frozenset({'x'})\nclass Base:\n    name = 'base'\n    def hook(self): ...\n")
    text = "import w1_base\nfrom w1_base import A, Base as B\n"
    text += "class Mid(B):\n    both = A | {'z'}\n"
    text += "    family, name = 'f', 'mid'\n    acting = {'s': A | frozenset(['y']), **{'t': A}}\n"
    text += "class Leaf(Mid):\n    def hook(self): ...\nclass Other(w1_base.Base):\n    bad = print()\n"
    module(tmp_path, "w1_leaf", text)
    module(tmp_path, "w1_again", "from w1_leaf import Leaf\n")
    assert sources.lineage("w1_again.Leaf")[1:] == ("w1_leaf.Mid", "w1_base.Base")
    assert sources.attribute("w1_again.Leaf", "name") == "mid"
    assert sources.attribute("w1_leaf.Leaf", "acting") == {"s": {"x", "y"}, "t": {"x"}}
    assert sources.attribute("w1_leaf.Leaf", "both") == {"x", "z"}
    assert sources.attribute("w1_leaf.Other", "name") == "base"
    assert sources.attribute("w1_leaf.Other", "absent") is sources.MISSING
    assert sources.overridden("w1_leaf.Leaf", frozenset({"hook"}), "w1_base.Base") == {"hook"}
    assert sources.overridden("w1_leaf.Mid", frozenset({"hook"}), "w1_base.Base") == frozenset()
    with pytest.raises(ConfigError, match="cannot be read without importing"):
        sources.attribute("w1_leaf.Other", "bad")
    with pytest.raises(ConfigError, match="no source of a class w1_leaf.Nobody"):
        sources.lineage("w1_leaf.Nobody")


def test_matrix_prints_who_meets_whom(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["gauntlet", "matrix", "--json"])
    assert cli.main() == 0
    told = json.loads(capsys.readouterr().out)
    reasons = {(pair["threat"], pair["defense"]): pair["reason"] for pair in told["pairs"]}
    assert reasons["leakage_dlg", "gradient_noise"] is None
    assert "krum changes aggregate" in reasons["leakage_dlg", "krum"]
    console = Console(width=200, record=True)
    matrix.show(console, matrix.derive())
    text = console.export_text()
    assert "collaboration · uploads" in text and "gradient_noise (protect)" in text
    assert "leakage_analytic (needs model.first_layer=linear)" in text
