"""The rules of counting as Ibis expressions: sessions, entry into an experiment, windows, measures.

Expressions are written over unbound tables (their columns: :data:`experiments.events.tail.FACTS`) and compiled to
DuckDB's SQL, so the same rules can be compiled for another engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ibis
from ibis import _

from experiments.errors import MetricError
from experiments.events.lake_tables import bound
from experiments.events.tail import FACTS
from experiments.events.wire import LATE_US
from experiments.experiment import Experiment
from experiments.metric import Measure

__all__ = [
    *("BEFORE_DAYS", "DAY_US", "GAP_US", "HAS_PRE", "agreed_readers", "entered", "event_values", "in_sessions", "needed", "pre"),
    *("reads_by_arm", "segment", "slots_filled", "window_us"),
]

DAY_US = 86_400_000_000
GAP_US = 30 * 60_000_000
DWELL_CAP_MS = 30 * 60_000
BUCKETS = 200
BEFORE_DAYS = 14  # before the first exposure, over which the same measures are taken as covariates
HAS_PRE = "has_pre"
PAGE_FIELDS = ("page_type", "referrer", "section", "most_read")
SEGMENT_FIELDS: Mapping[str, str] = {"device": "device", "audience": "agreed", "section": "section"}  # of the first exposure's page
# What may be filtered by, per kind, beside the fields of the page view.
OWN_FIELDS: Mapping[str, tuple[str, ...]] = {
    "view": (),
    "click": ("slot",),
    "impression": ("slot",),
    "exposure": ("slot", "outcome"),
    "dwell": ("depth_percent",),
    "conversion": ("name",),
}


def pre(key: str) -> str:
    """The column of a measure taken before the first exposure."""
    return f"pre:{key}"


def segment(name: str) -> str:
    """The column that says to which group of a segment a reader belonged at the first exposure."""
    return f"segment:{name}"


def in_sessions(views: Any) -> Any:
    """Page views with ``session`` (a number per reader) and ``first_page``: split where 30 minutes passed between two.

    Midnight does not split; a gap of exactly 30 minutes does.
    """
    order = [views.issued_at, views.page_view]
    gap = views.issued_at - views.issued_at.lag().over(ibis.window(group_by=views.reader, order_by=order))
    marked = views.mutate(opens=ibis.ifelse(gap.isnull() | (gap >= GAP_US), 1, 0))
    order = [marked.issued_at, marked.page_view]
    running = ibis.cumulative_window(group_by=marked.reader, order_by=order)
    numbered = marked.mutate(session=marked.opens.sum().over(running).cast("int64")).drop("opens")
    within = ibis.cumulative_window(group_by=[numbered.reader, numbered.session], order_by=[numbered.issued_at, numbered.page_view])
    return numbered.mutate(first_page=numbered.page_view.first().over(within))


def agreed_readers() -> Any:
    """Readers whose latest page view that says so says that they agreed.

    A page view says so by ``agreed`` in its body, or by an exposure whose audience is ``agreed``.
    """
    views, exposures = bound("view"), bound("exposure")
    by_exposure = exposures.filter(_.audience == "agreed").select("page_view", "reader").distinct().mutate(shown=1)
    said = views.left_join(by_exposure, ["page_view", "reader"])
    said = said.select("reader", "issued_at", "page_view", agreed=ibis.ifelse(said.agreed >= 0, said.agreed, said.shown.fill_null(-1)))
    told = said.filter(_.agreed >= 0)
    latest = ibis.window(group_by=told.reader, order_by=[told.issued_at.desc(), told.page_view.desc()])
    return told.mutate(rank=ibis.row_number().over(latest)).filter((_.rank == 0) & (_.agreed == 1)).select("reader")


def needed(measures: Iterable[Measure], segments: Iterable[str] = ()) -> dict[str, frozenset[str]]:
    """Return the kinds of events and their columns that measures, segments, entry and sessions need."""
    measures = list(measures)
    kinds = {"view", "exposure"} | {kind for kind in map(_kind, measures) if kind in FACTS}
    asked = {name for measure in measures for name in (*measure.where, measure.sum.partition(".")[2])}
    asked = {"article" if name == "most_read" else name for name in asked} | {SEGMENT_FIELDS.get(name, "") for name in segments}
    always = {"page_view", "reader", "issued_at", "arm", "phase", "bucket", "reason", "prefetch", "filled"}
    return {kind: frozenset(always | asked) for kind in kinds}


def entered(
    experiment: Experiment,
    measures: Mapping[str, Measure],
    *,
    session_of_exposure: bool,
    before: Mapping[str, Measure] | None = None,
    most_read: Sequence[str] = (),
) -> Any:
    """One row per exposed reader, matured or not: reader, arm, phase, exposed_at, bucket, arms (how many were met), measures.

    Parameters
    ----------
    session_of_exposure : also count the session in which the first exposure fell, though it started earlier.
    before : measures to take also over the sessions before the first exposure, as columns :func:`pre` and ``has_pre``.
    """
    views, entry, joined = _windows(experiment, session_of_exposure=session_of_exposure)
    views = views.mutate(most_read=ibis.ifelse(views.article.isin(most_read), "yes", "no") if most_read else ibis.literal("no"))
    rows = _added(entry, measures, sessions=_inside(joined), views=views, entry=entry)
    values = {key: ibis.literal(1, "int64") if measure.count == "reader" else rows[key].fill_null(0) for key, measure in measures.items()}
    if before or (before is not None and experiment.segments):
        rows, extra = _before(rows, before, joined=joined, views=views, entry=entry)
        rows, groups = _segments(rows, experiment.segments)
        values |= extra | groups
    return rows.select("reader", "arm", "phase", "exposed_at", "bucket", "arms", **values)


def event_values(experiment: Experiment, measure: Measure, *, until_us: int, session_of_exposure: bool) -> Any:
    """How many events of every matured reader had which value: reader, arm, phase, value, events.

    The same windows and sessions as :func:`entered`. A blank slot took its time too, so its impression counts here.

    Parameters
    ----------
    measure : a sum; its field is the value.
    """
    views, entry, joined = _windows(experiment, session_of_exposure=session_of_exposure)
    pages = views.join(_inside(joined).select("reader", "session"), ["reader", "session"]).select("reader", "page_view")
    facts = _facts(_kind(measure), pages, entry, blank=True).mutate(value=_[measure.sum.partition(".")[2]])
    found = facts.group_by(["reader", "value"]).agg(events=_.count())
    matured = entry.filter(_.exposed_at + window_us(experiment) <= until_us).select("reader", "arm", "phase")
    return found.join(matured, "reader").select("reader", "arm", "phase", "value", "events")


def slots_filled(experiment: Experiment, *, until_us: int) -> Any:
    """The filled slots of matured readers, in the windows and sessions of :func:`entered`: reader, arm, articles (a JSON list)."""
    views, entry, joined = _windows(experiment, session_of_exposure=False)
    pages = views.join(_inside(joined).select("reader", "session"), ["reader", "session"]).select("reader", "page_view")
    matured = entry.filter(_.exposed_at + window_us(experiment) <= until_us).select("reader", "arm")
    return _facts("impression", pages, entry).join(matured, "reader").select("reader", "arm", "articles")


def reads_by_arm(experiment: Experiment, *, since_us: int) -> Any:
    """Articles opened from a moment on by reader's arm (empty before the first exposure and for all who have none): arm, reads."""
    opened = bound("view").filter((_.prefetch == 0) & (_.page_type == "article") & (_.issued_at >= since_us))
    entry = _entry(tuple(experiment.shares)).select("reader", "exposed_at", its_arm=_.arm)
    told = opened.left_join(entry, "reader")
    inside = told.exposed_at.notnull() & (told.issued_at >= told.exposed_at)
    return told.mutate(arm=ibis.ifelse(inside, told.its_arm, "")).group_by("arm").agg(reads=_.count())


