"""Groups of readers in somebody's own file: the goal in each of them, to look at and not to decide on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analysis.own.effects import Outcome, contrast_of
from analysis.segments import Group, Segment, interaction, with_q
from experiments.errors import DataError
from experiments.experiment import MOST_SEGMENTS

__all__ = ["check_segments", "segments_of"]


def check_segments(names: Sequence[str], *, taken: Sequence[str]) -> None:
    """Refuse more segments than a report can hold, and columns that already say who or where (``taken``).

    Raises
    ------
    DataError
        Of all faults.
    """
    faults = [f"'{name}' says who a reader is or which arm it got, it is no group." for name in names if name in taken]
    if len(names) > MOST_SEGMENTS:
        faults.append(f"{len(names)} segments were named; among so many, something always stands out. At most {MOST_SEGMENTS}.")
    if faults:
        raise DataError("the segments cannot be used:", "Name columns with --segment that were known before the test.", faults=faults)


def segments_of(groups: Mapping[str, Mapping[str, Outcome]], pairs: Sequence[tuple[str, str]], *, level: float) -> tuple[Segment, ...]:
    """Return every segment for every comparison of the goal, by the rules of a report.

    Parameters
    ----------
    groups : segment -> group -> the goal among its readers.
    pairs : (arm, against). level : of every interval, 0 to 1.
    """
    found = []
    for name, parts in groups.items():
        for pair in pairs:
            own = tuple(Group(group, contrast_of(outcome, pair, level)) for group, outcome in parts.items())
            found.append(Segment(name, *pair, interaction([group.contrast for group in own]), own))
    return with_q(found)
