"""Train an arm, compare it with the heuristic on later reads, and publish it unless it is worse.

``python -m recsys.training ARM --home H --until US --seed S`` runs in a process of its own: it prints one JSON line and
ends with 0 (published) or 3 (refused, with the reason). What the last run said stays in ``home/training/ARM.json``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.clock import FileClock, system_clock
from experiments.errors import ArmError, ArtefactError, DataError, PresslabError
from experiments.files import replace_json
from experiments.serving.artefacts import publish, read_bundle, stays, write_bundle
from experiments.serving.recommender import Catalogue, arm_class
from recsys.judging import Judged, Trainer, judge, judge_served
from recsys.requests import Request, contexts
from recsys.served import libraries, served
from recsys.source import Source, read_source

__all__ = ["main", "train"]

GOLDEN = 20  # the latest page views: each hour of them costs a snapshot of the signals


def train(arm: str, home: Path, *, until_us: int, seed: int = 0, against: str = "front") -> dict[str, Any]:
    """Fit, compare, write, check and publish; returns what happened. Nothing is published when the arm is refused.

    While versions are frozen (:func:`experiments.serving.artefacts.stays`) nothing is even fitted.

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
    if frozen := stays(home, arm):
        return {"arm": arm, "state": "refused", "reason": frozen, "seconds": 0.0}
    source = read_source(home, until_us=until_us, agreed_only=kind.audience == "agreed", texts=getattr(kind, "uses_texts", True))
    trainer: Trainer = importlib.import_module(kind.trainer).Trainer(source.reads, source.site, until=until, seed=seed)
    how: Any = {"until": until, "against": against, "seed": seed}
    versions = served(home, arm, seed=seed)
    judged = judge_served(trainer, source, arm, versions=versions, **how) or judge(trainer, source, arm, **how)
    waived = str(getattr(kind, "waived", "")) if judged.reason and judged.metrics else ""
    result = {
        "arm": arm,
        "metrics": judged.metrics,
        "arms": judged.arms,
        "pairs": judged.pairs,
        "against": against,
        "judged": judged.who,
        "data_sha256": source.data_sha256,
    }
    if judged.reason and not waived:
        return {**result, "state": "refused", "reason": judged.reason, "seconds": round(time.monotonic() - began, 2)}
    arrays, about = trainer.fit(until)
    gate = {"passed": not judged.reason, "against": against, "reason": judged.reason, "waived": waived}
    manifest = {**about, "arm": arm, "until": until_us, "seed": seed, "metrics": judged.metrics, "gate": gate, "libraries": libraries()}
    manifest |= {"data_sha256": source.data_sha256, "last_offset": source.last_offset, "label": "learning" if waived else ""}
    manifest |= {"judged": judged.who}
    bundle = write_bundle(home / "models" / arm, arrays, manifest)
    _golden(kind, arrays, manifest, bundle.path, source, asked=judged.asked[-GOLDEN:])
    publish(home, arm, bundle.version, at_us=_now(home))
    result |= {
        "state": "published",
        "says": _says(bundle.version, judged, against),
        "version": bundle.version,
        "sha256": bundle.sha256,
        "content_sha256": bundle.content_sha256,
    }
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**result, "gate": gate, "rows": about["rows"], "seconds": round(time.monotonic() - began, 2), "peak_mb": round(peak_mb)}


def _says(version: str, judged: Judged, against: str) -> str:
    who, metrics = judged.who["version"], judged.metrics
    compared = f"hit rate at 10 {metrics['hit_rate_at_10']:.1%}, {against} {metrics[f'{against}_hit_rate_at_10']:.1%}"
    judged_was = f"judged was version {who}: " if who else ""
    return f"version {version} is published; {judged_was}{compared} on {metrics['queries']:.0f} later page views"


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
        kept = {key: result.get(key) for key in ("state", "says", "reason", "against", "metrics", "version", "gate", "judged")}
        replace_json(given.home / "training" / f"{given.arm}.json", {**kept, "at": _now(given.home), "until": given.until})
    sys.stdout.write(json.dumps(result, allow_nan=False) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
