"""A quick HTTP client in a process of its own: ``python -m tests.benchmarks.client JOB.json``; prints one JSON object.

Closed loop: every connection sends its next request when the last was answered. With ``per_second`` requests are due at
fixed times and their wait counts from there, so that a slow server cannot hide behind a slow client.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from web.demo.connection import Connection


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Send ``requests`` in turn over ``connections`` for ``seconds``; the first tenth only warms up."""
    prepared = [request.encode("latin-1") for request in job["requests"]]
    waits: list[tuple[float, float]] = []
    codes: Counter[int | str] = Counter()  # what went wrong beside the statuses
    begun = time.perf_counter()
    end = begun + job["seconds"]
    turn = iter(range(10**9))

    def run() -> None:
        connection = Connection("127.0.0.1", job["port"], timeout_s=30)
        while True:
            number = next(turn)
            due = begun + number / job["per_second"] if job.get("per_second") else time.perf_counter()
            if due >= end:
                return
            if (early := due - time.perf_counter()) > 0:
                time.sleep(early)
            try:
                codes[connection.send(prepared[number % len(prepared)]).status] += 1
            except OSError as error:  # refused, cut, or no answer
                codes[type(error).__name__] += 1
            waits.append((due, time.perf_counter() - due))

    threads = [threading.Thread(target=run) for _ in range(job["connections"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    warm = begun + job["seconds"] / 10
    counted = sorted(1_000 * wait for due, wait in waits if due >= warm)
    rate = len(counted) / (0.9 * job["seconds"])
    return {"per_second": rate, "p50": counted[len(counted) // 2], "p99": counted[int(0.99 * (len(counted) - 1))], "codes": dict(codes)}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(Path(sys.argv[1]).read_text("utf-8")))))
