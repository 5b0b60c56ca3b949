"""What can be checked of somebody's own file beside its form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from analysis.checks import Check, exposure, split
from analysis.own.plan import Wanted
from analysis.words import count

if TYPE_CHECKING:
    from experiments.events.reader_dates import Dates

__all__ = ["below_zero", "known_before", "one_arm", "split_as_planned"]


def known_before(metrics: Sequence[Wanted], dates: Dates | None, segments: Sequence[str]) -> tuple[Check, ...]:
    """Check that covariates and segments are older than the first exposure; where nobody said when they were known, say so."""
    covariates = sorted({m.pre for m in metrics if m.pre} | set(segments))
    if not covariates:
        return ()
    unknown = [name for name in covariates if dates is None or name not in dates.covariates]
    if not unknown:
        return (
            Check("look_ahead", "ok", 0.0, 0.0, None, "What was known of readers before is older than their first exposure, in every row."),
        )
    says = f"Nobody said when {', '.join(unknown)} was known, so it could hold what the test did. Give its column and that of the exposure."
    return (Check("look_ahead", "warn", None, 0.0, None, says),)


def split_as_planned(readers: Mapping[str, int], shares: Mapping[str, float] | None) -> tuple[Check, ...]:
    """Check the split against the planned shares (None: not known)."""
    if shares is None:
        return (Check("split", "warn", None, None, None, "No planned shares were given, so the split of readers could not be checked."),)
    return (split("split", {0: dict(readers)}, {0: dict(shares)}, ended=True),)


def one_arm(readers: Mapping[str, int], crossed: int, rows: str) -> tuple[Check, ...]:
    """Check that hardly any reader was seen in two arms (``crossed``, who are not among ``readers``; ``rows``: of theirs the first)."""
    exposed = sum(readers.values()) + crossed
    (found,) = (c for c in exposure(crossed=crossed, exposed=exposed, unknown_arms=0, clicks_without_exposure=0) if c.name == "one_arm")
    return (replace(found, says=f"{found.says.removesuffix('.')} ({rows})."),) if crossed else (found,)


def below_zero(rows: Mapping[str, tuple[int, str]]) -> tuple[Check, ...]:
    """Say which numerators are below zero in how many rows, and in which first."""
    if not rows:
        return ()
    (first, *others) = (f"{count(n, 'row')} ({where})" for n, where in rows.values())
    name, *names = rows
    says = ", ".join(
        [f"'{name}' is below zero in {first}", *(f"'{column}' in {found}" for column, found in zip(names, others, strict=True))]
    )
    total = float(sum(n for n, _ in rows.values()))
    return (Check("below_zero", "warn", total, 0.0, None, f"{says}; refunds are fine, counts are not."),)
