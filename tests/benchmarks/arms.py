"""Arms beside the bare libraries, in one run: ``python -m tests.benchmarks.arms [ranker slates refit import]``.

Nothing is asserted. Logs are looked for under PRESSLAB_DATA or ``../shared/data``; rows that need an absent one say so.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from experiments.content import add_articles, load_catalogue
from experiments.serving.artefacts import current
from tests.benchmarks.arms_site import ARMS, FRESH, ManyArticles
from tests.benchmarks.serving import SECONDS, free_port, get, load, page, site_process
from tests.recsys.test_importers import DATA

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # as in web processes; on a busy machine threads wait for each other
Row = tuple[str, str, str]
ROUNDS, NEWS_S = 3, 2.0
GLOBO = "globo/globo_clicks_h000_191.parquet"


def main(parts: list[str]) -> None:
    """Print the table."""
    table = Table("what", "figure", "beside", box=None, header_style="bold")
    known = {"ranker": ranker, "slates": slates, "refit": refit, "import": imports}
    with tempfile.TemporaryDirectory() as name:
        peer(Path(name), "fit")
        for part in parts or known:
            for row in known[part](Path(name)):
                table.add_row(*row)
    Console(file=sys.stdout, width=200).print(table)


def peer(folder: Path, *what: str) -> Any:
    """Run a peer to its end and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.arms_peer", what[0], str(folder), *what[1:]], capture_output=True, check=True
    )
    return json.loads(done.stdout or b"null")


def ranker(folder: Path) -> Iterator[Row]:
    """Scoring 130 candidates without scikit-learn, and scikit-learn's own, in turns."""
    rounds = [(peer(folder, "ours"), peer(folder, "sklearn")) for _ in range(ROUNDS)]
    ours, theirs = (np.median([pair[i] for pair in rounds], axis=0) for i in (0, 1))
    yield (
        "ranker, 130 candidates, p50 / p99", f"{ours[0]:.2f} / {ours[1]:.2f} ms",
        f"scikit-learn {theirs[0]:.2f} / {theirs[1]:.2f} ms; ratio {ours[0] / theirs[0]:.2f} / {ours[1] / theirs[1]:.2f}",
    )  # fmt: skip


def slates(folder: Path, sizes: tuple[int, ...] = (46_000, 1_000_000)) -> Iterator[Row]:
    """Slates under 200 requests a second, and bare libraries under the same server and load."""
    for articles in sizes:
        site, port, other = ManyArticles(folder / f"home{articles}", articles), free_port(), free_port()
        site.build(folder)
        with site_process("web", "serve", "--home", str(site.home), "--port", str(port)) as server:
            patiently(port, "/-/ready")
            requests = site.requests()
            load(folder, port, requests, connections=8, per_second=50)  # caches fill
            begun, ran = time.time_ns() // 1_000, on_cores(server.pid)
            found = [load(folder, port, requests, connections=32, per_second=200) for _ in range(ROUNDS)]
            ran = on_cores(server.pid) - ran
            waits = slate_waits(site.home, begun)
            with newsroom(site.home):
                busy = load(folder, port, requests, connections=32, per_second=200)
        for file in folder.glob("peer-*.txt"):
            file.unlink()
        with site_process("tests.benchmarks.arms_peer", "serve", str(folder), str(other), str(articles)):
            patiently(other, "/als")
            for _ in range(ROUNDS):
                load(folder, other, [page(f"/{arm}", "") for arm in ("als", "ranked")], connections=32, per_second=200)
        for arm in ARMS:
            bare = [float(word) for file in folder.glob(f"peer-{arm}-*.txt") for word in file.read_text().split()]
            peers = {"als": "implicit.recommend with fold-in", "ranked": "scikit-learn, 130 rows"}
            beside = f"{peers[arm]}: {quantiles(bare)}" if bare else ""
            served = float(np.mean([outcome == "served" for _, outcome in waits[arm]]))  # the others missed their deadline
            figure = f"{quantiles([ms for ms, _ in waits[arm]])} of {len(waits[arm]):,}, {served:.1%} by the arm itself"
            yield f"slate of {arm}, {articles:,} articles, {FRESH:,} fresh, 200/s", figure, beside
        yield from slate_work(site)
        codes = sum((Counter(one["codes"]) for one in found), Counter())
        cpu_ms, waited_ms = ran / codes.total() / 1e6
        beside = f"{cpu_ms:.2f} ms of CPU and {waited_ms:.2f} ms of waiting for a core a request; status {dict(codes)}"
        yield f"whole page, {articles:,} articles", f"p99 {statistics.median(one['p99'] for one in found):.1f} ms", beside
        yield "", f"p99 {busy['p99']:.1f} ms", f"while an article comes out every {NEWS_S:.0f} s; status {busy['codes']}"


@contextmanager
def newsroom(home: Path) -> Iterator[None]:
    """Let an article come out at once, and one every two seconds after it."""
    over, (*_, last) = threading.Event(), load_catalogue(home).articles

    def write() -> None:
        number = 0
        while not number or not over.wait(NEWS_S):
            number += 1
            add_articles(home, [replace(last, id=f"news-{number}", published_at=datetime.now(UTC))])

    writer = threading.Thread(target=write)
    writer.start()
    yield
    over.set()
    writer.join()


