"""Tests of the files of claims: each is valid, and an error in one is reported in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from runners.claims.claims import ClaimsError, load, read
from tests.runners.conftest import ROOT

FILES = sorted((ROOT / "results" / "reported").glob("*.yaml"))
HEAD = {"system": "02", "title": "A paper", "authors": "A, B", "year": 2022}
CLAIM = {
    "id": "one",
    "text": "It works.",
    "where": "Table 1",
    "kind": "paper",
    "scale": "cpu",
    "cells": {"dataset": "mnist", "threat": "leakage_dlg", "defense": "dp_sgd", "defense.dp_sgd.delta": 0.001},
    "metric": "risk.ssim",
    "at_most": 0.5,
    "must_fail": {"undefended": {"defense": "none"}},
}


def written(folder: Path, *claims: dict[str, Any], name: str = "02-a.yaml", **head: Any) -> Path:
    path = folder / name
    OmegaConf.save(OmegaConf.create(HEAD | head | {"claims": list(claims)}), path)
    return path


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_of_claims_can_be_read(path: Path) -> None:
    paper = read(path)
    assert paper.claims and paper.abstract, "a paper has claims, some of them on its abstract"


def test_a_claim_is_read_as_it_is_written(tmp_path: Path) -> None:
    (claim,) = read(written(tmp_path, CLAIM)).claims
    assert (claim.id, claim.scale, claim.at_most, claim.by) == ("one", "cpu", 0.5, "difference")
    assert claim.cells == CLAIM["cells"] and claim.other is None and claim.wanted() == "≤ 0.5"


def test_the_other_side_of_a_comparison_is_merged_over_the_cells(tmp_path: Path) -> None:
    (claim,) = read(
        written(tmp_path, CLAIM | {"cells": {"threat": "leakage_dlg"}, "against": {"defense": "none"}})
    ).claims
    assert claim.other == {"threat": "leakage_dlg", "defense": "none"}


def test_parameters_of_what_is_replaced_fall_away(tmp_path: Path) -> None:
    cells = CLAIM["cells"] | {"threat.iterations": 5}
    against = {"defense": "none", "threat": "leakage_inverting_gradients", "threat.observations": 3}
    (claim,) = read(written(tmp_path, CLAIM | {"cells": cells, "against": against})).claims
    assert claim.other == {"dataset": "mnist"} | against
    assert claim.with_({"threat.iterations": 6})["threat.iterations"] == 6


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"toleranse": 0.1}, r"one.toleranse: there is no such field; did you mean tolerance\?"),
        ({"kind": "hearsay"}, "one.kind"),
        ({"metric": "ssim"}, "one.metric: begins with utility."),
        ({"at_most": None}, "either `value` or an inequality"),
        ({"at_most": None, "value": 0.3, "why": "x"}, "needs its `tolerance`"),
        ({"at_most": None, "value": 0.3, "tolerance": 0.1}, "give `why`"),
        ({"cells": None}, "`why` nothing here can answer it"),
        ({"must_fail": None}, "name a rival that it must not hold for"),
        ({"must_fail": {"no better": "tie"}}, "a `tie` needs `against`"),
        ({"must_fail": {"undefended": {"defense": "nome"}}}, r"no defense 'nome'; did you mean none"),
        ({"cells": {"defense": "dp_sgd"}, "must_fail": {"as printed": 0.9}}, "where the attack works"),
        ({"cells": {"defense": "none"}}, "is the claim's own cell"),
        ({"budget": {"epsilon": 10.0}}, "one.budget: begins with utility."),
        ({"kind": "headline"}, "a headline names its `sentence`"),
        ({"kind": "gate", "sentence": "a"}, "a gate is ours"),
        ({"sentence": "a"}, r"claims answer sentences \['a'\] of \[\]"),
        ({"scale": None}, "`scale` is missing"),
        ({"by": "ratio"}, "needs `against`"),
        ({"cells": {"threat": "leakage_dgl"}}, r"no threat 'leakage_dgl'; did you mean leakage_dlg"),
        ({"cells": {"seed": 1}}, "first word is one of"),
        ({"cells": {"defense": "none", "defense.dp_sgd.delta": 1}}, "needs `defense` to hold 'dp_sgd'"),
        ({"cells": {"defense": "dp_sgd", "defense.dp_sgd.detla": 1}}, "did you mean delta"),
        ({"cells": {"threat": "leakage_dlg", "threat.iteration": 1}}, "did you mean iterations"),
        ({"test": "tests/runners/test_claims.py::test_nothing"}, "there is no test"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ClaimsError, match=said):
        read(written(tmp_path, {name: value for name, value in (CLAIM | change).items() if value is not None}))


def test_a_test_that_answers_is_looked_up(tmp_path: Path) -> None:
    own = {name: CLAIM[name] for name in ("id", "text", "where", "kind")}
    path = written(
        tmp_path, own | {"test": f"tests/runners/test_claims.py::{test_a_test_that_answers_is_looked_up.__name__}"}
    )
    assert read(path).claims[0].cells is None


def test_ids_are_unique_and_files_begin_with_their_number(tmp_path: Path) -> None:
    with pytest.raises(ClaimsError, match="same id: one"):
        read(written(tmp_path, CLAIM, CLAIM))
    with pytest.raises(ClaimsError, match="must begin with 02-"):
        read(written(tmp_path, CLAIM, name="a.yaml"))


def test_what_is_no_yaml_is_named(tmp_path: Path) -> None:
    (tmp_path / "02-a.yaml").write_text("claims: [")
    with pytest.raises(ClaimsError, match=r"02-a.yaml cannot be read"):
        load(tmp_path)


def test_one_paper_is_found_by_its_number(tmp_path: Path) -> None:
    written(tmp_path, CLAIM)
    written(tmp_path, CLAIM, name="03-b.yaml", system="03")
    assert [paper.system for paper in load(tmp_path)] == ["02", "03"]
    assert [paper.system for paper in load(tmp_path, "3")] == ["03"]
    with pytest.raises(ClaimsError, match="there are 02-a, 03-b"):
        load(tmp_path, "07")
