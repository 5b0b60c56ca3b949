"""Simulated readers as events: through outbox, loader and lake to the report, beside the same figures from arrays.

A reader's base is the first exposure; whatever a metric counts lies in sessions an hour apart, so that what was drawn
is what must be counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from analysis.calibration.figures import Row, row_of
from analysis.effect import Contrast
from analysis.looks import Taken
from analysis.report import Report, build_report
from analysis.totals import totals
from experiments.clock import moment
from experiments.events.event import Event
from experiments.events.ids import event_id
from experiments.events.loader import Loader
from experiments.events.outbox import Outbox, OutboxLimits
from experiments.events.store import balance
from experiments.experiment import Arm, Experiment

__all__ = ["DAY", "FIRST_EXPOSURE", "PLAN", "Visitors", "draw_visitors", "path_row", "report_of", "store"]

Ints = npt.NDArray[np.int64]
START = 1_767_225_600_000_000  # 2026-01-01 00:00 UTC
MINUTE, HOUR, DAY = 60_000_000, 3_600_000_000, 86_400_000_000
FIRST_EXPOSURE = START + 15 * DAY  # what readers did before lies between START and this
APPEND = 2_000  # events at once
MOST_SESSIONS = 20  # an hour apart within a day
SLOT = "article.related"
ARMS = (Arm("status_quo", "status_quo", 0.4), Arm("front", "heuristic", 0.3), Arm("newest", "heuristic", 0.3))
SECONDARY = ("returned", "dwell_per_view", "bounce_rate", "sessions_per_reader")
PLAN = Experiment(
    "related", "Does it pay?", "status_quo", ARMS, window_days=2.0, planned_days=14.0, smallest_uplift=0.3,
    secondary=SECONDARY, guardrails={"slot_latency_p95": 50.0},
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Visitors:
    """What readers of one arm do; one entry per reader, except ``waits``.

    Parameters
    ----------
    day : of the first exposure, since the first one of all (whole days).
    views, sessions : from the first exposure on. late : whether the last of two or more sessions is a day later.
    dwell : visible milliseconds of all views.
    views_before, sessions_before : in the day before.
    waits : (readers, 2) microseconds for the slot on the first two pages.
    """

    day: Ints
    views: Ints
    sessions: Ints
    late: npt.NDArray[np.bool_]
    dwell: Ints
    views_before: Ints
    sessions_before: Ints
    waits: Ints


def draw_visitors(rng: np.random.Generator, readers: int, *, ratio: float = 1.0, days: int = 1, came_back: float = 0.3) -> Visitors:
    """Return readers who keep how often they come and how much they read; the arm changes how much, ``ratio`` times.

    Parameters
    ----------
    days : over which first exposures spread. came_back : share of those with two sessions who come back a day later.
    """
    often, appetite = rng.gamma(0.7, 1.0, readers), rng.gamma(2.0, 0.5, readers)
    earlier, sessions = np.minimum(rng.poisson(2 * often), MOST_SESSIONS), np.minimum(1 + rng.poisson(often), MOST_SESSIONS)
    views = sessions + rng.poisson(sessions * appetite * (2.5 * ratio - 1))
    return Visitors(
        day=rng.integers(0, days, readers), views=views, sessions=sessions, late=(sessions > 1) & (rng.random(readers) < came_back),
        dwell=(views * rng.lognormal(10, 0.6, readers)).astype(np.int64), views_before=earlier + rng.poisson(earlier * appetite * 1.5),
        sessions_before=earlier, waits=rng.lognormal(9, 0.5, (readers, 2)).astype(np.int64),
    )  # fmt: skip


def store(home: Path, arms: Mapping[str, Visitors], *, experiment: Experiment = PLAN) -> None:
    """Write what the readers do to the outbox, page by page, and load it into the event store."""
    outbox = Outbox(home / "outbox", clock=lambda: START, limits=OutboxLimits(reserve_bytes=0, tick_s=0.01))
    events: list[Event] = []
    for number, (arm, visitors) in enumerate(arms.items()):
        for reader in range(len(visitors.views)):
            events += _events(experiment.name, arm, visitors, reader, name=f"r{number}-{reader:06d}")
    for start in range(0, len(events), APPEND):
        outbox.append(events[start : start + APPEND], timeout_s=60.0)
    outbox.close()
    with Loader(home, clock=lambda: START) as loader:
        loader.drain()


def _events(experiment: str, arm: str, visitors: Visitors, reader: int, *, name: str) -> Iterator[Event]:
    first = FIRST_EXPOSURE + int(visitors.day[reader]) * DAY
    pages = _times(first - 24 * HOUR, int(visitors.sessions_before[reader]), int(visitors.views_before[reader]), late=False)
    for at in pages:
        yield _page(name, at)[1]
    dwell, whole = int(visitors.dwell[reader]), int(visitors.views[reader])
    waits = visitors.waits[reader].tolist()
    for number, at in enumerate(_times(first, int(visitors.sessions[reader]), whole, late=bool(visitors.late[reader]))):
        page, view = _page(name, at)
        yield view
        spent = dwell // whole + (number < dwell % whole)
        yield Event(event_id(page, "dwell", "1"), "dwell", page, name, at, at, {"active_ms": spent, "depth_percent": 50})
        if number < len(waits):
            slot = {"slot": SLOT, "phase": 0, "bucket": reader % 200, "audience": "all", "reason": "assigned", "outcome": "served"}
            yield Event(event_id(page, "exposure", experiment), "exposure", page, name, at, at, slot, experiment=experiment, arm=arm)
            shown = {"slot": SLOT, "articles": [] if arm == "status_quo" else ["a2"], "latency_us": waits[number]}
            yield Event(event_id(page, "impression", SLOT), "impression", page, name, at, at, shown, experiment=experiment, arm=arm)


def _times(start: int, sessions: int, views: int, *, late: bool) -> Iterator[int]:
    """When pages are opened: all spare views half a minute apart in the first session, one each in the others, an hour apart."""
    for view in range(views - sessions + 1 if sessions else 0):
        yield start + view * MINUTE // 2
    spare = max(0, views - sessions) * MINUTE // 2
    for session in range(1, sessions):
        yield start + spare + session * HOUR + (24 * HOUR if late and session == sessions - 1 else 0)


def _page(reader: str, at: int) -> tuple[str, Event]:
    page = f"{at // 1000:012x}7{_number_of(reader, at):019x}"
    body = {"page_type": "article", "article": "a1", "section": "city", "referrer": "internal"}
    return page, Event(event_id(page, "view"), "view", page, reader, at, at, body)


def _number_of(reader: str, at: int) -> int:
    """A number of at most 19 digits that belongs to one page view."""
    return int.from_bytes(event_id(f"{at:032x}", "view", reader)[:9]) % 10**19


def report_of(home: Path, *, experiment: Experiment = PLAN, days: float, taken: Sequence[Taken] = ()) -> Report:
    """Return the report of what is stored, cut ``days`` after the first exposure, as the report job makes it."""
    return build_report(
        experiment, totals(home, experiment, until_us=FIRST_EXPOSURE + round(days * DAY), source="live"), balance(home),
        start=moment(FIRST_EXPOSURE), until=moment(FIRST_EXPOSURE + round(days * DAY)), state="running", snapshot="1", taken=taken,
    )  # fmt: skip


def path_row(rng: np.random.Generator, *, readers: int, runs: int, ratio: float = 1.15) -> Row:
    """Return the row of two arms whose readers went through outbox, loader and lake to the report in every run.

    ``readers`` of both arms together; every run has stores of its own.
    """
    arms = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5))
    plan = Experiment("related", "Does it pay?", "status_quo", arms, window_days=2.0, planned_days=14.0)

    def contrasts(true: float) -> Iterator[Contrast]:
        for _ in range(runs):
            with TemporaryDirectory() as home:
                sides = {"status_quo": draw_visitors(rng, readers // 2), "front": draw_visitors(rng, readers // 2, ratio=true)}
                store(Path(home), sides, experiment=plan)
                effect = report_of(Path(home), experiment=plan, days=plan.planned_days).compared.of(plan.goal, "front", "status_quo")
                yield effect.contrast if effect else Contrast((0, 0), (None, None))

    return row_of(
        "relative, from requests", "views per session", readers, runs=runs, contrasts=contrasts, part="relative", effect=(ratio, ratio - 1)
    )
