"""``presslab backup`` and ``presslab restore``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from web.cli.main import Home, Json, app

__all__ = ["backup", "restore"]


@app.command("backup")
def backup(
    folder: Annotated[
        Path | None, typer.Argument(help="Where copies are kept, best on another disk (default: backup_folder of the settings).")
    ] = None,
    *,
    drill: Annotated[bool, typer.Option("--drill", help="Also restore the copy aside and check that it balances.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Copy all state while everything runs; the newest copies are kept, none but the last two for longer than 30 days."""
    from experiments.clock import system_clock
    from experiments.events.backup import back_up
    from experiments.events.restoring import drill as rehearse
    from experiments.settings import load_settings
    from web.cli.output import print_json, tell

    settings = load_settings(home)
    made = back_up(settings.home, folder or settings.backups, at_us=system_clock(), most=settings.backup_copies)
    if drill:
        rehearse(made.path, at_us=system_clock(), tested=settings.home)
    if as_json:
        print_json({**asdict(made), "path": str(made.path), "drilled": drill})
        return
    tell(f"{made.path}: {made.files:,} files, {made.bytes / 1e6:,.1f} MB, events up to number {made.last_seq:,}.")
    if drill:
        tell("It was restored aside: every event is accounted for.")


@app.command("restore")
def restore(
    folder: Annotated[Path, typer.Argument(help="A backup, or the folder with the backups (then the newest).")],
    *,
    erased_in: Annotated[
        Path | None, typer.Option(help="Another home folder: who was erased there, and what tokens were revoked, stays so.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Bring a backup back to an empty home folder; readers who were erased since stay erased."""
    from experiments.clock import system_clock
    from experiments.events.restoring import newest
    from experiments.events.restoring import restore as bring_back
    from experiments.settings import load_settings
    from web.cli.output import print_json, tell

    done = bring_back(newest(folder), load_settings(home).home, at_us=system_clock(), erased_in=erased_in)
    if as_json:
        print_json({**asdict(done), "home": str(done.home)})
        return
    tell(f"{done.home}: {done.files:,} files, events up to number {done.last_seq:,}; {done.erased:,} events of erased readers left out.")
    if erased_in is None:
        tell(
            "Who was erased, or whose token was revoked, after the last copy beside this one is back. Is there still a home folder that knows?"
        )
        tell("Then restore anew with --erased-in FOLDER; else erase and revoke them again.")
    tell("Next: presslab migrate, then presslab worker and presslab serve")
