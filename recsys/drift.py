"""Has what goes into the models moved? Each day is compared with normal days, not with a fixed threshold.

``python -m recsys.drift --home H --until US`` runs in a process of its own, prints one JSON line and writes
``home/drift/current.json``; it ends with 0, or with 3 when there is nothing to compare.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import fdtrc, fdtri

from experiments.clock import moment
from experiments.content import load_catalogue
from experiments.errors import DataError
from experiments.events import lake
from experiments.files import replace_json
from experiments.serving.artefacts import load_current
from experiments.serving.recommender import Catalogue
from experiments.serving.signals import HOUR, Reads
from recsys.interactions import to_reads
from recsys.one_line import tell

__all__ = ["Input", "divergence", "inputs", "main", "moved", "profile"]

DAY = 24 * HOUR
RECENT_DAYS, MOST_DAYS, LEAST_DAYS, LEAST_READS = 3, 28, 14, 50
ALARM = 0.0001  # of one input and one day, after Benjamini-Hochberg
UNSURE = 3.0  # standard errors of how much days differ beyond chance
WITHOUT_VECTOR = 0.05
AGES_H = (1, 3, 6, 12, 24, 48, 72, 168)
EARLIER = (1, 2, 3, 5, 8)
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Input:
    """One input of the models as a bin per read.

    Parameters
    ----------
    name, says : for people. bins : what each holds. codes : (reads,) int64, bin of each read.
    """

    name: str
    says: str
    bins: tuple[str, ...]
    codes: npt.NDArray[np.int64]


def inputs(reads: Reads, catalogue: Catalogue) -> list[Input]:
    """Return what the models are fed with, one bin per read."""
    age_h = (reads.at - catalogue.published[reads.article]) / HOUR
    place, earlier = _place(reads.session), _earlier(reads)
    hours = tuple(f"{h:02d}–{h + 3:02d} h" for h in range(0, 24, 3))
    return [
        Input("section", "section of the article", catalogue.sections, catalogue.section[reads.article].astype(np.int64)),
        Input("hour", "hour of the day, UTC", hours, (reads.at % DAY // (3 * HOUR)).astype(np.int64)),
        Input("article_age", "age of the article when read", _steps(AGES_H, " h"), np.searchsorted(AGES_H, age_h, side="right")),
        Input("place", "place of the read in its session", ("1st", "2nd", "3rd", "4th", "5th or later"), np.minimum(place, 4)),
        Input(
            "earlier", "reads of the same reader in the 24 h before", _steps(EARLIER, ""), np.searchsorted(EARLIER, earlier, side="right")
        ),
    ]


def _steps(edges: Sequence[int], unit: str) -> tuple[str, ...]:
    inner = tuple(f"{low} to {high}{unit}" for low, high in pairwise(edges))
    return (f"under {edges[0]}{unit}", *inner, f"{edges[-1]}{unit} or more")


def _place(session: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """0 for the first read of a session; ``session`` is in order of time."""
    order = np.argsort(session, kind="stable")
    starts = np.flatnonzero(np.diff(session[order], prepend=-1) != 0)
    place = np.empty(len(session), np.int64)
    place[order] = np.arange(len(session)) - np.repeat(starts, np.diff(np.append(starts, len(session))))
    return place


def _earlier(reads: Reads) -> npt.NDArray[np.int64]:
    """Reads of the same reader in the 24 h before each read."""
    if not len(reads):
        return np.zeros(0, np.int64)
    start = float(reads.at[0])
    key = reads.reader * (float(reads.at[-1]) - start + 2 * DAY) + (reads.at - start) + DAY
    order = np.argsort(key, kind="stable")
    counts = np.empty(len(reads), np.int64)
    counts[order] = np.arange(len(reads)) - np.searchsorted(key[order], key[order] - DAY)
    return counts


def divergence(p: npt.ArrayLike, q: npt.ArrayLike) -> float:
    """Jensen-Shannon divergence of two histograms, in nats: 0 for equal shares, log 2 at most.

    Examples
    --------
    >>> divergence([5, 5], [50, 50]), round(divergence([1, 0], [0, 1]), 4)
    (0.0, 0.6931)
    """
    a, b = (np.asarray(h, np.float64) / np.sum(h) for h in (p, q))
    middle = (a + b) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(h > 0, h * np.log(h / middle), 0.0).sum() for h in (a, b)]
    return float(max(0.0, sum(parts) / 2))


@dataclass(frozen=True, slots=True)
class _Days:
    """Divergences of the reference days and of the recent ones, and what of each is chance: the days' own numbers of reads."""

    normal: Floats
    recent: Floats
    normal_chance: Floats
    recent_chance: Floats

    def ratios(self, surely: float) -> tuple[Floats, float]:
        """Return each reference day, and the mean recent one, over what is to be expected of it.

        ``surely`` standard errors are added to how much days differ beyond chance: more of it lets less be expected of few reads
        beside many, so that whoever takes the worse of both signs rings neither for a fall in traffic nor for a rise.
        """
        if not self.normal.any():
            return np.array([self.normal_chance.mean()]), float(self.recent.mean())
        weights = self.normal_chance**-2.0 / (self.normal_chance**-2.0).sum()
        beyond = self.normal - self.normal_chance
        mean = float(weights @ beyond)
        between = max(0.0, mean + surely * float(np.sqrt(weights**2 @ (beyond - mean) ** 2)))
        return self.normal / (self.normal_chance + between), float((self.recent / (self.recent_chance + between)).mean())


