"""The plan of an experiment: what is compared with what, for whom, and when it ends."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from experiments.errors import ExperimentError, nearest

__all__ = ["SEGMENTS", "Arm", "Audience", "Experiment", "Kind", "Phase"]

Kind = Literal["status_quo", "heuristic", "model"]
Audience = Literal["all", "agreed"]
KINDS = ("status_quo", "heuristic", "model")
AUDIENCES = ("all", "agreed")
SEGMENTS = ("device", "audience", "returning", "section")  # known at or before the first exposure
MOST_SEGMENTS = 6


@dataclass(frozen=True, slots=True)
class Arm:
    """One thing a reader may get in the slot.

    Parameters
    ----------
    name : the registered recommender of the same name fills the slot.
    kind : ``status_quo``, ``heuristic`` or ``model``.
    share : planned fraction of the audience, 0 to 1.
    audience : ``agreed`` if the arm uses the reader's own history, else ``all``.
    build : what it would still cost to build, in the experiment's currency (spent money does not count).
    per_day : what it costs to run, per day.
    """

    name: str
    kind: Kind
    share: float
    audience: Audience = "all"
    build: float = 0.0
    per_day: float = 0.0


@dataclass(frozen=True, slots=True)
class Phase:
    """The allocation in force from ``at`` on: one vector of shares (arm -> share, adds up to at most 1)."""

    number: int
    at: datetime
    shares: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Experiment:
    """A plan, checked when built; it cannot change once it runs (ramps add a :class:`Phase`).

    Parameters
    ----------
    name : short and unique; letters, digits, ``_`` and ``-``.
    question : one sentence a product owner would ask.
    control : the arm the others are compared with, always named.
    arms : at least two; shares add up to 1.
    goal : the metric that decides.
    guardrails : metric -> largest acceptable relative harm (0.02 = 2 %); of a quantile, harm in the metric's own unit.
    secondary : further metrics, exploratory.
    segments : groups of readers to look at, at most six of :data:`SEGMENTS`; no claim may name another one.
    caps : metric -> ceiling of a reader's total; where none is given it is found once and then kept.
    slot : the place on the page.
    window_days : only sessions starting within this many days after a reader's first exposure count.
    planned_days : planned length; before its end the report shows counts and says ``wait``.
    minimum_days : shortest length this plan accepts (14 unless the plan says otherwise).
    smallest_uplift : smallest relative change of the goal worth having (also the limit of "no practical difference").
    level : of every interval, 0 to 1.
    value_per_view : margin of one article view, in ``currency``; ``None`` when nobody has stated it.
    value_spread : factor f: the value is believed to lie within [value / f, value * f] with 90 %.
    horizon_days : how long the decision is to hold.
    salt : fresh per experiment, so that readers are split anew.
    shadow : arms that are computed but never shown.
    owner : who decides.

    Examples
    --------
    >>> arms = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5))
    >>> Experiment("related", "Does it pay?", "status_quo", arms).goal
    'views_per_session'
    """

    name: str
    question: str
    control: str
    arms: tuple[Arm, ...]
    goal: str = "views_per_session"
    guardrails: Mapping[str, float] = field(default_factory=dict)
    secondary: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()
    caps: Mapping[str, int] = field(default_factory=dict)
    slot: str = "article.related"
    layer: str = "related"
    window_days: float = 7.0
    planned_days: float = 28.0
    minimum_days: float = 14.0
    smallest_uplift: float = 0.01
    level: float = 0.95
    value_per_view: float | None = None
    value_spread: float = 2.0
    currency: str = "EUR"
    horizon_days: int = 365
    salt: str = ""
    shadow: tuple[str, ...] = ()
    owner: str = "product owner"

    def __post_init__(self) -> None:
        faults = list(self._faults())
        if len(faults) == 1:
            raise ExperimentError(faults[0])
        if faults:
            raise ExperimentError(f"experiment '{self.name}' cannot be run as written:", faults=faults)

    def _faults(self) -> list[str]:
        where = f"experiment '{self.name}': "
        names = [arm.name for arm in self.arms]
        total = math.fsum(arm.share for arm in self.arms)
        checks = [
            (bool(self.name) and all(c.isalnum() or c in "_-" for c in self.name), "the name may hold letters, digits, _ and - only."),
            (len(names) >= 2, "at least two arms are needed."),
            (len(set(names)) == len(names), "an arm is named twice."),
            (self.control in names, f"control '{self.control}' is not one of the arms: {', '.join(names)}."),
            (all(arm.kind in KINDS for arm in self.arms), f"kind must be one of {', '.join(KINDS)}."),
            (all(arm.audience in AUDIENCES for arm in self.arms), f"audience must be one of {', '.join(AUDIENCES)}."),
            (all(0 < arm.share <= 1 for arm in self.arms), "every share must lie in (0, 1]."),
            (abs(total - 1) < 1e-9, f"shares add up to {total:.6g}, they must add up to 1."),
            (0 < self.window_days <= self.planned_days, "window_days must be positive and not exceed planned_days."),
            (self.planned_days >= self.minimum_days, f"planned_days {self.planned_days:g} is below minimum_days {self.minimum_days:g}."),
            (0.5 <= self.level < 1, "level must lie in [0.5, 1)."),
            (self.value_spread >= 1, "value_spread must be at least 1."),
            (all(m > 0 for m in self.guardrails.values()), "guardrails: every margin must be above 0."),
            (all(type(cap) is int and cap > 0 for cap in self.caps.values()), "caps: every one must be a whole number above 0."),
            (len(self.segments) <= MOST_SEGMENTS, f"at most {MOST_SEGMENTS} segments may be named."),
            (len(set(self.segments)) == len(self.segments), "a segment is named twice."),
        ]
        checks += [(name in SEGMENTS, f"no segment is called '{name}'; {nearest(name, SEGMENTS)}") for name in self.segments]
        return [where + says for good, says in checks if not good]

    @property
    def audience(self) -> Audience:
        """``agreed`` as soon as one arm uses a reader's own history, so that all arms get the same readers."""
        return "agreed" if any(arm.audience == "agreed" for arm in self.arms) else "all"

    @property
    def shares(self) -> dict[str, float]:
        """Planned share per arm, in the order of the plan."""
        return {arm.name: arm.share for arm in self.arms}

    @property
    def window(self) -> timedelta:
        return timedelta(days=self.window_days)

    def arm(self, name: str) -> Arm:
        """Return the arm called ``name``; raises :class:`ExperimentError` when the plan has none."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise ExperimentError(f"experiment '{self.name}' has no arm '{name}'; arms: {', '.join(self.shares)}.")

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain JSON values; :meth:`from_dict` reads it back."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, plan: Mapping[str, Any]) -> Experiment:
        """Build a plan from JSON or TOML values; unknown keys are refused by name."""
        values = dict(plan)
        unknown = sorted(set(values) - set(cls.__slots__))
        if unknown:
            raise ExperimentError(
                f"experiment '{values.get('name', '?')}': unknown key {', '.join(unknown)}.", f"Known: {', '.join(cls.__slots__)}."
            )
        arms = tuple(_arm(arm, str(values.get("name", "?"))) for arm in values.pop("arms", ()))
        for key in ("secondary", "segments", "shadow"):
            values[key] = tuple(values.get(key, ()))
        try:
            return cls(arms=arms, **values)
        except TypeError as error:
            raise ExperimentError(f"experiment '{values.get('name', '?')}': {error}.", "Give name, question, control and arms.") from error


def _arm(values: Mapping[str, Any], name: str) -> Arm:
    unknown = sorted(set(values) - set(Arm.__slots__))
    if unknown:
        raise ExperimentError(
            f"experiment '{name}': an arm has the unknown key {', '.join(unknown)}.", f"Known: {', '.join(Arm.__slots__)}."
        )
    return Arm(**values)


def utc(at: datetime) -> datetime:
    """Return ``at`` as an aware UTC time; a naive time is refused.

    Examples
    --------
    >>> utc(datetime(2026, 1, 1, tzinfo=UTC)).isoformat()
    '2026-01-01T00:00:00+00:00'
    """
    if at.tzinfo is None:
        raise ExperimentError(f"time {at.isoformat()} has no zone.", "Give an aware datetime, for example with tzinfo=UTC.")
    return at.astimezone(UTC)
