"""The job that computes heat and co-reading and publishes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from experiments.content import content_version, load_catalogue
from experiments.events.sealed import Partition
from experiments.serving.artefacts import read_bundle, read_pointer
from experiments.serving.publish import publish_signals
from experiments.serving.read_log import ReadLog, View
from experiments.serving.recommender import Catalogue
from experiments.serving.signals import HOUR, WINDOWS_H, Reads, SignalRules, Texts, build_signals, with_texts
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
        self.rules = SignalRules(settings.half_life_hours, co_read_sessions=settings.co_read_sessions, fresh_h=settings.pool_hours)
        self.log = ReadLog(self.home, sealed=_sealed_views)
        self._catalogue: tuple[int, Catalogue] | None = None
        self._known_texts, self._texts_key = Texts.none(), ("", "")

    def run(self, until_us: int) -> str:
        """Publish a snapshot as of ``until_us``; returns one sentence."""
        catalogue, at = self.catalogue(), until_us / 1e6
        self.log.catch_up(since_us=int(until_us - max(WINDOWS_H) * HOUR * 1e6))
        reads = self._imported(catalogue, until_us) if any((self.home / "lake").glob("*.parquet")) else self.log.reads(catalogue, at=at)
        signals = build_signals(reads, catalogue, at=at, rules=self.rules, last_offset=self.log.last_seq)
        signals = with_texts(signals, self._texts(catalogue))
        publish_signals(self.home, signals, keep=self.keep)
        return f"{len(reads):,} reads of the last {max(WINDOWS_H):.0f} h, half-life {signals.half_life_h:g} h"

    def _texts(self, catalogue: Catalogue) -> Texts:
        """Vectors of words as the text job last published them; read again when there is a new version or another catalogue."""
        pointer = read_pointer(self.home / "texts")
        key = (pointer.sha256 if pointer else "", catalogue.version)
        if pointer and key != self._texts_key:
            arrays, manifest = read_bundle(self.home / "texts" / pointer.version, sha256=pointer.sha256)
            positions = np.array([catalogue.positions.get(identity, -1) for identity in manifest["ids"]], np.int32)
            known = np.flatnonzero(positions >= 0)
            known = known[np.argsort(positions[known])]
            stories = arrays.get("stories", np.full(len(positions), -1, np.int32))  # bundles of earlier versions know none
            self._known_texts, self._texts_key = Texts(positions[known], arrays["vectors"][known], stories[known]), key
        return self._known_texts

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


def _sealed_views(files: Sequence[Partition], seq: int) -> Iterable[View]:
    from experiments.events.sealed_files import views_after  # Arrow is loaded only where sealed files are read

    return views_after(files, seq)
