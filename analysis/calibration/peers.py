"""The same simulated readers for other tools: what is handed over, and what their ranges are worth beside ours."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.boundaries import critical_values
from analysis.calibration.looks import FOUND
from analysis.calibration.readers import (
    ARTICLES,
    CONVERSIONS,
    KEYS,
    LEVEL,
    MINUTES,
    RARE,
    VISITS,
    Process,
    batches,
    moments,
    skews,
    sums_of,
    value,
)
from analysis.calibration.rows import BEFORE, adjusted_of, share_contrast_of, with_past
from analysis.effect import Contrast, Value, compare, interval_at
from analysis.moments import Moments
from analysis.sequential import LEAST_READERS, anytime_critical
from experiments.errors import DataError

__all__ = ["Claims", "PeerSet", "draw", "our_cases", "peer_sets", "standing"]

Floats = npt.NDArray[np.float64]
Claims = Mapping[str, Floats]  # "null" or "effect" and part -> (runs, looks, 4): estimate, low, high, p; nan where there is none
TRUTHS = ("null", "effect")


@dataclass(frozen=True, slots=True)
class PeerSet:
    """Readers of one process as sums, and how often arms are looked at.

    Parameters
    ----------
    sizes : readers (treated, control) per look.
    ratio : treated over control where there is an effect.
    looks : 1, or more with the readers of all looks so far.
    past : with what readers did before, for tools that adjust.
    planned : the last look is the planned end; otherwise there is none.
    """

    process: Process
    sizes: tuple[int, int]
    ratio: float
    looks: int = 1
    past: bool = False
    planned: bool = False

    @property
    def title(self) -> str:
        end = "to a planned end" if self.planned else "without an end"
        more = ", with their past" if self.past else f", {self.looks} looks {end}" if self.looks > 1 else ""
        return f"{self.process.name}, {self.sizes[0] * self.looks:,} and {self.sizes[1] * self.looks:,} readers{more}"

    def to_dict(self) -> dict[str, Any]:
        """Return what a tool must know about the set."""
        mean, yes = self.process.per_reader, self.process.zero_or_one
        known = {"columns": self.columns, "looks": self.looks, "past": self.past, "planned": self.planned}
        return {"title": self.title, "zero_or_one": yes, "mean": mean, **known}

    @property
    def columns(self) -> tuple[str, ...]:
        return (*KEYS, *BEFORE) if self.past else KEYS

    def truth(self, which: str, part: str) -> float:
        """Return the true change in the unit of ``part``."""
        change = self.ratio - 1 if which == "effect" else 0.0
        return change * self.process.mean if part == "absolute" else change


def peer_sets() -> tuple[PeerSet, ...]:
    """Return what is drawn for other tools."""
    return (
        PeerSet(VISITS, (200, 200), 1.15),
        PeerSet(VISITS, (50, 50), 1.15),
        PeerSet(VISITS, (300, 300), 1.15, past=True),
        PeerSet(MINUTES, (400, 400), 1.15),
        PeerSet(MINUTES, (60, 3_000), 1.15),
        PeerSet(CONVERSIONS, (400, 400), 1.3),
        PeerSet(RARE, (60, 60), 5 / 3),
        PeerSet(RARE, (300, 1_200), 5 / 3),
        PeerSet(ARTICLES, (200, 200), 1.15),
        PeerSet(ARTICLES, (30, 30), FOUND, looks=14),
        PeerSet(ARTICLES, (30, 30), FOUND, looks=14, planned=True),
    )


def draw(chosen: PeerSet, *, runs: int, seed: int) -> tuple[dict[str, npt.NDArray[np.int64]], Claims]:
    """Return the sums other tools get, and what we say about the same readers.

    Returns
    -------
    "null" or "effect", a slash and "treated" or "control" -> (runs, looks, 1 + k + k k): readers, sums of the k columns, sums
    of their products; and our own ranges in the shape of a tool's answer.
    """
    sums: dict[str, npt.NDArray[np.int64]] = {}
    claims: dict[str, Floats] = {}
    for number, which in enumerate(TRUTHS):
        rng = np.random.default_rng([seed, number])
        ratio = chosen.ratio if which == "effect" else 1.0
        arms, contrasts = _with_past(chosen, rng, ratio, runs) if chosen.past else _of_rows(chosen, rng, ratio, runs)
        sums |= {f"{which}/{arm}": table for arm, table in zip(("treated", "control"), arms, strict=True)}
        for part in ("absolute", "relative"):
            claims[f"{which}/{part}"] = np.array([_line(c, part) for c in contrasts]).reshape(runs, chosen.looks, 4)
    return sums, claims


def _line(contrast: Contrast, part: str) -> tuple[float, float, float, float]:
    range_ = contrast.absolute if part == "absolute" else contrast.relative
    if range_ is None or contrast.absolute is None:
        return (math.nan,) * 4
    return range_.estimate, range_.low, range_.high, contrast.absolute.p


Drawn = tuple[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]], list[Contrast]]


def _of_rows(chosen: PeerSet, rng: np.random.Generator, ratio: float, runs: int) -> Drawn:
    sizes, tables, contrasts = (chosen.sizes[0] * chosen.looks, chosen.sizes[1] * chosen.looks), [], []
    for treated, control in batches(rng, chosen.process, sizes, ratios=(ratio, 1.0), runs=runs):
        both = [_cumulated(side, n, chosen.looks) for side, n in zip((treated, control), chosen.sizes, strict=True)]
        tables.append(both)
        guard = skews(treated, control) if min(sizes) * 10 < max(sizes) else [None] * len(treated[0])
        for one, two, skew in zip(*both, guard, strict=True):
            if chosen.looks > 1:
                contrasts += list(_looked(one, two, planned=chosen.planned))
            elif chosen.process.zero_or_one:
                contrasts.append(share_contrast_of((int(one[0, 1]), int(one[0, 0])), (int(two[0, 1]), int(two[0, 0]))))
            else:
                contrasts.append(compare(_value(one[0]), _value(two[0]), level=LEVEL, skew=skew))
    return (np.concatenate([t[0] for t in tables]), np.concatenate([t[1] for t in tables])), contrasts


def _cumulated(side: tuple[Any, Any], a_look: int, looks: int) -> npt.NDArray[np.int64]:
    """(runs, looks, 7): readers, both sums, and the four sums of products, of all readers so far."""
    runs = len(side[0])
    each = sums_of((side[0].reshape(runs * looks, a_look), side[1].reshape(runs * looks, a_look)))
    top, bottom, squares, squares_below, both = each.reshape(runs, looks, 5).cumsum(1).transpose(2, 0, 1)
    n = np.broadcast_to(a_look * np.arange(1, looks + 1), (runs, looks))
    return np.stack([n, top, bottom, squares, both, both, squares_below], axis=2)


def _value(row: npt.NDArray[np.int64]) -> Value:
    n, a, b, aa, ab, _, bb = row.tolist()
    return value(moments(n, (a, b, aa, bb, ab)))


def _looked(one: npt.NDArray[np.int64], two: npt.NDArray[np.int64], *, planned: bool) -> Iterator[Contrast]:
    """Ranges at every look: of a goal with a planned end, or of a guardrail."""
    both = (one[:, 0] + two[:, 0]).tolist()
    usable = [min(a, b) >= LEAST_READERS for a, b in zip(one[:, 0], two[:, 0], strict=True)]
    if planned:
        critical = iter(_boundary(tuple(n / both[-1] for n, use in zip(both, usable, strict=True) if use)))
    else:
        critical = iter([anytime_critical(n, both[-1], alpha=1 - LEVEL) for n, use in zip(both, usable, strict=True) if use])
    for first, second, use in zip(one, two, usable, strict=True):
        empty = Contrast((int(first[0]), int(second[0])), (None, None))
        yield interval_at(empty, _value(first), _value(second), level=LEVEL, critical=next(critical)) if use else empty


@lru_cache(maxsize=8)
def _boundary(times: tuple[float, ...]) -> tuple[float, ...]:
    return critical_values(times, alpha=1 - LEVEL)


def _with_past(chosen: PeerSet, rng: np.random.Generator, ratio: float, runs: int) -> Drawn:
    arms: tuple[list[Floats], list[Floats]] = ([], [])
    contrasts = []
    for _ in range(runs):
        sides = [with_past(rng, n, r) for n, r in zip(chosen.sizes, (ratio, 1.0), strict=True)]
        contrasts.append(adjusted_of(*sides).contrast or Contrast(chosen.sizes, (None, None)))
        for side, table in zip(sides, arms, strict=True):
            products = side.cross + np.outer(side.mean, side.mean) * side.n
            table.append(np.concatenate([[side.n], side.mean * side.n, products.ravel()]))
    one, two = (np.rint(np.array(table)).astype(np.int64)[:, None, :] for table in arms)
    return (one, two), contrasts


def standing(chosen: PeerSet, claims: Claims) -> dict[str, float | None]:
    """Return false alarms (down, up), coverage of both ranges and power of one tool on one set; None without an answer.

    A look without a range claims nothing. With several looks an alarm at any of them counts, and a range that misses the
    truth at any of them.

    Raises
    ------
    DataError
        The answer has another shape than (runs, looks, 4).
    """
    wrong = [key for key, table in claims.items() if table.ndim != 3 or table.shape[1:] != (chosen.looks, 4)]
    if wrong:
        raise DataError(f"the answer for {chosen.title} has another shape: {', '.join(wrong)}.", "Return (runs, looks, 4) per key.")
    found: dict[str, float | None] = {}
    for part in ("absolute", "relative"):
        null, effect = claims.get(f"null/{part}"), claims.get(f"effect/{part}")
        if null is None or effect is None:
            found |= dict.fromkeys((f"{part}_down", f"{part}_up", f"{part}_coverage", f"{part}_power"))
            continue
        up = (null[:, :, 1] > 0).any(1)
        missed: npt.NDArray[np.bool_] = (effect[:, :, 1] > chosen.truth("effect", part)) | (effect[:, :, 2] < chosen.truth("effect", part))
        printed = ~np.isnan(effect[:, :, 1]).all(1)
        found |= {
            f"{part}_down": float(((null[:, :, 2] < 0).any(1) & ~up).mean()),
            f"{part}_up": float(up.mean()),
            f"{part}_coverage": 1 - float(np.mean(np.asarray(missed.any(axis=1))[printed])) if printed.any() else None,
            f"{part}_power": float((effect[:, :, 1] > 0).any(1).mean()),
        }
    return found


def our_cases() -> dict[str, str]:
    """Return what we say on single inputs where tools are known to differ (STATISTICS 14); keys are those of the tools' answers."""
    treated, control = (_mean(*sums) for sums in ((3461, 2422.7, 134698.29), (3407, 1396.87, 52377.9767)))
    orders, nobody = compare(treated, control, level=LEVEL), share_contrast_of((30, 1000), (0, 1000))
    far = [10**8 - 1, 10**8, 10**8 + 1]
    exact = Moments.from_sums(3, ("x",), (sum(far),), ((sum(x * x for x in far),),))
    return {
        "one decision": f"difference {_shown(orders, 'absolute')}; relative {_shown(orders, 'relative')}",
        "nobody": _shown(nobody, "absolute"),
        "offset": f"{exact.cross[0, 0] / 2:g}",
        "early": "a boundary for a planned end, or a range without an end",
    }


def _mean(n: int, total: float, squares: float) -> Value:
    mean, one = total / n, np.array([total / n, 1.0])
    return value(Moments(n, KEYS, one, np.array([[squares - n * mean * mean, 0.0], [0.0, 0.0]])))


def _shown(contrast: Contrast, part: str) -> str:
    estimate, low, high, p = _line(contrast, part)
    return f"{estimate:.3g} ({low:.3g} to {high:.3g}), p = {p:.2g}"
