"""What ``presslab experiment plan`` says: readers, weeks, the first look, and what could be found by when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from analysis.arrivals import Arrivals, days_left
from analysis.moments import add_up
from analysis.planning import HISTORY_DAYS, LONGEST_DAYS, Spread, forecast, goal_design, spreads
from analysis.power import WEEK, detectable_effect
from analysis.queries import beyond, with_ceilings
from analysis.totals import metrics_of
from analysis.verdict import LEAST_SHARE
from analysis.words import change as worded
from analysis.words import count, percent
from experiments.clock import clock_of, to_us
from experiments.errors import ExperimentError
from experiments.events.lake import moments
from experiments.events.lake_history import Past, past
from experiments.events.lake_rules import DAY_US
from experiments.events.lake_values import most_read
from experiments.experiment import Experiment
from experiments.lifecycle import Record
from experiments.metric import metric
from experiments.settings import load_settings
from web.cli.output import print_table, tell
from web.owner.words import arm_label, capital, margin_of, metric_says

__all__ = ["Stated", "ahead", "now_of", "print_ahead", "print_left", "remaining"]

ASK = "Give --cv and --readers-per-day to plan without a past."
LARGER = "Allow a larger margin, or have fewer arms."
MOST_ROWS = 9


@dataclass(frozen=True, slots=True)
class Stated:
    """What somebody states instead of the past: coefficient of variation of the goal, new readers a day."""

    cv: float | None = None
    readers_per_day: float | None = None

    def __post_init__(self) -> None:
        asked = (("--cv", self.cv, 100), ("--readers-per-day", self.readers_per_day, 10**9))
        faults = [
            f"{option} is {value:g}, it must lie between 0.001 and {most:,}."
            for option, value, most in asked
            if value is not None and not 0.001 <= value <= most
        ]
        if faults:
            raise ExperimentError("a test cannot be planned with what was stated:", faults=faults)


def now_of(home: Path) -> tuple[int, str]:
    """Return the time (UTC us) and the source of events of an installation."""
    settings = load_settings(home)
    clock = clock_of(settings.home, settings.profile)
    return clock(), settings.source


def ahead(home: Path, experiment: Experiment, stated: Stated, *, now: int, source: str) -> dict[str, Any]:
    """Return the forecast of a plan from the last 28 days, or from what was stated, as plain JSON values."""
    since = now - HISTORY_DAYS * DAY_US
    found, known = _read(home, experiment, start=since, until_us=now, source=source, since_us=since)
    arrivals = _arrivals(found, now)
    seen = {"readers": len(found.entered_us), "days": round(arrivals[0].days) if arrivals else int(bool(found.entered_us))}
    if stated.cv is not None:
        known[experiment.goal] = Spread(known[experiment.goal].value, stated.cv**2)
    if stated.readers_per_day is not None:
        steady = Arrivals(np.array([]), 0.0, stated.readers_per_day)
        arrivals = (steady, steady)
    small = [arm.name for arm in experiment.arms if arm.name != experiment.control and arm.share < LEAST_SHARE]
    told = forecast(experiment, known, arrivals).to_dict()
    return {"experiment": experiment.name, "goal": experiment.goal, "history": seen, "small_arms": small, **told}


def _read(home: Path, experiment: Experiment, *, start: int, **cut: Any) -> tuple[Past, dict[str, Spread]]:
    """Return the readers, and how much they differ as a report would count them: with its ceilings and its most read articles."""
    metrics = metrics_of(experiment)
    top = most_read(home, before_us=start, source=cut["source"]).articles if any(map(beyond, metrics)) else ()
    found = past(home, experiment, metrics, **cut, most_read=top)
    rows, _, _ = with_ceilings(found.rows, metrics, experiment.caps)
    return found, spreads(experiment, list(add_up(moments(rows)).values()))


def _arrivals(found: Past, now: int, start: int | None = None) -> tuple[Arrivals, Arrivals] | None:
    """Steady and fading; None before the first whole day."""
    begin = start if start is not None else min(found.entered_us, default=now)
    first, days = (np.array(found.entered_us, dtype=np.float64) - begin) / DAY_US, (now - begin) / DAY_US
    if not len(first) or days < 1:
        return None
    return Arrivals.of(first, days=days, fading=False), Arrivals.of(first, days=days, fading=True)


def remaining(home: Path, record: Record, *, now: int, source: str) -> dict[str, Any]:
    """Return how long a running test must go on, from all its readers together, as plain JSON values."""
    experiment = record.experiment
    if record.state != "running" or record.started_at is None:
        raise ExperimentError(f"experiment '{experiment.name}' is {record.state}; only a running one has days left.", "Leave out --again.")
    start = to_us(record.started_at)
    found, known = _read(home, experiment, start=start, until_us=now, source=source)
    arrivals = _arrivals(found, now, start)
    told = forecast(experiment, known, arrivals)
    needs = told.to_dict()["needs"]
    goal, readers = known[experiment.goal], found.rows.table.num_rows
    left = days_left(arrivals, readers=told.readers, window_days=experiment.window_days) if arrivals and told.readers else (None, None)
    design = goal_design(experiment)
    smallest = detectable_effect(design, readers=readers, cv2=goal.cv2) if goal.cv2 and readers * min(design.shares) >= 30 else None
    return {
        "experiment": experiment.name, "goal": experiment.goal, "day": round((now - start) / DAY_US, 2), "planned_days": experiment.planned_days,
        "readers": readers, "needed": told.readers, "needs": needs, "cv2": goal.cv2, "smallest": smallest, "asked": experiment.smallest_uplift,
        "days_left": list(left), "reason": told.reason,
    }  # fmt: skip


def print_ahead(told: Mapping[str, Any]) -> None:
    """Write the forecast: sentences, then what could be found by when."""
    tell("\n" + "\n".join([*_sentences(told), *_never_shipped(told.get("small_arms") or ())]))
    needs, goal = told["needs"], told["needs"][0]
    if len(needs) > 1 and told["readers"] is not None:
        tell("")
        print_table("Readers, by what is to be shown", ("measure", "role", "change ", "readers "), [_need(need) for need in needs])
        for reason in dict.fromkeys(need["reason"] for need in needs if need["reason"]):
            tell(f"Not known: {reason}.")
    if told["days"]:
        tell("")
        rows = [(d["day"], f"{d['readers']:,.0f}", _size(d["smallest"]), _size(d["half_width"], "±")) for d in _some(told["days"])]
        print_table(f"What could be found: {metric_says(goal['metric']).lower()}", ("day ", "readers ", "smallest change ", "range "), rows)
    tell("")


def _sentences(told: Mapping[str, Any]) -> list[str]:
    if told["readers"] is None:
        return [f"How long this test must run is not known: {told['reason']}.", ASK]
    goal, greedy = told["needs"][0], _greedy(told["needs"])
    needs, share = f"To find {_wish(goal)}, the test needs {told['readers']:,.0f} readers", []
    if greedy is not goal:
        share = [f"Most of them are for the guardrail {greedy['metric'].replace('_', ' ')}; the goal alone needs {goal['readers']:,.0f}."]
    if told["reason"]:
        return [f"{needs}.", *share, f"How long that takes is not known: {told['reason']}.", ASK]
    rests = f"This rests on {count(told['history']['readers'], 'reader')} of the last {count(told['history']['days'], 'day')}."
    based = [rests] if told["history"]["readers"] else []
    if not told["fits"]:
        return [*_too_small(told), *based]
    says = [f"{needs}: {_weeks(*told['weeks'])}.", *share]
    if goal["spread"]["explained"] >= 0.01:
        fewer = goal["readers"] * (1 - goal["spread"]["explained"])
        says.append(f"With what readers did before, the adjusted range needs {fewer:,.0f}.")
    return [*says, *_in_time(told), *based]


def _greedy(needs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the need that asks for most readers."""
    return max((need for need in needs if need["readers"]), key=lambda need: need["readers"])


