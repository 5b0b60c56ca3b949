"""A real PostgreSQL server for tests: made in a temporary folder, on a Unix socket, gone afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from urllib.parse import quote

import pytest

USER = "postgres"  # of Debian's package; the server refuses to run as root
WAIT_S = 30.0


def programs() -> Path | None:
    """The folder of initdb and postgres: the newest of Debian's, or what PATH has."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("postgres")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def absent() -> str:
    """What is missing to run a server here; empty if nothing is."""
    if programs() is None:
        return "needs a PostgreSQL server: apt-get install postgresql"
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        return "needs setpriv to run PostgreSQL as another user than root: apt-get install util-linux"
    return "" if find_spec("psycopg") else "needs psycopg: pip install 'presslab[postgres]'"


class Server:
    """A server and its URL; it can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        bin_, self.folder = programs(), folder
        assert bin_ is not None
        self._as = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"] if os.geteuid() == 0 else []
        if self._as:
            shutil.chown(folder, USER, USER)
        self._bin, self.data = bin_, folder / "data"
        self._run("initdb", "-D", str(self.data), "-U", "presslab", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8")
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._as, str(self._bin / program), *arguments], cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Start and wait until it answers."""
        options = ["-k", str(self.folder), "-c", "listen_addresses=", "-c", "shared_buffers=16MB", "-c", "max_connections=40"]
        with (self.folder / "log").open("ab") as log:
            command = [*self._as, str(self._bin / "postgres"), "-D", str(self.data), *options]
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        end = time.monotonic() + WAIT_S
        ready = [str(self._bin / "pg_isready"), "-q", "-h", str(self.folder)]
        while subprocess.run(ready, check=False).returncode:
            gone = self.process.poll() is not None or time.monotonic() > end
            assert not gone, (self.folder / "log").read_text()
            time.sleep(0.05)

    def kill(self) -> None:
        """End every process of the server at once, as a power cut would."""
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True, check=False)
        for process in [self.process.pid, *map(int, children.stdout.split())]:
            os.kill(process, signal.SIGKILL)
        self.process.wait()
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()

    def url(self, schema: str) -> str:
        """The URL of a schema of its own, made on the spot: quicker than a database."""
        import psycopg

        plain = f"postgresql://presslab@/postgres?host={quote(str(self.folder), safe='')}"
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {schema}")
        return f"{plain}&options=-csearch_path%3D{schema}"


@contextmanager
def running() -> Iterator[Server]:
    """A server for as long as it is needed; skips where there is none to run, and fails there when ``CI=true``."""
    if missing := absent():
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    folder = Path(mkdtemp(prefix="presslab-pg-"))  # short: a socket's path has at most 107 bytes
    server = Server(folder)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)
