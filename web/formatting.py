"""How numbers, percentages, money and times are written; nothing else on the pages rounds.

Three significant digits at most. What is missing is said in words, never printed as 0 or left blank.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from functools import lru_cache

from analysis.words import money as worded

__all__ = ["ago", "chance", "clock_time", "count", "date", "duration", "in_unit", "interval"]
__all__ += ["iso", "money", "number", "odds", "percent", "share", "signed", "size", "when"]

MISSING = "not estimable"
MINUS = "−"
MINUTE, HOUR, DAY = 60, 3_600, 86_400


def number(value: float | None, *, digits: int = 3, missing: str = MISSING) -> str:
    """Write a number with at most ``digits`` significant digits and thousands separators.

    Examples
    --------
    >>> number(1234.5), number(0.04567), number(-2.5), number(9.3e-15), number(None)
    ('1,230', '0.0457', '−2.5', '9e-15', 'not estimable')
    """
    if value is None or not math.isfinite(value):
        return missing
    if value == 0:
        return "0"
    if abs(value) < 1e-6:
        return f"{value:.0e}".replace("-", MINUS, 1) if value < 0 else f"{value:.0e}"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)
    text = f"{abs(rounded):,.{max(places, 0)}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return (MINUS if rounded < 0 else "") + text


def count(value: float | None, *, missing: str = "not counted") -> str:
    """Write a whole number in full.

    Examples
    --------
    >>> count(1204), count(None)
    ('1,204', 'not counted')
    """
    return missing if value is None or not math.isfinite(value) else f"{round(value):,}".replace("-", MINUS)


def percent(value: float | None, *, plus: bool = False, missing: str = MISSING) -> str:
    """Write a fraction as a percentage: one decimal below 10 %, none above, more for tiny values.

    Examples
    --------
    >>> percent(0.0182), percent(0.06, plus=True), percent(-0.5), percent(0.0004), percent(1.5), percent(0)
    ('1.8%', '+6.0%', '−50%', '0.04%', '150%', '0%')
    """
    if value is None or not math.isfinite(value):
        return missing
    hundred = abs(value) * 100
    if hundred < 0.0005:
        return "0%"
    text = f"{hundred:,.0f}" if hundred >= 9.95 else f"{hundred:.1f}" if hundred >= 0.1 else number(hundred, digits=1)
    return (MINUS if value < 0 else "+" if plus else "") + text + "%"


def chance(value: float | None, *, missing: str = MISSING) -> str:
    """Write a chance that rests on a belief: never as certain, never as impossible.

    Examples
    --------
    >>> chance(0.62), chance(0.996), chance(0.9997), chance(0.0), chance(None)
    ('62%', '99.6%', 'over 99.9%', 'under 0.1%', 'not estimable')
    """
    if value is None or not math.isfinite(value):
        return missing
    if value > 0.999:
        return "over 99.9%"
    if value < 0.001:
        return "under 0.1%"
    return percent(value) if value < 0.99 else f"{value * 100:.1f}%"


def share(value: float | None, *, missing: str = MISSING) -> str:
    """Write a share with three digits, for splits that are compared with a plan.

    Examples
    --------
    >>> share(0.5128), share(0.5), share(1 / 3)
    ('51.3%', '50%', '33.3%')
    """
    return missing if value is None or not math.isfinite(value) else number(value * 100) + "%"


def signed(value: float | None, *, missing: str = MISSING) -> str:
    """Write a number with its sign.

    Examples
    --------
    >>> signed(0.12), signed(-3)
    ('+0.12', '−3')
    """
    text = number(value, missing=missing)
    return f"+{text}" if value is not None and math.isfinite(value) and value > 0 else text


def money(value: float | None, currency: str = "EUR", *, plus: bool = False, missing: str = MISSING) -> str:
    """Write an amount as sentences do (:func:`analysis.words.money`), with a sign for print.

    Examples
    --------
    >>> money(1234), money(-40.2), money(2_340_000, plus=True), money(5, "CHF"), money(0.004), money(-7e-13)
    ('€1,230', '−€40.20', '+€2.34 million', 'CHF 5', '€0.004', '€0')
    """
    if value is None or not math.isfinite(value):
        return missing
    text = worded(value, currency)
    if text.startswith("-"):
        return MINUS + text[1:]
    return "+" + text if plus and text != worded(0.0, currency) else text


def interval(low: float | None, high: float | None, *, missing: str = MISSING) -> str:
    """Write a range of relative effects; what may be positive falls by no more than 100%.

    Examples
    --------
    >>> interval(0.018, 0.064), interval(None, 0.1), interval(-187.5, 583.2)
    ('+1.8% to +6.4%', 'not estimable', '−100% to +58,320%')
    """
    if low is None or high is None:
        return missing
    low = max(low, -1.0) if high > -1 else low  # as analysis.words.span says it
    return f"{percent(low, plus=True)} to {percent(high, plus=True)}"


def odds(level: float) -> str:
    """Say how often a range of this level holds the truth.

    Examples
    --------
    >>> odds(0.95), odds(0.9), odds(0.99), odds(0.975)
    ('19 times out of 20', '9 times out of 10', '99 times out of 100', '39 times out of 40')
    """
    for whole in (10, 20, 40, 100, 1_000):
        if abs(level * whole - round(level * whole)) < 1e-9:
            return f"{round(level * whole)} times out of {whole}"
    return f"{percent(level)} of the time"


def in_unit(value: float | None, unit: str, *, missing: str = MISSING) -> str:
    """Write the value of a metric in its unit (``articles``, ``share``, ``ms``, ...).

    Examples
    --------
    >>> in_unit(2.314, "articles"), in_unit(0.41, "share"), in_unit(41_200, "ms"), in_unit(12.5, "cents")
    ('2.31', '41%', '41.2 s', '12.5 cents')
    """
    if unit == "share":
        return percent(value, missing=missing)
    if unit == "ms":
        return missing if value is None else duration(value / 1_000)
    if unit == "cents":
        return f"{number(value)} cents" if value is not None else missing
    return number(value, missing=missing)


def duration(seconds: float | None, *, missing: str = "not measured") -> str:
    """Write a length of time.

    Examples
    --------
    >>> duration(0.0042), duration(0.85), duration(72), duration(7_300), duration(200_000)
    ('4.2 ms', '0.85 s', '72 s', '2.03 h', '2.3 days')
    """
    if seconds is None or not math.isfinite(seconds):
        return missing
    size_s = abs(seconds)
    if size_s < 0.1:
        return f"{number(seconds * 1_000)} ms"
    if size_s < 2 * MINUTE:
        return f"{number(seconds)} s"
    if size_s < 2 * HOUR:
        return f"{number(seconds / MINUTE)} min"
    return f"{number(seconds / HOUR)} h" if size_s < 2 * DAY else f"{number(seconds / DAY, digits=2)} days"


def size(octets: float | None, *, missing: str = "not measured") -> str:
    """Write a number of bytes.

    Examples
    --------
    >>> size(900), size(2_500_000)
    ('900 B', '2.5 MB')
    """
    if octets is None:
        return missing
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if octets >= factor:
            return f"{number(octets / factor)} {unit}"
    return f"{count(octets)} B"


def moment(value: datetime | str | float | None) -> datetime | None:
    """Read a time as stored in results: ISO text, unix seconds or microseconds."""
    if value is None or isinstance(value, datetime):
        return value.astimezone(UTC) if value is not None else None
    if isinstance(value, str):
        read = datetime.fromisoformat(value.replace("Z", "+00:00"))
        return read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)
    return datetime.fromtimestamp(value / 1e6 if value > 1e11 else value, UTC)


def when(value: datetime | str | float | None, *, missing: str = "not yet") -> str:
    """Write a moment with its zone.

    Examples
    --------
    >>> when("2026-11-21T14:05:00+00:00"), when(None)
    ('21 Nov 2026, 14:05 UTC', 'not yet')
    """
    at = moment(value)
    return missing if at is None else f"{at.day} {at:%b %Y, %H:%M} UTC"


def date(value: datetime | str | float | None, *, missing: str = "not yet") -> str:
    """Write a day.

    Examples
    --------
    >>> date("2026-11-21T14:05:00+00:00")
    '21 November 2026'
    """
    at = moment(value)
    return missing if at is None else f"{at.day} {at:%B %Y}"


def clock_time(value: datetime | str | float | None, *, missing: str = "not yet") -> str:
    """Write a clock time.

    Examples
    --------
    >>> clock_time("2026-11-21T14:05:00+00:00")
    '14:05 UTC'
    """
    at = moment(value)
    return missing if at is None else f"{at:%H:%M} UTC"


def ago(value: datetime, now: datetime) -> str:
    """Write how long ago something was published: hours on the first day, then the date.

    Examples
    --------
    >>> noon = datetime(2026, 11, 21, 12, tzinfo=UTC)
    >>> ago(noon.replace(hour=9), noon), ago(noon.replace(day=18), noon)
    ('3 h ago', '18 Nov')
    """
    passed = (now - value).total_seconds()
    if passed < 2 * MINUTE:
        return "just now"
    if passed < HOUR:
        return f"{int(passed // MINUTE)} min ago"
    if passed < DAY:
        return f"{int(passed // HOUR)} h ago"
    at = value.astimezone(UTC)
    return f"{at.day} {at:%b}" if at.year == now.year else f"{at.day} {at:%b %Y}"


def iso(value: datetime | str | float | None) -> str:
    """Write a moment for machines.

    Examples
    --------
    >>> iso(datetime(2026, 11, 21, tzinfo=UTC))
    '2026-11-21T00:00:00Z'
    """
    at = moment(value)
    return "" if at is None else _iso(at)


@lru_cache(maxsize=4_096)  # of UTC only: in other zones two moments of the hour that comes twice are equal
def _iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