def on_cores(server: int) -> npt.NDArray[np.int64]:
    """Nanoseconds that the worker processes of a server ran, and that they could have run but all cores were taken (Linux)."""
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    told = [path.read_text().split()[:2] for child in children for path in Path(f"/proc/{child}/task").glob("*/schedstat")]
    return np.array(told, np.int64).sum(axis=0)


def patiently(port: int, path: str) -> None:
    """Wait until every worker has had time to load."""
    for _ in range(600):
        try:
            get(port, path, "")
            time.sleep(5)
            return
        except (OSError, AssertionError):
            time.sleep(0.5)
    raise SystemExit(f"nothing answers on {port}{path}")


def slate_work(site: ManyArticles, times: int = 300) -> Iterator[Row]:
    """CPU time of pool, ranking and slate in this process alone: what a busy machine changes least."""
    from experiments.serving.recommender import Context
    from experiments.serving.slate import build_slate, pool_at
    from web.published import refresh

    published = refresh(site.home, None)
    at, last = published.signals.at, len(published.catalogue)
    for arm in ARMS:
        spent = []
        for number in range(times + 20):
            begun = time.process_time()
            opened = last - 1 - number % FRESH
            pool = pool_at(published.catalogue, at, article=opened)
            asked = Context(at, opened, (last - 7, last - 9, last - 400), published.signals, pool)
            build_slate(published.arms[arm].rank(asked), asked)
            spent.append(1_000 * (time.process_time() - begun))
        yield f"pool, ranking and slate of {arm}, {last:,} articles", f"{quantiles(spent[20:])} of CPU", ""


def slate_waits(home: Path, since_us: int) -> dict[str, list[tuple[float, str]]]:
    """Milliseconds from asking the arm to its slate, as logged with each impression, and who placed the articles."""
    query = "SELECT arm, json_extract(body, '$.latency_us'), json_extract(body, '$.outcome') FROM event WHERE kind = 'impression' AND issued_at >= ?"
    rows = stored(home, query, since_us)
    return {arm: [(us / 1_000, outcome) for name, us, outcome in rows if name == arm] for arm in ARMS}


def quantiles(waits: list[float]) -> str:
    p50, p99 = np.percentile(waits, [50, 99])
    return f"p50 / p99 {p50:.2f} / {p99:.2f} ms"


def refit(folder: Path) -> Iterator[Row]:
    """ALS on 72 busy hours beside the bare library, and a whole training with its swap while readers are served."""
    site, path = ManyArticles(folder / "home46000", 46_000), str(folder / "log.npz")
    if not site.home.exists():
        site.build(folder)
    step("log", str(site.home), path)
    told: dict[str, list[dict[str, float]]] = {"bare": [], "ours": []}
    for _ in range(ROUNDS):
        for who, results in told.items():
            results.append(step(who, path))
    wall, cpu = ({who: statistics.median(one[kind] for one in results) for who, results in told.items()} for kind in ("wall", "cpu"))
    yield (
        f"one fit of ALS on 72 h, {told['ours'][0]['pairs']:,.0f} pairs", f"{wall['ours']:.1f} s, {cpu['ours']:.1f} CPU s",
        f"bare matrix and fit {wall['bare']:.1f} s, {cpu['bare']:.1f} CPU s; ratio {wall['ours'] / wall['bare']:.2f}, {cpu['ours'] / cpu['bare']:.2f}",
    )  # fmt: skip
    for which in ("first training", "training an hour after another"):
        spent = step("stages", str(site.home))
        split = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in spent.items())
        yield (
            f"{which} of ALS, stage by stage",
            f"{sum(spent.values()):.1f} CPU s, {sum(spent.values()) / cpu['bare']:.2f} bare fits",
            split,
        )
        if which == "first training":
            step("train", str(site.home), "1")
    yield from swap(folder, site, wall["bare"])


def step(what: str, *arguments: str) -> Any:
    """Run a step of :mod:`tests.benchmarks.arms_refit` in a process of its own and return what it told."""
    code = f"from tests.benchmarks.arms_refit import {what}; {what}(*{arguments!r})"
    return json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout or b"null")


