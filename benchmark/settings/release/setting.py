"""An owner publishes data derived from private data; others train on it, and adversaries look at it.

Members are the ``owner`` split, non-members ``calibration``, the adversary's reference data ``attacker``. Which
question an adversary asks is its surface; each is a game of ``benchmark.settings.release.games``.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmark.errors import ConfigError
from benchmark.outcome import Outcome
from benchmark.settings.base import CellContext, Setting
from benchmark.settings.release.games.attributes import AttributesGame, PeopleGame
from benchmark.settings.release.games.base import Game, ReleaseThreat
from benchmark.settings.release.games.canaries import CanariesGame
from benchmark.settings.release.games.collection import CopyGame, StatisticalGame
from benchmark.settings.release.games.identities import IdentitiesGame, LinkageGame
from benchmark.settings.release.games.membership import MembershipGame
from benchmark.settings.release.games.participants import ParticipantsGame, TeachersGame
from benchmark.settings.release.games.reconstruction import ReconstructionGame
from benchmark.settings.release.games.records import RecordsGame
from benchmark.settings.release.measures.base import Measure, TrainOnRelease
from benchmark.settings.release.mechanism import Fitted, Mechanism

VERSION = 2
BYTES_PER_FLOAT = 4
ACTING = frozenset({"release", "encode"})


class ReleaseSetting(Setting):
    """Publish, measure what the release is good for, and let an adversary have it.

    Args:
        epochs: of the model that is trained on the release.
        examiner_epochs: of the examiner, a classifier of plain samples that judges what reconstructions still show.
        victims: released rows under attack, the same ones whatever the threat knows.
        candidates: members whose membership is asked about, and as many non-members.
        measures: name -> a further protocol of utility.
    """

    name = "release"
    surfaces = {
        "release": ACTING,
        "members": ACTING,
        "attributes": ACTING,
        "people": ACTING,
        "identities": ACTING,
        "linkage": ACTING,
        "participants": ACTING,
        "teachers": ACTING,
        "records": ACTING,
        "canaries": ACTING,
        "collection": ACTING,
        "copies": ACTING,
    }

    def __init__(
        self, *, epochs: int, examiner_epochs: int, victims: int, candidates: int, measures: Mapping[str, Measure]
    ) -> None:
        if victims < 1 or candidates < 2:
            raise ConfigError(
                f"setting.victims must be at least 1 and setting.candidates at least 2, got {victims} and {candidates}."
            )
        self.measures = [TrainOnRelease(epochs=epochs), *measures.values()]
        self.games: dict[str, Game] = {
            "release": ReconstructionGame(victims=victims, examiner_epochs=examiner_epochs),
            "members": MembershipGame(candidates=candidates),
            "attributes": AttributesGame(),
            "people": PeopleGame(candidates=candidates),
            "identities": IdentitiesGame(victims=victims),
            "linkage": LinkageGame(victims=victims),
            "participants": ParticipantsGame(),
            "teachers": TeachersGame(victims=victims),
            "records": RecordsGame(),
            "canaries": CanariesGame(),
            "collection": StatisticalGame(epochs=epochs),
            "copies": CopyGame(),
        }

    def play(self, context: CellContext) -> Outcome:
        threat = context.threat
        assert isinstance(threat, ReleaseThreat)
        fitted = Fitted(Mechanism(context))
        release = fitted.release
        size = float(BYTES_PER_FLOAT * (release.x.numel() + release.y.numel()))
        outcome = Outcome(cost={"seconds": fitted.seconds, "bytes_sent": size})
        if release.epsilon is not None:
            outcome.cost |= {"epsilon": release.epsilon, "delta": release.delta or 0.0}
        for measure in self.measures:
            measure(context, fitted, outcome)
        game = self.games[threat.surface]
        surface = game.observe(context, fitted, threat)
        guess = threat(surface, seed=context.seed)
        if not isinstance(guess, game.guess):
            raise TypeError(f"release cannot score a {type(guess).__name__} on the surface {threat.surface!r}.")
        game.score(context, outcome, guess, surface)
        outcome.diagnostics.update(guess.diagnostics)
        outcome.diagnostics["attack_seconds"] = guess.seconds
        return outcome
