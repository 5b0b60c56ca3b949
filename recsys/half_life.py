"""How quickly a read should cool down on this site: chosen from its own last week, and only when the choice is clear.

``python -m recsys.half_life --home H --until US`` runs in a process of its own and prints one JSON line; the site goes on with the
half-life it has until somebody writes another one into its settings.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.content import load_catalogue
from experiments.errors import DataError
from experiments.serving.publish import current_signals, read_signals
from recsys.comparison import PLACES, paired
from recsys.evaluation import next_click_ranks
from recsys.next_click import Clicks, clicks
from recsys.one_line import tell

__all__ = ["CHOICES_H", "Proposal", "main", "proposal_for", "propose_half_life"]

CHOICES_H = (0.5, 1.0, 2.0, 4.0, 8.0, 24.0, 72.0)
WEEK_H = 168
READ_H = WEEK_H + 120  # the first page views compared have the heat of five days behind them


@dataclass(frozen=True, slots=True)
class Proposal:
    """Half-lives compared on the same page views.

    Parameters
    ----------
    current, best : hours. hit_rates : half-life -> share of next clicks among its first ten. queries : page views.
    low, high : range of best minus current, as wide as it takes to hold 95 % of the time for the best of all others (Bonferroni).
    proposed : the half-life to use; the current one unless the range lies above 0.
    """

    current: float
    best: float
    hit_rates: dict[float, float]
    queries: int
    low: float
    high: float
    proposed: float

    @property
    def says(self) -> str:
        if self.proposed == self.current:
            return f"{self.current:g} h stays: no other half-life is clearly better on {self.queries:,} page views"
        gap = f"by {self.low:+.3f} to {self.high:+.3f} in hit rate at 10 on {self.queries:,} page views"
        return f"{self.proposed:g} h is better than {self.current:g} h {gap}; between experiments, set half_life_hours = {self.proposed:g}"


def propose_half_life(data: Clicks, *, current: float) -> Proposal:
    """Score the half-lives of heat with protocol A on the last seven days of a log.

    Parameters
    ----------
    current : hours, the one in use.

    Raises
    ------
    DataError
        No click of the last seven days has an earlier one in its session.
    """
    last = math.ceil(float(data.hour[-1])) if len(data.hour) else 1
    names = {f"heat_{h:g}": h for h in sorted({*CHOICES_H, current})}
    try:
        ranks, readers, _ = next_click_ranks(data, list(names), span=(max(1, last - WEEK_H), last))
    except DataError as error:
        raise DataError(
            "nobody has read two articles in one session in the last seven days.", "Wait for readers, or import a log."
        ) from error
    hits = {h: ranks[name] < PLACES for name, h in names.items()}
    rates = {h: float(found.mean()) for h, found in hits.items()}
    best = max(rates, key=lambda h: (rates[h], h == current))
    gap = paired(f"{best:g}", f"{current:g}", hits=(hits[best], hits[current]), readers=readers, level=1 - 0.05 / (len(hits) - 1))
    return Proposal(current, best, rates, len(readers), gap.low, gap.high, best if gap.low > 0 else current)


def proposal_for(home: Path, *, until_us: int) -> Proposal:
    """Compare half-lives on what this site's readers read before ``until_us`` (UTC microseconds).

    Raises
    ------
    DataError
        There is no read, or none that has an earlier one in its session.
    """
    from experiments.events import lake

    published, catalogue = current_signals(home), load_catalogue(home)
    current = read_signals(home, catalogue, published["version"]).half_life_h if published else 24.0
    table = lake.reads(home, until_us=until_us, since_us=until_us - READ_H * 3_600_000_000)
    if not table.num_rows:
        raise DataError("readers have read nothing in the last week.", "Wait for readers, or import a log.")
    return propose_half_life(clicks(table.sort_by("at").combine_chunks()), current=current)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="recsys.half_life", description="How quickly should heat fade on this site?")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--until", type=int, required=True, help="reads before this time, UTC microseconds")
    given = parser.parse_args(argv)

    def work() -> dict[str, object]:
        found = proposal_for(given.home, until_us=given.until)
        return {"says": found.says, **asdict(found)}

    return tell(work)


if __name__ == "__main__":
    sys.exit(main())
