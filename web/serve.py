"""``presslab serve``: gunicorn with threads, each worker process building its own application after the fork."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import socket
import sys
from collections import Counter
from contextlib import suppress
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from experiments.errors import BusyError, ConfigError, PresslabError
from experiments.migrate import require_layout
from experiments.settings import Settings

__all__ = ["check_address", "keep_what_is_loaded", "serve", "server_options"]

NUMERIC_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PR_SET_PDEATHSIG = 1
M_ARENA_MAX = -8
MOST_CONNECTIONS = 1_000  # of a web process
YOUNG_OBJECTS = 2_000  # between two looks for garbage: what 250 requests leave behind, 0.2 MB


def check_address(settings: Settings) -> None:
    """Refuse an address that is taken, or one that others could reach; the console's, too, where it has one of its own."""
    if settings.host not in LOOPBACK:
        raise ConfigError(
            f"host = '{settings.host}': the console has no accounts yet, so the site listens on this machine only.",
            "Use 127.0.0.1 and put a proxy in front that lets readers reach everything but /console.",
        )
    for port in _ports(settings):
        with socket.socket(socket.AF_INET6 if settings.host == "::1" else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.host, port))
            except OSError as error:
                other = "--port N or PRESSLAB_PORT=N" if port == settings.port else "console_port or PRESSLAB_CONSOLE_PORT=N"
                raise BusyError(f"port {port} on {settings.host} is in use.", f"Choose another: {other}.") from error


def _ports(settings: Settings) -> list[int]:
    return sorted({settings.port, settings.console_at})


def serve(settings: Settings) -> None:
    """Serve until SIGTERM; needs the stores to be of the current layout."""
    require_layout(settings.home)
    check_address(settings)
    for name in NUMERIC_THREADS:  # a web worker answers many readers; one of them must not take all cores
        os.environ[name] = "1"
    from gunicorn.app.base import BaseApplication

    class _Server(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            for name, value in server_options(settings).items():
                self.cfg.set(name, value)

        def load(self) -> Any:
            from web.app import create_app

            sys.setswitchinterval(0.001)  # an arm is asked on another thread: waiting 5 ms for the interpreter would eat its deadline

            app = create_app(settings, give_up=lambda: os._exit(70))
            keep_what_is_loaded()
            return app

    _Server().run()


def keep_what_is_loaded() -> None:
    """Leave what this process has loaded out of every later look for garbage, and look often for what requests leave behind.

    The search for a route leaves eight objects that hold each other (a local function of werkzeug that calls itself, 650 bytes). They
    stay until the next look, and the most memory that was ever in use stays with the process.
    """
    gc.collect()
    gc.freeze()  # looking through it again and again took a quarter of a page's time
    gc.set_threshold(YOUNG_OBJECTS, 20, 100)


def server_options(settings: Settings) -> dict[str, Any]:
    """Return gunicorn's settings."""
    return {
        "bind": [f"{settings.host}:{port}" for port in _ports(settings)],
        "workers": settings.workers,
        "threads": settings.threads,
        "worker_class": "web.senders.PatientWorker",
        "worker_connections": _most_connections(),
        "preload_app": False,
        "keepalive": 15,
        "graceful_timeout": 10,
        "timeout": 60,
        "loglevel": "warning",
        "worker_tmp_dir": "/dev/shm" if os.path.isdir("/dev/shm") else None,
        "control_socket_disable": True,
        "forwarder_headers": "",  # a client's SCRIPT_NAME would move every address of the site, or end in a 500
        "pre_fork": _choose_core,
        "post_fork": _begin,
        "post_worker_init": _watch,
        "worker_exit": _close,
    }


def _most_connections() -> int:
    """How many connections a process holds at once: half of the files it may open, since one that can open none for the next ends."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if files == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, files // 2)


def _choose_core(arbiter: Any, worker: Any) -> None:
    """Where there are as many web processes as cores, each keeps to one of its own.

    Threads of Python run one at a time. Spread over the cores they wake one another there, and find nothing in the cache: a fifth of
    a page's time. With fewer processes the kernel may use what is free.
    """
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    taken = Counter(sibling.core for sibling in arbiter.WORKERS.values())
    worker.core = min(cores, key=lambda core: (taken[core], core)) if 1 < len(cores) <= arbiter.num_workers else None


def _begin(_arbiter: Any, worker: Any) -> None:
    """Before a web process has threads or an application."""
    _end_with_the_master(worker)
    if worker.core is not None:
        os.sched_setaffinity(0, {worker.core})
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_ARENA_MAX, 1)  # glibc gives every thread a heap of its own, and each keeps the most it ever needed


def _end_with_the_master(worker: Any) -> None:
    """Let the kernel end this process when the master is killed; it would hold the port for another 10 s.

    SIGKILL: a gentle end waits for connections that are merely kept open, and what was acknowledged is on disk.
    Linux only; elsewhere gunicorn's own look at its parent has to do.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != worker.ppid:  # it was killed before we asked
            os._exit(0)


def _watch(worker: Any) -> None:
    """Look for published changes from the start: also the first page of a process shows the plan in force.

    When an article came out since the last signals, a process that starts has none: it does not wait for the timetable.
    """
    from experiments.serving.publish import current_signals  # numpy stays out of the master

    site = worker.wsgi.extensions["presslab"]
    site.watch()
    if current_signals(site.home) and not site.published.signal_version:
        with suppress(PresslabError, SQLAlchemyError):  # nobody to run it, or a busy store: they come by themselves within a minute
            site.run_job("signals")


def _close(_arbiter: Any, worker: Any) -> None:
    """Hand over what this process counted since the last time."""
    site = getattr(getattr(worker, "wsgi", None), "extensions", {}).get("presslab")
    if site is not None:  # the application may have failed to start
        site.close()
