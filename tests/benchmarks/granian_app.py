"""The site as granian loads it, with what ``presslab serve`` does around it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Any

from experiments.settings import load_settings
from web.app import create_app
from web.serve import PR_SET_PDEATHSIG, keep_what_is_loaded


def site() -> Any:
    """Return the application of one worker process."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    sys.setswitchinterval(0.001)
    app = create_app(load_settings(), give_up=lambda: os._exit(70))
    keep_what_is_loaded()
    app.extensions["presslab"].watch()
    return app
