"""``presslab token ...``: who may report conversions from another server."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from web.cli.main import Home, Json, token

__all__ = ["new", "revoke", "show"]


@token.command("new")
def new(days: Annotated[int, typer.Option(help="Until it ends, at most 90.")] = 90, home: Home = None) -> None:
    """Make a token and print it once; only its hash is kept."""
    from experiments.clock import clock_of
    from experiments.settings import load_settings
    from web.access import grant

    settings = load_settings(home)
    typer.echo(grant(settings.home, now_s=clock_of(settings.home, settings.profile)() // 1_000_000, days=days))


@token.command("list")
def show(home: Home = None, as_json: Json = False) -> None:
    """List the tokens and when each ends."""
    from experiments.settings import load_settings
    from web.access import granted
    from web.cli.output import print_json

    known = {name: one["until_s"] for name, one in granted(load_settings(home).home).items()}
    if as_json:
        print_json([{"id": name, "until_s": until_s} for name, until_s in known.items()])
        return
    for name, until_s in known.items():
        typer.echo(f"{name} until {datetime.fromtimestamp(until_s, UTC):%Y-%m-%d %H:%M} UTC")
    if not known:
        typer.echo("no token")


@token.command("revoke")
def revoke(identity: Annotated[str, typer.Argument(metavar="ID")], home: Home = None) -> None:
    """Make a token invalid at once."""
    from experiments.settings import load_settings
    from web.access import revoke as forget

    forget(load_settings(home).home, identity)
