"""What somebody's own test is worth: the value of a view and the costs as stated, put through the money of a report."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from analysis.bayes import Prior
from analysis.candidates import no_prices
from analysis.comparison import Effect
from analysis.fat_tails import belief_of
from analysis.roi import Roi, worth
from analysis.stakes import Stakes, around
from experiments.errors import DataError, nearest
from experiments.experiment import Arm

__all__ = ["LONGEST_DAYS", "SPREAD", "UNPRICED", "Price", "at_cost", "check_price", "price_of", "priced"]

UNPRICED = "nobody has stated what such a change is worth"
LONGEST_DAYS = 3650
SPREAD = 2.0  # the value is taken to lie within a factor of two with 90 %, as in a plan that does not say
NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)  # float() would read 1_000, nan and inf


@dataclass(frozen=True, slots=True)
class Price:
    """What turns the goal of a file into euros; its numerator must count article views.

    Parameters
    ----------
    value_per_view : margin of one article view, euros above 0.
    views_per_day : article views the decision bears on, above 0.
    build, per_day : arm -> euros that it still costs to build, and to run a day; arms not named cost nothing.
    horizon_days : how long the decision holds. test_days : how long the test took; 0 if nobody said.
    """

    value_per_view: float
    views_per_day: float
    build: Mapping[str, float] = field(default_factory=dict)
    per_day: Mapping[str, float] = field(default_factory=dict)
    horizon_days: int = 365
    test_days: float = 0.0

    def __post_init__(self) -> None:
        named = {"the value per view": self.value_per_view, "the number of views a day": self.views_per_day}
        faults = [f"{what} is {value:g}, not a number above 0." for what, value in named.items() if not 0 < value < math.inf]
        costs = {"to build": self.build, "a day": self.per_day}
        faults += [
            f"'{arm}' costs {cost:g} {what}, not a number from 0 on."
            for what, known in costs.items()
            for arm, cost in known.items()
            if not 0 <= cost < math.inf
        ]
        if not 1 <= self.horizon_days <= LONGEST_DAYS or self.horizon_days != int(self.horizon_days):
            faults.append(f"the horizon is {self.horizon_days:g} days, not a whole number from 1 to {LONGEST_DAYS:,}.")
        if not 0 <= self.test_days <= LONGEST_DAYS:
            faults.append(f"the test took {self.test_days:g} days, not 0 to {LONGEST_DAYS:,}.")
        if faults:
            raise DataError("the price cannot be used:", faults=faults)


def price_of(
    value_per_view: str,
    views_per_day: str,
    *,
    build: Sequence[str] = (),
    per_day: Sequence[str] = (),
    horizon_days: str = "",
    test_days: str = "",
) -> Price | None:
    """Read the price as written on the command line; None where no value of a view is stated.

    Raises
    ------
    DataError
        A text is no number, a value is missing or out of range, an arm is named twice; all at once.

    Examples
    --------
    >>> price_of("0.004", "50000", build=["new=1800"]).build
    {'new': 1800.0}
    """
    rest = {
        "--views-per-day": views_per_day,
        "--build": build,
        "--per-day": per_day,
        "--horizon-days": horizon_days,
        "--test-days": test_days,
    }
    if not value_per_view:
        idle = [option for option, given in rest.items() if given]
        if idle:
            raise DataError(f"{', '.join(idle)}: without --value-per-view there is no money to count.", "Say --value-per-view EUR.")
        return None
    faults: list[str] = []
    value = _number("--value-per-view", value_per_view, faults, least="a number above 0, such as 0.004")
    views = _number("--views-per-day", views_per_day, faults, least="a number above 0, such as 50000")
    built, running = (_costs(option, texts, faults) for option, texts in (("--build", build), ("--per-day", per_day)))
    days = _number("--horizon-days", horizon_days or "365", faults, least="a whole number of days from 1 on")
    took = _number("--test-days", test_days, faults, least="a number of days above 0") if test_days else 0.0
    if horizon_days and days and days != int(days):
        faults.append(f"--horizon-days: '{horizon_days}' is not a whole number of days.")
    if faults:
        raise DataError("the price cannot be used:", faults=faults)
    return Price(value, views, built, running, int(days), took)


def _number(option: str, text: str, faults: list[str], *, least: str) -> float:
    """A number above 0; what is none is told and comes back as 0."""
    value = float(text) if NUMBER.fullmatch(text.strip()) else 0.0
    if not 0 < value < math.inf:
        faults.append(f"{option}: '{text}' is not {least}." if text else f"{option} is missing: {least}.")
        return 0.0
    return value


def _costs(option: str, texts: Sequence[str], faults: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in texts:
        arm, _, cost = text.rpartition("=")
        if not arm or arm in found or NUMBER.fullmatch(cost.strip()) is None:
            faults.append(f"{option}: '{text}' is not ARM=EUR with a number from 0 on, or its arm is named twice.")
        else:
            found[arm] = float(cost)
    return found


def check_price(price: Price | None, arms: Sequence[str], *, direction: str) -> None:
    """Refuse a price that does not fit the file.

    Parameters
    ----------
    arms : of the file and its plan. direction : in which the goal is better, ``up`` or ``down``.

    Raises
    ------
    DataError
        A cost is stated for what is no arm, or the goal is better when it is lower; all at once.
    """
    if price is None:
        return
    faults = _strangers((*price.build, *price.per_day), arms)
    if direction == "down":
        faults.append("the goal is better when it is lower, so a value per view puts no price on it; name views as the goal.")
    if faults:
        raise DataError("the price does not fit the file:", faults=faults)


def at_cost(arms: Sequence[Arm], build: Mapping[str, float]) -> tuple[Arm, ...]:
    """Return the arms at other building costs; arms not named keep theirs.

    Raises
    ------
    DataError
        A cost is stated for what is no arm; all at once.
    """
    if faults := _strangers(build, [arm.name for arm in arms]):
        raise DataError("the costs do not fit the test:", faults=faults)
    return tuple(replace(arm, build=build.get(arm.name, arm.build)) for arm in arms)


def _strangers(named: Iterable[str], arms: Sequence[str]) -> list[str]:
    return [f"a cost is stated for '{name}', which is no arm; {nearest(name, arms)}" for name in dict.fromkeys(named) if name not in arms]


def priced(price: Price | None, effects: Sequence[Effect], control: str, *, shares: Mapping[str, float]) -> tuple[Roi | None, str]:
    """Return what the arms are worth, or why that cannot be said.

    Every arm but the control is believed to be worth what readers' interest brings, give or take something of its own: a file
    does not say which arm is a rule and which a model, and the order of names must not matter.

    Parameters
    ----------
    effects : those of the goal, against the control. shares : of readers per arm.
    """
    if price is None:
        return None, UNPRICED
    names = [control, *(effect.arm for effect in effects)]
    arms = tuple(
        Arm(arm, "status_quo" if arm == control else "model", shares.get(arm, 0.0), build=price.build.get(arm, 0.0), per_day=price.per_day.get(arm, 0.0))
        for arm in names
    )  # fmt: skip
    contrasts = {effect.arm: effect.contrast for effect in effects}
    values = {arm: value for e in effects for arm, value in zip((e.arm, control), e.contrast.values, strict=True) if value is not None}
    belief = belief_of(arms, control, contrasts, estimates=values, prior=Prior())
    if belief is None:
        return None, no_prices(contrasts)
    stakes = Stakes(
        around(price.value_per_view, SPREAD),
        price.views_per_day,
        price.horizon_days,
        build={arm.name: arm.build for arm in arms},
        per_day={arm.name: arm.per_day for arm in arms},
    )
    return worth(belief, stakes, arms, test_days=price.test_days), ""
