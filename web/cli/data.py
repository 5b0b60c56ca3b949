"""``presslab data ...``: import, export, erase, replay, salvage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from web.cli.main import Home, Json, data

__all__ = ["bring", "erase", "export", "replay", "salvage"]

SHOWN = 20


@data.command("import")
def bring(
    form: Annotated[str, typer.Argument(metavar="FORMAT", help="globo, deskdrop, mind, table")],
    path: Annotated[Path, typer.Argument(help="File or folder.")],
    *,
    mapping: Annotated[
        Path | None, typer.Option(help='TOML for `table`: unit, zone, and \\[columns] with role = "name in the file".')
    ] = None,
    unit: Annotated[str, typer.Option(help="Of numeric times in a `table`: s, ms or us.")] = "",
    zone: Annotated[str, typer.Option(help="Of written times without an offset in a `table`, such as Europe/Paris.")] = "",
    max_rejected: Annotated[float, typer.Option(help="Share of rows that may be refused; above it nothing is kept.", min=0, max=1)] = 0.01,
    replace: Annotated[
        bool, typer.Option("--replace", help="Remove earlier imports of the same file, read with another unit, zone, mapping or format.")
    ] = False,
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
    layout = declared(mapping, unit=unit, zone=zone)
    found = import_log(form, path, settings.home, max_rejected=max_rejected, layout=layout, replacing=replace)
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
    if found.refused and found.rejected > len(found.refused[:SHOWN]):
        say(f"  … and {found.rejected - len(found.refused[:SHOWN]):,} more")
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
    """Erase everything held about one reader. A running worker does it."""
    from experiments.clock import system_clock
    from experiments.events.asking import erase_anywhere
    from experiments.events.export import export_reader
    from experiments.settings import load_settings
    from web.cli.output import say
    from web.met import forget

    folder = load_settings(home).home
    if not yes:
        say(f"{len(export_reader(folder, reader)):,} events and imported reads are held about this reader. Erase them with --yes.")
        return
    erased = erase_anywhere(folder, reader, at_us=system_clock())
    if erased is None:
        say("The worker erased this reader; later events of this reader are refused.")
        return
    forget(folder, reader)  # no worker has the counts open: it would have the store
    also = "".join(f", {n:,} {what}" for n, what in ((erased.dead_letters, "dead letters"), (erased.imported, "imported reads")) if n)
    say(f"{erased.rows:,} events{also} erased; later events of this reader are refused.")
    erased.sure()


@data.command("replay")
def replay(
    *,
    reason: Annotated[str, typer.Option(help="Only dead letters with exactly this reason.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would become of them and change nothing.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="Only list the dead letters, by reason.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Try dead letters again, after an upgrade or a mended rule; what is good now is stored, once. A running worker does it."""
    from dataclasses import asdict

    from experiments.clock import moment, system_clock
    from experiments.errors import NotFoundError, nearest
    from experiments.events.asking import replay_anywhere
    from experiments.events.replay import dead_letters
    from experiments.settings import load_settings
    from web.cli.output import print_json, print_table, say

    folder = load_settings(home).home
    known = {letters.reason for letters in dead_letters(folder)}
    if reason and reason not in known:
        raise NotFoundError(f"no dead letter has the reason '{reason}'; {nearest(reason, known)}")
    found = None if listing or not known else replay_anywhere(folder, at_us=system_clock(), reason=reason, dry_run=dry_run)
    left = dead_letters(folder)
    if as_json:
        print_json(
            {"dry_run": dry_run, "replayed": asdict(found) if found else None, "dead_letters": [asdict(letters) for letters in left]}
        )
        return
    if found:
        say(
            f"{found.tried:,} dead letters tried{' (nothing was changed)' if dry_run else ''}: {found.stored:,} stored, {found.duplicate:,} duplicates, "
            f"{found.conflict:,} conflicts, {found.erased:,} of erased readers, {found.dead:,} still dead."
        )
    if not left:
        say("There are no dead letters.")
        return
    cells = [(one.reason, one.kind, one.arm or "–", f"{one.n:,}", f"{moment(one.last_us):%Y-%m-%d %H:%M}") for one in left]
    print_table("Dead letters", ("reason", "kind", "arm", "letters ", "last"), cells)


@data.command("salvage")
def salvage(
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it the files are only named.")] = False,
    aside: Annotated[Path | None, typer.Option(help="Folder that gets a copy of each file first.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Finish with damaged outbox files: load what can be read, count what is lost, remove the file. A running worker does it."""
    from dataclasses import asdict

    from experiments.clock import system_clock
    from experiments.events.asking import salvage_anywhere
    from experiments.events.salvage import copied
    from experiments.events.store import alarms
    from experiments.settings import load_settings
    from web.cli.output import print_json, print_table, say

    folder = load_settings(home).home
    damaged = alarms(folder)
    copies = copied(list(damaged), aside) if yes and aside else []
    done = salvage_anywhere(folder, at_us=system_clock()) if yes else []
    if as_json:
        print_json(
            {
                "damaged": {str(path): why for path, why in damaged.items()},
                "copies": list(map(str, copies)),
                "salvaged": list(map(asdict, done)),
            }
        )
        return
    for path, why in damaged.items():
        say(f"{path}: {why}")
    if not damaged and not done:
        say("No loader has found a damaged outbox file. (One looks at every file while a worker runs.)")
    elif not yes:
        say("Load what can be read of them, and remove them, with --yes (a copy stays with --aside FOLDER).")
    else:
        names = ("stored", "duplicate", "conflict", "erased", "dead", "unsure", "lost")
        still = ("still written", *[""] * (len(names) - 1))
        cells = [(one.outbox, *(still if one.busy else (f"{getattr(one, name):,}" for name in names))) for one in done]
        print_table("Salvaged", ("outbox", *(f"{name} " for name in names)), cells)
