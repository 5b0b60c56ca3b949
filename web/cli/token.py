"""``presslab token ...``: who may publish articles or report conversions from another server."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from web.cli.main import Home, Json, token

__all__ = ["new", "revoke", "show"]


@token.command("new")
def new(
    days: Annotated[int, typer.Option(help="Until it ends, at most 90.")] = 90,
    use: Annotated[
        Literal["conversions", "articles"], typer.Option("--for", help="The one thing a server may do with it.")
    ] = "conversions",
    home: Home = None,
) -> None:
    """Make a token and print it once; only its hash is kept."""
    from experiments.clock import clock_of
    from experiments.settings import load_settings
    from web.access import grant

    settings = load_settings(home)
    now_us = clock_of(settings.home, settings.profile)()
    made = grant(settings.home, use, now_s=now_us // 1_000_000, days=days)
    _record(settings.home, made.split("_")[1], "grant", now_us, f"for {use}, {days} days")
    typer.echo(made)


@token.command("list")
def show(home: Home = None, as_json: Json = False) -> None:
    """List the tokens, what each is for and when it ends."""
    from experiments.settings import load_settings
    from web.access import granted
    from web.cli.output import print_json

    known = granted(load_settings(home).home)
    if as_json:
        print_json([{"id": name, "until_s": one["until_s"], "for": one["use"]} for name, one in known.items()])
        return
    for name, one in known.items():
        typer.echo(f"{name} for {one['use']} until {datetime.fromtimestamp(one['until_s'], UTC):%Y-%m-%d %H:%M} UTC")
    if not known:
        typer.echo("no token")


@token.command("revoke")
def revoke(identity: Annotated[str, typer.Argument(metavar="ID")], home: Home = None) -> None:
    """Make a token invalid at once."""
    from experiments.clock import clock_of
    from experiments.settings import load_settings
    from web.access import revoke as forget

    settings = load_settings(home)
    forget(settings.home, identity)
    _record(settings.home, identity, "revoke", clock_of(settings.home, settings.profile)(), "")


def _record(home: Path, identity: str, action: str, now_us: int, reason: str) -> None:
    """Tell in the record who made a token, or ended it: the id, never the secret."""
    from experiments.clock import moment
    from experiments.lifecycle import note_about
    from experiments.migrate import migrate
    from experiments.tables import control_engine
    from web.cli.ladder import doing

    if not (home / "control.db").exists():
        migrate(home)
    note_about(control_engine(home), f"token {identity}", action, doing(reason, moment(now_us)))
