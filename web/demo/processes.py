"""The demo's own web and worker processes: started, watched, stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from experiments.errors import BusyError, PresslabError
from experiments.settings import Settings

__all__ = ["Processes"]


class Processes:
    """``presslab serve`` and ``presslab worker`` of one home folder, with their logs in ``home/logs``."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.logs = Path(settings.home) / "logs"
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start ``serve`` or ``worker`` (again)."""
        self.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "PYTHONDONTWRITEBYTECODE": "",
            "PRESSLAB_HOME": str(self.settings.home),
            "PRESSLAB_PROFILE": "demo",
            "PRESSLAB_PORT": str(self.settings.port),
            "PRESSLAB_WORKERS": str(self.settings.workers),
            "PRESSLAB_THREADS": str(self.settings.threads),
            "PRESSLAB_POOL_HOURS": str(self.settings.pool_hours),
        }
        with (self.logs / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", "web", name], stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def wait_ready(self, *, longest_s: float = 40.0) -> None:
        """Return once the site answers; raises when a process died or nothing answers."""
        address = f"http://{self.settings.host}:{self.settings.port}/-/live"
        until = time.monotonic() + longest_s
        while time.monotonic() < until:
            self.check()
            try:
                with urllib.request.urlopen(address, timeout=2) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.05)
        raise BusyError(f"the site did not answer on {address} within {longest_s:.0f} s.", f"See {self.logs / 'serve.log'}.")

    def check(self) -> None:
        """Raise when a process ended by itself, with the last words of its log."""
        for name, process in self.running.items():
            if process.poll() is not None:
                words = (self.logs / f"{name}.log").read_text(errors="replace").strip().splitlines()[-3:]
                raise PresslabError(f"`presslab {name}` ended with code {process.returncode}.", f"Its last words: {' / '.join(words)}")

    def stop(self) -> None:
        """Stop everything; what does not end in 10 s is killed."""
        for process in self.running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.running.clear()
