"""What another policy would have earned on a log that was not shown by it, or the reason why this log cannot say.

The table of RECOMMENDING §11: ``w = new propensity / logged propensity``; IPW ``mean(w r)``; SNIPW ``Σwr / Σw``; DM ``mean q(π)``;
DR ``mean(q(π) + w (r − q))`` with ``q = (clicks + 50 · mean) / (n + 50)`` per article and slot. Dudík et al. 2011; Swaminathan and
Joachims 2015.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.special import ndtri, stdtrit

from recsys.logged import Logged, Policy

__all__ = ["OffPolicy", "evaluate_policy", "refusal"]

LEAST_ESS, MOST_SHARE, MEAN_WEIGHT = 100.0, 0.05, (0.8, 1.25)
LEAST_READERS, LEAST_CLICKING = 5, 3  # below them ranges held the truth in 10 to 92 of 100 logs
MOST_OF_ONE, UNEVEN = 0.05, 1.5  # of one reader, or so many times an even share; beyond, in 4 to 92 of 100
MOST_ELSEWHERE, MEAN_OFF = 0.01, 0.02  # a tenth of rows elsewhere: no range held the truth in 60 logs
LEAST_PROPENSITY = 1e-300
LEAST_FREEDOM = 4.0  # one reader with nearly all of the spread is seen in the spread itself
DRAWS, CHUNK, LEVEL = 2_000, 50, 0.95
PRIOR = 50.0
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OffPolicy:
    """The answer; ``estimators`` is empty when ``refused`` gives a reason.

    Parameters
    ----------
    rows : of the log. readers : of the log, who are drawn whole; as many as rows where it names none. ess : effective sample size ``(Σw)² / Σw²``. max_weight_share : largest weight over the sum of all.
    mean_weight : about 1 when the two policies show the same things. None of the three exists without propensities.
    estimators : name -> value, low and high (95 %) in clicks per row.
    """

    refused: str | None
    rows: int
    readers: int
    ess: float | None
    max_weight_share: float | None
    mean_weight: float | None
    estimators: dict[str, dict[str, float]]


def evaluate_policy(log: Logged, target: Policy, *, seed: int = 0, draws: int = DRAWS) -> OffPolicy:
    """Return the value of ``target`` on ``log`` with studentised bootstrap intervals over resampled readers, or a refusal.

    Parameters
    ----------
    draws : bootstrap samples; readers are drawn whole (rows where the log names no reader).

    Examples
    --------
    >>> from recsys.logged import share_of
    >>> shown, slot = np.arange(1_000) % 2, np.zeros(1_000, int)
    >>> even = Logged(shown, slot, (shown == 0) * 1.0, np.full(1_000, 0.5), np.arange(1_000), ("a", "b"), ("1",))
    >>> evaluate_policy(even, share_of(even)).estimators["snipw"]["value"]
    0.5
    """
    rows, readers = len(log.reward), len(np.unique(log.reader))
    bad = int((~((log.propensity > LEAST_PROPENSITY) & (log.propensity <= 1 + 1e-9))).sum())
    if bad or not rows:
        reason = f"{bad:,} of {rows:,} rows have no propensity above 0 and at most 1" if rows else "the log has no row"
        return OffPolicy(f"not enough overlap: {reason}.", rows, readers, None, None, None, {})
    weight = target.of(log) / log.propensity
    total = float(weight.sum())
    if total <= 0:
        return OffPolicy("not enough overlap: the new policy shows nothing of what the log shows.", rows, readers, 0.0, None, 0.0, {})
    ess, share, mean = total**2 / float((weight**2).sum()), float(weight.max()) / total, total / rows
    reason = refusal(ess=ess, max_weight_share=share, mean_weight=mean)
    reason = reason or _elsewhere(log, target, weight) or _too_few(log, weight)
    found = {} if reason else _estimates(log, target, weight, np.random.default_rng(seed), draws)
    if not reason and not found:
        reason = "not estimable: all readers earned the same, so nothing says how far chance reaches."
    return OffPolicy(reason or None, rows, readers, ess, share, mean, found)


def _elsewhere(log: Logged, target: Policy, weight: Floats) -> str:
    """Why the log says nothing of a part of what the new policy shows; empty when it speaks of nearly all of it."""
    rows = len(weight)
    if target.table is not None:
        unseen = np.ones(target.table.shape, bool)
        unseen[log.article, log.slot] = False
        share = float((target.table * unseen).sum(axis=0)[log.slot].mean())
        says = f"the new policy shows in {share:.1%} of rows what the log never shows in that slot, {MOST_ELSEWHERE:.0%} is the limit"
        return f"not enough overlap: {says}." if share > MOST_ELSEWHERE else ""
    mean = float(weight.sum()) / rows
    error = float(np.sqrt((np.bincount(log.reader, weights=weight - mean) ** 2).sum())) / rows
    off = max(MEAN_OFF, 3 * error)
    says = f"the mean weight is {mean:.2f}, chance alone keeps it between {1 - off:.2f} and {1 + off:.2f}"
    return f"not enough overlap: {says}." if abs(mean - 1) > off else ""


def _too_few(log: Logged, weight: Floats) -> str:
    """Why a range would not hold the truth as often as it says; empty when it would."""
    clicking = len(np.unique(log.reader[weight * log.reward != 0]))
    readers = len(np.unique(log.reader))
    if not np.isfinite(log.reward).all():
        return "not estimable: a row has no number as its click."
    if not clicking:
        return "not estimable: the log has no click on what the new policy shows."
    if clicking < LEAST_CLICKING:
        return f"not estimable: {clicking} of {LEAST_CLICKING} readers needed clicked on what the new policy shows."
    if readers < LEAST_READERS:
        return f"not estimable: the log has {readers} readers, {LEAST_READERS} are needed."
    share, limit = max(float(each.max()) for each in _shares(log, weight)), max(MOST_OF_ONE, UNEVEN / readers)
    return f"not estimable: one reader has {share:.0%} of the weight or of the rows, {limit:.0%} is the limit." if share > limit else ""


def _shares(log: Logged, weight: Floats) -> list[Floats]:
    """(readers,) shares of the weight, and of the rows."""
    return [np.bincount(log.reader, weights=each) / each.sum() for each in (weight, np.ones(len(weight)))]


def _wider(log: Logged, weight: Floats) -> float:
    """How much wider a range is for as many readers as decide its width: two estimates of it differ that much, however many others there are.

    References
    ----------
    Student's t with Satterthwaite's degrees of freedom (1946), of variances that are as the squares of the shares.
    """
    squares = [shares**2 for shares in _shares(log, weight)]
    freedom = min(float(each.sum() ** 2 / (each**2).sum()) for each in squares)
    return float(stdtrit(max(freedom, LEAST_FREEDOM), 0.5 + LEVEL / 2) / ndtri(0.5 + LEVEL / 2))


def refusal(*, ess: float, max_weight_share: float, mean_weight: float) -> str:
    """Return why the overlap is too small, every reason at once; empty when it is enough.

    Examples
    --------
    >>> refusal(ess=40, max_weight_share=0.01, mean_weight=1.0)
    'not enough overlap: the log is worth 40 rows shown by the new policy, 100 are needed.'
    """
    low, high = MEAN_WEIGHT
    faults = [
        (ess < LEAST_ESS, f"the log is worth {ess:,.0f} rows shown by the new policy, {LEAST_ESS:.0f} are needed"),
        (max_weight_share > MOST_SHARE, f"one row carries {max_weight_share:.0%} of the weight, {MOST_SHARE:.0%} is the limit"),
        (not low <= mean_weight <= high, f"the mean weight is {mean_weight:.2f}, it must lie between {low} and {high}"),
    ]
    told = [says for bad, says in faults if bad]
    return f"not enough overlap: {'; '.join(told)}." if told else ""


def _estimates(log: Logged, target: Policy, weight: Floats, rng: np.random.Generator, draws: int) -> dict[str, dict[str, float]]:
    """Estimate from sums per reader and cell; a bootstrap draw is a weighted sum of them, so q is estimated anew in each.

    Nothing where the readers of one estimator do not differ.
    """
    sums = _Sums(log, target, weight)
    point = sums.values(np.ones((1, sums.readers)))
    if any(float(error[0]) <= 1e-9 * abs(float(value[0])) for value, error in point.values()):
        return {}
    wider = _wider(log, weight)
    parts = [sums.values(_drawn(sums.readers, min(CHUNK, draws - start), rng)) for start in range(0, draws, CHUNK)]
    least = -np.inf if (log.reward < 0).any() else 0.0
    told = {}
    for name, (value, error) in point.items():
        drawn, errors = (np.concatenate([part[name][k] for part in parts]) for k in (0, 1))
        low, high = _range(float(value[0]), wider * float(error[0]), drawn, errors)
        told[name] = {"value": float(value[0]), "low": max(low, least), "high": high}
    return told


def _range(value: float, error: float, drawn: Floats, errors: Floats) -> tuple[float, float]:
    """Return the studentised bootstrap range: a draw with few clicks has a small standard error too. ``error`` may be widened.

    References
    ----------
    Efron and Tibshirani, An introduction to the bootstrap, 1993, chapter 12.
    """
    usable = errors > 0
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile((drawn[usable] - value) / errors[usable], [tail, 100 - tail])
    return value - float(high) * error, value - float(low) * error


def _drawn(readers: int, draws: int, rng: np.random.Generator) -> Floats:
    """(draws, readers) how often each reader comes in a sample of that many, drawn with replacement."""
    chosen = rng.integers(readers, size=(draws, readers)) + readers * np.arange(draws)[:, None]
    return np.bincount(chosen.ravel(), minlength=draws * readers).reshape(draws, readers).astype(np.float64)


class _Sums:
    """Sums of the log per reader and per cell (article and slot), and the estimators made of them."""

    def __init__(self, log: Logged, target: Policy, weight: Floats) -> None:
        cells, inverse = np.unique(np.stack([log.article, log.slot]), axis=1, return_inverse=True)
        self.readers, width = int(log.reader.max()) + 1, cells.shape[1]
        self.shown, self.clicked, self.weighed, self.earned = (
            csr_matrix((values, (log.reader, inverse.reshape(-1))), shape=(self.readers, width))
            for values in (np.ones(len(weight)), log.reward, weight, weight * log.reward)
        )
        self.rows, self.gain, self.heft = (np.asarray(part.sum(axis=1)).ravel() for part in (self.shown, self.earned, self.weighed))
        self.slot, self.chance = cells[1], None
        if target.table is not None:
            self.chance = target.table[cells[0], cells[1]]
            self.elsewhere = 1.0 - np.bincount(cells[1], weights=self.chance, minlength=target.table.shape[1])  # never shown by the log

    def values(self, times: Floats) -> dict[str, tuple[Floats, Floats]]:
        """Return (draws,) values per estimator and their standard errors, clustered by reader; ``times`` is (draws, readers).

        The error of ``dr`` takes q as given, which to first order does not matter; ``dm`` borrows it.
        """
        shown, clicked = (np.asarray(times @ part) for part in (self.shown, self.clicked))
        rows = shown.sum(axis=1)
        found = {"ipw": self._ratio(times, self.gain, self.rows), "snipw": self._ratio(times, self.gain, self.heft)}
        if self.chance is None:
            return found
        mean = clicked.sum(axis=1) / rows
        q = (clicked + PRIOR * mean[:, None]) / (shown + PRIOR)
        in_slot = np.eye(len(self.elsewhere))[self.slot]
        policy = (q * self.chance) @ in_slot + mean[:, None] * self.elsewhere
        dm = (policy * (shown @ in_slot)).sum(axis=1) / rows
        missed, error = self._ratio(times, self.gain - (self.weighed @ q.T).T, self.rows)
        return found | {"dm": (dm, error), "dr": (dm + missed, error)}

    def _ratio(self, times: Floats, top: Floats, bottom: Floats) -> tuple[Floats, Floats]:
        """Return (draws,) sums of ``top`` over sums of ``bottom`` and the standard error of that ratio (delta method)."""
        whole = times @ bottom
        with np.errstate(divide="ignore", invalid="ignore"):
            value = (times * top).sum(axis=1) / whole
            spread = (times * (top - value[:, None] * bottom) ** 2).sum(axis=1)
            return value, np.sqrt(spread) / whole
