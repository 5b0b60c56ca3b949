"""One measured step per process, for :mod:`tests.benchmarks.arms`; prints one JSON object."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

WINDOW_H, HALF_LIFE_H, HOUR = 72.0, 24.0, 3_600.0
ARTICLES, READERS, SESSIONS = 14_000, 137_000, 232_000


def log(home: str, path: str) -> None:
    """Leave 72 busy hours behind, drawn with a seed: 657,000 pairs, the most read article 2 % of all reads, half the readers with four or fewer.

    As a partition of the home's lake, of its newest articles, and as plain arrays at ``path``, for fits without the lake.
    """
    import pyarrow as pa

    from experiments.content import load_catalogue
    from experiments.events import lake

    rng = np.random.default_rng(0)
    size = np.minimum(1 + rng.geometric(0.53, SESSIONS), 30)
    who = np.concatenate([np.arange(READERS), (READERS * rng.random(SESSIONS - READERS) ** 2).astype(np.int64)])
    session = np.repeat(np.arange(SESSIONS), size)
    place = np.arange(len(session)) - np.repeat(np.cumsum(size) - size, size)
    at = time.time() - HOUR * (WINDOW_H - 0.5 - (WINDOW_H - 1.5) * rng.random(SESSIONS))[session] + 60.0 * place
    popular = (np.arange(ARTICLES) + 15.0) ** -1.3
    article = rng.permutation(ARTICLES)[rng.choice(ARTICLES, len(session), p=popular / popular.sum())]
    order = np.argsort(at, kind="stable")
    reader, session, article, at = who[session][order], session[order], article[order], at[order]
    ids = np.array(load_catalogue(Path(home)).ids[-ARTICLES:])
    columns = {"reader": np.char.mod("r%d", reader), "session": np.char.mod("s%d", session), "article": ids[article]}
    table = pa.table({**{name: pa.array(words.tolist()) for name, words in columns.items()}, "at": pa.array((at * 1e6).astype(np.int64))})
    lake.add_import(Path(home), table, name="busy", sha256="0" * 64)
    np.savez(path, reader=reader, session=session, article=article, at=at)


def _tell(begun: tuple[float, float], **more: float) -> None:
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(
        json.dumps({"wall": time.perf_counter() - begun[0], "cpu": time.process_time() - begun[1], "peak_mb": peak_mb, **more})
    )


def bare(path: str) -> None:
    """The matrix by pandas and scipy, the fit by implicit, and nothing else."""
    import pandas as pd
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix
    from threadpoolctl import threadpool_limits

    columns = dict(np.load(path))
    begun = time.perf_counter(), time.process_time()
    until = columns["at"].max() + 1.0
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


def ours(path: str) -> None:
    """What a training process does between reading the log and publishing: reads, matrix, fit, arrays."""
    from datetime import UTC, datetime

    from experiments.serving.recommender import Article, Catalogue
    from experiments.serving.signals import Reads
    from recsys.fit_als import fit

    columns = dict(np.load(path))
    n, when = int(columns["article"].max()) + 1, datetime(2017, 10, 1, tzinfo=UTC)
    catalogue = Catalogue([Article(f"{i:06d}", "", "", "", "s", "", when) for i in range(n)])
    begun = time.perf_counter(), time.process_time()
    reads = Reads(columns["reader"], columns["session"], columns["article"].astype(np.int32), columns["at"])
    _, about = fit(reads, catalogue, until=float(columns["at"].max()) + 1.0, seed=0)
    _tell(begun, pairs=about["rows"]["pairs"], fit=time.perf_counter() - begun[0])


def train(home: str, hours_ago: str) -> None:
    """Publish a version of ``als`` as it was trained some hours before the last read."""
    from recsys import training
    from web.imported import last_read_us

    until_us = last_read_us(Path(home)) + 1 - round(float(hours_ago) * HOUR * 1e6)
    sys.stdout.write(json.dumps(training.train("als", Path(home), until_us=until_us)))


def stages(home: str) -> None:
    """CPU seconds of what ``presslab model train als`` does one after the other, imports of libraries in the first."""
    from experiments.serving.recommender import arm_class
    from recsys.fit_als import Trainer
    from recsys.judging import later_requests, place_of
    from recsys.requests import contexts, next_reads
    from recsys.served import served
    from recsys.source import read_source
    from web.imported import last_read_us

    begun, spent = time.process_time(), dict[str, float]()

    def over(stage: str) -> None:
        spent[stage] = time.process_time() - begun - sum(spent.values())

    until_us = last_read_us(Path(home)) + 1
    until = until_us / 1e6
    source = read_source(Path(home), until_us=until_us, agreed_only=True, texts=False)
    trainer, als = Trainer(source.reads, source.site, until, 0), arm_class("als")
    over("reading")
    before = next((one for one in served(Path(home), "als", seed=0) if trainer.lead_on(one.arrays, one.manifest)), None)
    split, asked = later_requests(source.reads, until, 0)
    if before is not None:
        asked = next_reads(source.reads, since=before.until, until=until, most=len(asked), seed=0)
    fitted = (before.arrays, before.manifest) if before is not None else trainer.fit(split)
    arms = (als.load(*fitted, source.site.catalogue), arm_class("front")())  # type: ignore[attr-defined]
    over(f"version {before.version}" if before is not None else "fit to judge")
    moments = list(contexts(asked, source.site))
    over(f"{len({context.signals.at for _, context in moments})} snapshots of signals")
    for request, context in moments:
        for arm in arms:
            place_of(arm, request, context)
    over(f"{len(arms) * len(asked):,} rankings")
    trainer.fit(until)
    over("fit to publish")
    sys.stdout.write(json.dumps(spent))


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
    lines = sum(1 for _ in (Path(path) / "behaviors.tsv").open("rb")) if format == "mind" else result.read
    told = {"rows": result.read, "lines": lines, "wall": wall, "cpu": cpu, "peak_mb": peak_mb, "parse": time.perf_counter() - again}
    sys.stdout.write(json.dumps(told))
