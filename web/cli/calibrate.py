"""``presslab calibrate``: the statistics against simulated readers, a real log and an archive of finished tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from web.cli.main import Json, app

__all__ = ["calibrate"]

HEADS = ("estimator", "process", "readers", "false alarms", "down", "up", "coverage", "power", "± error", "ok")
SPLITS, QUICK_SPLITS = 20_000, 2_000
Row = Mapping[str, Any]


@app.command("calibrate")
def calibrate(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the runs.")] = False,
    seed: int = 1,
    log: Annotated[Path | None, typer.Option(help="Also split the readers of this log at random, 20,000 times.")] = None,
    archive: Annotated[Path | None, typer.Option(help="Also judge this archive of finished tests, look by look.")] = None,
    page: Annotated[Path | None, typer.Option(help="Also write the tables to this Markdown file.")] = None,
    as_json: Json = False,
) -> None:
    """Simulate the statistics: false alarms, coverage, power; exit 4 when one is off."""
    from analysis.calibration import calibrate as simulate
    from experiments.files import replace_file
    from web.cli.output import print_json, print_table

    rows: list[Row] = list(simulate(quick=quick, seed=seed))
    notes: list[str] = []
    if log is not None:
        found, said = _on_log(log, splits=QUICK_SPLITS if quick else SPLITS, seed=seed)
        rows, notes = [*rows, *found], [*notes, said]
    if archive is not None:
        row, said = _on_archive(archive)
        rows, notes = [*rows, row], [*notes, said]
    if page is not None:
        replace_file(page, _markdown(rows, notes, command=_command(quick, seed, log=log, archive=archive)).encode())
    if as_json:
        print_json(rows)
    else:
        shown = [i for i, head in enumerate(HEADS) if head not in ("down", "up", "± error")]  # the page has them all
        print_table("Calibration", [HEADS[i] for i in shown], [[_cells(row)[i] for i in shown] for row in rows])
        for note in notes:
            typer.echo(note)
    if not all(row["pass"] for row in rows):
        raise typer.Exit(4)


def _on_log(path: Path, *, splits: int, seed: int) -> tuple[list[Row], str]:
    from analysis.splits import naive_alarms, reader_figures, split_alarms
    from recsys.importers.log import parse_log, recognise

    table = parse_log(recognise(path), path).table
    codes = [table[name].combine_chunks().dictionary_encode().indices.to_numpy() for name in ("reader", "session")]
    figures = reader_figures(*codes)
    naive = naive_alarms(figures, splits=splits, seed=seed)
    said = f"On the same {splits:,} splits a test that takes sessions for independent gives a false alarm in {naive:.1%}."
    return [row.to_dict() for row in split_alarms(figures, splits=splits, seed=seed)], said


def _on_archive(path: Path) -> tuple[Row, str]:
    from analysis.archive import peeking

    found = peeking(path)
    row = dict.fromkeys(("low_tail", "high_tail", "coverage", "power", "mc_error"))
    row |= {
        "estimator": "anytime, archive",
        "process": path.name,
        "readers": found.series,
        "false_positive": found.anytime,
        "pass": found.passed,
    }
    said = f"{found.series} series of finished tests: called at any look by naive peeking {found.naive:.1%}, at the end {found.end:.1%}, "
    return row, said + f"at any look by the anytime rule {found.anytime:.1%}. These are real tests; many have an effect."


def _cells(row: Row) -> tuple[str, ...]:
    shares = [_share(row[key]) for key in ("false_positive", "low_tail", "high_tail", "coverage", "power", "mc_error")]
    return row["estimator"], row["process"], f"{row['readers']:,}", *shares, "✓" if row["pass"] else "✗"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"


def _command(quick: bool, seed: int, *, log: Path | None, archive: Path | None) -> str:
    parts = [f"presslab calibrate --seed {seed}", "--quick" if quick else "", f"--log {log.name}" if log else ""]
    return " ".join(filter(None, [*parts, f"--archive {archive.name}" if archive else "", "--page FILE"]))


def _markdown(rows: Sequence[Row], notes: Sequence[str], *, command: str) -> str:
    """The page for those who want to check us: what was simulated, how, and every figure."""
    line = "| " + " | ".join(HEADS) + " |"
    table = [line, "|" + "---|" * len(HEADS), *("| " + " | ".join(_cells(row)) + " |" for row in rows)]
    failed = sum(not row["pass"] for row in rows)
    state = "Every row passes." if not failed else f"{failed} of {len(rows)} rows do not pass."
    return "\n".join([
        "# Calibration", "",
        "What our own statistics do when the truth is known. Every row goes through the functions that make a report.", "",
        f"Written by `{command}`; the same seed gives the same figures. {state}", "",
        "False alarms: share of runs without any effect in which the range excludes zero (promised: 5 %), and how many of them point down",
        "and up. Coverage: share of runs whose range holds the true effect. Power: share that find the stated effect. A row passes within",
        "three simulation errors of what is promised; methods that may be cautious pass on the safe side.", "",
        *table, "", *notes, "",
    ])  # fmt: skip
