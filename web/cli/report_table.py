"""A report and a summary as a person reads them in a terminal: the sentence first, the numbers last."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from rich.console import Console

from web.cli.output import print_marked, print_table
from web.formatting import chance, count, interval, money, number, percent, share, signed
from web.owner.words import capital, decided, settled, spoken
from web.owner.worth import counted_on

__all__ = ["print_report", "print_summary"]

MARKS = {"ok": "✓", "warn": "!", "block": "✗"}


def print_report(report: Mapping[str, Any]) -> None:
    """Write verdict, trust, effects and money, rounded as on the page."""
    out, verdict = Console(file=sys.stdout, highlight=False, markup=False), report["verdict"]  # names may hold brackets
    out.print(f"\n{report['question']}\n")
    out.print(spoken(verdict["sentence"]), style="bold")
    print_marked([("·", spoken(reason)) for reason in verdict["reasons"] if reason.rstrip(".") not in verdict["sentence"]])
    if decision := report.get("decision"):
        out.print()
        out.print(f"{decided(decision['arm'])}.", style="bold", end=" ")
        out.print(settled(decision))
    out.print("\nCan we trust it?", style="bold")
    print_marked([(MARKS[check["state"]], spoken(check["says"])) for check in report["checks"]])
    out.print()
    print_table("Readers", ("arm", "kind", "readers ", "share ", "planned "),
                [(a["name"], a["kind"], count(a["readers"]), _share(a["share"]), _share(a["planned_share"])) for a in report["arms"]])  # fmt: skip
    out.print()
    print_table("What changed", ("metric", "role", "arm", "against", "change ", "range"), [_effect(effect) for effect in report["effects"]])
    _print_beside(out, report["effects"])
    for segment in report.get("segments") or ():
        out.print()
        print_table(f"For whom, by {segment['segment']}: {segment['arm']} against {segment['against']} (look, do not decide)",
                    ("group", "readers ", "change ", "range"), [_group(group) for group in segment["groups"]])  # fmt: skip
        out.print(segment["says"])
    if report.get("diversity"):
        out.print()
        print_table("How varied the articles were", ("arm", "different ", "coverage", "Gini coefficient"),
                    [(a["arm"], count(a["articles"]), _own(a["coverage"], percent), _own(a["gini"], number)) for a in report["diversity"]["arms"]])  # fmt: skip
    belief, roi = report.get("belief") or {}, report.get("roi")
    if belief.get("says"):
        out.print(f"\n{spoken(belief['says'])}")
    if roi:
        _print_money(out, roi, report["control"])
    elif report.get("roi_reason"):
        out.print(f"\nNo amount of money: {report['roi_reason']}.")


def _print_beside(out: Console, effects: Sequence[Mapping[str, Any]]) -> None:
    """What stands beside the ranges and decides nothing: what readers did before, and how many measures were looked at."""
    from analysis.own.effects import NO_COVARIATE

    rows = [
        (e["metric"], e["arm"], e["against"], *_adjusted(e, none=NO_COVARIATE), number(e.get("q"), missing="–"))
        for e in effects
        if e.get("adjusted") or e.get("q") is not None or (e["role"] == "goal" and e.get("adjusted_reason", NO_COVARIATE) != NO_COVARIATE)
    ]
    if rows:
        out.print()
        heads = ("metric", "arm", "against", "change ", "adjusted range", "q ")
        print_table("Adjusted for what readers did before; q for how many were looked at", heads, rows)


def _adjusted(effect: Mapping[str, Any], *, none: str) -> tuple[str, str]:
    """Adjusted change and range, or why a figure that was asked for adjusts nothing."""
    reason = effect.get("adjusted_reason") or none
    return _change(effect["adjusted"]) if effect["adjusted"] else ("–", "–" if reason == none else reason)


def _print_money(out: Console, roi: Mapping[str, Any], control: str) -> None:
    out.print()
    title = f"What it is worth over {roi['horizon_days']} days"
    amount = partial(money, currency=roi["currency"])
    print_table(title, ("arm", "expected ", "5 to 95 in 100", "earns money ", "worth most "),
                [(s["arm"], amount(s["expected"]), f"{amount(s['low'])} to {amount(s['high'])}", "–" if s["arm"] == control else chance(s["p_positive"]), chance(s["p_best"]))
                 for s in roi["scenarios"]])  # fmt: skip
    if value := roi.get("value_per_view"):
        low, middle, high = (amount(value[key]) for key in ("low", "middle", "high"))
        out.print(
            f"One view is worth {middle} (nine times out of ten {low} to {high}); {number(roi['views_per_day'])} article views a day."
        )
    for sentence in counted_on(roi):
        out.print(capital(spoken(sentence)))
    out.print(f"\n{spoken(roi['next'])}")


def _own(found: Mapping[str, Any], written: Callable[[float], str]) -> str:
    if found["low"] is None:
        return f"– {found['reason']}"
    return f"{written(found['estimate'])} ({written(found['low'])} to {written(found['high'])})"


def _effect(effect: Mapping[str, Any]) -> tuple[str, ...]:
    return effect["metric"], effect["role"], effect["arm"], effect["against"], *_change(effect)


def _group(group: Mapping[str, Any]) -> tuple[str, ...]:
    return group["group"], count(sum(group["n"].values())), *_change(group)


def _change(found: Mapping[str, Any]) -> tuple[str, str]:
    """Change and range; before the planned end the range of a guardrail that may be looked at, and no change."""
    early = found.get("anytime") or {} if found.get("status") == "insufficient" else {}
    unit = found.get("margin_unit") or ""
    relative, absolute = found.get("relative") or {}, found if "se" in found else found.get("absolute") or {}
    if early.get("difference_low") is not None:
        relative, absolute = early, {end: early[f"difference_{end}"] for end in ("low", "high")}
    if relative.get("low") is not None and not unit:
        return percent(relative.get("estimate"), plus=True, missing="–"), interval(relative["low"], relative["high"])
    if absolute.get("low") is not None:  # also where no relative change can be told
        unit = f" {unit or found.get('unit') or ''}".rstrip()
        estimate = absolute.get("estimate")
        return (
            f"{signed(estimate)}{unit}" if estimate is not None else "–",
            f"{signed(absolute['low'])} to {signed(absolute['high'])}{unit}",
        )
    return "–", found.get("reason") or found["status"]


def _share(value: float | None) -> str:
    return share(value, missing="–")


def print_summary(summary: Mapping[str, Any]) -> None:
    """Write one line per metric, arm and look of an imported test; differences in the metric's own unit."""
    rows = summary["metrics"]
    looks = len({row["look"] for row in rows}) > 1
    heads = ("metric", "arm", *(("look ",) if looks else ()), "difference ", "range", "sign test p ", "note")
    print_table(summary.get("name", "Imported test"), heads, [_summary(row, looks=looks) for row in rows])
    for note in summary.get("notes", ()):
        Console(file=sys.stdout, highlight=False, markup=False).print(note)


def _summary(row: Mapping[str, Any], *, looks: bool) -> tuple[str, ...]:
    difference, low, high = (None if row.get(key) is None else signed(row[key]) for key in ("estimate", "low", "high"))
    look = (f"{row['look']:g}",) if looks else ()
    p = "–" if row.get("sign_p") is None else f"{row['sign_p']:.4f}"
    return row["metric"], row["arm"], *look, difference or "–", "–" if low is None else f"{low} to {high}", p, row.get("reason") or ""
