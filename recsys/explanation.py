"""What the ranker looks at: SHAP values over recent page views, published only when they add up to the served score.

``python -m recsys.explanation --home H`` runs in a process of its own, prints one JSON line, and ends with 0, or with 3 when
the sums differ or there is nothing to explain.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.clock import moment
from experiments.errors import ArtefactError, NotFoundError
from experiments.files import read_json, replace_json
from experiments.serving.artefacts import current, load_current
from experiments.serving.signals import HOUR
from recsys.arms.ranked import Ranked
from recsys.features import FEATURES
from recsys.one_line import tell
from recsys.requests import contexts, next_reads
from recsys.source import Source, read_source
from recsys.trees import Trees

__all__ = ["contributions", "explain", "main", "summarise"]

ADDITIVITY = 1e-6
RECENT_H, MOST_REQUESTS, MOST_ROWS = 72.0, 200, 2_000
Floats = npt.NDArray[np.float64]


def contributions(trees: Trees, features: Floats) -> tuple[float, Floats, float]:
    """Return (base, (rows, features) log-odds contributions, largest additivity error).

    Path-dependent TreeExplainer over the served arrays; every row is checked against the served score, because SHAP's own
    check compares its trees with themselves.

    Raises
    ------
    ArtefactError
        base + contributions and the served score differ by more than 1e-6 in a row.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numba and matplotlib, which shap loads
        import shap

        explainer = shap.TreeExplainer(_as_shap(trees), feature_perturbation="tree_path_dependent")
        values = np.asarray(explainer.shap_values(features, check_additivity=False), np.float64)
    base = float(np.ravel(explainer.expected_value)[0])
    error = float(np.abs(base + values.sum(axis=1) - trees.decision(features)).max(initial=0.0))
    if not error <= ADDITIVITY:
        raise ArtefactError(
            f"the contributions miss the served score by up to {error:.3g} log-odds; the limit is {ADDITIVITY:g}.",
            "They are not published.",
        )
    return base, values, error


def _as_shap(trees: Trees) -> dict[str, Any]:
    bounds = [*trees.roots.tolist(), len(trees.leaf)]
    parts = []
    for start, end in pairwise(bounds):
        span = slice(start, end)
        leaf = trees.leaf[span]
        left, right = (np.where(leaf, -1, side[span] - start) for side in (trees.left, trees.right))
        parts.append(
            {
                "children_left": left,
                "children_right": right,
                "children_default": np.where(trees.missing_left[span], left, right),
                "features": np.where(leaf, -2, trees.feature[span]),
                "thresholds": trees.threshold[span],
                "values": trees.value[span].reshape(-1, 1),
                "node_sample_weight": trees.rows[span].astype(np.float64),
            }
        )
    wide = {"internal_dtype": np.float64, "input_dtype": np.float64}
    return {"trees": parts, "base_offset": float(trees.baseline[0]), "tree_output": "log_odds", "objective": "binary_crossentropy", **wide}


def summarise(values: Floats, features: Floats) -> list[dict[str, Any]]:
    """Return one row per feature: mean size of its part in the score, the largest first, and how often it was missing."""
    size, missing = np.abs(values).mean(axis=0), np.isnan(features).mean(axis=0)
    names = list(FEATURES)
    order = np.argsort(-size, kind="stable")
    return [{"name": names[i], "says": FEATURES[names[i]], "mean_abs": float(size[i]), "missing": float(missing[i])} for i in order]


def explain(home: Path) -> dict[str, Any]:
    """Explain the ranker in force on page views of the 72 h before it was trained; writes ``home/explanations/ranked.json``.

    Raises
    ------
    NotFoundError
        No ranker is published.
    ArtefactError
        The contributions do not add up; the file then says so and holds no feature.
    """
    loaded, pointer = load_current(home, Ranked.name), current(home, Ranked.name)
    if loaded is None or pointer is None:
        raise NotFoundError("no version of 'ranked' is published.", "Train it: presslab model train ranked")
    arrays, manifest = loaded
    until_us = int(manifest["until"])
    path = home / "explanations" / "ranked.json"
    state: dict[str, Any] = {
        "arm": Ranked.name,
        "version": pointer.version,
        "at": moment(until_us).isoformat(),
        "reason": "",
        "features": [],
    }
    try:
        source = read_source(home, until_us=until_us, agreed_only=True)
        arm = Ranked.load(arrays, manifest, source.site.catalogue)
        features, first = _recent_features(arm, source, until_us / 1e6)
        base, values, error = contributions(arm.trees, features)
    except ArtefactError as fault:
        replace_json(path, {**state, "reason": str(fault)})
        raise
    earlier = read_json(path) or {}
    state |= {"features": summarise(values, features), "rows": len(features), "base": base, "additivity_error": error}
    state["example"] = {"score": float(base + values[0].sum()), "article": source.site.catalogue.ids[first], "parts": _named(values[0])}
    state["previous"] = {"version": earlier.get("version"), "features": earlier.get("features", [])}
    replace_json(path, state)
    return state


def _named(row: Floats) -> dict[str, float]:
    names = list(FEATURES)
    return {names[i]: float(row[i]) for i in np.argsort(-np.abs(row), kind="stable")}


def _recent_features(arm: Ranked, source: Source, until: float) -> tuple[Floats, int]:
    asked = next_reads(source.reads, since=until - RECENT_H * HOUR, until=until, most=MOST_REQUESTS, seed=0)
    parts, articles = [], []
    for _, context in contexts(asked, source.site):
        union, features = arm.inputs(context)
        parts.append(features)
        articles.append(union.articles)
    if not parts:
        raise NotFoundError(
            f"there is no page view in the {RECENT_H:.0f} h before the ranker was trained.", "Explain after the next training."
        )
    features, shown = np.concatenate(parts), np.concatenate(articles)
    rows = np.sort(np.random.default_rng(0).permutation(len(features))[:MOST_ROWS])
    return features[rows], int(shown[rows[0]])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="recsys.explanation", description="Explain the ranker that is in force.")
    parser.add_argument("--home", type=Path, required=True)
    given = parser.parse_args(argv)

    def work() -> dict[str, Any]:
        state = explain(given.home)
        best = ", ".join(row["name"] for row in state["features"][:3])
        return {"says": f"version {state['version']}, {state['rows']:,} rows: most weight on {best}", **state}

    return tell(work)


if __name__ == "__main__":
    sys.exit(main())
