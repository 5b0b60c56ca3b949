"""The job that computes heat and co-reading and publishes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments.content import content_version, load_catalogue
from experiments.events.sealed import Partition
from experiments.serving.publish import publish_signals
from experiments.serving.read_log import ReadLog
from experiments.serving.recommender import Catalogue
from experiments.serving.signals import HOUR, WINDOWS_H, Reads, SignalRules, build_signals
from experiments.settings import Settings

__all__ = ["SignalJob"]


class SignalJob:
    """Keeps catalogue and recent views between runs.

    Parameters
    ----------
    settings : the demo keeps every snapshot, so that true effects can be computed on them.
    """

    def __init__(self, settings: Settings) -> None:
        self.home, self.keep = Path(settings.home), 0 if settings.profile == "demo" else 3
        self.rules = SignalRules(co_read_sessions=settings.co_read_sessions, fresh_h=settings.pool_hours)
        self.log = ReadLog(self.home, sealed=_sealed_views)
        self._catalogue: tuple[int, Catalogue] | None = None

    def run(self, until_us: int) -> str:
        """Publish a snapshot as of ``until_us``; returns one sentence."""
        catalogue, at = self.catalogue(), until_us / 1e6
        self.log.catch_up(since_us=int(until_us - max(WINDOWS_H) * HOUR * 1e6))
        reads = self._imported(catalogue, until_us) if any((self.home / "lake").glob("*.parquet")) else self.log.reads(catalogue, at=at)
        signals = build_signals(reads, catalogue, at=at, rules=self.rules, last_offset=self.log.last_seq)
        publish_signals(self.home, signals, keep=self.keep)
        return f"{len(reads):,} reads of the last {max(WINDOWS_H):.0f} h, half-life {signals.half_life_h:g} h"

    def _imported(self, catalogue: Catalogue, until_us: int) -> Reads:
        """Reads of a site that holds imported logs: through the lake, which knows the partitions."""
        from experiments.events import lake
        from recsys.interactions import to_reads

        return to_reads(lake.reads(self.home, until_us=until_us, since_us=int(until_us - max(WINDOWS_H) * HOUR * 1e6)), catalogue)

    def catalogue(self) -> Catalogue:
        version = content_version(self.home)
        if self._catalogue is None or self._catalogue[0] != version:
            self._catalogue = (version, load_catalogue(self.home))
        return self._catalogue[1]


def _sealed_views(files: Sequence[Partition], seq: int) -> Iterable[tuple[int, str, int, str]]:
    from experiments.events.sealed_files import views_after  # Arrow is loaded only where sealed files are read

    return views_after(files, seq)
