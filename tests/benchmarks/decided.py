"""How often a sound decided arm is stopped over months, and how soon a broken version of it: ``python -m tests.benchmarks.decided [WORLDS]``.

Generated readers, looked at after each; one count. No other arm ranks beside a decided one. Sound means as many failures as may be (1 %).
"""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt

from analysis.failing import COUNT_ALPHA, TOLERATED, alpha_of, part_of
from tests.benchmarks.new_version import told, trips

WEEKS, VERSIONS, READERS = 12, 7, 300  # weeks, versions a week, readers of each
MOST = 3_000  # readers of a broken version at most


def stops(bad: npt.NDArray[np.bool_], alpha: float) -> npt.NDArray[np.bool_]:
    """After which readers a look stops the arm."""
    return trips(np.cumsum(bad), None, np.arange(1, len(bad) + 1), alpha)


def sound_is_stopped(rng: np.random.Generator) -> bool:
    """Whether an arm of many weeks, with a new version every day, is stopped at any look."""
    for week in range(WEEKS):
        bad = rng.random((VERSIONS, READERS)) < TOLERATED
        if stops(bad.ravel(), part_of(week) * alpha_of(0)).any():
            return True
        if any(stops(bad[k], part_of(week) * alpha_of(k)).any() for k in range(1, VERSIONS)):
            return True
    return False


def readers_until(rng: np.random.Generator, share: float, alpha: float) -> float:
    """Readers of the broken version until it is stopped."""
    stopped = stops(rng.random(MOST) < share, alpha)
    return float(np.argmax(stopped) + 1) if stopped.any() else np.inf


def main(worlds: int) -> int:
    """Print false stops, and readers until the stop."""
    out, rng = sys.stdout.write, np.random.default_rng(7)
    n = sum(sound_is_stopped(rng) for _ in range(worlds))
    out(
        f"sound arms of {WEEKS} weeks of {VERSIONS * READERS:,} readers that were stopped: {n} of {worlds:,}, {n / worlds:.2%} (at most {COUNT_ALPHA:.0%})\n"
    )
    for share in (0.5, 0.05):
        out(f"fails for {share:.0%}, readers until the stop, median / 9 of 10")
        for week, version in ((1, 1), (10, 1), (52, 1), (52, 24)):
            found = [readers_until(rng, share, part_of(week - 1) * alpha_of(version)) for _ in range(200)]
            out(f"; week {week}, new version {version}: {told(found)}")
        out("\n")
    return int(n / worlds > COUNT_ALPHA)


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000))