def _days(reference: Floats, recent: Floats) -> _Days:
    """Compare each day with the pooled reference days, a reference day with the others.

    By chance alone a day of n reads is (bins - 1) / 8 (1 / n + 1 / N) away from N others: twice the divergence is a quarter of
    chi-squared per read, to the first order.
    """
    pooled = reference.sum(axis=0)
    normal = np.array([divergence(day, pooled - day) for day in reference])
    degrees = (np.count_nonzero(pooled) - 1) / 8
    sizes, new = reference.sum(axis=1), recent.sum(axis=1)
    chance = degrees * (1 / sizes + 1 / (pooled.sum() - sizes)) if normal.any() else np.array([_one_elsewhere(reference)])
    return _Days(normal, np.array([divergence(day, pooled) for day in recent]), chance, degrees * (1 / new + 1 / pooled.sum()))


def moved(histograms: Mapping[str, tuple[Floats, Floats]], *, alarm: float = ALARM) -> dict[str, dict[str, Any]]:
    """Judge the recent days of every input against the scatter of the reference days.

    Parameters
    ----------
    histograms : name -> (reference days (R, bins), recent days (k, bins)), counts.

    Returns
    -------
    name -> divergence (mean of the recent days), limit, p, moved. Fewer than 14 reference days: limit and p are None.

    References
    ----------
    OPERATIONS §6: a day's divergence from the pooled reference; leave-one-out reference days give mean m and sd s;
    mean of the recent days over m against F(k nu, R nu); Benjamini-Hochberg. Other than there, nu = (1 - 3 / R) 2 / mean over inputs
    of (s / m)^2: the median of 2 (m / s)^2 is too large with few days and five inputs, so that chance alone rang too often.
    An input that was the same on all reference days is judged as if one read of each had been elsewhere, and with s = m.
    A day of few reads is farther away by chance: each is divided by what its size and the scatter between days let expect (:class:`_Days`).
    """
    told: dict[str, dict[str, Any]] = {}
    compared: dict[str, _Days] = {}
    for name, (reference, recent) in histograms.items():
        compared[name] = _days(reference, recent)
        told[name] = {"divergence": float(compared[name].recent.mean()), "limit": None, "p": None, "moved": False}
    days = min((len(reference) for reference, _ in histograms.values()), default=0)
    usable = [name for name, (reference, _) in histograms.items() if days >= LEAST_DAYS and reference.shape[1] > 1]
    for surely in (-UNSURE, UNSURE) if usable else ():
        ratios = {name: compared[name].ratios(surely) for name in usable}
        varied = [normal for name, (normal, _) in ratios.items() if compared[name].normal.any()]
        scatter = float(np.mean([(normal.std(ddof=1) / normal.mean()) ** 2 for normal in varied] or 1.0))
        for name, (normal, now) in ratios.items():
            nu = (1 - 3 / days) * 2 / (scatter if compared[name].normal.any() else 1.0)
            degrees = len(compared[name].recent) * nu, days * nu
            p = float(fdtrc(*degrees, now / normal.mean()))
            if told[name]["p"] is None or p > told[name]["p"]:
                one = told[name]["divergence"] / now if now else 1.0
                told[name] |= {"p": p, "limit": float(one * normal.mean() * fdtri(*degrees, 1 - alarm))}
    ordered = sorted(usable, key=lambda name: told[name]["p"])
    passed = [rank for rank, name in enumerate(ordered, start=1) if told[name]["p"] <= alarm * rank / len(ordered)]
    for name in ordered[: max(passed, default=0)]:
        told[name]["moved"] = True
    return told


