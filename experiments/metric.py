"""The place where metrics are defined: ``metrics.toml``, one block each."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from experiments.errors import MetricError, nearest

__all__ = ["Measure", "Metric", "load_metrics", "metric"]

COUNTS = ("view", "click", "dwell", "impression", "exposure", "conversion", "session", "bounce", "reader", "returned")
SUMS = ("dwell.active_ms", "impression.latency_us", "conversion.value")
FIELDS = ("page_type", "referrer", "section", "most_read", "outcome", "depth_percent", "slot", "name")
KEYS = ("says", "numerator", "denominator", "quantile", "of", "divide_by", "cap", "direction", "unit", "needs_slot")
WORDS = ("says", "of", "direction", "unit")
Direction = Literal["up", "down"]


@dataclass(frozen=True, slots=True)
class Measure:
    """What is added up per reader: ``count`` of a kind or ``sum`` of a field, over rows that match ``where``.

    ``where`` maps a field to a value or to ``">=number"``; ``most_read`` is ``yes`` for the 100 articles that were read most
    before the test, else ``no``.
    """

    count: str = ""
    sum: str = ""
    where: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """A name for the column, equal for equal measures.

        Examples
        --------
        >>> Measure(count="view", where={"page_type": "article"}).key
        'count_view_page_type_article'
        """
        words = [f"count_{self.count}" if self.count else f"sum_{self.sum}", *(f"{k}_{v}" for k, v in sorted(self.where.items()))]
        return "".join(c if c.isalnum() else "_" for c in "_".join(words))


@dataclass(frozen=True, slots=True)
class Metric:
    """A ratio per arm: sum of numerators over sum of denominators of its readers (denominator ``reader`` = a mean).

    Parameters
    ----------
    quantile : share of events, 0 to 1: the metric is this quantile of the numerator's field over all events instead, and
        its margin as a guardrail is a difference in ``unit``.
    divide_by : of a quantile, from the field's unit into ``unit``.
    cap_share : share of the readers with a total, 0 to 1, that lie at or below the ceiling of a reader's total.
    """

    name: str
    says: str
    numerator: Measure
    denominator: Measure
    direction: Direction = "up"
    unit: str = ""
    needs_slot: bool = False
    quantile: float | None = None
    divide_by: int = 1
    cap_share: float | None = None

    @property
    def measures(self) -> tuple[Measure, Measure]:
        return self.numerator, self.denominator


def load_metrics(text: str, where: str = "metrics.toml") -> dict[str, Metric]:
    """Read metric blocks; all faults of the file are listed at once.

    Examples
    --------
    >>> load_metrics('[metrics.x]\\nsays="X"\\nnumerator={count="view"}\\ndenominator="session"')["x"].direction
    'up'
    """
    try:
        blocks = tomllib.loads(text).get("metrics", {})
    except tomllib.TOMLDecodeError as error:
        raise MetricError(f"{where}: not readable as TOML: {error}.") from error
    if not isinstance(blocks, Mapping):
        raise MetricError(f"{where}: 'metrics' holds no blocks [metrics.NAME].")
    metrics: dict[str, Metric] = {}
    faults: list[str] = []
    for name, block in blocks.items():
        try:
            metrics[name] = _metric(name, block)
        except MetricError as error:
            faults.append(error.what)
    if faults:
        raise MetricError(f"{where}: {len(faults)} metric(s) cannot be used:", faults=faults)
    return metrics


def _metric(name: str, block: Any) -> Metric:
    if not isinstance(block, Mapping):
        raise MetricError(f"[metrics.{name}] is {block!r}, it must be a block.")
    for key, value in block.items():
        if key not in KEYS:
            raise MetricError(f"[metrics.{name}] has the unknown key '{key}'; {nearest(key, KEYS)}")
        if key in WORDS and not isinstance(value, str):
            raise MetricError(f"[metrics.{name}] {key} is {value!r}, it must be text.")
    if type(block.get("needs_slot", False)) is not bool:
        raise MetricError(f"[metrics.{name}] needs_slot is {block['needs_slot']!r}, it must be true or false.")
    for key in ("says", "quantile", "of") if "quantile" in block else ("says", "numerator", "denominator"):
        if key not in block:
            raise MetricError(f"[metrics.{name}] lacks '{key}'.")
    if block.get("direction", "up") not in ("up", "down"):
        raise MetricError(f"[metrics.{name}] direction is '{block['direction']}', it must be 'up' or 'down'.")
    for key in ("quantile", "cap"):
        if key in block and not (isinstance(block[key], float) and 0 < block[key] < 1):
            raise MetricError(f"[metrics.{name}] {key} is {block[key]!r}, it must be a share between 0 and 1.")
    if "quantile" in block and {"numerator", "denominator", "cap"} & set(block):
        raise MetricError(f"[metrics.{name}] is a quantile of all events: it takes 'of', and no numerator, denominator or cap.")
    numerator, denominator = _of_events(name, block) if "quantile" in block else _ratio(name, block)
    return Metric(
        name,
        block["says"],
        numerator,
        denominator,
        block.get("direction", "up"),
        block.get("unit", ""),
        block.get("needs_slot", False),
        quantile=block.get("quantile"),
        divide_by=_whole(name, block.get("divide_by", 1)),
        cap_share=block.get("cap"),
    )


def _whole(name: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise MetricError(f"[metrics.{name}] divide_by is {value!r}, it must be a whole number of at least 1.")
    return value


def _ratio(name: str, block: Mapping[str, Any]) -> tuple[Measure, Measure]:
    numerator, denominator = (_measure(name, key, block[key]) for key in ("numerator", "denominator"))
    if "cap" in block and (numerator.count or denominator != Measure(count="reader")):
        raise MetricError(f"[metrics.{name}] has a cap: its numerator must be a sum and its denominator 'reader'.")
    if block.get("divide_by", 1) != 1:
        raise MetricError(f"[metrics.{name}] is no quantile: only these take divide_by.")
    return numerator, denominator


def _of_events(name: str, block: Mapping[str, Any]) -> tuple[Measure, Measure]:
    known = [word for word in SUMS if word != "conversion.value"]  # a quantile is taken of what happens on pages
    if block["of"] not in known:
        raise MetricError(f"[metrics.{name}] is a quantile of '{block['of']}'; {nearest(str(block['of']), known)}")
    return Measure(sum=block["of"]), Measure(count=block["of"].partition(".")[0])


def _measure(name: str, key: str, value: Any) -> Measure:
    if isinstance(value, str):
        value = {"count": value}
    told = value if isinstance(value, Mapping) else {}
    count, total, where = told.get("count", ""), told.get("sum", ""), told.get("where", {})
    right = isinstance(count, str) and isinstance(total, str) and isinstance(where, Mapping) and set(told) <= {"count", "sum", "where"}
    if not right or bool(count) == bool(total):
        raise MetricError(f"[metrics.{name}] {key} must give either count or sum, and may give where.")
    if count and count not in COUNTS:
        raise MetricError(f"[metrics.{name}] {key} counts '{count}'; {nearest(count, COUNTS)}")
    if total and total not in SUMS:
        raise MetricError(f"[metrics.{name}] {key} sums '{total}'; {nearest(total, SUMS)}")
    for word in where:
        if word not in FIELDS:
            raise MetricError(f"[metrics.{name}] {key} filters by '{word}'; {nearest(word, FIELDS)}")
    return Measure(count, total, {k: str(v) for k, v in where.items()})


@cache
def built_in() -> dict[str, Metric]:
    """The metrics that come with Presslab (parsed once; the values are frozen)."""
    return load_metrics(files("experiments").joinpath("metrics.toml").read_text("utf-8"))


def metric(name: str, metrics: Mapping[str, Metric] | None = None) -> Metric:
    """Return a metric by name; raises :class:`MetricError` with the nearest names."""
    known = built_in() if metrics is None else metrics
    if name not in known:
        raise MetricError(f"no metric is called '{name}'; {nearest(name, known)}", "Metrics are defined in experiments/metrics.toml.")
    return known[name]
