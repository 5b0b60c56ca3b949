"""Compare what a trainer makes with the heuristic, on page views that came later than anything it learned from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from experiments.errors import ArtefactError
from experiments.serving.recommender import Context, Recommender, arm_class
from experiments.serving.signals import HOUR, Reads
from recsys.comparison import PLACES, compare, paired
from recsys.requests import Request, Site, contexts, next_reads
from recsys.served import Served
from recsys.source import Source

__all__ = ["LEAST_REQUESTS", "Judged", "Trainer", "judge", "judge_served", "later_requests", "place_of", "verdict"]

TEST_HOURS = (24.0, 48.0, 72.0)  # the last day, or up to three where a day has too few page views
SPARSE_TEST_HOURS = (168.0, 336.0)  # of a log so quiet that three days hold too few to compare on at all
ENOUGH_REQUESTS, LEAST_REQUESTS, MOST_REQUESTS = 300, 50, 1_000


class Trainer(Protocol):
    """What a training module offers under the name ``Trainer``."""

    @property
    def ablations(self) -> Mapping[str, tuple[str, ...]]: ...

    def fit(self, until: float, without: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, Any]]: ...

    # lead_on(arrays, about) -> bool, if the next fit can begin at a published version: see recsys.fit_als


@dataclass(frozen=True, slots=True)
class Judged:
    """Time-split result.

    Parameters
    ----------
    metrics : flat figures for the manifest, hit rates with their 95 % intervals. arms, pairs : as ``evaluate --json`` has them.
    reason : why the arm is refused; empty when it may be published. asked : the page views, in order of time.
    who : what was judged: ``version`` (empty: one fitted for it), ``until`` it learned, ``since`` when page views were drawn (UTC us).
    """

    metrics: dict[str, float]
    arms: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    reason: str
    asked: Sequence[Request] = ()
    who: Mapping[str, Any] = field(default_factory=dict)


def judge(trainer: Trainer, source: Source, arm: str, *, until: float, against: str = "front", seed: int = 0) -> Judged:
    """Fit on earlier reads and compare with the heuristic on later ones; the heuristic sees the same signals.

    The arm is refused when its hit rate lies below the heuristic's by more than one half-width of the paired interval.
    """
    split, asked = later_requests(source.reads, until, seed)
    if len(asked) < LEAST_REQUESTS:
        return Judged({}, [], [], f"only {len(asked)} page views to compare on, {LEAST_REQUESTS} are needed.")
    kind: Any = arm_class(arm)
    fits = {arm: trainer.fit(split), **{name: trainer.fit(split, without) for name, without in trainer.ablations.items()}}
    arms = {name: kind.load(arrays, about, source.site.catalogue) for name, (arrays, about) in fits.items()}
    judged = _compared(arms, asked, source.site, arm=arm, against=against)
    return replace(judged, who={"version": "", "until": round(split * 1e6), "since": round(split * 1e6)})


def judge_served(
    trainer: Trainer, source: Source, arm: str, *, versions: Iterable[Served], until: float, against: str = "front", seed: int = 0
) -> Judged | None:
    """Compare the version readers get with the heuristic, on page views since it learned: then nothing has to be fitted for it.

    None when no version can stand for the one to come, which is judged by :func:`judge` then: nothing serves yet, the trainer does not
    lead on from what does, it is older than a day, too few page views came after it, it would be refused, or it did clearly worse than
    when it was published (which a waived arm is not refused for).

    Parameters
    ----------
    versions : the newest first. The first that enough page views can judge is judged; the trainer begins at the newest of them.
    """
    kind: Any = arm_class(arm)
    for one in versions:
        if trainer.ablations or not hasattr(trainer, "lead_on") or not 0 < until - one.until <= TEST_HOURS[0] * HOUR:
            continue
        try:
            recommender = kind.load(one.arrays, one.manifest, source.site.catalogue) if trainer.lead_on(one.arrays, one.manifest) else None
        except ArtefactError:
            continue
        if recommender is None:
            continue
        asked = next_reads(source.reads, since=one.until, until=until, most=MOST_REQUESTS, seed=seed)
        if len(asked) >= ENOUGH_REQUESTS:
            judged = _compared({arm: recommender}, asked, source.site, arm=arm, against=against)
            who = {"version": one.version, "until": one.manifest["until"], "since": one.manifest["until"]}
            waived: object = getattr(kind, "waived", "")
            refused = judged.reason and not (judged.metrics and waived)
            return None if refused or _lost_ground(judged, one) else replace(judged, who=who)
    return None


def _lost_ground(judged: Judged, one: Served) -> bool:
    """Whether a version did worse against the heuristic than its manifest says, beyond both ranges: it is nothing to lead on from."""
    said = one.manifest.get("metrics", {}).get("difference_low")
    return said is not None and judged.metrics["difference_high"] < said


def _compared(arms: Mapping[str, Recommender], asked: Sequence[Request], site: Site, *, arm: str, against: str) -> Judged:
    both = {**arms, against: arm_class(against)()}
    ranks: dict[str, list[float]] = {name: [] for name in both}
    for request, context in contexts(asked, site):
        for name, recommender in both.items():
            ranks[name].append(place_of(recommender, request, context))
    return verdict({name: np.array(values) for name, values in ranks.items()}, asked, arm, against)


def later_requests(reads: Reads, until: float, seed: int) -> tuple[float, list[Request]]:
    """Return the moment models may learn up to, and the page views after it that arms are compared on."""
    split, asked = until, list[Request]()
    for hours in (*TEST_HOURS, *SPARSE_TEST_HOURS):
        split = until - hours * HOUR
        asked = next_reads(reads, since=split, until=until, most=MOST_REQUESTS, seed=seed)
        if len(asked) >= (ENOUGH_REQUESTS if hours < TEST_HOURS[-1] else LEAST_REQUESTS):
            break
    return split, asked


def place_of(arm: Recommender, request: Request, context: Context) -> float:
    """Return the place of the article opened next in the arm's ranking, 0 the first, infinite when it is not there."""
    found = np.flatnonzero(arm.rank(context).articles == request.target)
    return float(found[0]) if len(found) else float("inf")


