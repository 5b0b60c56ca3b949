"""One measured step per process, for :mod:`tests.benchmarks.arms`; prints one JSON object."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

WINDOW_H, HALF_LIFE_H, HOUR = 72.0, 24.0, 3_600.0
UNTIL_H = 168.0  # of the log: a few late clicks trail behind its end


def _tell(begun: tuple[float, float], **more: float) -> None:
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(
        json.dumps({"wall": time.perf_counter() - begun[0], "cpu": time.process_time() - begun[1], "peak_mb": peak_mb, **more})
    )


def bare(log: str) -> None:
    """The matrix by pandas and scipy, the fit by implicit, and nothing else."""
    import pandas as pd
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix
    from threadpoolctl import threadpool_limits

    columns = dict(np.load(log))
    begun = time.perf_counter(), time.process_time()
    until = columns["at"].min() + UNTIL_H * HOUR
    frame = pd.DataFrame({name: columns[name] for name in ("reader", "article", "at")})
    frame = frame[(frame["at"] >= until - WINDOW_H * HOUR) & (frame["at"] < until)]
    weight = 0.5 ** ((until - frame["at"]) / HOUR / HALF_LIFE_H)
    summed = weight.groupby([frame["reader"], frame["article"]]).sum().reset_index(name="weight")
    row = pd.factorize(summed["reader"])[0]
    matrix = csr_matrix((summed["weight"].astype(np.float32), (row, summed["article"])))
    with threadpool_limits(1, "blas"):
        AlternatingLeastSquares(factors=64, regularization=0.1, alpha=10.0, iterations=10, random_state=0, num_threads=1).fit(
            matrix, show_progress=False
        )
    _tell(begun, pairs=matrix.nnz)


def ours(log: str) -> None:
    """What a training process does between reading the log and publishing: reads, matrix, fit, arrays."""
    from datetime import UTC, datetime

    from experiments.serving.recommender import Article, Catalogue
    from experiments.serving.signals import Reads
    from recsys.fit_als import fit

    columns = dict(np.load(log))
    n, when = int(columns["article"].max()) + 1, datetime(2017, 10, 1, tzinfo=UTC)
    catalogue = Catalogue([Article(f"{i:06d}", "", "", "", "s", "", when) for i in range(n)])
    begun = time.perf_counter(), time.process_time()
    reads = Reads(columns["reader"], columns["session"], columns["article"].astype(np.int32), columns["at"])
    _, about = fit(reads, catalogue, until=float(columns["at"].min()) + UNTIL_H * HOUR, seed=0)
    _tell(begun, pairs=about["rows"]["pairs"], fit=time.perf_counter() - begun[0])


def load(format: str, path: str, home: str) -> None:
    """Import a log into an empty home."""
    from recsys.importers.log import Layout, import_log, parse_log

    layout = Layout(unit="s") if format == "table" else Layout()
    begun = time.perf_counter(), time.process_time()
    result = import_log(format, Path(path), Path(home), max_rejected=1.0, layout=layout)
    wall, cpu = time.perf_counter() - begun[0], time.process_time() - begun[1]
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    again = time.perf_counter()
    parse_log(format, Path(path), layout=layout)
    told = {"rows": result.read, "wall": wall, "cpu": cpu, "peak_mb": peak_mb, "parse": time.perf_counter() - again}
    sys.stdout.write(json.dumps(told))
