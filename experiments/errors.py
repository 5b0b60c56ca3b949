"""Errors that say what is wrong, where, and what to do about it.

Every error a person can meet is a :class:`PresslabError` with a stable code. The codes are listed in
``docs/errors.md``; a test keeps that page complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

__all__ = [
    "ArmError",
    "ArtefactError",
    "BusyError",
    "ConfigError",
    "DataError",
    "ExperimentError",
    "MetricError",
    "NotFoundError",
    "OutboxError",
    "PresslabError",
    "StoreDownError",
    "as_sentence",
    "listed",
    "nearest",
]


MOST_FAULTS = 20


class PresslabError(Exception):
    """A fault a person can act on.

    Parameters
    ----------
    what : one sentence: what is wrong, with the value, and where.
    hint : what to do about it; may be empty.
    faults : further lines, one per fault, when a file has several.

    Examples
    --------
    >>> print(ExperimentError("experiment 'home': shares add up to 1.1, they must add up to 1."))
    P020 experiment 'home': shares add up to 1.1, they must add up to 1.
    """

    code = "P001"
    exit_status = 1

    def __init__(self, what: str, hint: str = "", faults: Iterable[str] = ()) -> None:
        self.what = what
        self.hint = hint
        self.faults = tuple(faults)
        super().__init__(what)

    def __str__(self) -> str:
        head = f"{self.code} {self.what}" + (f" {self.hint}" if self.hint else "")
        return "\n  - ".join([head, *self.faults])


class ConfigError(PresslabError):
    """A setting is unknown, missing or out of range."""

    code = "P010"
    exit_status = 2


class ExperimentError(PresslabError):
    """A plan cannot be run as written, or a step is not allowed in its state."""

    code = "P020"
    exit_status = 2


class MetricError(PresslabError):
    """A metric is defined wrongly or does not exist."""

    code = "P030"
    exit_status = 2


class ArmError(PresslabError):
    """An arm is unknown, cannot be loaded, or breaks its contract."""

    code = "P040"
    exit_status = 3


class ArtefactError(PresslabError):
    """A model bundle or signal snapshot is damaged, incomplete or of another layout."""

    code = "P050"
    exit_status = 3


class OutboxError(PresslabError):
    """An event could not be made durable; nothing was acknowledged."""

    code = "P060"
    exit_status = 1


class DataError(PresslabError):
    """A file holds rows that cannot be read; every fault is listed with its line."""

    code = "P070"
    exit_status = 2


class NotFoundError(PresslabError):
    """Something named on the command line does not exist."""

    code = "P080"
    exit_status = 5


class BusyError(PresslabError):
    """Another process holds what this one needs: a port, a lease, a lock."""

    code = "P090"
    exit_status = 75


class StoreDownError(PresslabError):
    """The database that holds the events does not answer."""

    code = "P100"
    exit_status = 75


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a sentence that names the nearest known words.

    Examples
    --------
    >>> nearest("alz", ["als", "newest"])
    "did you mean 'als'? Known: als, newest."
    """
    names = sorted(known)
    close = get_close_matches(word, names, n=1)
    start = f"did you mean '{close[0]}'? Known" if close else "known"  # goes on behind a semicolon
    return f"{start}: {', '.join(names) or 'none'}."


def as_sentence(error: Exception) -> str:
    """Return an error as a page shows it: what a person can act on begins like a sentence, its code comes last.

    Examples
    --------
    >>> as_sentence(BusyError("another loader took over.", "This one must stop."))
    'Another loader took over. This one must stop. (P090)'
    >>> as_sentence(ValueError("no number"))
    'ValueError: no number'
    """
    if not isinstance(error, PresslabError):
        return f"{type(error).__name__}: {error}"
    said = str(error).removeprefix(f"{error.code} ")
    return f"{said[:1].upper()}{said[1:]} ({error.code})"


def listed(faults: Sequence[str]) -> list[str]:
    """Return the first twenty faults of a file, and how many more there are.

    Examples
    --------
    >>> listed(["line 2: no number"] * 1_021)[19:]
    ['line 2: no number', '... and 1,001 more: only the first 20 are listed.']
    """
    more = len(faults) - MOST_FAULTS
    return [*faults[:MOST_FAULTS], *([f"... and {more:,} more: only the first {MOST_FAULTS} are listed."] if more > 0 else [])]
