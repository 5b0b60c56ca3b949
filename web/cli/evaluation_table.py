"""What ``presslab evaluate`` prints for a person."""

from __future__ import annotations

from typing import Any

__all__ = ["show"]

FIGURES = {
    "hit_rate_at_10": "hit rate at 10 ",
    "recall_at_10": "recall at 10 ",
    "range": "range ",
    "ndcg_at_10": "nDCG at 10 ",
    "mrr_at_10": "MRR at 10 ",
    "cold": "cold ",
    "warm": "warm ",
    "seconds": "seconds ",
}


def show(found: dict[str, Any]) -> None:
    """Print the arms and their pairs; before, what of the log was left out; before and after a random split, that it is one."""
    from web.cli.output import print_table, tell

    warning = found.get("warning")
    if warning:
        tell(f"WARNING, {warning}\n")
    if found["refused"]:
        why = "; ".join(f"{count:,} times {reason}" for reason, count in sorted(found["refused"].items()))
        tell(f"{sum(found['refused'].values()):,} of {found['read']:,} rows of the log could not be used: {why}.")
    for note in found["notes"]:
        tell(note)
    arms = [arm | {"range": f"{arm['low']:.3f} to {arm['high']:.3f}"} for arm in found["arms"]]
    known = [key for key in FIGURES if key in arms[0]]
    print_table(
        _title(found), ("arm", *(FIGURES[key] for key in known)), [(a["arm"], *(_figure(key, a[key]) for key in known)) for a in arms]
    )
    readers = "recall_at_10" in arms[0]
    titles = ("a better for ", "b better for ") if readers else ("only a hits ", "only b hits ")
    print_table(f"Pairs on the same {'readers' if readers else 'queries'}", ("a", "b", *titles, "p ", "a - b "),
                [(p["a"], p["b"], p["wins"], p["losses"], f"{p['p']:.2g}" if p["p"] else "below 1e-300",
                  f"{p['low']:+.3f} to {p['high']:+.3f}") for p in found["pairs"]])  # fmt: skip
    if found["pairs"] and not readers:
        tell("p takes every click for itself; the range takes the clicks of a reader together and says what to expect of other readers.")
    if warning:
        tell(f"\n{found['split']} split: not what readers would see.")


def _title(found: dict[str, Any]) -> str:
    hours = f", hours {found['from']:g} to {found['to']:g}" if found["from"] is not None else ""
    return f"{found['protocol']} · {found['queries']:,} queries{hours} · {found['split']} split"


def _figure(key: str, value: Any) -> str:
    if value is None:
        return "none asked"
    return value if isinstance(value, str) else f"{value:.{1 if key == 'seconds' else 3}f}"
