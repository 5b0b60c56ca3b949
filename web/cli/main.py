"""``presslab``: the command. Modules of a command are imported when it runs, so that ``--help`` is quick."""

from __future__ import annotations

import os
import pwd
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["account", "app", "main"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich",
                  help="Is a recommender worth its cost? A news site, its readers, and an honest report.")  # fmt: skip
experiment = typer.Typer(no_args_is_help=True, help="Plan, start, stop, decide, report.")
data = typer.Typer(no_args_is_help=True, help="Bring logs in, take data out, erase a reader.")
jobs = typer.Typer(no_args_is_help=True, help="The timetable and its runs.")
model = typer.Typer(no_args_is_help=True, help="Train, list, roll back.")
arm = typer.Typer(no_args_is_help=True, help="The arms this installation knows.")
audit = typer.Typer(no_args_is_help=True, help="The record of every change.")
token = typer.Typer(no_args_is_help=True, help="Who may publish articles or report conversions from another server.")
drift = typer.Typer(no_args_is_help=True, help="Are readers and articles still what the models saw?")
for name, group in (
    ("experiment", experiment),
    ("data", data),
    ("jobs", jobs),
    ("model", model),
    ("arm", arm),
    ("audit", audit),
    ("drift", drift),
    ("token", token),
):
    app.add_typer(group, name=name)

Home = Annotated[Path | None, typer.Option("--home", help="Folder of all state (default: PRESSLAB_HOME or ./instance).")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")]


def account() -> str:
    """Return the account of this machine that runs the command; the environment has no say in who approves."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container whose accounts have no names
        return f"account {os.getuid()}"


@app.command()
def demo(
    *,
    readers: Annotated[int, typer.Option(help="Simulated readers.", min=50)] = 1_500,
    days: Annotated[int, typer.Option(help="Days of the experiment.", min=2)] = 14,
    seed: Annotated[
        int | None, typer.Option(help="Of everything that is drawn, the world included; drawn itself unless given.", min=0)
    ] = None,
    port: Annotated[int, typer.Option(help="Of the site.")] = 8750,
    world: Annotated[str, typer.Option(help="Name a world instead of drawing one (then nothing is hidden).")] = "",
    now: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M"], help="When the story ends, UTC; with a seed, a run that can be repeated. Default: now."
        ),
    ] = None,
    leave: Annotated[bool, typer.Option("--exit", help="Stop after the report.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Build the newspaper, let readers live through an experiment, write the report, keep serving."""
    import secrets

    from web.demo.plan import Plan
    from web.demo.run import run_demo

    drawn = secrets.randbelow(1_000_000) if seed is None else seed
    where, end = home or Path(os.environ.get("PRESSLAB_HOME", "instance")), (now or datetime.now(UTC)).replace(microsecond=0, tzinfo=UTC)
    run_demo(Plan(where, end, readers, days, drawn, port, world, leave), as_json=as_json)


@app.command()
def serve(port: Annotated[int | None, typer.Option()] = None, home: Home = None) -> None:
    """Serve the site (readers and console)."""
    from experiments.settings import load_settings, overlooked
    from web.cli.output import say
    from web.serve import serve as run

    settings = load_settings(home)
    if missed := overlooked(settings.home):
        say(missed)
    settings = settings if port is None else settings.model_copy(update={"port": port})
    say(f"Readers: http://{settings.host}:{settings.port}/en/, console: http://{settings.host}:{settings.console_at}/console/en/")
    say("Only this machine reaches them. In front of a public site goes a proxy: docs/running.md says which, and why.")
    run(settings)


@app.command()
def worker(home: Home = None) -> None:
    """Load events, keep the timetable, train. Exactly one per home folder."""
    from experiments.migrate import require_layout
    from experiments.settings import load_settings
    from web.worker import Worker

    settings = load_settings(home)
    require_layout(settings.home)
    Worker(settings).run()


@app.command()
def migrate(home: Home = None) -> None:
    """Bring the stores to the current layout; move the events into the database that PRESSLAB_DATABASE_URL names."""
    from contextlib import closing

    from experiments.events.store import read_store, store_path
    from experiments.migrate import migrate as run
    from experiments.settings import load_settings
    from web.cli.output import say

    folder = load_settings(home, moving=True).home
    say(f"layout {run(folder)}")
    if store_path(folder).exists():
        with closing(read_store(store_path(folder))) as store:
            say(f"events are in {store.says}")


@app.command()
def doctor(home: Home = None, as_json: Json = False) -> None:
    """Check this installation; exit 4 when something is broken."""
    from experiments.settings import load_settings
    from web.cli.doctor import examine

    raise typer.Exit(examine(load_settings(home), as_json=as_json))


def main() -> None:
    """Run the command; an error a person can act on ends with its code, never with a traceback."""
    from experiments.errors import PresslabError
    from web.cli import commands

    commands.install()
    try:
        app()
    except PresslabError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.exit_status) from None
