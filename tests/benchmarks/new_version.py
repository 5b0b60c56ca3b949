"""How soon a broken new version is stopped after a long good run, and how often sound ones are: ``python -m tests.benchmarks.new_version [WORLDS]``.

Generated readers, looked at after each: the arm's readers meet a failure with a given chance, beside the status quo alone or beside an
arm of the same share that fails for 2 in 1,000. One count; sound means as many failures as may be (1 %, or as many as the other arm).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from analysis.failing import COUNT_ALPHA, FACTORS, NEGLIGIBLE, TOLERATED, alpha_of

Counts = npt.NDArray[np.int64]
BEFORE, MOST = 100_000, 12_000  # sound readers of the arm before; readers of the new version at most
OTHERS = 0.002  # share of readers who meet a failure of the other arm
VERSIONS, READERS = 48, 500  # versions of a sound arm, readers of each


def evidence(affected: Counts, of: Counts, share: float) -> npt.NDArray[np.float64]:
    """:func:`analysis.failing.failing_evidence` of many readers."""
    factors = np.array(FACTORS)[:, None]
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(affected * np.log(factors) - of * np.log1p(share * (factors - 1))).mean(axis=0))


def trips(mine: Counts, others: Counts | None, readers: Counts, alpha: float) -> npt.NDArray[np.bool_]:
    """After which of the arm's readers a look stops it."""
    found = evidence(mine, readers, TOLERATED) if others is None else evidence(mine, mine + others, 0.5)
    return np.asarray((found > 1 / alpha) & (mine > NEGLIGIBLE * readers))


def readers_until(rng: np.random.Generator, share: float, *, alone: bool, version: int) -> float:
    """Readers of the broken version until it is stopped; ``version`` 0 looks at all versions together, with the whole alpha."""
    readers = np.arange(1, MOST + 1)
    mine, others = np.cumsum(rng.random(MOST) < share), np.cumsum(rng.random(MOST) < OTHERS)
    before = (0, 0) if alone else rng.binomial(BEFORE, OTHERS, 2)
    together = trips(
        mine + before[0], None if alone else others + before[1], readers + BEFORE, alpha_of(0) if version else COUNT_ALPHA
    )  # fmt: skip
    stopped = together | trips(mine, None if alone else others, readers, alpha_of(version)) if version else together
    return float(np.argmax(stopped) + 1) if stopped.any() else np.inf


def sound_is_stopped(rng: np.random.Generator, share: float, *, alone: bool) -> bool:
    """Whether an arm of many sound versions is stopped at any look."""
    n = VERSIONS * READERS
    mine, others = np.cumsum(rng.random(n) < share), np.cumsum(rng.random(n) < share)
    if trips(mine, None if alone else others, np.arange(1, n + 1), alpha_of(0)).any():
        return True
    for version in range(1, VERSIONS):
        begin = version * READERS
        new = [np.asarray(one[begin : begin + READERS] - one[begin - 1]) for one in (mine, others)]
        if trips(new[0], None if alone else new[1], np.arange(1, READERS + 1), alpha_of(version)).any():
            return True
    return False


def told(values: Sequence[float]) -> str:
    """Median and the ninth tenth, of those that were stopped within the readers looked at."""
    middle, late = np.quantile(values, [0.5, 0.9], method="inverted_cdf")
    return " / ".join(f"{one:,.0f}" if np.isfinite(one) else f"over {MOST:,}" for one in (middle, late))


def main(worlds: int) -> int:
    """Print readers until the stop, and false stops."""
    out = sys.stdout.write
    for alone in (True, False):
        out(f"\nreaders until the stop, median / 9 of 10, beside {'the status quo alone' if alone else 'an arm that fails for 0.2%'}\n")
        for share in (0.5, 0.05, 0.02, 0.01):
            out(f"  fails for {share:.0%}")
            for version, says in ((0, "all together"), (1, "1st new version"), (24, "24th"), (336, "336th")):
                rng = np.random.default_rng(7)
                found = [readers_until(rng, share, alone=alone, version=version) for _ in range(worlds)]
                out(f"; {says} {told(found)}")
            out("\n")
    out(f"\nsound arms of {VERSIONS} versions of {READERS} readers that were stopped, of {10 * worlds:,} (at most {COUNT_ALPHA:.0%})\n")
    for alone, share in ((True, 0.01), (True, 0.005), (False, 0.01), (False, 0.05)):
        rng = np.random.default_rng(11)
        false = sum(sound_is_stopped(rng, share, alone=alone) for _ in range(10 * worlds))
        out(f"  fails for {share:.1%}, {'alone' if alone else 'like the other'}: {false} ({false / worlds / 10:.2%})\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