def verdict(ranks: Mapping[str, npt.NDArray[np.float64]], asked: Sequence[Request], arm: str, against: str) -> Judged:
    """Return the result of places on the same page views, refused when ``arm`` lies below ``against`` by more than half a range.

    Refused without figures, as with too few page views, when no arm ever placed the article: all would be equally good at nothing.

    Parameters
    ----------
    ranks : arm -> (n,) places, 0 the first, infinite when the article opened next was not placed. asked : the n page views.
    """
    readers = np.array([request.reader for request in asked])
    told = compare(ranks, readers)
    gap = paired(arm, against, hits=(ranks[arm] < PLACES, ranks[against] < PLACES), readers=readers)
    metrics = {"queries": float(len(asked)), "difference": gap.difference, "difference_low": gap.low, "difference_high": gap.high}
    for row in told["arms"]:
        prefix = "" if row["arm"] == arm else f"{row['arm']}_"
        for suffix, key in (("", "hit_rate_at_10"), ("_low", "low"), ("_high", "high")):
            metrics[f"{prefix}hit_rate_at_10{suffix}"] = float(row[key])
        metrics[f"{prefix}mrr_at_10"] = float(row["mrr_at_10"])
    half = (gap.high - gap.low) / 2
    reason = ""
    if not any((places < PLACES).any() for places in ranks.values()):
        return Judged(
            {}, [], [], f"on {len(asked)} later page views no arm placed the next article among the first ten: nothing compares them."
        )
    if gap.difference < -half:
        reason = (
            f"on {len(asked)} later page views '{arm}' places the next article among the first ten in {metrics['hit_rate_at_10']:.1%} of cases, "
            f"'{against}' in {metrics[f'{against}_hit_rate_at_10']:.1%}; the gap of {-gap.difference:.1%} is more than its uncertainty ({half:.1%})."
        )
    return Judged(metrics, told["arms"], told["pairs"], reason, asked)
