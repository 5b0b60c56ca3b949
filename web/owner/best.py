"""Which arm is best, as the numbers of a report tell it; joins words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from web.formatting import chance, number, percent
from web.owner.words import arm_label, capital

__all__ = ["assumed", "best_rows"]


def best_rows(report: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """Return (arm, chance that it is best for the goal, chance that it is worth most) of every arm; none before the end."""
    belief = report.get("belief") or {}
    money = {s["arm"]: s["p_best"] for s in (report.get("roi") or {}).get("scenarios") or ()}
    return tuple(
        (capital(arm_label(arm)), chance(best), chance(money.get(arm), missing="it has no price" if money else "no price was stated"))
        for arm, best in (belief.get("p_best") or {}).items()
    )


def assumed(report: Mapping[str, Any]) -> str:
    """Say what was believed before the test, and whose belief that was."""
    prior = report.get("prior")
    if not prior:
        return ""
    tests = prior.get("tests") or (0, 0)
    parts = [
        f"{what} {percent(width)} ({f'as {number(n)} finished tests found' if n else 'our assumption'})"
        for what, width, n in (
            ("what recommending changes", prior["interest"], tests[0]),
            ("what learning adds", prior["learning"], tests[1]),
        )
    ]
    expected = f"Expected before the test, as the usual size of an effect: {', '.join(parts)}."
    belief = report.get("belief") or {}
    if belief.get("shape") != "fat_tailed":
        return expected
    foretold = belief["foretold"]
    rare = f"once in {number(round(1 / foretold))} tests" if foretold > 1e-9 else "less than once in a thousand million tests"
    return f"{expected} Effects as far from that as the measured ones would come {rare}. So large ones were taken to be more common."
