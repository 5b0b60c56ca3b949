"""When readers first come: as they did in the past, then drawn out. A reader who returns does not come again."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.power import WEEK

__all__ = ["Arrivals", "days_left"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Arrivals:
    """When readers first come: as in the past for ``days``, then at ``rate`` a day, which shrinks by the factor exp(-fade) daily.

    Examples
    --------
    >>> steady = Arrivals(np.array([0.5, 1.0, 3.0]), days=4.0, rate=2.0)
    >>> steady.by(1.0), steady.by(5.0), steady.until(2), steady.until(7)
    (2.0, 5.0, 1.0, 6.0)
    >>> Arrivals(np.array([]), days=0.0, rate=2.0, fade=0.5).until(4)  # never more than 2 / 0.5
    inf
    """

    first: Floats
    days: float
    rate: float
    fade: float = 0.0

    @classmethod
    def of(cls, first: Floats, *, days: float, fading: bool) -> Arrivals:
        """Return the past drawn out: new readers come as in its last week, ``fading`` as they did from the week before to it.

        Parameters
        ----------
        first : (readers,) sorted days since the start, each reader once.
        days : length of the past; without two whole weeks nothing is known of the fading.
        """
        span = min(float(WEEK), days)
        last, earlier = (int(((first >= days - k * span) & (first < days - (k - 1) * span)).sum()) for k in (1, 2))
        fades = fading and days >= 2 * WEEK and earlier > last > 0
        return cls(first, days, last / span, math.log(earlier / last) / WEEK if fades else 0.0)

    def by(self, day: float) -> float:
        """Return how many readers have come by ``day``."""
        past, more = float(np.searchsorted(self.first, day, side="right")), max(0.0, day - self.days)
        return past + self.rate * (-math.expm1(-self.fade * more) / self.fade if self.fade else more)

    def until(self, readers: float) -> float:
        """Return the day by which so many have come; infinite when they never do."""
        if readers <= len(self.first):
            return float(self.first[max(0, math.ceil(readers * (1 - 1e-12)) - 1)]) if readers > 0 else 0.0
        missing = readers - len(self.first)
        if self.rate <= 0 or missing * self.fade >= self.rate:
            return math.inf
        return self.days + (-math.log1p(-missing * self.fade / self.rate) / self.fade if self.fade else missing / self.rate)


def days_left(arrivals: tuple[Arrivals, Arrivals], *, readers: float, window_days: float) -> tuple[int | None, int | None]:
    """Return in how many days a running test has readers enough whose window has ended: (steady, fading); None is never.

    Examples
    --------
    >>> now = Arrivals(np.arange(0, 10, 0.1), days=10.0, rate=10.0)
    >>> days_left((now, now), readers=150, window_days=7)
    (12, 12)
    """
    ends = [each.until(readers) + window_days - each.days for each in arrivals]
    steady, fading = (max(0, math.ceil(end)) if math.isfinite(end) else None for end in ends)
    return steady, fading
