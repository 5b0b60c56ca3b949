"""Dates in somebody's own file: what comes after the end, or was known too late, is refused with its rows."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from analysis.own.data import Analysis, analyse
from analysis.own.plan import dates_of, wanted
from experiments.errors import DataError
from tests.analysis.own.test_data import command, csv, parquet, readers
from web.cli.commands import install
from web.cli.main import app

DEPTH = wanted("depth=views/visits:pre=before")
COVARIATE = {"exposed_at": "seen", "covariate_at": ["before=known"]}
WRITE = {"csv": csv, "parquet": parquet}


def dated(n: int = 60) -> dict[str, list[Any]]:
    columns = readers(n)
    return columns | {
        "before": [i % 4 for i in range(n)],
        "day": ["2026-03-31"] * n,
        "seen": ["2026-03-02 08:00"] * n,
        "known": ["2026-03-01"] * n,
    }


def run(path: Path, **asked: Any) -> Analysis:
    return analyse(path, [DEPTH], reader="uid", arm="arm", control="control", dates=dates_of([DEPTH], **asked))


def refusal(path: Path, **asked: Any) -> str:
    with pytest.raises(DataError) as caught:
        run(path, **asked)
    return str(caught.value)


@pytest.mark.parametrize("kind", WRITE)
def test_rows_after_the_last_day_are_refused_by_number(tmp_path: Path, kind: str) -> None:
    columns = dated()
    columns["day"][6], columns["day"][11] = "2026-04-01", "2026-04-01T00:00:00Z"
    path = WRITE[kind](tmp_path / f"t.{kind}", columns)
    where = {"csv": "line 8, 13", "parquet": "row 7, 12"}[kind]
    assert f"'day' is after the end, 2026-03-31 in UTC, in 2 rows: {where}." in refusal(path, column="day", until="2026-03-31")
    assert run(path, column="day", until="2026-04-01").effects


@pytest.mark.parametrize("kind", WRITE)
def test_a_covariate_known_at_the_exposure_or_later_is_refused_by_row(tmp_path: Path, kind: str) -> None:
    columns = dated()
    columns["known"][3], columns["known"][4], columns["known"][5] = "2026-03-02 08:00", "2026-03-02 07:59:59", "2026-03-02T08:30:00+02:00"
    path = WRITE[kind](tmp_path / f"t.{kind}", columns)
    where = {"csv": "line 5", "parquet": "row 4"}[kind]
    says = refusal(path, **COVARIATE)
    assert f"'before' was known at or after the reader's first exposure ('known' against 'seen') in 1 row: {where}." in says


def test_covariates_that_are_older_pass_and_change_no_effect(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", dated())
    checked, plain = run(path, **COVARIATE), analyse(path, [DEPTH], reader="uid", arm="arm", control="control")
    assert checked.effects == plain.effects
    states = [{c.name: c.state for c in found.checks}["look_ahead"] for found in (checked, plain)]
    assert states == ["ok", "warn"]


def test_columns_of_a_parquet_file_may_hold_real_times(tmp_path: Path) -> None:
    columns = dated()
    columns["known"], columns["seen"] = [datetime(2026, 3, 1, tzinfo=UTC)] * 60, [datetime(2026, 3, 2, tzinfo=UTC)] * 60
    columns["day"] = [date(2026, 3, 31)] * 59 + [date(2026, 4, 2)]
    path = parquet(tmp_path / "t.parquet", columns)
    assert "in 1 row: row 60." in refusal(path, column="day", until="2026-03-31", **COVARIATE)


def test_what_is_no_date_is_named_with_its_rows(tmp_path: Path) -> None:
    columns = dated()
    columns["day"][1], columns["known"][2] = "yesterday", ""
    says = refusal(csv(tmp_path / "t.csv", columns), column="day", until="2026-03-31", **COVARIATE)
    assert "'day' is no date in 1 row: line 3." in says
    assert "'known' is no date in 1 row: line 4." in says


def test_a_column_that_is_missing_is_named_with_the_nearest(tmp_path: Path) -> None:
    assert "there is no column 'dya'; did you mean 'day'?" in refusal(csv(tmp_path / "t.csv", dated()), column="dya", until="2026-03-31")


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"until": "2026-03-31"}, "--until and --date belong together"),
        ({"column": "day"}, "--until and --date belong together"),
        ({"column": "day", "until": "31.3.2026"}, "'31.3.2026' is no day"),
        ({"covariate_at": ["before=known"]}, "--covariate-at needs --exposed-at"),
        ({"exposed_at": "seen"}, "when was 'before' known?"),
        ({"exposed_at": "seen", "covariate_at": ["befor=known"]}, "did you mean 'before'?"),
        ({"exposed_at": "seen", "covariate_at": ["before"]}, "is not NAME=COL"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_words(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError) as caught:
        dates_of([DEPTH], **asked)
    assert says in str(caught.value)


def test_the_command_takes_dates(tmp_path: Path) -> None:
    install()
    path = csv(tmp_path / "t.csv", dated())
    call = command(path, metric="depth=views/visits:pre=before")
    known = ["--exposed-at", "seen", "--covariate-at", "before=known", "--date", "day", "--until"]
    found = json.loads(CliRunner().invoke(app, [*call, *known, "2026-03-31", "--json"]).stdout)
    assert {c["name"]: c["state"] for c in found["checks"]}["look_ahead"] == "ok"
    refused = CliRunner().invoke(app, [*call, *known, "2026-03-30"])
    assert isinstance(refused.exception, DataError)
    assert "in 60 rows: line 2, 3, 4, 5, 6, ..." in str(refused.exception)