def _one_elsewhere(reference: Floats) -> float:
    """How far a day would be from the others with one of its reads in another bin: the scatter of an input that never varied."""
    day = reference.mean(axis=0)
    other = day - np.eye(len(day))[day.argmax()] + np.eye(len(day))[day.argmin()]
    return divergence(other, day)


def profile(home: Path, *, until_us: int) -> dict[str, Any]:
    """Compare the last three days with up to 28 days before; writes and returns ``home/drift/current.json``.

    Raises
    ------
    DataError
        No recent day has enough reads.
    """
    catalogue, until = load_catalogue(home), until_us / 1e6
    since_us = round((until - (MOST_DAYS + RECENT_DAYS + 1) * DAY) * 1e6)
    reads = to_reads(lake.reads(home, until_us=until_us, since_us=since_us), catalogue)
    day = ((until - reads.at) // DAY).astype(np.int64)  # 0 is the last one
    sizes = np.bincount(day, minlength=1)
    full = [int(d) for d in np.flatnonzero(sizes >= LEAST_READS)]
    recent, reference = [d for d in full if d < RECENT_DAYS], [d for d in full if RECENT_DAYS <= d < RECENT_DAYS + MOST_DAYS]
    if not recent or not reference:
        raise DataError(
            f"there are {len(recent)} recent and {len(reference)} earlier days with at least {LEAST_READS} reads; one of each is needed.",
            "Wait for readers.",
        )
    everything = inputs(reads, catalogue)
    counted = {
        x.name: np.stack([np.bincount(x.codes[day == d], minlength=len(x.bins)) for d in [*reference, *recent]]).astype(float)
        for x in everything
    }
    judged = moved({name: (table[: len(reference)], table[len(reference) :]) for name, table in counted.items()})
    rows = [_row(x, counted[x.name], len(reference), judged[x.name]) for x in everything]
    armed = len(reference) >= LEAST_DAYS
    reason = (
        "" if armed else f"Judged from {LEAST_DAYS} normal days on; there are {len(reference)} so far. Distances are shown without a limit."
    )
    days = {"reference": len(reference), "recent": len(recent), "reads": len(reads)}
    models = _models(home, catalogue, reads.before(until, until - DAY))
    state = {"at": moment(until_us).isoformat(), "reason": reason, "inputs": rows, "models": models, "days": days}
    replace_json(home / "drift" / "current.json", state)
    return state


def _row(x: Input, counts: Floats, reference: int, judged: Mapping[str, Any]) -> dict[str, Any]:
    before, now = counts[:reference].sum(axis=0), counts[reference:].sum(axis=0)
    state = None if judged["limit"] is None else "warn" if judged["moved"] else "ok"
    shares = {"reference": (before / before.sum()).tolist(), "current": (now / now.sum()).tolist()}
    figures = {key: judged[key] for key in ("divergence", "limit", "p")}
    return {"name": x.name, "says": x.says, "bins": list(x.bins), "state": state, **shares, **figures}


def _models(home: Path, catalogue: Catalogue, reads: Reads) -> list[dict[str, Any]]:
    """Share of the last day's reads on articles for which a model has no vector."""
    found = []
    for folder in sorted((home / "models").glob("*")):
        loaded = load_current(home, folder.name)
        if loaded is None or "ids" not in loaded[1]:
            continue
        known = np.zeros(len(catalogue), bool)
        known[catalogue.known(loaded[1]["ids"])] = True
        share = float((~known[reads.article]).mean()) if len(reads) else None
        state = None if share is None else "warn" if share > WITHOUT_VECTOR else "ok"
        row = {"arm": folder.name, "version": loaded[1]["version"], "without_vector": share, "limit": WITHOUT_VECTOR, "state": state}
        found.append(row)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="recsys.drift", description="Compare the inputs of the models with normal days.")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--until", type=int, required=True, help="reads before this time, UTC microseconds")
    given = parser.parse_args(argv)

    def work() -> dict[str, Any]:
        state = profile(given.home, until_us=given.until)
        names = [row["name"] for row in state["inputs"] if row["state"] == "warn"]
        says = state["reason"] or (f"moved: {', '.join(names)}" if names else "nothing moved more than on normal days")
        return {"says": says, "models": state["models"], "days": state["days"]}

    return tell(work)


if __name__ == "__main__":
    sys.exit(main())
