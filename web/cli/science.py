"""``presslab evaluate``, ``model ...``, ``drift ...``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from web.cli.main import Home, Json, app, drift, model

__all__ = ["evaluate", "explain", "models", "rollback", "show_drift", "train", "trained"]

MOVED = {"ok": "as usual", "warn": "moved", None: "not judged"}
MISSED = {**MOVED, "warn": "too many"}


@app.command("evaluate")
def evaluate(
    log: Annotated[Path, typer.Argument(help="A Globo file, a Deskdrop folder, or a table of reads.")],
    *,
    protocol: Annotated[str, typer.Option(help="next-click, ranker or weekly, split by time; published, split at random.")] = "next-click",
    arms: Annotated[
        str | None, typer.Option(help="Comma-separated, such as co_read_heat,als; all the protocol knows when left out.")
    ] = None,
    since: Annotated[float | None, typer.Option("--from", help="First hour, counted from the first click.")] = None,
    until: Annotated[float | None, typer.Option("--to", help="Hour after the last.")] = None,
    signals_minutes: Annotated[
        int | None, typer.Option(help="With ranker: how often signals are computed for all arms; divides 60, 60 when left out.")
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option(help='TOML for a table: unit, zone, and \\[columns] with role = "name in the file".')
    ] = None,
    unit: Annotated[str, typer.Option(help="Of numeric times in a table: s, ms or us.")] = "",
    zone: Annotated[str, typer.Option(help="Of written times without an offset in a table, such as Europe/Paris.")] = "",
    as_json: Json = False,
) -> None:
    """Compare rankings on a real log; by time unless the protocol says otherwise."""
    from recsys.evaluation import evaluate as run
    from recsys.importers.table import declared
    from web.cli.evaluation_table import show
    from web.cli.output import print_json

    names = [name.strip() for name in arms.split(",")] if arms else None
    layout = declared(mapping, unit=unit, zone=zone)
    found = run(log, protocol=protocol, arms=names, since=since, until=until, signals_minutes=signals_minutes, layout=layout)
    if as_json:
        print_json(found)
        return
    show(found)


@model.command("train")
def train(
    name: str,
    *,
    until: Annotated[int, typer.Option(help="Data up to this time, UTC microseconds; 0 is just after the last read.")] = 0,
    seed: int = 0,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Train an arm in a fresh process, compare it with the heuristic on the last days, publish it unless it is refused."""
    import json

    from experiments.settings import load_settings

    status, told = trained(load_settings(home).home, name, until=until, seed=seed)
    if as_json or "state" not in told:
        typer.echo(json.dumps(told))  # one line, as the training itself prints: scripts read the last one
    else:
        typer.echo(f"{name}, {told['state']}: {told.get('says') or told.get('reason')}")
        if (told.get("gate") or {}).get("waived"):
            typer.echo(f"It lost to {told['against']} and is published all the same: {told['gate']['waived']}.")
    raise typer.Exit(status)


def trained(home: Path, name: str, *, until: int = 0, seed: int = 0) -> tuple[int, dict[str, Any]]:
    """Train an arm in a fresh process; returns its exit status and what it told."""
    import json
    import subprocess
    import sys

    from web.imported import last_read_us

    until = until or last_read_us(home) + 1
    command = [sys.executable, "-m", "recsys.training", name, "--home", str(home), "--until", str(until), "--seed", str(seed)]
    ended = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    return ended.returncode, json.loads(ended.stdout.splitlines()[-1]) if ended.stdout.strip() else {}


@model.command("list")
def models(home: Home = None, as_json: Json = False) -> None:
    """Published versions and which one serves."""
    from experiments.clock import moment, system_clock
    from experiments.settings import load_settings
    from web.cli.output import print_json, print_table, short_time
    from web.stored import Stored

    rows = Stored(load_settings(home), system_clock).models()
    if as_json:
        print_json(rows)
        return
    print_table("Models", ("arm", "version", "serves", "trained until"),
                [(r["arm"], r["version"], "yes" if r["live"] else "", short_time(moment(r["until"]).isoformat()) if r.get("until") else "–") for r in rows])  # fmt: skip


