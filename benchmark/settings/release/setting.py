"""Setting of a release: an owner publishes data derived from private data; others train on it, adversaries attack it.

Members are the ``owner`` split, non-members ``calibration``, the adversary's reference data ``attacker``.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmark.parameters import AtLeastTwo, Count
from benchmark.settings.base import Setting
from benchmark.settings.release.games.attributes import AttributesGame
from benchmark.settings.release.games.canaries import CanariesGame
from benchmark.settings.release.games.collection import CollectionGame
from benchmark.settings.release.games.copies import CopiesGame
from benchmark.settings.release.games.identities import IdentitiesGame
from benchmark.settings.release.games.linkage import LinkageGame
from benchmark.settings.release.games.members import MembersGame
from benchmark.settings.release.games.participants import ParticipantsGame
from benchmark.settings.release.games.people import PeopleGame
from benchmark.settings.release.games.records import RecordsGame
from benchmark.settings.release.games.release import ReconstructionGame
from benchmark.settings.release.games.teachers import TeachersGame
from benchmark.settings.release.measures.base import Measure, TrainOnRelease
from benchmark.settings.release.publication import Publication

VERSION = 2


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
    games = (
        ReconstructionGame,
        MembersGame,
        AttributesGame,
        PeopleGame,
        IdentitiesGame,
        LinkageGame,
        ParticipantsGame,
        TeachersGame,
        RecordsGame,
        CanariesGame,
        CollectionGame,
        CopiesGame,
    )

    def __init__(
        self,
        *,
        epochs: Count,
        examiner_epochs: Count,
        victims: Count,
        candidates: AtLeastTwo,
        measures: Mapping[str, Measure],
    ) -> None:
        self.honest = Publication(
            epochs=epochs,
            examiner_epochs=examiner_epochs,
            victims=victims,
            candidates=candidates,
            measures=(TrainOnRelease(epochs=epochs), *measures.values()),
        )