def swap(folder: Path, site: ManyArticles, bare_s: float) -> Iterator[Row]:
    """``presslab model train als`` while 200 requests a second are answered, from its start to the first slate of the new version."""
    port, over, found = free_port(), threading.Event(), list[dict[str, Any]]()
    with site_process("web", "serve", "--home", str(site.home), "--port", str(port)):
        patiently(port, "/-/ready")
        requests = site.requests()

        def read(turn: int) -> None:
            place = folder / f"readers{turn}"
            place.mkdir(exist_ok=True)
            time.sleep(SECONDS / 2 * turn)  # so that the two never pause at the same time
            while not over.is_set():
                found.append(load(place, port, requests, connections=16, per_second=100))

        readers = [threading.Thread(target=read, args=(turn,)) for turn in (0, 1)]
        for reader in readers:
            reader.start()
        time.sleep(2 * SECONDS)
        begun = time.time()
        training = subprocess.Popen(
            [sys.executable, "-m", "web", "model", "train", "als", "--home", str(site.home)], stdout=subprocess.PIPE
        )
        told = (training.stdout.read() if training.stdout else b"").decode()
        _, _, used = os.wait4(training.pid, 0)
        time.sleep(SECONDS)
        over.set()
        for reader in readers:
            reader.join()
    pointer = current(site.home, "als")
    published = (pointer.at if pointer else 0) / 1e6 - begun
    first, last_old = (us / 1e6 - begun for us in swapped(site.home, round(begun * 1e6)))
    codes = sum((Counter(one["codes"]) for one in found), Counter())
    says = f"published after {published:.1f} s; last slate of the old version {last_old:.1f} s; {used.ru_utime + used.ru_stime:.1f} CPU s with MLflow"
    yield "from `presslab model train als` to its first slate", f"{first:.1f} s, {first / bare_s:.1f} bare fits", says
    yield "answers meanwhile", f"{dict(codes)}", f"p99 {statistics.median(one['p99'] for one in found):.0f} ms; {told.strip()[:90]}"


def swapped(home: Path, since_us: int) -> tuple[int, int]:
    """When the first slate of another model version was made, and the last of the one before, UTC microseconds.

    A page of the benchmark is always asked for by the same reader with the same reads, so another set of candidates is another model.
    """
    query = "SELECT reader, issued_at, json_extract(body, '$.candidates') FROM event WHERE kind = 'impression' AND arm = 'als' AND json_extract(body, '$.outcome') = 'served' ORDER BY issued_at"
    rows = stored(home, query)
    known = {reader: shown for reader, at_us, shown in rows if at_us < since_us}
    old = [at_us for reader, at_us, shown in rows if shown == known[reader]]
    new = [at_us for reader, at_us, shown in rows if shown != known[reader] and at_us > since_us]
    return min(new), max(old)


def stored(home: Path, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """Rows of the home's events, after everything acknowledged was loaded."""
    from experiments.clock import system_clock
    from experiments.events.loader import Loader
    from experiments.events.store import read_store, store_path

    with Loader(home, clock=system_clock) as loader:
        loader.load()
    with closing(read_store(store_path(home))) as store:
        return store.execute(query, values).fetchall()


def imports(folder: Path) -> Iterator[Row]:
    """Whole imports, each in a process of its own; MIND as a part of the real log, and as one of half its size drawn with a seed."""
    table = folder / "table.csv"
    rows = "".join(f"r{i % 40_000},a{i * 7919 % 5_000},{1_700_000_000 + i}\n" for i in range(1_000_000))
    table.write_text(f"reader_id,article_id,ts\n{rows}")
    real = [("globo", DATA / GLOBO), ("deskdrop", DATA / "deskdrop"), ("mind", DATA / "mind_subset")]
    for format, path in (*real, ("mind", page_views(folder / "mind")), ("table", table)):
        if not path.exists():
            yield f"import {format}", f"needs {path}", ""
            continue
        told = step("load", format, str(path), str(folder / f"import-{format}-{path.stem}"))
        yield (
            f"import {format}, {told['rows']:,} reads of {told['lines']:,} rows", f"{told['lines'] / told['wall']:,.0f} rows/s, {told['peak_mb']:,.0f} MB",
            f"{told['lines'] / told['cpu']:,.0f} rows, {told['rows'] / told['cpu']:,.0f} reads a CPU second; parsing {told['parse'] / told['wall']:.0%} of the time",
        )  # fmt: skip


def page_views(folder: Path, lines: int = 80_000, articles: int = 51_282) -> Path:
    """A log like MIND-small: 37 articles shown per page view, 33 in a history, three page views in two with a second click."""
    folder.mkdir()
    rng, day, names = np.random.default_rng(0), datetime(2019, 11, 9, tzinfo=UTC), [f"N{i}" for i in range(articles)]
    news = (f"{name}\tsports\tgolf\tTitle of {name}\t{'An abstract of words. ' * 9}\thttps://x/{name}\t[]\t[]\n" for name in names)
    (folder / "news.tsv").write_text("".join(news))
    with (folder / "behaviors.tsv").open("w") as file:
        for number, sizes in enumerate(np.minimum(rng.geometric([1 / 37, 1 / 33], (lines, 2)), 300).tolist()):
            shown, before = ((articles * rng.random(size) ** 3).astype(int).tolist() for size in sizes)
            at = (day + timedelta(seconds=6 * number)).strftime("%m/%d/%Y %I:%M:%S %p")
            told = " ".join(f"{names[a]}-{int(place < 1 + number % 2)}" for place, a in enumerate(shown))
            file.write(f"{number}\tU{number * 7919 % 30_000}\t{at}\t{' '.join(names[a] for a in before)}\t{told}\n")
    return folder


if __name__ == "__main__":
    main(sys.argv[1:])
