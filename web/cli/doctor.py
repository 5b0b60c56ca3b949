"""``presslab doctor``: is this installation sound?"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from experiments.errors import PresslabError, StoreDownError
from experiments.settings import FILE, Settings, overlooked
from web.cli.output import print_json

__all__ = ["Finding", "examine"]

REQUIRED = ("flask", "sqlmodel", "pandas", "sklearn", "implicit", "scipy", "statsmodels", "mlflow", "shap", "apscheduler")


class Finding(NamedTuple):
    """One line of the doctor; ``hint`` is what to do when it is not good."""

    code: str
    good: bool
    says: str
    hint: str = ""


def examine(settings: Settings, *, as_json: bool) -> int:
    """Print every finding; returns 0 when all are good, else 4."""
    findings = [
        finding
        for check in (_stores, _settings, _python, _disk, _address, _worker, _event_store, _events, _arms, _record)
        for finding in _safely(check, settings)
    ]
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        out = Console(file=sys.stdout, highlight=False)
        for finding in findings:
            out.print(
                f"{'✓' if finding.good else '✗'} {finding.code} {finding.says}"
                + (f"\n       {finding.hint}" if finding.hint and not finding.good else "")
            )
    return 0 if all(finding.good for finding in findings) else 4


def _safely(check: Callable[[Settings], Iterator[Finding]], settings: Settings) -> list[Finding]:
    try:
        return list(check(settings))
    except (PresslabError, OSError, ValueError) as error:
        return [Finding("D000", False, f"{check.__name__.strip('_')} could not be checked: {error}", "Mend this first.")]


def _stores(settings: Settings) -> Iterator[Finding]:
    from experiments.migrate import LATEST, layout

    found = layout(settings.home)
    yield Finding(
        "D001", found == LATEST, f"stores in {settings.home} have layout {found or 'none'}, {LATEST} is current", "Run `presslab migrate`."
    )


def _settings(settings: Settings) -> Iterator[Finding]:
    missed, path = overlooked(settings.home), settings.home / FILE
    yield Finding("D015", not missed, missed or f"settings are read from {path}{'' if path.exists() else ' (there is none)'}", "Move it.")


def _python(_: Settings) -> Iterator[Finding]:
    missing = [name for name in REQUIRED if importlib.util.find_spec(name) is None]
    yield Finding(
        "D002", not missing, f"required packages: {'missing ' + ', '.join(missing) if missing else 'all there'}", "Run `make install`."
    )
    web = importlib.util.find_spec("web")
    ours = web is not None and web.origin is not None and Path(web.origin).with_name("cli").exists()
    yield Finding("D003", ours, "the package `web` is Presslab's", "Another distribution brings a package of this name; remove it.")


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = settings.home if settings.home.exists() else settings.home.parent
    free_gib = shutil.disk_usage(folder).free / 2**30
    yield Finding(
        "D004", free_gib > 1, f"{free_gib:.1f} GiB free on the disk of {folder}", "Below 0.5 GiB events are refused. Free some space."
    )
    yield Finding(
        "D005",
        not settings.home.exists() or settings.home.stat().st_mode & 0o077 == 0,
        "the home folder is readable by its owner only",
        f"chmod 700 {settings.home}",
    )


def _address(settings: Settings) -> Iterator[Finding]:
    from web.serve import check_address
    from web.worker_state import worker_state

    try:
        check_address(settings)
        yield Finding("D006", True, f"port {settings.port} is free")
    except PresslabError as error:
        serving = worker_state(settings.home) is not None
        yield Finding("D006", serving, f"port {settings.port} is in use" + (" (by this site, it seems)" if serving else ""), error.hint)


def _worker(settings: Settings) -> Iterator[Finding]:
    from web.formatting import duration
    from web.worker_state import worker_state

    state = worker_state(settings.home)
    good = state is not None and state["age_s"] < 30
    says = (
        "the worker has never reported" if state is None else f"the worker (process {state['pid']}) reported {duration(state['age_s'])} ago"
    )
    yield Finding("D007", good, says, "Start it: presslab worker")
    for name, fault in (state or {}).get("faults", {}).items():
        yield Finding("D008", False, f"{name}: {fault}", "See the worker's log.")


def _event_store(settings: Settings) -> Iterator[Finding]:
    from experiments.events.reading import WHOLE_STORE_S
    from experiments.events.store import read_store, store_path

    if store_path(settings.home).exists():
        try:
            with closing(read_store(store_path(settings.home), longest_s=WHOLE_STORE_S)) as store:
                state = store.check()
                yield Finding("D010", state == "ok", f"event store ({store.says}): {state}", store.mend)
        except StoreDownError as error:
            yield Finding("D010", False, error.what, error.hint)


def _events(settings: Settings) -> Iterator[Finding]:
    from experiments.events.store import alarms, balance

    rows = balance(settings.home)
    off = [f"{row.kind}/{row.arm or '–'}" for row in rows if not row.exact]
    yield Finding(
        "D009",
        not off,
        f"balance of {sum(row.received for row in rows):,} events is {'off: ' + ', '.join(off) if off else 'exact'}",
        "Events were lost or counted twice: keep the outbox folder and report it.",
    )
    damaged = [f"{path}: {why}" for path, why in alarms(settings.home).items()]
    yield Finding(
        "D014", not damaged, f"outbox files: {'; '.join(damaged) or 'all readable'}", "Look at the disk, then run `presslab data salvage`."
    )


def _arms(settings: Settings) -> Iterator[Finding]:
    from experiments.serving.recommender import broken_arms
    from web.published import refresh

    published = refresh(settings.home, None)
    yield Finding(
        "D011", not published.faults, f"arms ready: {', '.join(sorted(published.arms)) or 'none'}", "; ".join(published.faults.values())
    )
    yield Finding("D012", not broken_arms(), "every arm module can be loaded", "; ".join(broken_arms().values()))


def _record(settings: Settings) -> Iterator[Finding]:
    from experiments.lifecycle import audit_faults
    from experiments.migrate import layout
    from experiments.tables import control_engine

    faults = audit_faults(control_engine(settings.home)) if layout(settings.home) else []
    yield Finding("D013", not faults, "the record of changes is unaltered", "; ".join(faults))
