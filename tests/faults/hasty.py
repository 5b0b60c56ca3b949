"""A site that says "on disk" a minute before it is, broken on purpose: ``python -m tests.faults.hasty HOME PORT``.

The harness must report losses when it is killed, or it proves nothing about the real one.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from experiments.events.event import Event
from experiments.events.outbox import Outbox
from experiments.settings import Settings
from web.app import create_app


class HastyOutbox(Outbox):
    """Returns at once and commits a minute later."""

    def append(self, events: Sequence[Event], *, timeout_s: float = 1.0) -> None:
        threading.Timer(60.0, super().append, (events,), {"timeout_s": timeout_s}).start()


if __name__ == "__main__":
    home, port = Path(sys.argv[1]), int(sys.argv[2])
    app = create_app(Settings(home=home, profile="demo"))
    site = app.extensions["presslab"]
    site.outbox = HastyOutbox(home / "outbox", clock=site.clock)
    app.run("127.0.0.1", port, threaded=True)
