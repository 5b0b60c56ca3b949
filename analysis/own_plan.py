"""What is asked of somebody's own file: metrics and planned shares, as written on the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from experiments.errors import DataError, MetricError
from experiments.metric import Measure, Metric

__all__ = ["ONE", "Wanted", "shares_of", "wanted"]

ONE = "one reader"  # the denominator of a mean


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
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, share = part.rpartition("=")
        if not name or name in found or re.fullmatch(r"\d*\.?\d+", share) is None:
            raise DataError(f"--shares: '{part}' is not ARM=SHARE, or its arm is named twice.", "For instance control=.5,new=.5")
        found[name] = float(share)
    return found or None
