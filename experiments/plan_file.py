"""A plan as somebody wrote it: read from a file, every fault told at once, with its line."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from unicodedata import category

from experiments.errors import ExperimentError, MetricError, nearest
from experiments.events.ids import SLOTS
from experiments.experiment import Experiment
from experiments.metric import metric

__all__ = ["read_plan"]

LONGEST_DAYS = 730.0
WRITE = "Give a TOML file with name, question, control and [[arms]]; docs/plan.md shows one."
Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """What a value must be, in words, and the test of it."""

    says: str
    holds: Callable[[Any], bool]


def _text(most: int) -> Rule:
    return Rule(
        f"text of 1 to {most} letters on one line", lambda v: isinstance(v, str) and 0 < len(v.strip()) <= most and all(map(_seen, v))
    )


def _seen(sign: str) -> bool:
    """Whether a sign may stand in a line: blanks that do not break, as French puts before a question mark, are not *printable*."""
    return sign.isprintable() or category(sign) == "Zs"


def _number(says: str, holds: Callable[[float], bool] = lambda _: True) -> Rule:
    return Rule(says, lambda v: type(v) in (int, float) and abs(v) <= sys.float_info.max and holds(v))


def _whole(most: int) -> Rule:
    return Rule(f"a whole number from 1 to {most:,}", lambda v: type(v) is int and 1 <= v <= most)


NAME = re.compile(r"[^\W_][\w-]{0,59}")  # begins with a letter or digit: -x on a command line would be an option
NAMES = Rule("a list of names", lambda v: isinstance(v, list | tuple) and all(isinstance(one, str) for one in v))
TABLE = Rule("a table of names and numbers", lambda v: isinstance(v, Mapping))
DAYS = _number(f"a number of days above 0, at most {LONGEST_DAYS:g}", lambda v: 0 < v <= LONGEST_DAYS)
MONEY = _number("a number")
CAP = _whole(10**15)
MARGIN = _number("a number above 0", lambda v: v > 0)
PLAN = {
    "name": Rule(
        "at most 60 letters, digits, _ and -, the first a letter or digit", lambda v: isinstance(v, str) and bool(NAME.fullmatch(v))
    ),
    "question": _text(300),
    "control": _text(60),
    "arms": Rule("tables, one [[arms]] each", lambda v: isinstance(v, list | tuple) and all(isinstance(one, Mapping) for one in v)),
    "goal": _text(60),
    "guardrails": TABLE,
    "secondary": NAMES,
    "segments": NAMES,
    "caps": TABLE,
    "slot": Rule(f"a place that pages have: {', '.join(SLOTS)}", lambda v: v in SLOTS),
    "layer": _text(60),
    "window_days": DAYS,
    "planned_days": DAYS,
    "minimum_days": DAYS,
    "smallest_uplift": _number("a number above 0, at most 10 (0.01 = 1 %)", lambda v: 0 < v <= 10),
    "level": _number("a number from 0.5 to below 1", lambda v: 0.5 <= v < 1),
    "value_per_view": Rule("a number above 0; leave it out while nobody has stated it", lambda v: v is None or MARGIN.holds(v)),
    "value_spread": _number("a number from 1 to 1,000", lambda v: 1 <= v <= 1000),
    "currency": _text(8),
    "horizon_days": _whole(3650),
    "salt": Rule("text", lambda v: isinstance(v, str)),
    "shadow": NAMES,
    "owner": _text(60),
}
ARM = {
    "name": _text(60),
    "kind": _text(60),
    "share": _number("a number above 0, at most 1", lambda v: 0 < v <= 1),
    "audience": _text(60),
    "build": MONEY,
    "per_day": MONEY,
}


def read_plan(file: Path) -> Experiment:
    """Return the plan in a TOML or JSON file; its metrics must exist.

    Raises
    ------
    ExperimentError
        The file cannot be read, or holds faults: all of them, with the line of each (TOML).
    """
    try:
        text = file.read_text("utf-8")
        values = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise ExperimentError(f"{file}: {error}.", WRITE) from error
    if not isinstance(values, dict):
        raise ExperimentError(f"{file}: holds no plan.", "Give an object with name, question, control and arms.")
    faults = list(_faults(values))
    wrong = {place[0] for place, _ in faults}
    wanted = None
    if wrong.isdisjoint({"name", "control", "arms"}):  # what is sound is also held against the rest of the plan
        stated = {"question": "?"} | {key: value for key, value in values.items() if key not in wrong}
        try:
            wanted = Experiment.from_dict(stated)
        except ExperimentError as error:
            faults += [((), says) for says in error.faults or (error.what,)]
    if faults or wanted is None:
        lines = {} if file.suffix == ".json" else _lines(text)
        told = sorted((lines.get(place) or lines.get(place[:-1]) or 0, says) for place, says in faults)
        said = [f"line {line}: {says}" if line else says for line, says in told]
        if len(said) == 1:
            raise ExperimentError(f"{file}: {said[0]}", "docs/plan.md shows a plan.")
        raise ExperimentError(f"{file}: {len(said)} faults.", "docs/plan.md shows a plan.", faults=said)
    return wanted


def _faults(values: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    yield from _of_table(values, PLAN, {field.name for field in fields(Experiment)[:4]}, ())
    if not PLAN["arms"].holds(values.get("arms")):
        return
    for i, arm in enumerate(values["arms"]):
        yield from _of_table(arm, ARM, {"name", "kind", "share"}, ("arms", i))
    for table, rule in (("guardrails", MARGIN), ("caps", CAP)):
        given = values.get(table, {})
        for name in given if TABLE.holds(given) else ():
            yield from _metric((table, name), name)
            if not rule.holds(given[name]):
                yield (table, name), f"{table}.{name} must be {rule.says}, not {given[name]!r:.80}."
            elif table == "guardrails" and given[name] >= 1 and _is_relative(name):
                yield (table, name), f"guardrails.{name} = {given[name]:g} allows a harm of {given[name]:.0%}; 0.05 is 5 %."
    goal, more = values.get("goal"), values.get("secondary", ())
    for key, names in (("goal", [goal] if isinstance(goal, str) else ()), ("secondary", more if NAMES.holds(more) else ())):
        for name in names:
            yield from _metric((key,), name)


def _of_table(values: Mapping[str, Any], rules: Mapping[str, Rule], required: set[str], place: Place) -> Iterator[tuple[Place, str]]:
    where = f"arm {place[1] + 1}: " if place else ""  # type: ignore[operator]
    for key in sorted(required - set(values)):
        yield (*place, key), f"{where}{key} is missing; it must be {rules[key].says}."
    for key, value in values.items():
        if key not in rules:
            yield (*place, key), f"{where}there is no key '{key}'; {nearest(key, rules)}"
        elif not rules[key].holds(value):
            yield (*place, key), f"{where}{key} must be {rules[key].says}, not {value!r:.80}."


def _is_relative(name: str) -> bool:
    """Whether the margin of a metric is a fraction of it, and not a difference in its own unit."""
    try:
        return metric(name).quantile is None
    except MetricError:
        return False


def _metric(place: Place, name: str) -> Iterator[tuple[Place, str]]:
    try:
        found = metric(name)
    except MetricError as error:
        yield place, f"{place[0]}: {error.what} {error.hint}".strip()
        return
    if place[0] == "caps" and found.cap_share is None:
        yield place, f"caps: totals of {name} have no ceiling; metrics say so by cap_share in experiments/metrics.toml."


def _lines(text: str) -> dict[Place, int]:
    """Line of every key of a TOML plan, as far as it stands at the beginning of a line."""
    found: dict[Place, int] = {}
    section: Place = ()
    arms = -1
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"\s*\[\[\s*arms\s*\]\]", line):
            arms += 1
            section = ("arms", arms)
        elif table := re.match(r'\s*\[\s*"?([\w-]+)"?\s*\]', line):
            section = (table[1],)
        elif key := re.match(r'\s*"?([\w-]+)"?\s*=', line):
            found.setdefault((*section, key[1]), number)
            continue
        else:
            continue
        found.setdefault(section, number)
    return found
