"""Small integer reader tables, and totals made from them the way the lake makes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from analysis.moments import Distinct, Moments, Totals, add_up
from experiments.events.lake import Counts
from experiments.experiment import Arm, Experiment
from experiments.metric import metric

VIEWS, SESSIONS = metric("views_per_session").numerator.key, metric("views_per_session").denominator.key
BOUNCE = metric("bounce_rate").numerator.key
DWELL = metric("dwell_per_view").numerator.key
COLUMNS = (VIEWS, SESSIONS, BOUNCE, DWELL)
START = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Row:
    arm: str
    phase: int
    bucket: int | None
    n: int
    keys: tuple[str, ...]
    sums: tuple[int, ...]
    products: tuple[tuple[int, ...], ...]


def counts(exposed: Mapping[int, Mapping[str, int]], **other: Any) -> Counts:
    """The lake's counts of a faultless test, three exposures per reader; ``other`` replaces fields."""
    arms = sorted({arm for readers in exposed.values() for arm in readers})
    n = {arm: sum(readers.get(arm, 0) for readers in exposed.values()) for arm in arms}
    none = dict.fromkeys(arms, 0)
    shown = {arm: 3 * readers for arm, readers in n.items()}
    values = {"exposed": n, "matured": n, "exposed_by_phase": exposed, "sessions": n, "exposures": shown, "fallbacks": none}
    values |= {"degraded": none, "bots": none, "late": none, "forced": none, "crossed": 0, "views_per_day": 10_000.0}
    values |= {"unknown_arms": {}, "clicks_without_exposure": 0, "snapshot_seq": 0}
    return Counts(**{**values, **other})


@dataclass(frozen=True)
class Line:
    kind: str = "view"
    arm: str = ""
    received: int = 100
    duplicate: int = 0
    pending: int = 0
    exact: bool = True


def row(arm: str, readers: Any, *, phase: int = 1, bucket: int | None = None, keys: Sequence[str] = (VIEWS, SESSIONS)) -> Row:
    """Add up one row per reader with Python integers."""
    k = range(len(keys))
    sums = tuple(sum(int(r[i]) for r in readers) for i in k)
    products = tuple(tuple(sum(int(r[i]) * int(r[j]) for r in readers) for j in k) for i in k)
    return Row(arm, phase, bucket, len(readers), tuple(keys), sums, products)


def moments(readers: Sequence[Sequence[int]], *, keys: Sequence[str] = (VIEWS, SESSIONS)) -> Moments:
    return add_up([row("a", readers, keys=keys)])["a", 1]


def distinct(arm: str, readers: Sequence[Sequence[int]], *, phase: int | None = None) -> list[Distinct]:
    found = Counter((int(r[0]), int(r[1])) for r in readers)
    return [Distinct(arm, n, d, count, phase) for (n, d), count in sorted(found.items())]


def totals_of(tables: Mapping[tuple[str, int], Any], *, keys: Sequence[str] = COLUMNS, **other: Any) -> Totals:
    """Totals of {(arm, phase): table}, one row per reader, columns as in ``keys``."""
    found = add_up(row(arm, table, phase=phase, keys=keys) for (arm, phase), table in tables.items())
    rows = tuple(d for (arm, phase), table in tables.items() for d in distinct(arm, table, phase=phase))
    exposed: dict[int, dict[str, int]] = {}
    for (arm, phase), table in tables.items():
        exposed.setdefault(phase, {})[arm] = len(table)
    return Totals(found, counts(exposed, **other), {"views_per_session": rows})


def crowd(rng: np.random.Generator, n: int, *, views: float = 1.0, dwell: float = 1.0) -> np.ndarray:
    """Readers of a plausible site: sessions, views given sessions, bounces, visible milliseconds; integers."""
    sessions = 1 + rng.poisson(rng.gamma(0.7, 1.0, n))
    heavy = rng.gamma(2.0, 0.5, n)
    opened = sessions + rng.poisson(sessions * heavy * (2.0 * views - 1.0))
    bounced = rng.binomial(sessions, 0.3)
    seconds = rng.gamma(2.0, 20.0 * dwell, n) * opened
    return np.column_stack([opened, sessions, bounced, (seconds * 1000).astype(int)])


ARMS = (Arm("status_quo", "status_quo", 0.4), Arm("front", "heuristic", 0.3, per_day=1.0), Arm("als", "model", 0.3, per_day=5.0))


def plan(arms: Sequence[Arm] = ARMS, **values: Any) -> Experiment:
    defaults: dict[str, Any] = {"guardrails": {"dwell_per_view": 0.25}, "secondary": ("bounce_rate",), "value_per_view": 0.01}
    return Experiment(
        "related", "Do recommendations pay?", "status_quo", tuple(arms), **{**defaults, "window_days": 1.0, "planned_days": 14.0, **values}
    )
