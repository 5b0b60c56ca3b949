"""A stored report as a decision memo: what the template shows, in its order. Joins words; computes no statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from web.charts.forest import Forest, ForestRow, draw_forest
from web.formatting import chance, count, date, in_unit, interval, number, percent, share, signed
from web.owner.beside import beside_of, not_together
from web.owner.best import assumed, best_rows
from web.owner.box import VerdictBox, box_of, sentences_of
from web.owner.groups import Groups, groups_of
from web.owner.trusted import TrustLine, trust_lines
from web.owner.varied import Varied, varied_of
from web.owner.words import (
    AUDIENCES,
    KINDS,
    arm_label,
    badge_of,
    capital,
    metric_says,
    spoken,
)
from web.owner.worth import Money, money_of

__all__ = ["ArmLine", "Memo", "memo_of", "number_rows"]

ROLES = ("goal", "secondary", "guardrail")
ROLE_WORDS = {"goal": "decides", "secondary": "to look at", "guardrail": "must not get worse"}
UNUSUAL = 0.5


@dataclass(frozen=True, slots=True)
class ArmLine:
    """One arm as the header shows it."""

    label: str
    kind: str
    says: str
    readers: str
    share: str


@dataclass(frozen=True, slots=True)
class Memo:
    """Everything the report page shows."""

    name: str
    question: str
    badge: tuple[str, str]
    owner: str
    facts: tuple[tuple[str, str], ...]
    arms: tuple[ArmLine, ...]
    verdict: VerdictBox
    trusted: bool
    checks: tuple[TrustLine, ...]
    forest: Forest | None
    forest_note: str
    model_note: str
    money: Money | None
    money_reason: str
    level: float
    looks: tuple[tuple[str, str, str, str], ...] = ()
    beside: tuple[str, ...] = ()
    varied: Varied | None = None
    groups: tuple[Groups, ...] = ()
    hangs: str = ""
    best: tuple[tuple[str, str, str], ...] = ()
    assumed: str = ""
    log: tuple[Mapping[str, Any], ...] = ()
    stale: str = ""
    snapshot: str = ""
    as_of: tuple[tuple[str, Any], ...] = field(default=())


def memo_of(report: Mapping[str, Any]) -> Memo:
    """Return the memo of a report in the shape of DESIGN §8; everything beyond that shape may be missing."""
    verdict = report["verdict"]
    dates = report.get("dates") or {}
    kinds = {arm["name"]: arm["kind"] for arm in report["arms"]}
    forest, note = _forest(report, kinds)
    roi = report.get("roi")
    sentences = sentences_of(report)
    return Memo(
        name=report["experiment"],
        question=report.get("question") or f"Experiment {report['experiment']}",
        badge=badge_of(report.get("state") or "stopped", verdict),
        owner=report.get("owner") or "nobody",
        facts=_facts(report, dates),
        arms=tuple(_arm(arm) for arm in report["arms"]),
        verdict=box_of(report, sentences),
        trusted=verdict["key"] != "do_not_use",
        checks=trust_lines(report["checks"]),
        forest=forest,
        forest_note=note,
        model_note=next((s for s in sentences if s.startswith("Our best guess:")), ""),
        money=money_of(roi, kinds, control=report["control"]) if roi else None,
        money_reason=report.get("roi_reason") or "nobody has stated what an article view is worth",
        level=report["level"],
        looks=tuple(_look(look) for look in report.get("looks") or ()),
        beside=beside_of(report["effects"]),
        varied=varied_of(report.get("diversity")),
        groups=groups_of(report.get("segments") or ()),
        hangs=(report.get("belief") or {}).get("says") or "",
        best=best_rows(report),
        assumed=assumed(report),
        log=tuple(report.get("log") or ()),
        stale=report.get("stale") or "",
        snapshot=report.get("snapshot") or "not named",
        as_of=(("Data up to", dates.get("until")), ("Computed", report.get("computed_at")), ("Next", report.get("next_refresh"))),
    )


def _look(look: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Day, comparison, range in words, and how much of what the plan wants to know was known then."""
    who = f"{capital(arm_label(look['arm']))} against {arm_label(look['against'])}"
    return number(look["day"]), who, interval(look["low"], look["high"]), share(look["time"])


