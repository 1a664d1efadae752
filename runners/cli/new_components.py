"""Texts that ``gauntlet new`` starts a defense, a dataset, a model and a package from.

:mod:`runners.cli.new_threats` says what they consist of.
"""

from __future__ import annotations

from runners.cli.new_threats import Start

# -- defenses, by setting ---------------------------------------------------------------------------------------------
DEFENSE_HEAD = '''"""$Class: one line on what honest people do differently, and the paper that it is from."""

from __future__ import annotations
'''

COLLABORATION = '''
from torch import Tensor

from benchmark.parameters import Positive
from benchmark.settings.collaboration.defense import FederatedDefense, Round

VERSION = 1


class $Class(FederatedDefense):
    """Uploads rounded to a grid.

    Args:
        step: of the grid, in gradient units.
    """

    def __init__(self, *, step: Positive = 0.01) -> None:
        self.step = step

    def protect(self, updates: Tensor, round: Round) -> Tensor:
        return (updates / self.step).round() * self.step
'''

COLLABORATION_TEST = '''"""Test of $option: uploads lie on the grid, and a cell with it plays."""

from __future__ import annotations

import torch

import gauntlet
from $module import $Class
$constants

def test_uploads_lie_on_the_grid() -> None:
    sent = $Class(step=0.5).protect(torch.tensor([[0.1, 0.3, -1.2]]), None)
    assert sent.tolist() == [[0.0, 0.5, -1.0]]


def test_a_cell_with_it_plays() -> None:
    outcome = gauntlet.cell("defense=$option", "threat=leakage_control_noise"$ours).play()
    assert outcome.utility["test_accuracy"] > 0.2
'''

RELEASING = '''
import torch
from torch import Tensor

from benchmark.data.base import Split
from benchmark.parameters import AtLeastTwo
from benchmark.settings.release.defense import Release, ReleaseMechanism

VERSION = 1


class $Class(ReleaseMechanism):
    """Mechanism that releases samples with few levels of brightness.

    Args:
        levels: values that a feature can have.
    """

    def __init__(self, *, levels: AtLeastTwo = 4) -> None:
        self.levels = levels

    def release(self, private: Split, rng: torch.Generator) -> Release:
        return Release(self.encode(private.x), private.y, torch.arange(len(private)))

    def encode(self, x: Tensor) -> Tensor:
        return (x * (self.levels - 1)).round() / (self.levels - 1)
'''

RELEASING_TEST = '''"""Test of $option: released samples have the levels asked for, and a cell with it plays."""

from __future__ import annotations

import torch

import gauntlet
from $module import $Class
$constants

def test_a_release_has_few_levels() -> None:
    released = $Class(levels=3).encode(torch.linspace(0, 1, 11))
    assert released.unique().tolist() == [0.0, 0.5, 1.0]


def test_a_cell_with_it_plays() -> None:
    outcome = gauntlet.cell("defense=$option", "threat=reconstruction_look"$ours).play()
    assert outcome.utility["test_accuracy"] > 0.5
'''

SERVICE = '''
from torch import Tensor

from benchmark.parameters import CountOrZero
from benchmark.settings.service.defense import ServiceDefense

VERSION = 1


class $Class(ServiceDefense):
    """The user reveals probabilities rounded to a few digits.

    Args:
        digits: after the point.
    """

    def __init__(self, *, digits: CountOrZero = 1) -> None:
        self.digits = digits

    def reveal(self, logits: Tensor) -> Tensor:
        return logits.softmax(dim=1).round(decimals=self.digits)
'''

SERVICE_TEST = '''"""Test of $option: outputs have few digits, and a cell with it plays."""

from __future__ import annotations

import torch

import gauntlet
from $module import $Class
$constants

def test_outputs_have_few_digits() -> None:
    outputs = $Class(digits=1).reveal(torch.tensor([[0.2, 0.7]]).log())
    torch.testing.assert_close(outputs, torch.tensor([[0.2, 0.8]]))


def test_a_cell_with_it_plays() -> None:
    outcome = gauntlet.cell("defense=$option", "threat=reconstruction_control_output_mean"$ours).play()
    assert outcome.utility["test_accuracy"] > 0.5
'''

DEPLOYMENT = '''
from collections.abc import Callable
from functools import partial

from torch import nn
from torch.nn.functional import cross_entropy

from benchmark.data.base import Split
from benchmark.parameters import BelowOne
from benchmark.settings.deployment.defense import DeploymentDefense

VERSION = 1


class $Class(DeploymentDefense):
    """Classifier that is trained with smoothed labels.

    Args:
        share: of a label that is given to all classes alike.
    """

    def __init__(self, *, share: BelowOne = 0.1) -> None:
        self.share = share

    def fit(self, fresh: Callable[[], nn.Module], data: Split, train: Callable[..., nn.Module]) -> nn.Module:
        return train(fresh(), data.x, data.y, loss=partial(cross_entropy, label_smoothing=self.share))
'''

DEPLOYMENT_TEST = '''"""Test of $option: labels are smoothed, and a cell with it plays."""

from __future__ import annotations

import torch

import gauntlet
from benchmark.data.base import Split
from $module import $Class
$constants

def test_the_loss_smooths_labels() -> None:
    logits, data = torch.tensor([[1.0, 0.0]]), Split(torch.zeros(1, 1), torch.tensor([0]))
    found = $Class(share=0.5).fit(lambda: logits, data, lambda logits, x, y, loss: loss(logits, y))
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(logits, torch.tensor([[0.75, 0.25]])))


def test_a_cell_with_it_plays() -> None:
    outcome = gauntlet.cell("defense=$option", "threat=evasion_control_random"$ours).play()
    assert outcome.utility["test_accuracy"] > 0.5
'''


