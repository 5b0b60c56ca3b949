"""``presslab jobs ...`` and ``presslab audit ...``."""

from __future__ import annotations

from typing import Annotated

import typer

from web.cli.main import Home, Json, audit, jobs

__all__ = ["listing", "run", "verify"]


@jobs.command("list")
def listing(home: Home = None, as_json: Json = False) -> None:
    """The timetable: last and next run, failures in words; exit 3 when something is overdue or failed."""
    from experiments.clock import clock_of
    from experiments.settings import load_settings
    from web.cli.output import print_json, print_table, short_time
    from web.stored import Stored

    settings = load_settings(home)
    rows = Stored(settings, clock_of(settings.home, settings.profile)).jobs()
    if as_json:
        print_json([{k: v for k, v in row.items() if k != "log"} for row in rows])
    else:
        cells = [
            (r["name"], r["schedule"], r["state"] + (" (overdue)" if r["overdue"] else ""), short_time(r["last_started"]), r["last_seconds"] or "–")
            for r in rows
        ]  # fmt: skip
        print_table("Jobs", ("job", "due", "state", "last run", "seconds "), cells)
        print_table("\nIn words", ("job", "says"), [(r["name"], r["reason"]) for r in rows if r["reason"]])
    if any(row["overdue"] or row["state"] == "failed" for row in rows):
        raise typer.Exit(3)


@jobs.command("run")
def run(name: str, home: Home = None) -> None:
    """Ask the worker to run a job now."""
    from experiments.clock import clock_of
    from experiments.settings import load_settings
    from web.cli.output import say
    from web.stored import Stored

    settings = load_settings(home)
    say(Stored(settings, clock_of(settings.home, settings.profile)).run_job(name))


@audit.command("verify")
def verify(home: Home = None, quiet: Annotated[bool, typer.Option("--quiet")] = False) -> None:
    """Check the record; exit 4 when an entry was altered or is missing, or an experiment is not as its last entry left it."""
    from experiments.lifecycle import audit_faults
    from experiments.settings import load_settings
    from experiments.tables import control_engine
    from web.cli.output import say

    faults = audit_faults(control_engine(load_settings(home).home))
    for fault in faults:
        say(fault)
    if faults:
        raise typer.Exit(4)
    if not quiet:
        say("The record is complete and unaltered, and experiments are as it left them.")