def _wish(need: Mapping[str, Any]) -> str:
    what, of = ("a change", "in") if need["role"] == "goal" else ("the margin", "for")
    return f"{what} of {percent(abs(need['change']))} {of} {metric_says(need['metric']).lower()}"


def _never_shipped(arms: Sequence[str]) -> list[str]:
    """Say which arms are too small for a verdict, however long the test runs."""
    if not arms:
        return []
    return [
        f"With less than {percent(LEAST_SHARE)} of readers {', '.join(map(arm_label, arms))} cannot be shipped by this test, only watched for harm."
    ]


def _in_time(told: Mapping[str, Any]) -> list[str]:
    look = told["first_look"]
    says = [f"The first look comes on day {look}." if look else "No look comes before the planned end."]
    if told["ends"][0] <= told["planned_days"]:
        return says
    by_then, greedy = told["planned"], _greedy(told["needs"])
    says.append(
        f"The plan says {told['planned_days']:g} days, which is too short: by then {by_then['readers']:,.0f} readers have finished."
    )
    if greedy["role"] == "guardrail":
        return [*says, f"{capital(_wish(greedy))} needs {greedy['readers']:,.0f}.", LARGER]
    return [*says, f"They find changes of {percent(by_then['smallest'])} and more."] if by_then["smallest"] is not None else says


