"""``presslab calibrate``: the statistics against simulated readers, a real log and an archive of finished tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from web.cli.main import Json, app

__all__ = ["calibrate"]

SPLITS, QUICK_SPLITS = 20_000, 2_000
SAME = 1e-12  # relative: rounding of sums in another order
PEER_RUNS, QUICK_PEER_RUNS = 4_000, 400
REPLICATES, QUICK_REPLICATES = 200, 20
SEEN = ("estimator", "process", "readers", "false alarms", "coverage", "power", "ok")  # the page has them all
Row = Mapping[str, Any]


@app.command("calibrate")
def calibrate(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the runs.")] = False,
    seed: int = 1,
    log: Annotated[Path | None, typer.Option(help="Also split the readers of this log at random, 20,000 times.")] = None,
    archive: Annotated[Path | None, typer.Option(help="Also judge this archive of finished tests, look by look.")] = None,
    peer: Annotated[
        list[str] | None, typer.Option(help="Also ask another tool about the same readers: NAME=PYTHON of its environment.")
    ] = None,
    requests: Annotated[bool, typer.Option("--requests", help="Also send simulated readers through outbox, loader and report.")] = False,
    page: Annotated[Path | None, typer.Option(help="Also write the tables to this Markdown file.")] = None,
    as_json: Json = False,
) -> None:
    """Simulate the statistics: false alarms, coverage, power; exit 4 when one is off."""
    from analysis.calibration.gate import calibrate as simulate
    from analysis.calibration.limits import known_limits
    from experiments.files import replace_file
    from web.cli.calibration_page import HEADS, cells, markdown
    from web.cli.output import print_json, print_table
    from web.cli.peers import beside_peers, parse_peers

    tools = parse_peers(peer or ())
    others = beside_peers(tools, seed=seed, runs=QUICK_PEER_RUNS if quick else PEER_RUNS) if tools else None  # first: it may fail
    rows: list[Row] = list(simulate(quick=quick, seed=seed))
    notes: list[str] = []
    if log is not None:
        found, said = _on_log(log, splits=QUICK_SPLITS if quick else SPLITS, seed=seed)
        rows, notes = [*rows, *found], [*notes, said]
    if archive is not None:
        row, said = _on_archive(archive)
        rows, notes = [*rows, row], [*notes, said]
    if requests:
        row, said = _from_requests(runs=QUICK_REPLICATES if quick else REPLICATES, seed=seed)
        rows, notes = [*rows, row], [*notes, said]
    if page is not None:
        command = _command(quick, seed, log=log, archive=archive, tools=tools, requests=requests)
        limits = [] if quick else known_limits(seed=seed)
        replace_file(page, markdown(rows, notes, command=command, peers=others, limits=limits).encode())
    if as_json:
        print_json(rows)
    else:
        shown = [HEADS.index(head) for head in SEEN]
        print_table("Calibration", list(SEEN), [[cells(row)[i] for i in shown] for row in rows])
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


def _from_requests(*, runs: int, seed: int) -> tuple[Row, str]:
    """A small calibration through the whole path; it fails too when a report and its arrays differ anywhere."""
    from tempfile import TemporaryDirectory

    import numpy as np

    from analysis.calibration.arrays import from_requests, largest_gap
    from analysis.calibration.requests import path_row

    rng = np.random.default_rng(seed)
    with TemporaryDirectory() as home:
        figures = from_requests(Path(home), rng)
    gap = largest_gap(figures)
    row = path_row(rng, readers=160, runs=runs).to_dict()
    said = f"{len(figures)} figures of a report made of stored events differ from those computed from arrays by {gap:.0e} of themselves at most."
    return {**row, "pass": row["pass"] and gap <= SAME}, said


def _command(quick: bool, seed: int, *, log: Path | None, archive: Path | None, tools: Mapping[str, Path], requests: bool) -> str:
    """The command as one may repeat it, without anybody's folders."""
    given = [
        f"--log {log.name}" if log else "",
        f"--archive {archive.name}" if archive else "",
        *(f"--peer {name}=PYTHON" for name in tools),
    ]
    parts = [f"presslab calibrate --seed {seed}", "--quick" if quick else "", *given, "--requests" if requests else "", "--page FILE"]
    return " ".join(filter(None, parts))
