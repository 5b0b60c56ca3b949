"""What is asked of somebody's own file: metrics and planned shares, as written on the command line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.words import count
from experiments.errors import DataError, MetricError, nearest
from experiments.metric import Measure, Metric

if TYPE_CHECKING:
    from experiments.events.reader_dates import Dates

__all__ = ["ONE", "Wanted", "arms_of", "dates_of", "shares_of", "wanted"]

ONE = "one:reader"  # the denominator of a mean; no column can be asked for by such a name
SHARES_TOLERANCE = 1e-9
SHARE = re.compile(r"([^,=\s][^=]*?|[^,=\s][^,]*?)=(\d*\.?\d+)\s*(?:,\s*|$)")  # a name holds commas or signs of equality


@dataclass(frozen=True, slots=True)
class Wanted:
    """A metric of the file: numerator over denominator (none: per reader), its covariate, and which way is better.

    Parameters
    ----------
    numerator, denominator, pre : column names; empty where there is none.
    direction : ``up`` or ``down``.
    """

    name: str
    numerator: str
    denominator: str = ""
    pre: str = ""
    direction: Any = "up"

    @property
    def metric(self) -> Metric:
        says = f"{self.numerator} per {self.denominator or 'reader'}"
        return Metric(self.name, says, Measure(sum=self.numerator), Measure(sum=self.denominator or ONE), self.direction)


def wanted(text: str) -> Wanted:
    """Read ``NAME=NUM[/DEN][:pre=COL][:down]``.

    Raises
    ------
    MetricError
        The text has another form, or the covariate is what is measured.

    Examples
    --------
    >>> wanted("depth=views/visits:pre=views_before")
    Wanted(name='depth', numerator='views', denominator='visits', pre='views_before', direction='up')
    """
    match = re.fullmatch(r"([\w-]+)=([^/:=]+)(?:/([^/:=]+))?((?::[^:]+)*)", text.strip())
    options = match[4].split(":")[1:] if match else []
    pre = [option[4:] for option in options if option.startswith("pre=") and option != "pre="]
    if match is None or len(pre) > 1 or any(option != "down" and option[4:] not in pre for option in options):
        raise MetricError(f"'{text}' is not NAME=NUM[/DEN][:pre=COL][:down].", "For instance depth=views/visits:pre=views_before")
    if pre and pre[0] in (match[2], match[3]):
        raise MetricError(f"'{text}': '{pre[0]}' cannot explain itself.", "After pre= goes a column that was known before the test.")
    return Wanted(match[1], match[2], match[3] or "", pre[0] if pre else "", "down" if "down" in options else "up")


def shares_of(text: str) -> dict[str, float] | None:
    """Read ``A=.5,B=.5``; nothing gives None.

    Raises
    ------
    DataError
        A part is not NAME=NUMBER, or an arm is named twice.

    Examples
    --------
    >>> shares_of("control=.5,new=.5")
    {'control': 0.5, 'new': 0.5}
    """
    found: dict[str, float] = {}
    rest = text.strip()
    while rest:
        part = SHARE.match(rest)
        if part is None or part[1] in found:
            says = f"--shares: '{part[0].rstrip(', ') if part else rest}' is not ARM=SHARE, or its arm is named twice."
            raise DataError(says, "For instance control=.5,new=.5")
        found[part[1]] = float(part[2])
        rest = rest[part.end() :]
    return found or None


def dates_of(
    metrics: Sequence[Wanted],
    *,
    column: str = "",
    until: str = "",
    exposed_at: str = "",
    covariate_at: Sequence[str] = (),
    segments: Sequence[str] = (),
) -> Dates:
    """Read which columns hold dates: ``--date``, ``--until``, ``--exposed-at`` and ``--covariate-at NAME=COL``.

    Raises
    ------
    DataError
        An option lacks the one it needs, a day is no day, or a name is no covariate of the metrics; all faults at once.

    Examples
    --------
    >>> asked = [wanted("depth=views/visits:pre=views_before")]
    >>> dates_of(asked, exposed_at="first_seen", covariate_at=["views_before=counted_at"]).covariates
    {'views_before': 'counted_at'}
    """
    from experiments.events.reader_dates import Dates

    covariates, faults = {m.pre for m in metrics if m.pre} | set(segments), []
    known = dict(text.rpartition("=")[::2] for text in covariate_at)
    for name, at in known.items():
        if not name or not at:
            faults.append(f"--covariate-at: '{name}{at}' is not NAME=COL.")
        elif name not in covariates:
            faults.append(
                f"--covariate-at: '{name}' is no covariate and no segment; {nearest(name, covariates)} A metric names it after pre=, or --segment does."
            )
    faults += [f"when was '{name}' known? Add --covariate-at {name}=COL." for name in sorted(covariates - set(known)) if exposed_at]
    if known and not exposed_at:
        faults.append("--covariate-at needs --exposed-at COL, the reader's first exposure.")
    if bool(column) != bool(until):
        faults.append("--until and --date belong together: the last day of the test, and the column with the day of each row.")
    try:
        last = date.fromisoformat(until) if until else None
    except ValueError:
        faults.append(f"--until: '{until}' is no day. Write it as 2026-03-31.")
    if faults:
        raise DataError("the dates cannot be checked as asked:", faults=faults)
    return Dates(column, last, exposed_at, known)


def arms_of(path: Path, readers: Mapping[str, int], control: str, shares: Mapping[str, float] | None) -> list[str]:
    """Return the arms of a file and its plan, the control first.

    Raises
    ------
    DataError
        The control has no reader, shares do not fit the arms or do not add up to 1, two names differ in spaces or capitals
        only, or there is one arm; all at once.
    """
    from experiments.events.reader_file import refuse

    faults = []
    if control not in {*readers, *(shares or {})}:
        faults.append(f"no reader is in the control '{control}'; {nearest(control, sorted(readers))}")
    if shares is not None:
        faults += [
            f"arm '{arm}' ({count(n, 'reader')}) has no planned share; {nearest(arm, sorted(shares))}"
            for arm, n in readers.items()
            if arm not in shares
        ]
        if abs(sum(shares.values()) - 1) > SHARES_TOLERANCE or min(shares.values()) < 0:
            faults.append(f"the planned shares add up to {sum(shares.values()):.6g}; they must add up to 1 and none may be below 0.")
    faults += _alike(readers)
    arms = [control, *sorted({*readers, *(shares or {})} - {control})]
    if len(arms) < 2 and not faults:
        faults.append(f"there is only one arm, '{arms[0]}'; at least two are needed.")
    refuse(path, faults)
    return arms


def _alike(arms: Iterable[str]) -> list[str]:
    found: dict[str, list[str]] = {}
    for arm in sorted(arms):
        found.setdefault(arm.strip().casefold(), []).append(f"'{arm}'")
    return [f"arms {' and '.join(names)} differ in spaces or capitals only." for names in found.values() if len(names) > 1]
