"""Train an arm, compare it with the heuristic on later reads, and publish it unless it is worse.

``python -m recsys.training ARM --home H --until US --seed S`` runs in a process of its own: it prints one JSON line and
ends with 0 (published) or 3 (refused, with the reason). What the last run said stays in ``home/training/ARM.json``.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import resource
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from experiments.clock import FileClock, system_clock
from experiments.errors import ArmError, ArtefactError, DataError, PresslabError
from experiments.files import replace_json
from experiments.serving.artefacts import publish, read_bundle, write_bundle
from experiments.serving.recommender import Catalogue, Context, Recommender, arm_class
from experiments.serving.signals import HOUR, Reads, SignalRules, Texts
from experiments.serving.slate import SlateRules
from recsys.comparison import compare, paired
from recsys.interactions import to_reads
from recsys.requests import Request, Site, contexts, next_reads
from recsys.text import fit_texts

__all__ = ["Judged", "Source", "Trainer", "judge", "later_requests", "main", "place_of", "read_source", "train"]

HISTORY_H = 800.0  # the longest window of a recipe, before the longest test stretch, and the five days the signals look back
TEST_HOURS = (24.0, 48.0, 72.0)  # the last day, or up to three where a day has too few page views
SPARSE_TEST_HOURS = (168.0, 336.0)  # of a log so quiet that three days hold too few to compare on at all
ENOUGH_REQUESTS, LEAST_REQUESTS, MOST_REQUESTS = 300, 50, 1_000
GOLDEN = 20  # the latest page views: each hour of them costs a snapshot of the signals
PLACES = 10
LIBRARIES = ("numpy", "scipy", "implicit", "scikit-learn")


class Trainer(Protocol):
    """What a training module offers under the name ``Trainer``."""

    @property
    def ablations(self) -> Mapping[str, tuple[str, ...]]: ...

    def fit(self, until: float, without: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class Source:
    """What is learned from.

    Parameters
    ----------
    reads : of readers who agreed (an arm with their own history learns from nobody else).
    site : everybody's reads, for the signals. data_sha256 : of the reads. last_offset : highest event number.
    """

    reads: Reads
    site: Site
    data_sha256: str
    last_offset: int


@dataclass(frozen=True, slots=True)
class Judged:
    """Time-split result.

    Parameters
    ----------
    metrics : flat figures for the manifest, hit rates with their 95 % intervals. arms, pairs : as ``evaluate --json`` has them.
    reason : why the arm is refused; empty when it may be published. asked : the page views, in order of time.
    """

    metrics: dict[str, float]
    arms: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    reason: str
    asked: Sequence[Request] = ()


def read_source(home: Path, *, until_us: int, agreed_only: bool, texts: bool = True) -> Source:
    """Read the catalogue and the reads a recipe can look at; ``texts`` False leaves the vectors of words out, which take seconds.

    Raises
    ------
    DataError
        The site has no article or no read in the window.
    """
    from experiments.content import load_catalogue
    from experiments.events import lake
    from experiments.settings import load_settings

    settings, catalogue = load_settings(home), load_catalogue(home)
    since_us = until_us - round(HISTORY_H * HOUR * 1e6)
    table = lake.reads(home, until_us=until_us, since_us=since_us)
    mine = lake.reads(home, until_us=until_us, since_us=since_us, agreed_only=True) if agreed_only else table
    reads = to_reads(mine, catalogue)
    if not len(reads):
        whose = "readers who agreed to personal choice have" if agreed_only else "readers have"
        raise DataError(f"{whose} read nothing in the last {HISTORY_H:.0f} h.", "Wait for readers, or import a log.")
    rules = SignalRules(settings.half_life_hours, co_read_sessions=settings.co_read_sessions), SlateRules(pool_h=settings.pool_hours)
    words = fit_texts(catalogue, until=until_us / 1e6, window_h=HISTORY_H) if texts else Texts.none()
    site = Site(catalogue, to_reads(table, catalogue), *rules, texts=words)
    offsets = table["seq"].to_numpy()
    return Source(reads, site, _digest(mine), int(offsets.max(initial=-1)))


def _digest(reads: Any) -> str:
    """Return the sha256 of readers, articles and times, each written line by line."""
    digest, some = hashlib.sha256(), 1 << 20  # fewer than would fill an Arrow text
    for name in ("reader", "article", "at"):
        for start in range(0, len(reads), some):
            words = pc.cast(reads[name].slice(start, some), pa.string()).combine_chunks()
            digest.update(b"\n" if start else b"")
            digest.update(pc.binary_join(pa.ListArray.from_arrays([0, len(words)], words), "\n")[0].as_buffer())
    return digest.hexdigest()


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
    arms[against] = arm_class(against)()
    ranks: dict[str, list[float]] = {name: [] for name in arms}
    for request, context in contexts(asked, source.site):
        for name, recommender in arms.items():
            ranks[name].append(place_of(recommender, request, context))
    return _verdict({name: np.array(values) for name, values in ranks.items()}, asked, arm, against)


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


def _verdict(ranks: Mapping[str, npt.NDArray[np.float64]], asked: Sequence[Request], arm: str, against: str) -> Judged:
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
    if gap.difference < -half:
        reason = (
            f"on {len(asked)} later page views '{arm}' places the next article among the first ten in {metrics['hit_rate_at_10']:.1%} of cases, "
            f"'{against}' in {metrics[f'{against}_hit_rate_at_10']:.1%}; the gap of {-gap.difference:.1%} is more than its uncertainty ({half:.1%})."
        )
    return Judged(metrics, told["arms"], told["pairs"], reason, asked)


def train(arm: str, home: Path, *, until_us: int, seed: int = 0, against: str = "front") -> dict[str, Any]:
    """Fit, compare, write, check and publish; returns what happened. Nothing is published when the arm is refused.

    Raises
    ------
    ArmError
        The arm is unknown or cannot be trained.
    ArtefactError
        What was written does not come back as it was.
    """
    kind: Any = arm_class(arm)
    if not hasattr(kind, "trainer"):
        raise ArmError(f"arm '{arm}' is not trained: it has no `trainer`.", "Only model arms are.")
    began, until = time.monotonic(), until_us / 1e6
    source = read_source(home, until_us=until_us, agreed_only=kind.audience == "agreed", texts=getattr(kind, "uses_texts", True))
    trainer: Trainer = importlib.import_module(kind.trainer).Trainer(source.reads, source.site, until=until, seed=seed)
    judged = judge(trainer, source, arm, until=until, against=against, seed=seed)
    waived = str(getattr(kind, "waived", "")) if judged.reason and judged.metrics else ""
    result = {
        "arm": arm,
        "metrics": judged.metrics,
        "arms": judged.arms,
        "pairs": judged.pairs,
        "against": against,
        "data_sha256": source.data_sha256,
    }
    if judged.reason and not waived:
        return {**result, "state": "refused", "reason": judged.reason, "seconds": round(time.monotonic() - began, 2)}
    arrays, about = trainer.fit(until)
    gate = {"passed": not judged.reason, "against": against, "reason": judged.reason, "waived": waived}
    manifest = {**about, "arm": arm, "until": until_us, "seed": seed, "metrics": judged.metrics, "gate": gate, "libraries": _libraries()}
    manifest |= {"data_sha256": source.data_sha256, "last_offset": source.last_offset, "label": "learning" if waived else ""}
    bundle = write_bundle(home / "models" / arm, arrays, manifest)
    _golden(kind, arrays, manifest, bundle.path, source, asked=judged.asked[-GOLDEN:])
    publish(home, arm, bundle.version, at_us=_now(home))
    says = f"version {bundle.version} is published; hit rate at 10 {judged.metrics['hit_rate_at_10']:.1%}, "
    says += f"{against} {judged.metrics[f'{against}_hit_rate_at_10']:.1%} on {judged.metrics['queries']:.0f} later page views"
    result |= {
        "state": "published",
        "says": says,
        "version": bundle.version,
        "sha256": bundle.sha256,
        "content_sha256": bundle.content_sha256,
    }
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**result, "gate": gate, "rows": about["rows"], "seconds": round(time.monotonic() - began, 2), "peak_mb": round(peak_mb)}


def _golden(
    kind: Any, arrays: Mapping[str, Any], manifest: Mapping[str, Any], path: Path, source: Source, *, asked: Sequence[Request]
) -> None:
    """Load the bundle from disk and compare its rankings with those of the arrays in memory."""
    catalogue: Catalogue = source.site.catalogue
    written, described = read_bundle(path)
    fresh, stored = kind.load(arrays, manifest, catalogue), kind.load(written, described, catalogue)
    for _, context in contexts(asked, source.site):
        first, second = fresh.rank(context), stored.rank(context)
        same = np.array_equal(first.articles, second.articles) and np.array_equal(first.scores, second.scores)
        if not same or not np.isfinite(second.scores).all():
            raise ArtefactError(
                f"{path}: the written bundle ranks differently from what was trained, or not in finite numbers.", "Train again."
            )


def _now(home: Path) -> int:
    """The home's time: simulated in a demo, the machine's elsewhere."""
    return FileClock(home / "clock")() if (home / "clock").exists() else system_clock()


def _libraries() -> dict[str, str]:
    return {name: library_version(name) for name in LIBRARIES}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="recsys.training", description="Train an arm and publish it unless it is worse than the heuristic."
    )
    parser.add_argument("arm")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--until", type=int, required=True, help="data before this time, UTC microseconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--against", default="front", help="the heuristic to beat")
    parser.add_argument("--mirror", choices=("now", "later"), default="now", help="later: the registry job brings the version into MLflow")
    given = parser.parse_args(argv)
    try:
        result = train(given.arm, given.home, until_us=given.until, seed=given.seed, against=given.against)
        if result["state"] == "published" and given.mirror == "now":
            result["mlflow"] = importlib.import_module("recsys.registry").mirror(given.home, at_us=given.until)
        status = 0 if result["state"] == "published" else 3
    except PresslabError as error:
        too_little = isinstance(error, DataError)
        result = {"arm": given.arm, "state": "refused" if too_little else "failed", "reason": str(error)}
        status = 3 if too_little else error.exit_status
    except Exception as error:  # an arm is foreign code: whatever it raises is stored and told, with the line
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}, line {frame.lineno}"
        result = {"arm": given.arm, "state": "failed", "reason": f"'{given.arm}' raised {type(error).__name__}: {error} ({where})."}
        status = ArmError.exit_status
    if given.arm.isidentifier():
        kept = {key: result.get(key) for key in ("state", "says", "reason", "against", "metrics", "version", "gate")}
        replace_json(given.home / "training" / f"{given.arm}.json", {**kept, "at": _now(given.home), "until": given.until})
    sys.stdout.write(json.dumps(result, allow_nan=False) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
