"""The page of ``presslab calibrate --page``: for those who want to check us, every figure and how it came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from web.cli.peers import Peers

__all__ = ["HEADS", "cells", "markdown"]

Row = Mapping[str, Any]
HEADS = (
    *("estimator", "process", "readers", "false alarms", "down", "up", "coverage", "bias", "SE ratio", "power", "planned", "± error", "ok"),
)
TOOL_HEADS = ("tool", "down", "up", "coverage", "power", "down, relative", "up, relative", "coverage, relative", "power, relative")
TOOL_KEYS = tuple(f"{part}_{key}" for part in ("absolute", "relative") for key in ("down", "up", "coverage", "power"))
LEGEND = """False alarms: share of runs without any effect in which the range excludes zero (promised: 5 %), and how many of them point down
and up. Coverage: share of runs whose range holds the true effect. Bias: mean error of the estimate, in standard errors.
SE ratio: the standard error we report over the true one. Power: share that find the stated effect; planned: what the planner
promised. ± error: simulation error of a share of 5 %.

A row passes within three simulation errors of what is promised: 5 % and 95 %, bias within 0.05 standard errors, SE ratio 0.98 to
1.02 (from 400 readers on), power at most 1 point below the plan. Where the planner's formula is exact (effects of 10 % and less)
it must not promise too little either. Methods that may be cautious pass on the safe side.

Checks block at 1 in 1,000; power: how often they find the fault. Length of a test: false alarms are the share of six sites on
which the length chosen by what knowing is worth forgoes more than fourteen days do (none may); power is how much of that it saves.

Belief beside a model: the rule does nothing, the model makes so many times as much. False alarms: after how many tests one would
believe with 97.5 % or more that the rule takes something away (down) or adds something (up)."""
LIMIT_HEADS = ("readers", "false alarms", "down", "up", "coverage", "power")
LIMITS = """Few readers pay, they pay very different sums, and one arm is larger than the other: the difference is skewed, and a
range errs to one side or, with very few who pay, in all. Treated beside control, relative range with the guard against skew, 4,000
runs (simulation error of a tail 0.2 points). Equal arms, in the third row, do not have this fault; give money goals equal shares."""
PEERS = """The same readers, handed over as sums, in other tools' own environments. Every tool is used as its documentation says, with its
defaults, on 4,000 runs (1,000 where one looks again and again); spotify-confidence, being slow, on the first 1,000 (250) of them.
Simulation error at 4,000 runs: 0.2 points for a tail of 2.5 %, 0.3 points for coverage of 95 %.

Down, up: false alarms, first of the range of the difference, then of the relative range. Power: the share that find the effect.
Coverage is that of the ranges a tool gives. With several looks an alarm at any look counts, and a range that misses the truth at
any of them."""
PEER_NOTES = """tea-tasting has no rule for looking early; its ordinary range stands in that table for what happens then. gbstats 0.8.0 from the
package index installs only beside pandas 1.5 and numpy 1.26, so it needs an environment of its own. spotify-confidence 4.1.0 needs
pandas below 3; its bounds for several looks follow from the numbers of readers, so they are asked for once and applied to its range
at every look."""


def cells(row: Row) -> tuple[str, ...]:
    """Return one row as text, in the order of :data:`HEADS`."""
    shares = [_share(row[key]) for key in ("false_positive", "low_tail", "high_tail", "coverage")]
    more = [
        _plain(row.get("bias"), "{:+.3f}"),
        _plain(row.get("se_ratio"), "{:.3f}"),
        _share(row["power"]),
        _share(row.get("planned_power")),
    ]
    return row["estimator"], row["process"], f"{row['readers']:,}", *shares, *more, _share(row["mc_error"]), "✓" if row["pass"] else "✗"


def _limit(row: Row) -> tuple[str, ...]:
    return row["process"], *(_share(row[key]) for key in ("false_positive", "low_tail", "high_tail", "coverage", "power"))


def _share(value: float | None) -> str:
    return _plain(value, "{:.2%}")


def _plain(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), *("| " + " | ".join(line) + " |" for line in lines), ""]


def markdown(rows: Sequence[Row], notes: Sequence[str], *, command: str, peers: Peers | None = None, limits: Sequence[Row] = ()) -> str:
    """Return the page; ``limits`` are rows that are shown and not judged."""
    failed = sum(not row["pass"] for row in rows)
    state = "Every row passes." if not failed else f"{failed} of {len(rows)} rows do not pass."
    parts = [
        "# Calibration", "",
        "What our own statistics do when the truth is known. Every row goes through the functions that make a report.", "",
        f"Written by `{command}`; the same seed gives the same figures. {state}", "",
        LEGEND, "",
        *_table(HEADS, [cells(row) for row in rows]),
        *(line for note in notes for line in (note, "")),
        *(["## Where ranges err more than they promise", "", LIMITS, "", *_table(LIMIT_HEADS, [_limit(row) for row in limits])] if limits else []),
        *(line for row in rows if row.get("bins") for line in _bins(row)),
        *(_beside(peers) if peers else []),
    ]  # fmt: skip
    return "\n".join(parts).rstrip() + "\n"


def _bins(row: Row) -> list[str]:
    lines = [(f"{believed:.1%}", f"{happened:.1%}", f"{runs:,}") for believed, happened, runs in row["bins"]]
    says = "Truths drawn from what we believe beforehand: how often an arm was better, per tenth of the chance we gave it."
    return ["## Believed chances", "", says, "", *_table(("believed", "came true", "runs"), lines)]


def _beside(peers: Peers) -> list[str]:
    parts = ["## Beside other tools", "", PEERS, ""]
    for title, lines in peers.sets:
        parts += [f"### {title[0].upper()}{title[1:]}", ""]
        parts += _table(TOOL_HEADS, [(tool, *(_share(found[key]) for key in TOOL_KEYS)) for tool, found in lines])
    parts += ["### What a tool does not do", "", *(f"- {line}" for line in peers.refused), "", PEER_NOTES, ""]
    parts += ["### Where they differ on one input", ""]
    for title, said in peers.cases:
        parts += [f"{title[0].upper()}{title[1:]}:", "", *(f"- {tool}: {text}" for tool, text in said.items()), ""]
    return parts
