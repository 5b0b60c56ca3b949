"""How long from a rollback until every web process serves the other version: ``python -m tests.benchmarks.going_back [CHANGES]``.

The real site with two processes under readers who ask for pages without a pause. Counts until all processes said so, and until the
last page of another version.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.faults.versions import changed_under_load

MOST_S = 2.0


def main(changes: int) -> int:
    """Print the waits and what failed; returns 1 when a request failed or one in a hundred changes took over two seconds."""
    with tempfile.TemporaryDirectory() as name:
        found, load = changed_under_load(Path(name) / "home", changes)
    told = sorted(one.confirmed.ms / 1_000 for one in found)
    last = sorted(one.last_old_s for one in found)
    p99 = min(len(told) - 1, int(0.99 * len(told)))
    sys.stdout.write(
        f"{changes} changes, {load.pages:,} pages, {load.failed} failed requests, {sum(one.late for one in found)} pages of another version after"
        f" {sum(one.confirmed.confirmed == one.confirmed.of == 2 for one in found)} confirmations of both processes.\n"
        f"Confirmed: half within {told[len(told) // 2]:.2f} s, 99 in 100 within {told[p99]:.2f} s, longest {told[-1]:.2f} s;"
        f" last page of another version: half within {last[len(last) // 2]:.2f} s, longest {last[-1]:.2f} s.\n"
    )
    return int(load.failed > 0 or told[p99] > MOST_S)


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50))
