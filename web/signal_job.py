"""The job that computes heat and co-reading and publishes them."""

from __future__ import annotations

from pathlib import Path

from experiments.content import content_version, load_catalogue
from experiments.events import lake
from experiments.serving.publish import publish_signals
from experiments.serving.recommender import Catalogue
from experiments.serving.signals import HOUR, WINDOWS_H, SignalRules, build_signals
from experiments.settings import Settings
from recsys.interactions import to_reads

__all__ = ["SignalJob"]


class SignalJob:
    """Keeps the catalogue between runs; everything else is read anew."""

    def __init__(self, settings: Settings) -> None:
        self.home, self.keep = Path(settings.home), 0 if settings.profile == "demo" else 3
        self.rules = SignalRules(co_read_sessions=settings.co_read_sessions)
        self._catalogue: tuple[int, Catalogue] | None = None

    def run(self, until_us: int) -> str:
        """Publish a snapshot as of ``until_us``; returns one sentence."""
        catalogue = self.catalogue()
        table = lake.reads(self.home, until_us=until_us, since_us=int(until_us - max(WINDOWS_H) * HOUR * 1e6))
        reads = to_reads(table, catalogue)
        signals = build_signals(reads, catalogue, at=until_us / 1e6, rules=self.rules)
        publish_signals(self.home, signals, keep=self.keep)
        return f"{len(reads):,} reads of the last {max(WINDOWS_H):.0f} h, half-life {signals.half_life_h:g} h"

    def catalogue(self) -> Catalogue:
        version = content_version(self.home)
        if self._catalogue is None or self._catalogue[0] != version:
            self._catalogue = (version, load_catalogue(self.home))
        return self._catalogue[1]
