"""Errors whose message is the whole answer: what was wrong, what is possible instead, where to look."""


class GauntletError(Exception):
    """A user's mistake. Its message is one or two plain sentences with the remedy; the command line exits with 2."""


class ConfigError(GauntletError):
    """An option, parameter or combination of components that cannot work."""


class DataMissing(GauntletError):
    """A data set is not where it is expected, or is not what it claims to be."""


class Refused(GauntletError):
    """A threat and a defense (or model, or dataset) that do not meet: the reason is the message."""


class AccessError(RuntimeError):
    """A threat touched something that its declared knowledge does not grant: a fault of the threat, not of the user."""


class Diverged(RuntimeError):
    """Training gave NaN or infinity: the cell has no utility, and no attack on it may count as repelled."""


def positive(name: str, value: float) -> None:
    """Refuse a parameter that must be above zero.

    Raises:
        ConfigError: it is not.
    """
    if value <= 0:
        raise ConfigError(f"{name} must be above 0, got {value}.")
