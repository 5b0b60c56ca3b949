"""``presslab data ...``: import, export, erase."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from web.cli.main import Home, Json, data

__all__ = ["bring", "erase", "export"]

SHOWN = 20


@data.command("import")
def bring(
    form: Annotated[str, typer.Argument(metavar="FORMAT", help="globo, deskdrop, mind, table")],
    path: Annotated[Path, typer.Argument(help="File or folder.")],
    *,
    mapping: Annotated[
        Path | None, typer.Option(help='TOML for `table`: unit, zone, and [columns] with role = "name in the file".')
    ] = None,
    unit: Annotated[str, typer.Option(help="Of numeric times in a `table`: s, ms or us.")] = "",
    zone: Annotated[str, typer.Option(help="Of written times without an offset in a `table`, such as Europe/Paris.")] = "",
    max_rejected: Annotated[float, typer.Option(help="Share of rows that may be refused; above it nothing is kept.", min=0, max=1)] = 0.01,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Read a log of somebody's site: articles and reads, in one transaction."""
    from experiments.migrate import migrate
    from experiments.settings import load_settings
    from recsys.importers.log import import_log
    from recsys.importers.table import declared
    from web.cli.output import print_json, say
    from web.imported import open_for_readers

    settings = load_settings(home)
    migrate(settings.home)
    found = import_log(form, path, settings.home, max_rejected=max_rejected, layout=declared(mapping, unit=unit, zone=zone))
    open_for_readers(settings.home)
    if as_json:
        print_json(
            {
                "read": found.read,
                "kept": found.kept,
                "refused": [{"line": line, "reason": reason} for line, reason in found.refused[:SHOWN]],
                "rejected": found.rejected,
                "articles": found.articles,
                "readers": found.readers,
                "notes": list(found.notes),
            }
        )
        return
    say(
        f"{found.read:,} rows read, {found.kept:,} kept, {found.rejected:,} refused; {found.articles:,} articles, {found.readers:,} readers."
    )
    for line, reason in found.refused[:SHOWN]:
        say(f"  line {line}: {reason}")
    if found.rejected > SHOWN:
        say(f"  … and {found.rejected - SHOWN:,} more")
    for note in found.notes:
        say(f"  {note}")
    say("Next: presslab model train als, then presslab serve")


@data.command("export")
def export(reader: str, home: Home = None) -> None:
    """Everything held about one reader, as JSON."""
    from experiments.events.export import export_reader
    from experiments.settings import load_settings
    from web.cli.output import print_json

    print_json(export_reader(load_settings(home).home, reader))


@data.command("erase")
def erase(
    reader: str,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it only the number of events is shown.")] = False,
    home: Home = None,
) -> None:
    """Erase everything held about one reader."""
    from experiments.clock import system_clock
    from experiments.events.erase import erase_reader
    from experiments.events.export import export_reader
    from experiments.settings import load_settings
    from web.cli.output import say

    folder = load_settings(home).home
    if not yes:
        say(f"{len(export_reader(folder, reader)):,} events are held about this reader. Erase them with --yes.")
        return
    erased = erase_reader(folder, reader, until_us=system_clock())
    say(f"{erased.rows:,} events erased; later events of this reader are refused.")
