"""A report and a summary as a person reads them in a terminal: the sentence first, the numbers last."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

from rich.console import Console

from analysis.words import change, rounded
from web.cli.output import print_marked, print_table
from web.formatting import chance, money
from web.owner.words import decided, settled, spoken

__all__ = ["print_report", "print_summary"]

MARKS = {"ok": "✓", "warn": "!", "block": "✗"}


def print_report(report: Mapping[str, Any]) -> None:
    """Write verdict, trust, effects and money."""
    out = Console(file=sys.stdout, highlight=False)
    out.print(f"\n{report['question']}\n\n[bold]{spoken(report['verdict']['sentence'])}[/bold]")
    print_marked([("·", spoken(reason)) for reason in report["verdict"]["reasons"]])
    if decision := report.get("decision"):
        out.print(f"\n[bold]{decided(decision['arm'])}.[/bold] ", end="")
        out.print(settled(decision), markup=False)
    out.print("\n[bold]Can we trust it?[/bold]")
    print_marked([(MARKS[check["state"]], spoken(check["says"])) for check in report["checks"]])
    out.print()
    print_table("Readers", ("arm", "kind", "readers ", "share ", "planned "),
                [(a["name"], a["kind"], f"{a['readers']:,}", _share(a["share"]), _share(a["planned_share"])) for a in report["arms"]])  # fmt: skip
    out.print()
    print_table("What changed", ("metric", "role", "arm", "against", "change ", "range"), [_effect(effect) for effect in report["effects"]])
    for segment in report.get("segments") or ():
        out.print()
        print_table(f"For whom, by {segment['segment']}: {segment['arm']} against {segment['against']} (look, do not decide)",
                    ("group", "readers ", "change ", "range"), [_group(group) for group in segment["groups"]])  # fmt: skip
        out.print(segment["says"])
    if report.get("diversity"):
        out.print()
        print_table("How varied the articles were", ("arm", "different ", "coverage", "Gini coefficient"),
                    [(a["arm"], f"{a['articles']:,}", _own(a["coverage"], ".1%"), _own(a["gini"], ".3f")) for a in report["diversity"]["arms"]])  # fmt: skip
    belief, roi = report.get("belief") or {}, report.get("roi")
    if belief.get("says"):
        out.print(f"\n{spoken(belief['says'])}")
    if roi:
        out.print()
        title = f"What it is worth over {roi['horizon_days']} days"
        amount = partial(money, currency=roi["currency"])
        print_table(title, ("arm", "expected ", "5 to 95 in 100", "earns money ", "worth most "),
                    [(s["arm"], amount(s["expected"]), f"{amount(s['low'])} to {amount(s['high'])}", "–" if s["arm"] == report["control"] else chance(s["p_positive"]), chance(s["p_best"]))
                     for s in roi["scenarios"]])  # fmt: skip
        out.print(f"\n{roi['next']}")


def _own(found: Mapping[str, Any], form: str) -> str:
    if found["low"] is None:
        return f"– {found['reason']}"
    return f"{found['estimate']:{form}} ({found['low']:{form}} to {found['high']:{form}})"


def _effect(effect: Mapping[str, Any]) -> tuple[str, ...]:
    return effect["metric"], effect["role"], effect["arm"], effect["against"], *_change(effect)


def _group(group: Mapping[str, Any]) -> tuple[str, ...]:
    return group["group"], f"{sum(group['n'].values()):,}", *_change(group)


def _change(found: Mapping[str, Any]) -> tuple[str, str]:
    relative, absolute, unit = found.get("relative") or {}, found.get("absolute") or {}, found.get("margin_unit") or ""
    if relative.get("low") is not None and not unit:
        return change(relative["estimate"]), f"{change(relative['low'])} to {change(relative['high'])}"
    if absolute.get("low") is not None:  # also where no relative change can be told
        unit = f" {unit or found.get('unit') or ''}".rstrip()
        estimate, low, high = (f"{rounded(absolute[key]):+g}" for key in ("estimate", "low", "high"))
        return f"{estimate}{unit}", f"{low} to {high}{unit}"
    return "–", found.get("reason") or found["status"]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def print_summary(summary: Mapping[str, Any]) -> None:
    """Write one line per metric, arm and look of an imported test; differences in the metric's own unit."""
    rows = summary["metrics"]
    looks = len({row["look"] for row in rows}) > 1
    heads = ("metric", "arm", *(("look ",) if looks else ()), "difference ", "range", "sign test p ", "note")
    print_table(summary.get("name", "Imported test"), heads, [_summary(row, looks=looks) for row in rows])
    for note in summary.get("notes", ()):
        Console(file=sys.stdout, highlight=False).print(note)


def _summary(row: Mapping[str, Any], *, looks: bool) -> tuple[str, ...]:
    difference, low, high = (None if row.get(key) is None else f"{rounded(row[key]):+g}" for key in ("estimate", "low", "high"))
    look = (f"{row['look']:g}",) if looks else ()
    p = "–" if row.get("sign_p") is None else f"{row['sign_p']:.4f}"
    return row["metric"], row["arm"], *look, difference or "–", "–" if low is None else f"{low} to {high}", p, row.get("reason") or ""