def _too_small(told: Mapping[str, Any]) -> list[str]:
    last, greedy = told["days"][-1], _greedy(told["needs"])
    says = [f"Too small to learn: {_wish(greedy)} needs {told['readers']:,.0f} readers, and a year brings {last['readers']:,.0f}."]
    if greedy["role"] == "guardrail":
        return [*says, f"The goal alone needs {told['needs'][0]['readers']:,.0f}.", LARGER]
    if last["smallest"] is not None:
        says.append(f"A year finds changes of {percent(last['smallest'])} and more.")
    return [*says, "Ask for a larger change, fewer arms, or a goal on which readers differ less."]


def _weeks(steady: int, fading: int | None) -> str:
    if fading is None or fading * WEEK > LONGEST_DAYS:
        return f"{count(steady, 'week')} or more. Fewer new readers come every week"
    return count(steady, "week") if steady == fading else f"{steady} to {fading} weeks"


def _need(need: Mapping[str, Any]) -> tuple[str, str, str, str]:
    readers = f"{need['readers']:,.0f}" if need["readers"] is not None else "not known"
    if metric(need["metric"]).quantile is not None:  # its margin is in its own unit
        change = f"+{margin_of(need['metric'], need['change'])}"
    else:
        change = f"±{percent(abs(need['change']))}" if need["role"] == "goal" else worded(need["change"])
    return metric_says(need["metric"]), need["role"], change, readers


def _some(days: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """At most nine rows, the last one with new readers included."""
    growing = [later for earlier, later in pairwise(({"readers": 0.0}, *days)) if later["readers"] >= earlier["readers"] + 1]
    return growing[::-1][:: max(1, -(-len(growing) // MOST_ROWS))][::-1]


def _size(value: float | None, sign: str = "") -> str:
    return "too few" if value is None else f"{sign}{percent(value)}"


def print_left(left: Mapping[str, Any]) -> None:
    """Write how long a running test must go on."""
    if left["reason"] or left["smallest"] is None:
        tell(
            f"Too early to say how long '{left['experiment']}' must run: {left['reason'] or 'too few readers have finished their window'}."
        )
        return
    steady, fading = left["days_left"]
    about = "About" if left["day"] >= 2 * WEEK else "At least"  # before, nobody knows how soon fewer new readers come
    if steady == 0 and left["readers"] >= left["needed"]:
        tell(f"Enough readers have come for a change of {percent(left['asked'])}. The planned end is on day {left['planned_days']:g}.")
        return
    more = "Readers enough do not come" if steady is None else f"{about} {steady} more days" if steady == fading else _span(steady, fading)
    greedy = _greedy(left["needs"])
    if greedy["role"] == "guardrail":
        lacks = f"{_wish(greedy)} needs {greedy['readers']:,.0f} readers, and {left['readers']:,.0f} have come"
        tell(f"Too early: {lacks}. {more}. In the next plan allow a larger margin.")
        return
    tell(f"Too early: we can see changes above {percent(left['smallest'])}; you asked for {percent(left['asked'])}. {more}.")


def _span(steady: int, fading: int | None) -> str:
    return f"About {steady} to {fading} more days" if fading is not None else f"About {steady} more days, or never: fewer new readers come"
