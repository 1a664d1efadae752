"""Which threat meets which defense: derived from the surface attacked and the hooks that a defense overrides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from benchmark.defenses.base import Defense
from benchmark.defenses.none import NoDefense
from benchmark.refusals import untouched
from benchmark.settings.base import Setting
from benchmark.threats.base import Threat


def refusal(
    setting: type[Setting],
    threat: type[Threat],
    defenses: Iterable[type[Defense]],
    traits: Mapping[str, str] | None = None,
) -> str | None:
    """Why these do not meet, in one sentence, or None when they do. Needs classes only: nothing is built or loaded.

    Args:
        traits: ``model.*`` and ``dataset.*`` facts to hold against the ``needs`` of threat and defenses, beside
            ``defense.*``; None leaves those out. A need may name several values: ``"image|signal"``.
    """
    if threat.setting != setting.name:
        return (
            f"{threat.__name__} lives in setting={threat.setting}, not {setting.name}; leave `setting` out to get it."
        )
    acting = setting.surfaces[threat.surface]
    defenses = list(defenses)
    for defense in defenses:
        if defense is not NoDefense and not (defense.hooks() & acting):
            return untouched(threat.__name__, setting.name, threat.surface, acting, defense.__name__, defense.hooks())
    if traits is None:
        return None
    present = {**traits, **published(defenses)}
    for name, needs in [(threat.__name__, threat.needs), *((d.__name__, d.needs) for d in defenses)]:
        for trait, wanted in needs.items():
            if present.get(trait) not in wanted.split("|"):
                return f"{name} needs {trait}={wanted}, but here it is {present.get(trait)}."
    return None


def published(defenses: Iterable[type[Defense]]) -> dict[str, str]:
    """Facts about what these defenses together release, as traits."""
    members = list(defenses)
    facts = {
        "defense.synthetic": any(member.synthetic for member in members),
        "defense.attributes": all(member.keeps_attributes for member in members),
        "defense.generator": any(member.hands_out_generator for member in members),
        "defense.identities": any(member.hands_out_identities for member in members),
        "defense.mixtures": any(member.mixes for member in members),
        "defense.map": any(member.hands_out_map for member in members),
    }
    return {name: "yes" if fact else "no" for name, fact in facts.items()}