def _facts(report: Mapping[str, Any], dates: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    audience = AUDIENCES.get(report.get("audience") or "all", "all readers")
    part = report.get("audience_share")
    length = f"{number(dates.get('days'))} of {number(dates.get('planned_days'))} days" if dates.get("planned_days") else "not recorded"
    if report.get("state") == "running" and dates.get("until") and dates["until"] >= (dates.get("planned_end") or "9"):
        length += "; it still runs, what readers do after that does not count"
    return (
        ("Owner", report.get("owner") or "nobody"),
        ("Ran", f"{date(dates.get('start'), missing='not started')} to {date(dates.get('until'), missing='now')} ({length})"),
        ("Who", audience + (f", {percent(part)} of all" if part is not None else "")),
        ("Readers", f"{count(sum(arm.get('readers') or 0 for arm in report['arms']))} (per device)"),
        ("Signals between arms", report.get("signals") or "shared"),
    )


def _arm(arm: Mapping[str, Any]) -> ArmLine:
    got = "nobody so far" if arm.get("share") is None else f"{share(arm['share'])} of readers"
    return ArmLine(
        capital(arm_label(arm["name"])), arm["kind"], KINDS.get(arm["kind"], arm["kind"]), count(arm.get("readers")),
        f"{got}, {share(arm.get('planned_share'), missing='share not recorded')} planned",
    )  # fmt: skip


def _forest(report: Mapping[str, Any], kinds: Mapping[str, str]) -> tuple[Forest | None, str]:
    effects = sorted(report["effects"], key=lambda e: ROLES.index(e["role"]) if e["role"] in ROLES else len(ROLES))
    rows = [_row(effect, report, kinds) for effect in effects]
    early = [e for e in effects if e["status"] == "insufficient" and "planned end" in (e.get("reason") or "")]
    if not rows:
        return None, "No effect was computed: no reader has completed the window yet."
    if early and all(row.words.startswith(_status("insufficient")) for row in rows):
        return None, "Not shown yet. Effects appear once, at the planned end, so that looking early cannot mislead anybody."
    note = "Guardrails may be looked at any day; the rest follows at the end." if early else not_together(effects)
    return draw_forest(rows, label=lambda value: percent(value, plus=True)), note


def _row(effect: Mapping[str, Any], report: Mapping[str, Any], kinds: Mapping[str, str]) -> ForestRow:
    relative, anytime = effect.get("relative") or {}, effect.get("anytime") or {}
    found = relative if relative.get("low") is not None else anytime if effect["status"] == "insufficient" else {}
    low, high, estimate = found.get("low"), found.get("high"), relative.get("estimate")
    own = effect.get("margin_unit") or ""
    unit = own or effect.get("unit") or ""
    apart = _apart(effect) if own or low is None else None
    if apart is not None:
        low = high = estimate = None
        words = f"{signed(apart[0])} to {signed(apart[1])} {unit}".rstrip()
        words += f", {number(effect['margin'])} {unit} allowed" if own and effect.get("margin") else ""
        words += "" if own else f"; {effect.get('reason') or 'no relative change can be estimated'}"
    elif low is None or high is None:
        low = high = estimate = None
        words = spoken(f"{_status(effect['status'])}: {effect.get('reason') or 'no reason was stored'}")
    else:
        words = interval(low, high) + (
            ", unusually large; check before believing" if estimate is not None and abs(estimate) > UNUSUAL else ""
        )
    limit = _limit(effect, effect.get("margin", (report.get("guardrails") or {}).get(effect["metric"])))
    return ForestRow(
        label=f"{capital(arm_label(effect['arm']))} against {arm_label(effect['against'])}",
        group=f"{effect.get('metric_says') or metric_says(effect['metric'])} ({ROLE_WORDS.get(effect['role'], effect['role'])})",
        kind=kinds.get(effect["arm"], "other"),
        estimate=estimate, low=low, high=high, words=words, limit=None if own else limit,
        estimate_says=_measured(effect, unit if apart else ""),
        limit_says=f"{signed(limit)} {own}" if own and limit is not None else "none set",
    )  # fmt: skip


def _measured(effect: Mapping[str, Any], unit: str) -> str:
    """The difference in the metric's own unit, where it has no relative one."""
    missing = "not yet" if effect["status"] == "insufficient" else "not estimable"
    found = (effect.get("absolute") or {}).get("estimate") if unit else None
    return f"{signed(found)} {unit}" if found is not None else missing


def _apart(effect: Mapping[str, Any]) -> tuple[float, float] | None:
    """The difference in the metric's own unit, where its margin is one; the one that may be looked at before the end."""
    absolute, anytime = effect.get("absolute") or {}, effect.get("anytime") or {}
    early = effect["status"] == "insufficient"
    low, high = (anytime.get(f"difference_{end}") if early else absolute.get(end) for end in ("low", "high"))
    return None if low is None or high is None else (low, high)


def _limit(effect: Mapping[str, Any], margin: float | None) -> float | None:
    if margin is None or effect["role"] != "guardrail":
        return None
    return margin if effect.get("direction") == "down" else -margin


def _status(status: str) -> str:
    known = {"insufficient": "not yet", "no_variation": "no variation", "undefined_for_arm": "not defined for this arm"}
    return known.get(status, "not estimable")


def number_rows(report: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return head and rows of the table "numbers and method": every comparison in full."""
    level = percent(report["level"])
    head = (
        "Measure", "Comparison", "Readers", "Values", "Difference", f"{level} range", "p", "Relative", f"{level} range, relative",
        "Range that decides", "Adjusted for what readers did before", "q", "Best guess", "Chance it is better", "Method",
    )  # fmt: skip
    return head, [_numbers(effect) for effect in report["effects"]]


def _numbers(effect: Mapping[str, Any]) -> tuple[str, ...]:
    arm, against, unit = effect["arm"], effect["against"], effect.get("unit") or ""
    absolute, relative, family, belief = (effect.get(key) or {} for key in ("absolute", "relative", "family", "posterior"))
    why = f"{_status(effect['status'])}: {effect.get('reason')}" if effect["status"] not in ("ok", "guarded") else "not estimable"
    both = [in_unit((effect.get("values") or {}).get(name), unit, missing="not shown") for name in (arm, against)]
    low, high = absolute.get("low"), absolute.get("high")
    return (
        metric_says(effect["metric"]),
        f"{arm_label(arm)} against {arm_label(against)}",
        " / ".join(count((effect.get("n") or {}).get(name)) for name in (arm, against)),
        " / ".join(both),
        signed(absolute.get("estimate"), missing=why),
        f"{signed(low)} to {signed(high)}" if low is not None else why,
        number(absolute.get("p"), missing=why),
        percent(relative.get("estimate"), plus=True, missing=why),
        interval(relative.get("low"), relative.get("high"), missing=why),
        f"{signed(family['low'])} to {signed(family['high'])}" if family else "only for the deciding measure",
        _adjusted(effect),
        number(effect.get("q"), missing="only where several are looked at"),
        percent(belief.get("mean"), plus=True, missing="only for the deciding measure"),
        chance(belief.get("p_better"), missing="only for the deciding measure"),
        effect.get("method") or "not stored",
    )


def _adjusted(effect: Mapping[str, Any]) -> str:
    found = effect.get("adjusted") or {}
    relative = found.get("relative") or {}
    if relative.get("low") is not None:
        return interval(relative["low"], relative["high"])
    missing = effect.get("adjusted_reason") or "nothing is known of them before"
    return f"{signed(found['low'])} to {signed(found['high'])}" if found.get("low") is not None else missing
