"""Numbers in words: the one place of this folder where anything is rounded."""

from __future__ import annotations

import math

__all__ = ["apart", "change", "count", "days", "money", "name", "percent", "share_of_times", "span"]

SYMBOLS = {"EUR": "€", "USD": "$", "GBP": "£"}
LEAST_MONEY = 1e-4  # of the currency
MILLION = 1_000_000


def rounded(value: float, digits: int = 3) -> float:
    """Round to significant digits.

    Examples
    --------
    >>> rounded(123456), rounded(-0.012345)
    (123000.0, -0.0123)
    """
    if value == 0 or not math.isfinite(value):
        return value
    return round(float(value), digits - 1 - math.floor(math.log10(abs(value))))


def percent(share: float) -> str:
    """Return a fraction as percent, to a tenth of a percent below ten; what is smaller keeps one digit.

    Examples
    --------
    >>> percent(0.0634), percent(-0.3333), percent(0.00042), percent(0)
    ('6.3%', '33%', '0.04%', '0.0%')
    """
    size = abs(share) * 100
    if 0.0005 <= size < 0.1:
        return f"{size:.{-math.floor(math.log10(size))}f}".rstrip("0") + "%"
    return f"{size:.0f}%" if size >= 9.95 else f"{size:.1f}%"


def change(share: float) -> str:
    """Return a signed change.

    Examples
    --------
    >>> change(0.051), change(-0.0203)
    ('+5.1%', '-2.0%')
    """
    text = percent(share)
    return ("-" if share < 0 and text != "0.0%" else "+") + text


def span(low: float, high: float) -> str:
    """Return a range of relative changes in words; what may be positive falls by no more than 100%.

    Examples
    --------
    >>> span(0.018, 0.064), span(-0.03, -0.01), span(-0.012, 0.034)
    ('1.8% to 6.4% higher', '1.0% to 3.0% lower', 'between 1.2% lower and 3.4% higher')
    """
    low = max(low, -1.0) if high > -1 else low  # a total that refunds make negative falls by more
    if low >= 0:
        return f"{percent(low)} to {percent(high)} higher"
    if high <= 0:
        return f"{percent(high)} to {percent(low)} lower"
    return f"between {percent(low)} lower and {percent(high)} higher"


def apart(low: float, high: float, unit: str) -> str:
    """Return a range of differences in words; a metric of one's own has no unit.

    Examples
    --------
    >>> apart(1.25, 3, "ms"), apart(-3, -1, "ms"), apart(-1, 2, "ms"), apart(1, 2, "")
    ('1.25 to 3 ms more', '1 to 3 ms less', 'between 1 ms less and 2 ms more', '1 to 2 more')
    """
    less, more = (f"{rounded(abs(value)):g} {unit}".rstrip() for value in (low, high))
    if low >= 0:
        return f"{less.removesuffix(unit).rstrip()} to {more} more"
    if high <= 0:
        return f"{more.removesuffix(unit).rstrip()} to {less} less"
    return f"between {less} less and {more} more"


def money(amount: float, currency: str) -> str:
    """Return an amount with at most three significant digits; from a cent to below 100 in whole cents, below a hundredth of a cent 0.

    Examples
    --------
    >>> money(1234.5, "EUR"), money(-0.126, "EUR"), money(15, "CHF"), money(0.00412, "EUR"), money(-2_340_000, "USD")
    ('€1,230', '-€0.13', 'CHF 15', '€0.00412', '-$2.34 million')
    """
    value = rounded(abs(amount)) if abs(amount) >= LEAST_MONEY else 0.0
    if value >= MILLION:
        text = f"{value / MILLION:,.10g} million"
    elif 0 < value < 0.01:  # what one view is worth may be little more than a hundredth of a cent
        text = f"{value:.6f}".rstrip("0")
    else:
        text = f"{value:,.0f}" if value >= 100 else f"{value:.2f}".removesuffix(".00")
    return f"{'-' if amount < 0 and value else ''}{SYMBOLS.get(currency, currency + ' ')}{text}"


def count(n: int, noun: str) -> str:
    """Return a count with its noun.

    Examples
    --------
    >>> count(1, "reader"), count(1200, "reader")
    ('1 reader', '1,200 readers')
    """
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def days(length: float) -> str:
    """Return a length in days, three significant digits.

    Examples
    --------
    >>> days(1), days(13.96), days(0.5)
    ('1 day', '14 days', '0.5 days')
    """
    text = f"{length:.3g}"
    return f"{text} day" + ("" if text == "1" else "s")


def name(arm: str) -> str:
    """Return an arm's name as people say it.

    Examples
    --------
    >>> name("status_quo")
    'status quo'
    """
    return arm.replace("_", " ")


def share_of_times(level: float) -> str:
    """Return how often such a range holds the truth.

    Examples
    --------
    >>> share_of_times(0.95), share_of_times(0.9), share_of_times(0.99)
    ('19 times out of 20', '9 times out of 10', '99 times out of 100')
    """
    for of in (10, 20, 100):
        if abs(level * of - round(level * of)) < 1e-9:
            return f"{round(level * of)} times out of {of}"
    return f"{level * 100:g} times out of 100"
