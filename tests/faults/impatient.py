"""The site's web worker with half a second of patience, for tests: the real one has ten."""

from __future__ import annotations

from web.senders import PatientWorker

__all__ = ["Impatient"]


class Impatient(PatientWorker):
    longest_s = 0.5
