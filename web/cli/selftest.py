"""``presslab selftest``: does this disk keep what it acknowledged?"""

from __future__ import annotations

import signal
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from web.cli.main import Home, Json, app

__all__ = ["selftest"]

FULL, QUICK = (600, 20), (60, 3)  # kills, power cuts


@app.command("selftest")
def selftest(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of it, within 50 seconds.")] = False,
    power_cut: Annotated[bool, typer.Option("--power-cut", help="Also cut the power of a small disk (Linux, as root).")] = False,
    seed: int = 1,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Kill writers and loaders on this disk and count what was lost; exit 4 when anything was."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends its processes and removes its folder, as Ctrl-C does
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from experiments.events.selftest import selftest as run
    from experiments.settings import load_settings
    from web.cli.output import print_json, print_table

    folder = load_settings(home).home
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    kills, cuts = QUICK if quick else FULL
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting", total=1.0)
        found = run(
            folder,
            kills=kills,
            power_cuts=cuts if power_cut else 0,
            seed=seed,
            tell=lambda says, done: progress.update(task, description=says, completed=done),
        )
    if as_json:
        print_json(asdict(found))
    else:
        typer.echo(_sentence(found.acknowledged, found.lost, found.duplicates, balance=found.balance))
        print_table("Selftest", ["", "figure "], [
            ("processes killed", f"{found.kills:,}"),
            ("power cuts", f"{found.power_cuts:,}" if power_cut else "none (add --power-cut, as root)"),
            ("events acknowledged", f"{found.acknowledged:,}"),
            ("of those lost", f"{found.lost:,}"),
            ("stored twice", f"{found.duplicates:,}"),
            ("balance", found.balance),
            ("durable events per second", f"{found.events_per_second:,.0f}"),
            ("99 in 100 are durable within", f"{found.p99_ms:.1f} ms"),
            ("fdatasync per second", f"{found.fdatasync_per_second:,.0f}"),
        ])  # fmt: skip
    if not found.kept:
        raise typer.Exit(4)


def _sentence(acknowledged: int, lost: int, duplicates: int, *, balance: str) -> str:
    if not acknowledged:
        return "Nothing was acknowledged, so nothing is proved: is the disk full?"
    if lost or duplicates or balance != "exact":
        return "This disk does not keep the promise: acknowledged events are missing, doubled or unaccounted for. Do not trust reports from it."
    return f"Every one of {acknowledged:,} acknowledged events is there, once."