def window_us(experiment: Experiment) -> int:
    """Return how long a reader is followed from the first exposure on, in microseconds."""
    return round(experiment.window_days * DAY_US)


def _windows(experiment: Experiment, *, session_of_exposure: bool) -> tuple[Any, Any, Any]:
    """Page views in sessions, readers with their window, and every session of these readers."""
    views = in_sessions(bound("view").filter(_.prefetch == 0))
    entry = _entry(tuple(experiment.shares)).mutate(ends_at=_.exposed_at + window_us(experiment), counts_from=_.exposed_at)
    sessions = views.group_by(["reader", "session"]).agg(start=_.issued_at.min(), last=_.issued_at.max(), pages=_.count())
    if session_of_exposure:
        entry = _from_its_session(entry, sessions)
    return views, entry, sessions.join(entry.select("reader", "exposed_at", "counts_from", "ends_at"), "reader")


def _inside(joined: Any) -> Any:
    return joined.filter((_.start >= _.counts_from) & (_.start < _.ends_at))


def _segments(rows: Any, names: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """The rows with what was known of a reader at the first exposure, and those columns by name."""
    fields = {name: _[column] for name, column in SEGMENT_FIELDS.items() if name in names}
    if fields:
        pages = bound("view").select("reader", entry_page=_.page_view, **fields)
        rows = rows.left_join(pages, ["reader", "entry_page"])
    found = {}
    for name in names:
        if name == "audience":
            value = ibis.cases((rows.audience == 1, "agreed"), (rows.audience == 0, "not agreed"))
        elif name == "returning":
            value = ibis.ifelse(rows[HAS_PRE].fill_null(0) > 0, "returning", "new")
        else:
            value = rows[name].nullif("")
        found[segment(name)] = value.fill_null("not known")
    return rows, found


def _added(rows: Any, measures: Mapping[str, Measure], *, sessions: Any, views: Any, entry: Any) -> Any:
    """The rows with the sums of measures over some sessions; null where a reader has none."""
    inside = views.join(sessions.select("reader", "session"), ["reader", "session"])
    for kind in sorted({_kind(measure) for measure in measures.values()} - {"reader"}):
        wanted = {key: measure for key, measure in measures.items() if _kind(measure) == kind}
        facts = sessions if kind == "session" else _facts(kind, inside.select("reader", "page_view", *PAGE_FIELDS), entry)
        amounts = {key: _amount(facts, measure) for key, measure in wanted.items()}
        once = {key for key, measure in wanted.items() if measure.count == "returned"}  # a reader came back or did not
        sums = facts.group_by("reader").agg(**{key: amount.max() if key in once else amount.sum() for key, amount in amounts.items()})
        rows = rows.left_join(sums, "reader").drop("reader_right")
    return rows


def _before(rows: Any, measures: Mapping[str, Measure], *, joined: Any, views: Any, entry: Any) -> tuple[Any, dict[str, Any]]:
    """The rows with sums from before the first exposure e, and those columns by name; nothing at or after e can change them.

    Sessions count that start in [e - 14 days, e) and were over at e: their last page is at least 30 minutes older, so
    that no later page can belong to them. What is told about a page afterwards (visible time, clicks) has no time of
    its own here, but is only counted within 24 hours of its page: pages of the last 24 hours before e are left out there.
    """
    early = entry.mutate(counts_from=entry.exposed_at - BEFORE_DAYS * DAY_US, ends_at=entry.exposed_at)
    over = joined.filter((_.start >= _.exposed_at - BEFORE_DAYS * DAY_US) & (_.start < _.exposed_at) & (_.last + GAP_US <= _.exposed_at))
    settled = views.join(entry.select("reader", "exposed_at"), "reader").filter(_.issued_at + LATE_US < _.exposed_at)
    at_once = {pre(key): m for key, m in measures.items() if _kind(m) in ("view", "session", "conversion")}
    later = {pre(key): m for key, m in measures.items() if pre(key) not in at_once and m.count != "reader"}
    rows = _added(rows, at_once | {HAS_PRE: Measure(count="session")}, sessions=over, views=views, entry=early)
    rows = _added(rows, later, sessions=over, views=settled, entry=early)
    one = ibis.ifelse(rows[HAS_PRE] > 0, 1, 0).fill_null(0)
    taken = {name: rows[name].fill_null(0) for name in (*at_once, *later)}
    return rows, {name: taken.get(name, one) for name in (*map(pre, measures), HAS_PRE)}


def _entry(arms: tuple[str, ...]) -> Any:
    """First exposure per reader: the earliest, ties by page view."""
    prefetched = bound("view").filter(_.prefetch != 0)
    shown = bound("exposure").filter((_.reason != "forced") & _.arm.isin(arms)).anti_join(prefetched, ["page_view", "reader"])
    order = {name: shown[name] for name in ("issued_at", "page_view", "arm", "phase", "bucket")}
    met = shown.mutate(row=ibis.struct(order)).group_by("reader").agg(first=_.row.min(), arms=_.arm.nunique())
    first = {"arm": _.first["arm"], "phase": _.first["phase"], "exposed_at": _.first["issued_at"], "bucket": _.first["bucket"] % BUCKETS}
    return met.select("reader", **first, entry_page=_.first["page_view"], arms=_.arms)


def _from_its_session(entry: Any, sessions: Any) -> Any:
    before = entry.join(sessions, "reader").filter(_.start <= _.exposed_at).group_by("reader").agg(session_start=_.start.max())
    found = entry.left_join(before, "reader").drop("reader_right")
    return found.mutate(counts_from=ibis.coalesce(found.session_start, found.exposed_at)).drop("session_start")


def _kind(measure: Measure) -> str:
    if measure.sum:
        return measure.sum.partition(".")[0]
    return "session" if measure.count in ("session", "bounce", "returned") else measure.count


def _facts(kind: str, pages: Any, entry: Any, *, blank: bool = False) -> Any:
    """Rows of one kind inside counted sessions, with the fields of their page view; ``blank``: of empty slots too."""
    if kind == "view":
        return pages
    facts = bound(kind)
    if kind == "conversion":  # an order has a time of its own and no page view
        dated = facts.join(entry.select("reader", "counts_from", "ends_at"), "reader")
        return dated.filter((_.issued_at >= _.counts_from) & (_.issued_at < _.ends_at))
    if kind == "dwell":  # heartbeats are cumulative: the largest counts, however many arrived and in whichever order
        facts = facts.group_by(["page_view", "reader"]).agg(active_ms=_.active_ms.max(), depth_percent=_.depth_percent.max())
        facts = facts.mutate(active_ms=ibis.least(_.active_ms, DWELL_CAP_MS))
    if kind == "impression" and not blank:
        facts = facts.filter(_.filled == 1)
    if kind == "exposure":
        facts = facts.filter(_.reason != "forced")
    return facts.join(pages, ["page_view", "reader"])


def _amount(facts: Any, measure: Measure) -> Any:
    """What one row adds to a measure."""
    if measure.count in ("session", "bounce", "returned"):
        if measure.where:
            raise MetricError(f"measure '{measure.key}' filters '{measure.count}', which has no fields.", "Remove `where`.")
        if measure.count == "session":
            return facts.start.notnull().cast("int64")
        return ((facts.pages == 1) if measure.count == "bounce" else (facts.start >= facts.exposed_at + DAY_US)).cast("int64")
    good = facts.reader.notnull()
    for name, value in measure.where.items():
        good = good & _matches(facts, measure, name, value)
    return ibis.ifelse(good, facts[measure.sum.partition(".")[2]] if measure.sum else 1, 0)


def _matches(facts: Any, measure: Measure, name: str, value: str) -> Any:
    kind = _kind(measure)
    of_page = () if kind == "conversion" else PAGE_FIELDS
    fields = (*of_page, *OWN_FIELDS[kind]) if kind in OWN_FIELDS else ()
    if name not in fields:
        raise MetricError(f"measure '{measure.key}' cannot filter by '{name}'.", f"Fields of '{kind}': {', '.join(fields) or 'none'}.")
    if value.startswith(">=") and value[2:].isdecimal():
        return facts[name].cast("int64") >= int(value[2:])
    return facts[name].cast("string") == value
