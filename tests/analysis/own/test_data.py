"""Somebody's own file: the same engine, and every fault of the file in words."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from statsmodels.regression.linear_model import OLS, WLS
from statsmodels.stats.multitest import multipletests
from typer.testing import CliRunner

from analysis.own.data import Analysis, analyse
from analysis.own.plan import shares_of, wanted
from analysis.small_counts import small_count_contrast
from analysis.words import change
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


def command(path: Path, *, metric: str = "depth=views/visits") -> list[str]:
    """The words of a command that analyses the file."""
    return ["experiment", "analyse", str(path), "--arm", "arm", "--control", "control", "--reader", "uid", "--metric", metric]


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


def test_values_whose_mean_lies_between_two_whole_numbers_are_independent_of_order(tmp_path: Path) -> None:
    """The mean is one half, but a sum of floats in another order makes it a little less or more."""
    rng = np.random.default_rng(5)
    share = rng.normal(0, 1, 200)
    columns = {**readers(), "share": np.concatenate([share, 1 - share]).tolist()}
    orders = [np.arange(400), *(rng.permutation(400) for _ in range(5))]
    files = [{name: [values[i] for i in order] for name, values in columns.items()} for order in orders]
    found = {run(parquet(tmp_path / f"{i}.parquet", file), "share=share").effects[0].contrast for i, file in enumerate(files)}
    assert len(found) == 1


def test_one_large_value_costs_the_mean_of_small_ones_no_digit(tmp_path: Path) -> None:
    columns = readers()
    columns["paid"] = [0.3 if arm == "new" else 0.1 for arm in columns["arm"]]
    columns["paid"][columns["arm"].index("control")] = 10_000_000.1
    values = run(csv(tmp_path / "t.csv", columns), "paid=paid").effects[0].contrast.values
    assert values == (0.3, 50_000.1)


@pytest.mark.parametrize("level", [95, 1, 0, -0.5, math.nan])
def test_a_level_that_is_no_share_is_refused(tmp_path: Path, level: float) -> None:
    with pytest.raises(DataError, match=r"level of an interval is .*, it must lie between 0 and 1\. 0\.95 means"):
        analyse(csv(tmp_path / "t.csv", readers()), [DEPTH], reader="uid", arm="arm", control="control", level=level)


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
    found = run(csv(tmp_path / "t.csv", columns), "paid=paid")
    contrast = found.effects[0].contrast
    assert (contrast.status, contrast.absolute) == ("no_variation", None)
    assert found.verdict.sentence == "Keep control: no other arm could be judged."
    assert found.verdict.reasons == ("New could not be judged: no reader of either arm has an event.",)


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
    says, (two, one) = refusal(path), {"csv": ("line 3, 5", "line 4"), "parquet": ("row 2, 4", "row 3")}[kind]
    assert f"'views' is not a finite number in 2 rows (control: 1, new: 1): {two}." in says
    assert f"'visits' is below zero in 1 row (new: 1): {one}." in says


@pytest.mark.parametrize("empty", [None, math.nan, "", "  "])
@pytest.mark.parametrize("column", ["uid", "arm"])
def test_a_reader_or_arm_that_is_blank_or_not_a_number_is_empty(tmp_path: Path, column: str, empty: Any) -> None:
    columns = readers(40)
    columns["arm"] = [float(a == "new") for a in columns["arm"]] if isinstance(empty, float) else columns["arm"]
    columns["uid"] = [float(i) for i in range(40)] if isinstance(empty, float) else columns["uid"]
    columns[column][6] = columns[column][7] = empty
    says = refusal(parquet(tmp_path / "t.parquet", columns), control="0.0" if isinstance(empty, float) else "control")
    assert f"the {column.replace('uid', 'reader')} is empty in 2 rows" in says
    assert ": row 7, 8." in says


def test_a_number_whose_square_is_none_is_refused_with_its_row(tmp_path: Path) -> None:
    columns = readers(40)
    columns["views"] = [float(v) for v in columns["views"]]
    columns["views"][4] = -1e300
    assert "'views' is beyond 1e+60 in 1 row" in refusal(csv(tmp_path / "t.csv", columns))
    assert "row 5." in refusal(parquet(tmp_path / "t.parquet", columns))


@pytest.mark.parametrize("unit", [1e-9, 1e-12, 1e-40, 1e40])
def test_the_unit_of_a_column_changes_no_p_value(tmp_path: Path, unit: float) -> None:
    columns = readers(uplift=0.2)
    plain = run(csv(tmp_path / "a.csv", columns), "views=views").effects[0].contrast.absolute
    columns["views"] = [value * unit for value in columns["views"]]
    scaled = run(csv(tmp_path / "b.csv", columns), "views=views").effects[0].contrast.absolute
    assert plain is not None
    assert scaled is not None
    assert scaled.p == pytest.approx(plain.p, rel=1e-8)
    assert scaled.estimate == pytest.approx(plain.estimate * unit, rel=1e-9)


def test_what_is_counted_and_not_refused_names_its_first_rows(tmp_path: Path) -> None:
    columns = readers(40)
    columns["uid"][5], columns["arm"][4], columns["arm"][5], columns["views"][9] = "u4", "control", "new", -1
    says = {check.name: check.says for check in run(csv(tmp_path / "t.csv", columns), "views=views").checks}
    assert "1 of 39 readers saw two arms (line 6, 7)." in says["one_arm"]
    assert "'views' is below zero in 1 row (line 11)" in says["below_zero"]


def test_arms_that_look_alike_are_refused(tmp_path: Path) -> None:
    columns = readers(40)
    columns["arm"][3:5] = ["new ", "New"]
    assert "arms 'New' and 'new' and 'new ' differ in spaces or capitals only." in refusal(csv(tmp_path / "t.csv", columns))


def test_a_column_that_is_no_reader_is_said_to_be_none(tmp_path: Path) -> None:
    columns = readers(40)
    path = csv(tmp_path / "t.csv", {**columns, "uid": ["everybody"] * 40})
    assert "every reader is in more than one arm. Is 'uid' the column of the reader?" in refusal(path)
    with pytest.raises(DataError, match="cannot say both who a reader is and which arm it got"):
        analyse(path, [DEPTH], reader="arm", arm="arm", control="control")


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
    (tmp_path / "damaged.parquet").write_bytes(table[:4] + bytes(100) + table[104:])
    assert "not readable" in refusal(tmp_path / "damaged.parquet")
    (tmp_path / "latin.csv").write_bytes(csv(tmp_path / "v.csv", {**readers(4), "uid": ["é", "a", "b", "c"]}).read_text().encode("latin-1"))
    assert "inside it is no UTF-8 text" in refusal(tmp_path / "latin.csv")
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


def with_past(n: int = 400, *, seed: int = 1, more: float = 0.0) -> dict[str, list[Any]]:
    """Half of the readers read one article more than before; under the new arm it is ``more`` of them more."""
    columns = readers(n, seed=seed)
    new = np.array(columns["arm"]) == "new"
    extra = np.random.default_rng(seed + 100).random(n) < 0.5 + more * new
    return {**columns, "before": columns["views"], "views": (np.array(columns["views"]) + extra).tolist()}


def rare(columns: dict[str, list[Any]], **events: int) -> list[int]:
    """1 for the first so many readers of every arm, 0 for the others."""
    left = dict(events)
    found = []
    for arm in columns["arm"]:
        found.append(int(left[arm] > 0))
        left[arm] -= found[-1]
    return found


def test_every_metric_with_a_covariate_is_adjusted_by_least_squares_and_shown_beside_the_unadjusted(tmp_path: Path) -> None:
    columns = with_past(more=0.1)
    path = csv(tmp_path / "t.csv", columns)
    found = run(path, "visits=visits", "views=views:pre=before").to_dict()["effects"]
    new = np.array(columns["arm"]) == "new"
    fit = OLS(np.array(columns["views"]), np.column_stack([np.ones(400), new, columns["before"]])).fit()
    adjusted = found[1]["adjusted"]
    assert adjusted["estimate"] == pytest.approx(fit.params[1], rel=1e-9)
    assert adjusted["se"] == pytest.approx(fit.bse[1], rel=0.05)  # ours lets arms differ in spread
    assert adjusted["covariates"] == ["before"]
    assert adjusted["high"] - adjusted["low"] < 0.6 * (found[1]["absolute"]["high"] - found[1]["absolute"]["low"])
    assert found[1]["absolute"] == run(path, "visits=visits", "views=views").to_dict()["effects"][1]["absolute"]
    assert (found[0]["adjusted"], found[0]["adjusted_reason"]) == (None, "no covariate was named")


def test_the_unadjusted_range_decides(tmp_path: Path) -> None:
    columns = with_past(more=0.2)
    found = run(csv(tmp_path / "t.csv", columns), "views=views:pre=before")
    effect = found.effects[0]
    assert effect.adjusted is not None
    assert effect.adjusted.contrast is not None
    assert effect.adjusted.contrast.absolute is not None
    assert effect.contrast.absolute is not None
    assert effect.adjusted.contrast.absolute.low > 0 > effect.contrast.absolute.low
    assert found.verdict.arm != "new"


def test_a_metric_cannot_explain_itself(tmp_path: Path) -> None:
    for text in ("views=views:pre=views", "depth=views/visits:pre=visits"):
        with pytest.raises(MetricError, match="cannot explain itself"):
            wanted(text)
    assert "two metrics are called 'a'" in refusal(csv(tmp_path / "t.csv", readers(10)), "a=views", "a=visits")


@pytest.mark.parametrize("kind", ["csv", "whole", "bool", "float"])
def test_few_events_are_judged_by_the_score_test(tmp_path: Path, kind: str) -> None:
    columns = readers(uplift=0.1)
    paid = rare(columns, control=3, new=12)
    columns["paid"] = [{"bool": bool, "float": float}.get(kind, int)(value) for value in paid]
    path = csv(tmp_path / "t.csv", columns) if kind == "csv" else parquet(tmp_path / "t.parquet", columns)
    contrast = run(path, "views=views", "paid=paid").effects[1].contrast
    assert contrast == small_count_contrast((12, 200), (3, 200), level=0.95)


def test_many_events_too_are_judged_by_the_score_test_and_the_delta_method_keeps_its_degrees_of_freedom(tmp_path: Path) -> None:
    columns = readers()
    columns["paid"] = rare(columns, control=10, new=16)
    found = run(csv(tmp_path / "t.csv", columns), "paid=paid").effects[0].contrast
    assert found.absolute == small_count_contrast((16, 200), (10, 200), level=0.95).absolute
    assert 300 < found.df < 398


def test_shares_of_one_are_no_counts_however_much_their_moments_look_like_it(tmp_path: Path) -> None:
    columns = readers()
    columns["share"] = [0.9 * value for value in rare(columns, control=1, new=2)]
    contrast = run(csv(tmp_path / "t.csv", columns), "share=share").effects[0].contrast
    assert contrast.absolute is not None
    assert contrast.absolute.estimate == pytest.approx(0.9 / 200, rel=1e-12)


def test_a_goal_of_few_events_is_decided_at_the_level_of_its_family_and_computed_twice(tmp_path: Path) -> None:
    columns = readers(600)
    columns["arm"] = [("control", "new", "other")[i % 3] for i in range(600)]
    columns["paid"], columns["before"] = rare(columns, control=1, new=8, other=4), list(range(600))
    found = run(csv(tmp_path / "t.csv", columns), "paid=paid:pre=before")
    new = found.effects[0]
    assert new.family is not None
    assert new.family.level > 0.97
    wide = small_count_contrast((8, 200), (1, 200), level=new.family.level).absolute
    assert wide is not None
    assert (new.family.low, new.family.high) == (wide.low, wide.high)
    assert new.contrast.absolute is not None
    assert new.contrast.absolute.low > 0 >= new.family.low
    assert found.verdict.arm != "new"
    assert {c.name: c.state for c in found.checks}["recomputed"] == "ok"
    assert new.adjusted is not None
    assert (new.adjusted.contrast, new.adjusted.reason[:14]) == (None, "events are few")


def test_all_against_none_is_an_effect_although_neither_arm_varies(tmp_path: Path) -> None:
    columns = readers(80)
    columns["paid"] = rare(columns, control=0, new=40)
    found = run(csv(tmp_path / "t.csv", columns), "paid=paid")
    assert found.effects[0].contrast.absolute is not None
    assert found.effects[0].contrast.absolute.low > 0.8


def test_secondary_metrics_carry_a_p_value_for_how_many_were_looked_at(tmp_path: Path) -> None:
    columns = readers(900, uplift=0.04)
    columns["arm"] = [("control", "new", "other")[i % 3] for i in range(900)]
    columns["paid"] = rare(columns, control=2, new=9, other=4)
    columns["nothing"] = [0] * 900
    found = run(csv(tmp_path / "t.csv", columns), "depth=views/visits", "views=views", "paid=paid", "nothing=nothing")
    effects = found.to_dict()["effects"]
    measured = [e for e in effects if e["metric"] in ("views", "paid")]
    assert len(measured) == 4
    assert [e["q"] for e in measured] == pytest.approx(multipletests([e["absolute"]["p"] for e in measured], method="fdr_bh")[1])
    assert all(e["q"] is None for e in effects if e["metric"] in ("depth", "nothing"))


def test_all_metrics_of_unequal_arms_are_guarded_or_not_by_their_own_skew(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    columns = readers(3_000)
    columns["arm"] = ["new" if i < 60 else "control" for i in range(3_000)]
    columns["paid"], columns["before"] = rng.lognormal(0, 1.5, 3_000).round(2).tolist(), rng.integers(0, 9, 3_000).tolist()
    found = run(csv(tmp_path / "t.csv", columns), "views=views", "paid=paid:pre=before")
    assert [e.contrast.status for e in found.effects] == ["ok", "guarded"]
    assert found.effects[1].adjusted is not None
    assert found.effects[1].adjusted.contrast is None


def test_numerators_below_zero_are_counted_in_words_and_do_not_stop_anything(tmp_path: Path) -> None:
    columns = readers()
    columns["paid"] = [-2.5 if i < 12 else 1.0 + i % 7 for i in range(400)]
    columns["fines"] = [-1 if i == 5 else 2 + i % 3 for i in range(400)]
    checks = {c.name: c for c in run(csv(tmp_path / "t.csv", columns), "paid=paid", "fines=fines", "more=paid/visits").checks}
    assert checks["below_zero"].state == "warn"
    assert checks["below_zero"].says == (
        "'paid' is below zero in 12 rows (line 2, 3, 4, 5, 6, ...), 'fines' in 1 row (line 7); refunds are fine, counts are not."
    )
    assert checks["below_zero"].figure == 13
    assert "below_zero" not in {c.name for c in run(tmp_path / "t.csv", "views=views").checks}


def test_a_notebook_shows_verdict_checks_and_effects(tmp_path: Path) -> None:
    columns = with_past(more=0.3)
    columns["arm"] = ["<b>|new" if arm == "new" else arm for arm in columns["arm"]]
    columns["paid"] = rare(columns, **{"control": 0, "<b>|new": 6})
    columns["nothing"] = [0] * 400
    found = run(csv(tmp_path / "t.csv", columns), "depth=views/visits:pre=before", "paid=paid", "nothing=nothing")
    shown = found._repr_markdown_()
    assert shown == found.to_markdown()
    assert shown.startswith("**")
    assert "- ✓ A second, independent computation" in shown
    assert "- ! No planned shares" in shown
    head, _, goal, paid, nothing = [line for line in shown.splitlines() if line.startswith("| ")]
    relative = found.effects[0].contrast.relative
    assert relative is not None
    assert f"| goal | &lt;b&gt;\\|new | control | {change(relative.estimate)} | {change(relative.low)} to {change(relative.high)} |" in goal
    adjusted = found.effects[0].adjusted
    assert adjusted is not None
    assert adjusted.contrast is not None
    assert adjusted.contrast.relative is not None
    assert f"| {change(adjusted.contrast.relative.low)} to {change(adjusted.contrast.relative.high)} | – |" in goal
    assert "| +0.03 | +0.0108 to +0.064 | – | 0.0226 |" in paid
    assert "| – | no reader of either arm has an event |" in nothing
    assert {line.replace("\\|", "").count("|") for line in (head, goal, paid, nothing)} == {9}
    assert "<b>" not in shown


def test_a_frame_has_one_row_per_effect_in_full_precision(tmp_path: Path) -> None:
    columns = {**with_past(more=0.1), "nothing": [0] * 400}
    found = run(csv(tmp_path / "t.csv", columns), "depth=views/visits:pre=before", "views=views", "nothing=nothing")
    frame = found.to_frame()
    absolute, adjusted = found.effects[0].contrast.absolute, found.effects[0].adjusted
    assert absolute is not None
    assert adjusted is not None
    assert adjusted.contrast is not None
    assert adjusted.contrast.absolute is not None
    assert list(frame["metric"]) == ["depth", "views", "nothing"]
    assert (frame["low"][0], frame["p"][0], frame["adjusted_high"][0]) == (absolute.low, absolute.p, adjusted.contrast.absolute.high)
    assert frame["q"].isna().tolist() == [True, False, True]
    assert math.isnan(frame["estimate"][2])
    assert frame["status"][2] == "no_variation"
    assert frame.select_dtypes("number").shape[1] == 20  # nothing that is a number became text
    lonely = {**readers(40), "arm": ["control"] * 40}
    late = run(csv(tmp_path / "u.csv", lonely), shares={"control": 0.5, "late": 0.5}).to_frame()
    assert late.select_dtypes("number").shape[1] == 20


def test_a_notebook_needs_one_import_and_importing_the_folder_loads_nothing() -> None:
    import analysis
    from analysis import notebook

    assert (analysis.analyse, analysis.wanted, analysis.Analysis, analysis.Wanted) == (notebook.analyse, wanted, Analysis, type(DEPTH))
    with pytest.raises(AttributeError, match="no attribute 'analyze'"):
        _ = analysis.analyze
    code = "import sys, analysis; print({'numpy', 'analysis.own.data'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


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
    call = command(path)
    found = json.loads(CliRunner().invoke(app, [*call, "--shares", "control=.5,new=.5", "--json"]).stdout)
    assert {"experiment", "control", "level", "snapshot", "arms", "checks", "effects", "roi", "verdict"} <= set(found)
    assert "What changed" in CliRunner().invoke(app, call).stdout


def test_a_planned_tenth_of_the_readers_is_enough_however_many_came(tmp_path: Path) -> None:
    """1,000 readers at a tenth: hardly ever exactly 100; the plan says whether the arm was large enough, not chance."""
    columns = readers(1000)
    columns["arm"] = ["new" if i % 11 == 0 else "control" for i in range(1000)]
    columns["views"] = [v + (4 if a == "new" else 0) for v, a in zip(columns["views"], columns["arm"], strict=True)]
    found = run(csv(tmp_path / "t.csv", columns), "views=views", shares={"control": 0.9, "new": 0.1})
    assert found.readers["new"] < 100
    assert found.verdict.reasons == ("New improves the goal, but costs cannot be weighed: nobody has stated what such a change is worth.",)
    seen = run(csv(tmp_path / "t.csv", columns), "views=views", shares=None)
    assert seen.verdict.reasons == ("New improves the goal, but had less than the 10% of readers that a decision needs.",)


def test_shares_name_arms_whose_names_hold_commas_and_signs_of_equality() -> None:
    assert shares_of("Größe ß, neu=.5, a=b=0.25,c=1") == {"Größe ß, neu": 0.5, "a=b": 0.25, "c": 1.0}
    for bad in ("a=.5,b", "a=.5,,b=.5x", "a=.5,a=.5", "=.5", "a"):
        with pytest.raises(DataError, match="is not ARM=SHARE"):
            shares_of(bad)


def test_of_a_file_nothing_is_said_of_windows(tmp_path: Path) -> None:
    columns = {"uid": ["a", "b"], "arm": ["control", "new"], "views": [1, 2], "visits": [1, 1]}
    found = run(csv(tmp_path / "t.csv", columns))
    assert found.verdict.reasons == ("New could not be judged: new has 1 reader.",)
    assert found.effects[0].contrast.reason == "new has 1 reader"


def test_why_a_figure_known_before_narrows_nothing_is_told(tmp_path: Path) -> None:
    columns = {**readers(), "before": [7] * 400}
    path = csv(tmp_path / "t.csv", columns)
    install()
    told = CliRunner().invoke(app, command(path, metric="views=views:pre=before"), env={"COLUMNS": "200"}).stdout
    assert "no covariate tells readers apart in every arm" in " ".join(told.split())
    assert "Adjusted for what readers did before" not in CliRunner().invoke(app, command(path)).stdout


def test_a_count_is_never_said_to_fall_by_more_than_all_of_it(tmp_path: Path) -> None:
    columns = readers()
    columns["views"][columns["arm"].index("new")] = 100_000
    path = csv(tmp_path / "t.csv", columns)
    relative = run(path, "views=views").effects[0].contrast.relative
    assert relative is not None
    assert relative.low < -1
    install()
    told = CliRunner().invoke(app, command(path, metric="views=views")).stdout
    assert "−100% to +" in told
    assert "-100% to +" in run(path, "views=views").to_markdown()


@pytest.mark.parametrize("known", [lambda v: v, lambda v: 2 * v + 3, lambda v: round(0.37 * v, 2)])
def test_a_figure_that_tells_the_outcome_exactly_is_said_to_and_narrows_nothing(tmp_path: Path, known: Any) -> None:
    columns = readers()
    path = csv(tmp_path / "t.csv", {**columns, "before": [known(v) for v in columns["views"]]})
    effect = run(path, "views=views:pre=before").to_dict()["effects"][0]
    assert effect["adjusted"] is None
    assert effect["adjusted_reason"] == "the covariates tell the outcome exactly, so they cannot have been known before"
