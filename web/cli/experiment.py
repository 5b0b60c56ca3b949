"""``presslab experiment ...``: plan, start, stop, decide, list, report, analyse, import-summary."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from web.cli.main import Home, Json, account, experiment

__all__ = ["analyse", "decide", "listing", "plan", "report", "start", "stop", "summary"]

Reason = Annotated[str, typer.Option(help="Why, in one sentence; goes into the record.")]


def _step(reason: str) -> Any:
    from experiments.lifecycle import Step

    return Step(account(), datetime.now(UTC), reason)


def _publish(home: Path, engine: Any) -> None:
    from experiments.lifecycle import publish_plan

    publish_plan(home, engine, at=datetime.now(UTC))


def _open(home: Path | None) -> tuple[Path, Any]:
    from experiments.migrate import migrate
    from experiments.settings import load_settings
    from experiments.tables import control_engine

    settings = load_settings(home)
    migrate(settings.home)
    return settings.home, control_engine(settings.home)


@experiment.command("plan")
def plan(
    file: Annotated[str, typer.Argument(help="A TOML or JSON file with the plan (see docs/plan.md); with --again a running test.")],
    *,
    home: Home = None,
    reason: Reason = "",
    cv: Annotated[float | None, typer.Option(help="Standard deviation of the goal over its mean, per reader (0.001 to 100).")] = None,
    readers_per_day: Annotated[float | None, typer.Option(help="New readers a day (0.001 to 1,000,000,000).")] = None,
    again: Annotated[bool, typer.Option("--again", help="How many days a running test still needs; looks at no arm.")] = False,
    as_json: Json = False,
) -> None:
    """Say how many readers and weeks a plan needs, and store it as a draft."""
    from experiments.lifecycle import draft, experiment_named, unready
    from experiments.plan_file import read_plan
    from web.cli.output import print_json, say
    from web.cli.plan import Stated, ahead, now_of, print_ahead, print_left, remaining

    if again:
        folder, engine = _open(home)
        now, source = now_of(folder)
        left = remaining(folder, experiment_named(engine, file), now=now, source=source)
        (print_json if as_json else print_left)(left)
        return
    wanted = read_plan(Path(file))
    folder, engine = _open(home)
    now, source = now_of(folder)
    found = ahead(folder, wanted, Stated(cv, readers_per_day), now=now, source=source)
    (print_json if as_json else print_ahead)(found)
    draft(engine, wanted, _step(reason))
    if faults := unready(wanted):
        say("\n  - ".join([f"draft '{wanted.name}' is stored. Before it can start:", *faults]))
        return
    say(f"draft '{wanted.name}' is stored. Next, to let readers in at the planned shares: presslab experiment start {wanted.name}")
    say(f"A new arm comes to its readers step by step: presslab arm ship ARM --experiment {wanted.name}")


@experiment.command("start")
def start(
    name: str,
    *,
    home: Home = None,
    reason: Reason = "",
    whole: Annotated[
        bool, typer.Option("--whole", help="At the planned shares at once, past the ladder of an arm that was shipped.")
    ] = False,
) -> None:
    """Let readers in."""
    from experiments.errors import ExperimentError
    from experiments.ladder import ladders
    from experiments.lifecycle import start as begin
    from web.cli.output import say

    folder, engine = _open(home)
    waiting = next((one for one in ladders(engine) if one.experiment == name and one.state == "shadow"), None)
    if waiting is not None and not whole:
        raise ExperimentError(
            f"experiment '{name}': '{waiting.arm}' is to come to its readers step by step (proposal {waiting.proposal}).",
            f"Say presslab arm step {waiting.arm} --approve {waiting.proposal}, or --whole to begin at the planned shares.",
        )
    record = begin(engine, name, _step(reason))
    _publish(folder, engine)
    say(f"'{name}' runs since {record.started_at:%Y-%m-%d %H:%M} UTC.")


@experiment.command("stop")
def stop(name: str, home: Home = None, reason: Reason = "") -> None:
    """Stop letting readers in, everywhere within a second."""
    from experiments.lifecycle import stop as end
    from web.cli.output import say

    folder, engine = _open(home)
    end(engine, name, _step(reason))
    _publish(folder, engine)
    say(f"'{name}' is stopped. Next: presslab experiment report {name}")


@experiment.command("decide")
def decide(name: str, arm: str, reason: Annotated[str, typer.Option(help="Why; required.")], home: Home = None) -> None:
    """Record the decision, who took it and why."""
    from experiments.lifecycle import decide as settle
    from web.cli.output import say
    from web.stored import advised, meanwhile

    folder, engine = _open(home)
    record = settle(engine, name, arm, _step(reason), advice=advised(folder, name))
    _publish(folder, engine)
    beside = meanwhile(engine, record)
    others = f" outside the test '{beside['test']}', which runs in this place" if beside else ""
    say(f"decided: {arm}. The slot shows it to every reader it may serve{others}.")


@experiment.command("list")
def listing(home: Home = None, as_json: Json = False) -> None:
    """All experiments, the newest first."""
    from experiments.lifecycle import experiments
    from web.cli.output import print_json, print_table, short_time

    _, engine = _open(home)
    rows = [
        {
            "name": r.experiment.name,
            "state": r.state,
            "arms": list(r.experiment.shares),
            "started_at": r.started_at.isoformat() if r.started_at else None,
            "decided_arm": r.decided_arm,
            "question": r.experiment.question,
        }
        for r in experiments(engine)
    ]
    if as_json:
        print_json(rows)
        return
    print_table("Experiments", ("name", "state", "arms", "started", "decided"),
                [(r["name"], r["state"], ", ".join(r["arms"]), short_time(r["started_at"]), r["decided_arm"] or "–") for r in rows])  # type: ignore[arg-type]  # fmt: skip
    if rows:
        print_table("\nWhat they ask", ("name", "question"), [(r["name"], r["question"]) for r in rows])


@experiment.command("report")
def report(
    name: str,
    home: Home = None,
    as_json: Json = False,
    gate: Annotated[bool, typer.Option("--gate", help="Exit 0 ready, 3 not yet, 4 not trustworthy.")] = False,
) -> None:
    """Compute the report now, store it, and print it."""
    from experiments.clock import clock_of
    from experiments.settings import load_settings
    from web.cli.output import print_json
    from web.cli.report_table import print_report
    from web.reporting import named_report
    from web.stored import Stored

    settings = load_settings(home)
    clock = clock_of(settings.home, settings.profile)
    found = named_report(settings.home, name, source=settings.source, until_us=clock())
    found["decision"] = (Stored(settings, clock).report(name) or found)["decision"]
    (print_json if as_json else print_report)(found)
    if gate:
        raise typer.Exit({"do_not_use": 4, "wait": 3}.get(found["verdict"]["key"], 0))


@experiment.command("analyse")
def analyse(
    file: Annotated[Path, typer.Argument(help="CSV or Parquet, one row per reader or per event (rows of a reader are added up).")],
    *,
    arm: Annotated[str, typer.Option(help="Column with the arm.")],
    control: Annotated[str, typer.Option(help="The arm the others are compared with.")],
    reader: Annotated[str, typer.Option(help="Column with the reader.")],
    metric: Annotated[
        list[str],
        typer.Option(help="NAME=NUM or NAME=NUM/DEN, then :pre=COL and :down where needed; the first is the goal. Repeat for more."),
    ],
    shares: Annotated[str, typer.Option(help="Planned shares, A=.5,B=.5; without them the split cannot be checked.")] = "",
    level: Annotated[float, typer.Option(min=0.5, max=0.9999, help="Of every interval.")] = 0.95,
    until: Annotated[str, typer.Option(help="Last day of the test; rows after it are refused. Needs --date.")] = "",
    date: Annotated[str, typer.Option(help="Column with the day of each row.")] = "",
    exposed_at: Annotated[str, typer.Option(help="Column with the time of the reader's first exposure.")] = "",
    covariate_at: Annotated[list[str] | None, typer.Option(help="NAME=COL: when the covariate NAME was known; repeat for more.")] = None,
    segment: Annotated[
        list[str] | None, typer.Option(help="Column with groups of readers, known before the test; repeat for more.")
    ] = None,
    value_per_view: Annotated[str, typer.Option(metavar="EUR", help="Margin of one article view; the goal must count views.")] = "",
    views_per_day: Annotated[str, typer.Option(metavar="N", help="Article views a day that the decision bears on.")] = "",
    build: Annotated[list[str] | None, typer.Option(metavar="ARM=EUR", help="What an arm still costs to build; repeat for more.")] = None,
    per_day: Annotated[list[str] | None, typer.Option(metavar="ARM=EUR", help="What an arm costs to run a day; repeat for more.")] = None,
    horizon_days: Annotated[str, typer.Option(metavar="N", help="How long the decision is to hold; 365 unless said.")] = "",
    test_days: Annotated[str, typer.Option(metavar="N", help="How long the test took; says what another test would be worth.")] = "",
    as_json: Json = False,
) -> None:
    """Analyse a finished test of your own: effects, trust checks, verdict, and euros where the value of a view is stated."""
    from analysis.own.data import analyse as run
    from analysis.own.plan import dates_of, shares_of, wanted
    from analysis.own.price import price_of
    from web.cli.output import print_json
    from web.cli.report_table import print_report

    metrics = [wanted(text) for text in metric]
    dates = dates_of(metrics, column=date, until=until, exposed_at=exposed_at, covariate_at=covariate_at or (), segments=segment or ())
    price = price_of(
        value_per_view, views_per_day, build=build or (), per_day=per_day or (), horizon_days=horizon_days, test_days=test_days
    )
    found = run(
        file, metrics, reader=reader, arm=arm, control=control, shares=shares_of(shares), level=level, dates=dates, segments=segment or (), price=price,
    )  # fmt: skip
    (print_json if as_json else print_report)(found.to_dict())


@experiment.command("import-summary")
def summary(
    path: Annotated[Path, typer.Argument(help="File or folder with counts per arm and period, or n, mean, variance per look.")],
    control: Annotated[str, typer.Option(help="The arm the others are compared with.")] = "control",
    as_json: Json = False,
) -> None:
    """Analyse finished tests from their published sums."""
    from analysis.summaries import import_summary
    from web.cli.output import print_json
    from web.cli.report_table import print_summary

    found = import_summary(path, control=control)
    (print_json if as_json else print_summary)(found.to_dict())
