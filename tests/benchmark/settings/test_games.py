"""Tests that hold for the games of every setting."""

import jaxtyping
import pytest
import torch

from benchmark.metrics.images import mse
from benchmark.outcome import Outcome
from benchmark.settings.base import Game, Setting
from benchmark.settings.collaboration.setting import Collaboration
from benchmark.settings.deployment.setting import Deployment
from benchmark.settings.guesses import MembershipScores
from benchmark.settings.release.setting import ReleaseSetting
from benchmark.settings.service.setting import Service
from benchmark.settings.stack import Stack, UniversalDefense
from benchmark.settings.threat import Guess
from tests.benchmark.helpers import NoThreat, context

SETTINGS = (Collaboration, Deployment, ReleaseSetting, Service)
GAMES = [(setting, game) for setting in SETTINGS for game in setting.games]


@pytest.mark.parametrize(("setting", "game"), GAMES, ids=lambda part: part.__name__)
def test_a_game_is_in_the_module_of_its_surface_and_has_hooks_that_exist(
    setting: type[Setting], game: type[Game]
) -> None:
    assert game.__module__ == f"benchmark.settings.{setting.name}.games.{game.surface}"
    assert game.hooks and game.hooks <= set(UniversalDefense.declared_hooks())
    assert issubclass(game.guess, Guess)


@pytest.mark.parametrize("setting", SETTINGS)
def test_surfaces_are_those_of_the_games(setting: type[Setting]) -> None:
    assert len(setting.surfaces) == len(setting.games)
    assert setting.surfaces == {game.surface: game.hooks for game in setting.games}


def test_a_setting_plays_the_game_of_the_threat_s_surface() -> None:
    class First(Game[str]):
        surface = "first"
        hooks = frozenset()

        def play(self, context):
            return Outcome(diagnostics={self.honest: self.surface})

    class Second(First):
        surface = "uploads"

    class Both(Setting):
        games = (First, Second)
        honest = "played"

    assert Both().play(context(NoThreat())).diagnostics == {"played": "uploads"}


def test_shapes_are_checked_while_tests_run() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        mse(torch.zeros(2, 3), torch.zeros(3, 2))
    with pytest.raises(jaxtyping.TypeCheckError):
        MembershipScores(torch.zeros(2, 3))
    with pytest.raises(jaxtyping.TypeCheckError):
        Stack([UniversalDefense()]).protect(torch.zeros(3), None)
