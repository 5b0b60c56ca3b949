"""``presslab serve`` with other options of gunicorn: ``python -m tests.faults.serving HOME PORT '{"preload_app": true}'``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import web.serve
from experiments.settings import Settings

if __name__ == "__main__":
    home, port, more = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
    options = web.serve.server_options
    web.serve.server_options = lambda settings: options(settings) | more
    web.serve.serve(Settings(home=home, profile="demo", port=port, workers=2, threads=4))
