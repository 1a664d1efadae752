"""Compatibility of threats and defenses, derived from the attacked surface and the hooks that a defense overrides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from benchmark.defenses.none import NoDefense
from benchmark.settings.base import Setting
from benchmark.settings.defense import Defense
from benchmark.settings.release.defense import ReleaseMechanism
from benchmark.settings.threat import Threat

RELEASED = ("synthetic", "generator", "identities", "mixtures", "map")
"""Traits of a release that one mechanism in a stack gives to the whole; ``attributes`` all of them have to keep."""
UNREAD = "unread"
"""Value of a trait that only the data tell; it violates no need until they are read."""


def refusal(
    setting: type[Setting],
    threat: type[Threat],
    defenses: Iterable[type[Defense]],
    traits: Mapping[str, str] | None = None,
    *,
    anywhere: bool = False,
) -> str | None:
    """Return why these do not meet, in one sentence, or None when they do. Nothing is built or loaded.

    Args:
        traits: ``model.*`` and ``dataset.*`` facts to hold against the ``needs`` of setting, threat and defenses,
            beside ``defense.*``; None leaves those out, and whether the libraries are installed that components adapt.
            A need may name several values: ``"image|signal"``.
        anywhere: do not ask for libraries: another machine may have them.
    """
    if threat.setting != setting.name:
        return (
            f"{threat.__name__} lives in setting={threat.setting}, not {setting.name}; leave `setting` out to get it."
        )
    acting = setting.surfaces[threat.surface]
    defenses = list(defenses)
    for defense in defenses:
        if defense is not NoDefense and not (defense.hooks() & acting):
            return (
                f"{threat.__name__} attacks the surface {threat.surface!r} of {setting.name}, on which only defenses "
                f"with {', '.join(sorted(acting))} act; {defense.__name__} changes "
                f"{', '.join(sorted(defense.hooks())) or 'nothing'}."
            )
    if traits is None:
        return None
    present = {**traits, **released(defenses)}
    chosen: tuple[type[Threat] | type[Defense], ...] = (threat, *defenses)
    for part in (setting, *chosen):
        for trait, wanted in part.needs.items():
            if present.get(trait) not in (UNREAD, *wanted.split("|")):
                return f"{part.__name__} needs {trait}={wanted}, but here it is {present.get(trait)}."
    for part in chosen:
        if not anywhere and part.library and (lacking := part.library.missing()):
            return f"{part.__name__} {lacking}."
    return None


def released(defenses: Iterable[type[Defense]]) -> dict[str, str]:
    """Return what these defenses together release, as traits."""
    members = [member.releases for member in defenses if issubclass(member, ReleaseMechanism)]
    facts = {trait: any(trait in releases for releases in members) for trait in RELEASED}
    facts["attributes"] = all("attributes" in releases for releases in members)
    return {f"defense.{trait}": "yes" if fact else "no" for trait, fact in facts.items()}
