"""Peers of our arms, in processes of their own.

``python -m tests.benchmarks.arms_peer fit FOLDER`` trains boosted trees and leaves them there, as scikit-learn's and as ours;
``sklearn FOLDER`` and ``ours FOLDER`` print the milliseconds of scoring 130 candidates (p50, p99);
``serve FOLDER PORT ARTICLES`` answers ``/als`` with implicit's own fold-in over all articles and ``/ranked`` with scikit-learn's
scores of 130 rows, under the server of the site, and notes how long each took.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROWS, FACTORS, READS = 130, 64, 6


def fit(folder: Path) -> None:
    """The ranker with the trees of its recipe, on generated rows with gaps."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    from recsys.features import FEATURES
    from recsys.fit_ranked import RankedRecipe, flatten

    recipe = RankedRecipe()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40_000, len(FEATURES)))
    y = x[:, 0] + x[:, 3] * x[:, 5] + (x[:, 2] > 0.3) + rng.normal(size=len(x)) > 0.5
    x[rng.random(x.shape) < 0.1] = np.nan
    options: dict[str, Any] = {
        "max_iter": recipe.trees,
        "learning_rate": recipe.learning_rate,
        "max_leaf_nodes": recipe.leaves,
        "l2_regularization": recipe.l2,
    }
    model = HistGradientBoostingClassifier(**options, random_state=0, early_stopping=False).fit(x, y)
    (folder / "model.pickle").write_bytes(pickle.dumps(model))  # of this process, for this benchmark alone
    np.savez(folder / "trees.npz", **flatten(model).arrays())
    np.save(folder / "rows.npy", x[:ROWS])


def scored(call: Callable[[], object], times: int = 400) -> tuple[float, float]:
    """Median and 99th percentile, milliseconds."""
    waits = []
    for _ in range(times + 20):
        begun = time.perf_counter()
        call()
        waits.append(1_000 * (time.perf_counter() - begun))
    return float(np.percentile(waits[20:], 50)), float(np.percentile(waits[20:], 99))


def ours(folder: Path) -> Callable[[], object]:
    from recsys.trees import trees_from_arrays

    rows = np.load(folder / "rows.npy")
    trees = trees_from_arrays(dict(np.load(folder / "trees.npz")), rows.shape[1])
    assert "sklearn" not in sys.modules
    return lambda: trees.decision(rows)


def theirs(folder: Path) -> Callable[[], object]:
    model, rows = pickle.loads((folder / "model.pickle").read_bytes()), np.load(folder / "rows.npy")
    return lambda: model.decision_function(rows)


def recommend(articles: int) -> Callable[[], object]:
    """implicit's fold-in of a reader with six reads, ranking every article; one object per process, single readers only."""
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    model = AlternatingLeastSquares(factors=FACTORS, regularization=0.1, alpha=10.0, random_state=0, num_threads=1)
    rng = np.random.default_rng(0)
    model.item_factors = rng.normal(size=(articles, FACTORS)).astype(np.float32)

    def answer() -> object:
        read = np.sort(rng.choice(articles, READS, replace=False))
        row = csr_matrix((np.ones(READS, np.float32), read, [0, READS]), shape=(1, articles))
        return model.recommend(0, row, N=150, recalculate_user=True, filter_already_liked_items=True)

    return answer


def serve(folder: Path, port: int, articles: int) -> None:
    from flask import Flask
    from gunicorn.app.base import BaseApplication

    from experiments.settings import Settings
    from web.serve import server_options

    class Server(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            for name, value in server_options(Settings(port=port)).items():
                if name != "post_worker_init":  # looks for published changes, which only the site has
                    self.cfg.set(name, value)

        def load(self) -> Any:
            app, calls = Flask("peer"), {"als": recommend(articles), "ranked": theirs(folder)}

            def answer(arm: str) -> str:
                begun = time.perf_counter()
                calls[arm]()
                with (folder / f"peer-{arm}-{os.getpid()}.txt").open("a") as file:
                    file.write(f"{1_000 * (time.perf_counter() - begun)}\n")
                return "x"

            app.add_url_rule("/<arm>", "answer", answer)
            return app

    Server().run()


if __name__ == "__main__":
    what, where = sys.argv[1], Path(sys.argv[2])
    if what == "fit":
        fit(where)
    elif what == "serve":
        serve(where, int(sys.argv[3]), int(sys.argv[4]))
    else:
        sys.stdout.write(json.dumps(scored({"ours": ours, "sklearn": theirs}[what](where))))