@model.command("explain")
def explain(
    name: Annotated[str, typer.Argument(help="A model arm, for example als.")],
    reader: Annotated[str, typer.Option(help="Id of a reader, of this site or of an imported log.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """What a model would recommend to one reader, and because of which reads; exit 4 when the reasons do not add up."""
    from experiments.errors import NotFoundError
    from experiments.serving.slate import SlateRules
    from experiments.settings import load_settings
    from web.cli.output import print_json, tell
    from web.explaining import explain_slate
    from web.imported import last_read_us, reads_of
    from web.published import refresh

    settings = load_settings(home)
    published, reads = refresh(settings.home, None), reads_of(settings.home, reader)
    if not reads:
        raise NotFoundError(f"no reads of a reader '{reader}' are held here.")
    at = last_read_us(settings.home) / 1e6
    found = explain_slate(published, arm=name, article=reads[-1], reads=reads[:-1], at=at, rules=SlateRules(pool_h=settings.pool_hours))
    gaps = [abs(sum(r["weight"] for r in item["reasons"]) - item["score"]) for item in found["items"] if item["reasons"]]
    worst = max(gaps, default=None)
    if as_json:
        print_json({**found, "reader": reader, "reads": reads, "largest_gap": worst})
    else:
        titles = {article.id: article.title for article in published.catalogue.articles}
        tell(f"{len(reads)} articles read; the last: {titles[reads[-1]]}")
        for item in found["items"]:
            tell(f"{item['score']:8.4f}  {titles[item['article']]}")
            positive = sum(max(r["weight"], 0.0) for r in item["reasons"])
            for reason in item["reasons"][:2]:
                tell(
                    f"          {reason['weight']:+.4f}  because you read “{titles[reason['article']]}”"
                    + (f" ({reason['weight'] / positive:.0%})" if positive else "")
                )
        if worst is None:
            tell(f"'{name}' names no read as a reason for any of them.")
        else:
            tell(f"Reasons and scores differ by {worst:.1e} at most.")
    if worst is not None and worst > 1e-6:
        raise typer.Exit(4)


@model.command("rollback")
def rollback(
    name: str,
    *,
    to: Annotated[str, typer.Option(help="Version; the one before by default.")] = "",
    reason: Annotated[str, typer.Option(help="Why, in one sentence; goes into the record.")] = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Go back to an earlier version within a second; no newer one follows before `presslab arm resume`."""
    from web.cli.ladder import back_to, doing, opened

    folder, _, _, now = opened(home)
    back_to(folder, name, to, doing(reason, now), as_json=as_json)


@drift.command("show")
def show_drift(home: Home = None, as_json: Json = False) -> None:
    """How far what goes into the models has moved, beside what chance alone does; exit 3 when something moved."""
    from experiments.clock import system_clock
    from experiments.errors import NotFoundError
    from experiments.settings import load_settings
    from web.cli.output import print_json
    from web.stored import Stored

    found = Stored(load_settings(home), system_clock).drift()
    if found is None:
        raise NotFoundError("there is no drift profile yet.", "Run `presslab jobs run drift`.")
    if as_json:
        print_json(found)
    else:
        _print_drift(found)
    if any(row["state"] == "warn" for row in (*found["inputs"], *found["models"])):
        raise typer.Exit(3)


def _print_drift(found: Mapping[str, Any]) -> None:
    from web.cli.output import print_table, short_time, tell

    figure = "{:.3f}".format
    inputs = sorted(found["inputs"], key=lambda row: -(row["divergence"] or 0.0))
    print_table(f"What goes into the models, {short_time(found['at'])} UTC", ("input", "distance ", "chance stays below ", "state"),
                [(row["says"], _or_dash(row["divergence"], figure), _or_dash(row["limit"], figure), MOVED[row["state"]]) for row in inputs])  # fmt: skip
    if found["models"]:
        tell("")
        share = "{:.1%}".format
        print_table("Reads of articles a model has no vector of", ("arm", "version", "share ", "limit ", "state"),
                    [(m["arm"], m["version"], _or_dash(m["without_vector"], share), share(m["limit"]), MISSED[m["state"]]) for m in found["models"]])  # fmt: skip
    if found["reason"]:
        tell(f"\n{found['reason']}")


def _or_dash(value: float | None, written: Callable[[float], str]) -> str:
    return "–" if value is None else written(value)
