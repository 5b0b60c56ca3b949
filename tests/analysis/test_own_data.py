"""Somebody's own file: the same engine, and every fault of the file in words."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from statsmodels.regression.linear_model import WLS
from typer.testing import CliRunner

from analysis.own_data import Analysis, analyse
from analysis.own_plan import shares_of, wanted
from experiments.errors import DataError, MetricError
from web.cli.commands import install
from web.cli.main import app

HALVES = {"control": 0.5, "new": 0.5}
DEPTH = wanted("depth=views/visits")


def readers(n: int = 400, *, seed: int = 1, uplift: float = 0.0) -> dict[str, list[Any]]:
    rng = np.random.default_rng(seed)
    arm = np.array(["control", "new"])[rng.permutation(np.arange(n) % 2)]
    visits = 1 + rng.poisson(1.5, n)
    views = rng.poisson(visits * np.where(arm == "new", 2.0 * (1 + uplift), 2.0))
    return {"uid": [f"u{i}" for i in range(n)], "arm": arm.tolist(), "views": views.tolist(), "visits": visits.tolist()}


def csv(path: Path, columns: dict[str, list[Any]]) -> Path:
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def parquet(path: Path, columns: dict[str, list[Any]]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def run(path: Path, *metrics: str, control: str = "control", shares: dict[str, float] | None = None) -> Analysis:
    return analyse(path, [wanted(m) for m in metrics] or [DEPTH], reader="uid", arm="arm", control=control, shares=shares)


def refusal(path: Path, *metrics: str, control: str = "control", shares: dict[str, float] | None = None) -> str:
    with pytest.raises(DataError) as caught:
        run(path, *metrics, control=control, shares=shares)
    return str(caught.value)


def test_the_effect_is_the_clustered_regression_on_the_same_rows(tmp_path: Path) -> None:
    columns = readers(uplift=0.2)
    effect = run(csv(tmp_path / "t.csv", columns)).effects[0].contrast
    views, visits = np.array(columns["views"]), np.array(columns["visits"])
    arms = np.array([[a == "control", a == "new"] for a in columns["arm"]], dtype=float)
    fit = WLS(views / visits, arms, weights=visits).fit(cov_type="cluster", cov_kwds={"groups": np.arange(400), "use_correction": False})
    n = arms.sum(axis=0)
    assert effect.absolute is not None
    assert effect.absolute.estimate == pytest.approx(fit.params[1] - fit.params[0], rel=1e-12)
    assert effect.absolute.se == pytest.approx(math.sqrt((np.diag(fit.cov_params()) * n / (n - 1)).sum()), rel=1e-12)


def test_csv_and_parquet_rows_in_any_order_and_readers_in_pieces_say_the_same(tmp_path: Path) -> None:
    columns = readers()
    whole = run(csv(tmp_path / "a.csv", columns)).to_dict()["effects"]
    order = np.random.default_rng(2).permutation(400)
    shuffled = {name: [values[i] for i in order] for name, values in columns.items()}
    assert run(parquet(tmp_path / "b.parquet", shuffled)).to_dict()["effects"] == whole
    pieces = {name: [v for value in values for v in ((value, value) if name in ("uid", "arm") else (value // 2, value - value // 2))]
              for name, values in columns.items()}  # fmt: skip
    in_pieces = run(csv(tmp_path / "c.csv", pieces))
    assert in_pieces.rows == 800
    assert in_pieces.to_dict()["effects"] == whole


def test_an_offset_of_a_hundred_million_costs_no_digit(tmp_path: Path) -> None:
    columns = readers()
    plain = run(csv(tmp_path / "a.csv", columns), "views=views").effects[0].contrast.absolute
    columns["views"] = [value + 10**8 for value in columns["views"]]
    moved = run(csv(tmp_path / "b.csv", columns), "views=views").effects[0].contrast.absolute
    assert plain is not None
    assert moved is not None
    assert moved.se == pytest.approx(plain.se, rel=1e-12)


def test_money_with_cents_is_as_exact_as_numpy_and_independent_of_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    columns = readers()
    columns["paid"] = np.round(rng.lognormal(1, 2, 400), 2).tolist()
    found = run(csv(tmp_path / "a.csv", columns), "paid=paid").effects[0].contrast.absolute
    paid, new = np.array(columns["paid"]), np.array(columns["arm"]) == "new"
    assert found is not None
    assert found.estimate == pytest.approx(paid[new].mean() - paid[~new].mean(), rel=1e-10)
    assert found.se == pytest.approx(math.sqrt(paid[new].var(ddof=1) / new.sum() + paid[~new].var(ddof=1) / (~new).sum()), rel=1e-10)
    backwards = {name: values[::-1] for name, values in columns.items()}
    again = run(parquet(tmp_path / "b.parquet", backwards), "paid=paid").effects[0].contrast.absolute
    assert again == found


def test_readers_in_two_arms_are_left_out_counted_and_block_when_many(tmp_path: Path) -> None:
    columns = readers()
    for i in range(20):
        for name in columns:
            columns[name].append(
                "new" if name == "arm" and columns["arm"][i] == "control" else "control" if name == "arm" else columns[name][i]
            )
    found = run(csv(tmp_path / "t.csv", columns))
    assert (found.crossed, sum(found.readers.values())) == (20, 380)
    assert {c.name: c.state for c in found.checks}["one_arm"] == "block"
    assert found.verdict.key == "do_not_use"


def test_an_uneven_split_blocks_and_missing_shares_are_said(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", readers())
    assert run(path, shares={"control": 0.3, "new": 0.7}).verdict.key == "do_not_use"
    assert run(path, shares=HALVES).checks[0].state == "ok"
    assert "could not be checked" in run(path).checks[0].says


def test_a_planned_arm_without_readers_has_no_number_and_one_reader_too(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", readers())
    found = run(path, shares={"control": 0.4, "new": 0.4, "late": 0.2})
    assert {(e.arm, e.contrast.status) for e in found.effects} == {("late", "insufficient"), ("new", "ok")}
    columns = readers()
    one = {name: [*values, {"uid": "x", "arm": "lonely"}.get(name, 1)] for name, values in columns.items()}
    assert {e.arm: e.contrast.status for e in run(csv(tmp_path / "u.csv", one)).effects}["lonely"] == "insufficient"


def test_all_zero_is_no_variation_and_not_a_zero_effect(tmp_path: Path) -> None:
    columns = {**readers(), "paid": [0] * 400}
    contrast = run(csv(tmp_path / "t.csv", columns), "paid=paid").effects[0].contrast
    assert (contrast.status, contrast.absolute) == ("no_variation", None)


def test_every_fault_of_the_columns_is_named_at_once(tmp_path: Path) -> None:
    columns = readers(6)
    says = refusal(csv(tmp_path / "t.csv", columns), "depth=viws/visits:pre=before")
    assert "no column 'viws'; did you mean 'views'?" in says
    assert "no column 'before'" in says


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_values_that_are_empty_infinite_or_below_zero_are_named_with_rows_and_arms(tmp_path: Path, kind: str) -> None:
    columns: dict[str, list[Any]] = {
        "uid": ["a", "b", "c", "d"],
        "arm": ["control", "new", "new", "control"],
        "views": [1.0, math.nan, 2.0, math.inf],
        "visits": [1, 1, -2, 1],
    }
    path = csv(tmp_path / "t.csv", columns) if kind == "csv" else parquet(tmp_path / "t.parquet", columns)
    says = refusal(path)
    assert "'views' is not a finite number in 2 rows (control: 1, new: 1): row 2, 4." in says
    assert "'visits' is below zero in 1 row (new: 1): row 3." in says


def test_words_among_numbers_are_named_with_their_lines(tmp_path: Path) -> None:
    columns = readers(50)
    columns["views"][30] = "many"
    assert "column 'views' is no number in 1 row: line 32 has 'many'." in refusal(csv(tmp_path / "t.csv", columns))


def test_cut_lines_are_all_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("uid,arm,views,visits\na,control,1,1\nb,new\nc,new,1,1,1\nd,control,1,1\n")
    says = refusal(path)
    assert "line 3:" in says
    assert "line 4:" in says
    path.write_bytes(b"uid,arm,views,visits\r\na,control,1,1\r\nb,new,1,1\n")
    assert "some lines end in CR LF" in refusal(path)


def test_a_file_that_is_not_what_its_suffix_says_is_refused(tmp_path: Path) -> None:
    table = parquet(tmp_path / "t.parquet", readers(4)).read_bytes()
    (tmp_path / "t.csv").write_bytes(table)
    assert "inside it is a Parquet file" in refusal(tmp_path / "t.csv")
    csv(tmp_path / "u.csv", readers(4)).rename(tmp_path / "u.parquet")
    assert "inside it is no Parquet file" in refusal(tmp_path / "u.parquet")
    (tmp_path / "cut.parquet").write_bytes(table[:-20])
    assert "not readable" in refusal(tmp_path / "cut.parquet")
    (tmp_path / "empty.csv").write_text("uid,arm,views,visits\n")
    assert "has no row" in refusal(tmp_path / "empty.csv")
    assert "there is no such file" in refusal(tmp_path / "nowhere.csv")


def test_arms_and_shares_that_do_not_fit_are_all_named(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", readers(40))
    says = refusal(path, control="contrl", shares={"control": 0.5, "old": 0.6})
    assert "no reader is in the control 'contrl'; did you mean 'control'?" in says
    assert "arm 'new' (20 readers) has no planned share" in says
    assert "add up to 1.1" in says
    lonely = {**readers(4), "arm": ["control"] * 4}
    assert "only one arm" in refusal(csv(tmp_path / "u.csv", lonely))


def test_a_covariate_must_be_the_same_in_all_rows_of_a_reader(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "uid": ["a", "a", "b"],
        "arm": ["control", "control", "new"],
        "views": [1, 2, 3],
        "visits": [1, 1, 1],
        "before": [4, 5, 6],
    }
    assert "'before' differs between rows of the same reader in 1 reader" in refusal(
        csv(tmp_path / "t.csv", columns), "depth=views/visits:pre=before"
    )


@pytest.mark.parametrize("text", ["views", "a=b/c/d", "a=b:pre=", "a=b:up", "=b", "a=b:pre=c:pre=d"])
def test_a_metric_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(MetricError, match="is not NAME=NUM"):
        wanted(text)


@pytest.mark.parametrize("text", ["a", "a=b", "a=.5,a=.5", "a=-1,b=2"])
def test_shares_in_another_form_are_refused(text: str) -> None:
    with pytest.raises(DataError, match="--shares"):
        shares_of(text)


def test_the_command_prints_the_report_and_its_json(tmp_path: Path) -> None:
    install()
    path = csv(tmp_path / "t.csv", readers())
    call = ["experiment", "analyse", str(path), "--arm", "arm", "--control", "control", "--reader", "uid", "--metric", "depth=views/visits"]
    found = json.loads(CliRunner().invoke(app, [*call, "--shares", "control=.5,new=.5", "--json"]).stdout)
    assert {"experiment", "control", "level", "snapshot", "arms", "checks", "effects", "roi", "verdict"} <= set(found)
    assert "What changed" in CliRunner().invoke(app, call).stdout
