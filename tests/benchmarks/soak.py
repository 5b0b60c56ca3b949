"""Hours of load on a real site and worker: does a web worker's memory grow, is anything lost? ``make soak ARGS=60`` (minutes).

Readers open articles, the front page, a section and a search, while an article is corrected every half minute.

Runs on a finished demo (PRESSLAB_BENCH_HOME names one; without it a small one is made first).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt

from experiments.content import add_articles, load_catalogue
from experiments.events.store import balance
from tests.benchmarks.serving import articles, demo_home, free_port, page, reader_cookie, served, site_process

PER_SECOND = 20
EVERY_S = 30.0
# gunicorn starts a thread when none is idle: on a busy machine some of the sixteen begin late, .3 MB each, and look like a leak
FIRST = {"connections": 64, "seconds": 40}
EDITIONS = 80  # after so many the heap of a process has the holes it will have (D178)


def main(minutes: float) -> int:
    """Print a line every minute or so, then the slope; returns 1 when memory grows or something is lost."""
    with tempfile.TemporaryDirectory() as name:
        home, port = demo_home(Path(name)), free_port()
        with (
            site_process("web", "worker", "--home", str(home)),
            site_process("web", "serve", "--home", str(home), "--port", str(port)) as web,
        ):
            served(port, "/-/ready")
            job = Path(name) / "job.json"
            cookies = [reader_cookie(home, port, arm) for arm in ("front", "ranked")]
            paths = [*articles(home), "/en/", "/en/section/city", "/en/search?q=council"]
            requests = [page(path, cookie) for path in paths for cookie in cookies]
            job.write_text(json.dumps({"port": port, "requests": requests, **FIRST}))
            first = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.client", str(job)], stdout=subprocess.DEVNULL)
            for number in range(EDITIONS):
                _publish(home, -number)
                time.sleep(FIRST["seconds"] / EDITIONS)
            first.wait()
            job.write_text(
                json.dumps({"port": port, "requests": requests, "connections": 8, "seconds": 60 * minutes, "per_second": PER_SECOND})
            )
            client = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.client", str(job)], stdout=subprocess.PIPE, text=True)
            samples: list[tuple[float, float]] = []
            begun = time.monotonic()
            while client.poll() is None:
                samples.append(((time.monotonic() - begun) / 3600, _megabytes(web)))
                sys.stdout.write(f"{60 * samples[-1][0]:6.1f} min {samples[-1][1]:7.2f} MB, {_threads(web)} threads\n")
                sys.stdout.flush()
                _publish(home, len(samples))
                time.sleep(EVERY_S)
            answered = json.loads(client.communicate()[0])
        exact = all(row.exact for row in balance(home))
    quarters = [_slope(np.array(part)) for part in np.array_split(np.array(samples), 4)]
    slope = _slope(np.array(samples[len(samples) // 4 :]))  # caches fill in the first quarter
    by_quarter = ", ".join(f"{one:+.2f}" for one in quarters)
    sys.stdout.write(f"slope {slope:+.2f} MB/h over the last three quarters ({by_quarter} by quarter); ")
    sys.stdout.write(f"balance {'exact' if exact else 'off'}; {json.dumps(answered)}\n")
    return 0 if slope < 1.0 and exact and set(answered["codes"]) == {"200"} else 1


def _publish(home: Path, number: int) -> None:
    """Correct one article, and move the time it came out: with that, the catalogue has another version."""
    article = load_catalogue(home).articles[0]
    add_articles(home, [replace(article, title=f"Edition {number}", published_at=article.published_at + timedelta(seconds=1))])


def _slope(samples: npt.NDArray[np.float64]) -> float:
    """Megabytes an hour, from rows of (hours, megabytes)."""
    return float(np.polyfit(samples[:, 0], samples[:, 1], 1)[0]) if len(samples) > 2 else float("nan")


def _threads(process: subprocess.Popen[bytes]) -> int:
    """Threads of all web workers together."""
    return sum(len(list(Path(f"/proc/{child}/task").iterdir())) for child in _children(process))


def _megabytes(process: subprocess.Popen[bytes]) -> float:
    """Resident memory of all web workers together."""
    pages = [int(Path(f"/proc/{child}/statm").read_text().split()[1]) for child in _children(process)]
    return sum(pages) * 4096 / 2**20


def _children(process: subprocess.Popen[bytes]) -> list[str]:
    return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()


if __name__ == "__main__":
    raise SystemExit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0))