def _defense(setting: str, code: str, test: str, lines: str) -> Start:
    return Start(f"defenses/{setting}", DEFENSE_HEAD + code, test, lines=lines)


SETTINGS = {
    "collaboration": _defense("collaboration/clients", COLLABORATION, COLLABORATION_TEST, "step: 0.01\n"),
    "release": _defense("release", RELEASING, RELEASING_TEST, "levels: 4\n"),
    "service": _defense("service", SERVICE, SERVICE_TEST, "digits: 1\n"),
    "deployment": _defense("deployment", DEPLOYMENT, DEPLOYMENT_TEST, "share: 0.1\n"),
}
"""Setting -> beginning of a defense."""


# -- datasets and models ----------------------------------------------------------------------------------------------
DATASET = '''"""$Class: one line on what the samples are, and where they are from."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmark.data.base import Source, Split
from benchmark.parameters import AtLeastTwo, Sizes

VERSION = 1


class $Class(Source):
    """Made-up images of 8x8 pixels: a random pattern for each class, with noise. Read yours in ``pools``.

    Args:
        classes: how many.
    """

    SIZES = {"owner": 400, "attacker": 200, "public": 100, "calibration": 100, "test": 200}

    def __init__(self, *, sizes: Sizes | None = None, classes: AtLeastTwo = 4) -> None:
        super().__init__(sizes=sizes)
        self.classes = classes

    def pools(self, root: Path | None) -> tuple[Split, Split, int]:
        # Files lie below `root`, the folder of all data sets: benchmark.data.base.file_in_root finds them or says so.
        rng = torch.Generator().manual_seed(0)
        patterns = torch.rand((self.classes, 1, 8, 8), generator=rng)
        y = torch.arange(1000) % self.classes
        x = (patterns[y] + 0.2 * torch.randn((len(y), 1, 8, 8), generator=rng)).clamp(0, 1)
        return Split(x[:800], y[:800]), Split(x[800:], y[800:]), self.classes
'''

DATASET_TEST = '''"""Test of $option: roles are disjoint, samples in range, and a cell on it plays."""

from __future__ import annotations

import torch

import gauntlet
from $module import $Class
$constants

def test_roles_are_disjoint_and_samples_in_range() -> None:
    data = $Class().load(None, seed=0)
    roles = [data.owner, data.attacker, data.public, data.calibration, data.test]
    rows = torch.cat([role.x.flatten(1) for role in roles])
    assert len(rows.unique(dim=0)) == len(rows) == sum(map(len, roles))
    assert rows.min() >= 0 and rows.max() <= 1
    assert set(data.owner.y.tolist()) == set(range(data.num_classes))


def test_a_cell_on_it_plays() -> None:
    outcome = gauntlet.cell("dataset=$option", "threat=leakage_control_noise"$ours).play()
    assert outcome.utility["test_accuracy"] > 0.5
'''

MODEL = '''"""$Class: one line on the architecture, and the paper that it is from."""

from __future__ import annotations

import math

from torch import nn

from benchmark.models.base import Classifier
from benchmark.parameters import Count

VERSION = 1


class $Class(Classifier):
    """Hidden linear layer with tanh, for samples of any shape.

    Args:
        shape: of one sample.
        num_classes: number of logits.
        hidden: width.
    """

    first_layer = "linear"

    def __init__(self, *, shape: tuple[int, ...] = (1, 8, 8), num_classes: int = 10, hidden: Count = 64) -> None:
        body = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), hidden), nn.Tanh())
        super().__init__(body, nn.Linear(hidden, num_classes))
'''

MODEL_TEST = '''"""Test of $option: logits come from the features by the last parameters, and a cell with it plays."""

from __future__ import annotations

import torch

import gauntlet
from $module import $Class
$constants

def test_logits_come_from_the_features_by_the_last_parameters() -> None:
    model, x = $Class(shape=(1, 8, 8), num_classes=7), torch.rand(2, 1, 8, 8)
    weight, bias = list(model.parameters())[-2:]
    torch.testing.assert_close(model(x), model.features(x) @ weight.T + bias)


def test_a_cell_with_it_plays() -> None:
    outcome = gauntlet.cell("model=$option", "threat=leakage_control_noise"$ours).play()
    assert outcome.utility["test_accuracy"] > 0.5
'''

SIZES = "sizes: {owner: 400, attacker: 200, public: 100, calibration: 100, test: 200}\n"
OTHERS = {
    "dataset": Start("data", DATASET, DATASET_TEST, lines=f"{SIZES}classes: 4\n"),
    "model": Start("models", MODEL, MODEL_TEST, lines="_partial_: true\nhidden: 64\n"),
}

# -- a package of its own ---------------------------------------------------------------------------------------------
PROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "$distribution"
version = "0.1.0"
description = "Components for Gauntlet"
requires-python = ">=3.11"

[tool.setuptools.packages.find]
include = ["$package*"]
namespaces = true

[tool.setuptools.package-data]
"*" = ["*.yaml"]

[tool.ruff]
line-length = 120

[tool.ruff.lint]
extend-select = ["I"]
ignore = ["RUF012"] # class attributes of components are constants by convention
isort.known-first-party = ["benchmark", "gauntlet"] # beside this package

[tool.pytest.ini_options]
pythonpath = ["."]
"""
