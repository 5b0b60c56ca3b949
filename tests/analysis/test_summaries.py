from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from analysis.summaries import INDEPENDENT, SKEWED, import_summary
from analysis.summary_counts import share_change
from analysis.summary_files import Cell
from experiments.errors import DataError, ExperimentError
from web.cli.commands import install
from web.cli.main import app
from web.cli.report_table import print_summary

DATA = Path(os.environ.get("PRESSLAB_DATA", Path(__file__).parents[2].parent / "shared" / "data"))


def real(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"needs ../shared/data/{name} (not present)")
    return path


def write(folder: Path, text: str, name: str = "sums.csv") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_published_intervals_of_the_free_trial_screener_to_the_last_digit():
    found = import_summary(real("udacity_free_trial"))
    effects = {e.metric: e for e in found.effects}
    gross, net = effects["gross conversion"], effects["net conversion"]
    assert round(gross.contrast.absolute.estimate, 7) == -0.0205549
    assert (round(gross.contrast.absolute.low, 4), round(gross.contrast.absolute.high, 4)) == (-0.0291, -0.0120)
    assert round(net.contrast.absolute.estimate, 7) == -0.0048737
    assert (round(net.contrast.absolute.low, 4), round(net.contrast.absolute.high, 4)) == (-0.0116, 0.0019)
    assert (round(gross.sign_test.p, 4), round(net.sign_test.p, 4)) == (0.0026, 0.6776)
    assert (gross.skipped, found.rows, len(found.skipped)) == (14, 74, 28)
    assert all(check.state == "ok" for check in found.checks)


@pytest.mark.slow
def test_an_archive_of_78_tests_is_read_whole_and_missing_variances_have_no_number():
    found = import_summary(real("asos/asos_digital_experiments_dataset.csv"))
    assert len(found.effects) == 24_153
    without = [e for e in found.effects if e.contrast.absolute is None]
    assert without
    assert all(e.contrast.reason for e in without)
    json.dumps(found.to_dict(), allow_nan=False)


LONG = "arm,period,numerator,denominator\ncontrol,d1,10,100\nnew,d1,20,100\ncontrol,d2,12,100\nnew,d2,18,100\n"


def test_counts_by_hand(tmp_path):
    """22 of 200 against 38 of 200: pooled share 0.15, SE = sqrt(0.15 * 0.85 * 2 / 200 * 400 / 399)."""
    effect = import_summary(write(tmp_path, LONG)).effects[0]
    assert (effect.arm, effect.against) == ("new", "control")
    assert effect.contrast.absolute.estimate == pytest.approx(0.08)
    assert effect.contrast.absolute.se == pytest.approx(math.sqrt(0.15 * 0.85 / 100 * 400 / 399))
    assert effect.contrast.relative.estimate == pytest.approx(0.08 / 0.11)
    assert (effect.sign_test.periods, effect.sign_test.ahead, effect.sign_test.p) == (2, 2, 0.5)


def test_periods_without_outcome_are_skipped_and_counted(tmp_path):
    found = import_summary(write(tmp_path, LONG + "control,d3,,100\nnew,d3,,100\n"))
    assert (found.skipped, found.effects[0].skipped) == (("line 6", "line 7"), 1)
    assert found.to_dict()["notes"][0] == "2 of 6 rows have no outcome and were left out (line 6, line 7)."
    assert found.effects[0].contrast.n == (200, 200)


def test_every_faulty_line_is_named(tmp_path):
    text = LONG + "new,d2,1,2\nnew,d4,5,4\n,d5,1,2\nnew,d6,x,4\nnew,d7,1.5,4\nnew,d8,-1,4\n"
    with pytest.raises(DataError) as caught:
        import_summary(write(tmp_path, text))
    lines = [fault.split(":")[0] for fault in caught.value.faults]
    assert lines == [f"line {n}" for n in range(6, 12)]
    assert "came before" in caught.value.faults[0]
    assert "numerator 5 exceeds denominator 4" in caught.value.faults[1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (LONG + "control,d3,1\n", "line 6: 3 values, 4 columns"),
        (LONG + "control,d3,1,100,5\n", "line 6: 5 values, 4 columns"),
        ("arm,period,numerator,denominator,arm\ncontrol,d1,1,2,x\n", "line 1: the column 'arm' is named twice"),
        (LONG + "control,d3,1\nnew,d3,x,1\n", "line 7: 'x' of '1' are not two counts"),
        (LONG + '\nnew,"d\n3",x,1\n', "line 7: 'x' of '1' are not two counts"),
        (LONG + 'new,d3,1,"100\n', "the row that begins in line 6 is not readable"),
        (LONG + "New,d3,1,100\n", "line 6: arms 'new' and 'New' differ in capitals only"),
        (LONG + "new,,1,100\n", "line 6: the period is empty"),
        (LONG + "nan,d3,1,100\n", "line 6: the arm is empty"),
        ("arm,period,numerator,denominator\n", "the file has no row"),
        ("", "the file is empty"),
        ("arm,metric,look,n,mean,variance\n,m,1,100,1,1\n", "line 2: the arm is empty"),
        ("arm,metric,look,n,mean,variance\nnew,,1,100,1,1\n", "line 2: the metric is empty"),
        ("arm,metric,look,n,mean,variance\nnew,m,nan,100,1,1\n", "line 2: the look 'nan' is no number"),
        ("arm,metric,look,n,mean,variance\nnew,m,1,1e61,1,1\n", "line 2: look, n, mean and variance must be numbers"),
        ("arm,metric,look,n,mean,variance\nnew,m,1,100,1e300,1\n", "line 2: mean 1e+300 with variance 1 is not possible"),
    ],
)
def test_lines_that_are_cut_too_long_or_beyond_all_numbers_are_named(tmp_path, text, says):
    with pytest.raises(DataError) as caught:
        import_summary(write(tmp_path, text))
    assert says in str(caught.value)


@pytest.mark.parametrize("written", ["1_0", "１２", "٣", "0x10", "1e1", "inf", "true", "1.5", "-1", "1000000000000000000"])
def test_what_only_looks_like_a_count_is_none(tmp_path, written):
    with pytest.raises(DataError, match=f"line 6: '{written}' of '100' are not two counts"):
        import_summary(write(tmp_path, LONG + f"new,d3,{written},100\n"))
    with pytest.raises(DataError, match="line 2: look, n, mean and variance must be numbers"):
        import_summary(write(tmp_path, f"arm,metric,look,n,mean,variance\nnew,m,1,{written},1,1\n"))


@pytest.mark.parametrize("written", ["1_0", "１２", "0x10", "1,0", "inf", "-inf"])
@pytest.mark.parametrize("column", ["look", "mean", "variance"])
def test_what_only_looks_like_a_number_is_none(tmp_path, column, written):
    row = {"arm": "new", "metric": "m", "look": "1", "n": "100", "mean": "1", "variance": "1", column: f'"{written}"'}
    with pytest.raises(DataError, match="line 2: look, n, mean and variance must be numbers"):
        import_summary(write(tmp_path, ",".join(row) + "\n" + ",".join(row.values()) + "\n"))


def test_semicolons_and_tabs_divide_as_well(tmp_path):
    plain = import_summary(write(tmp_path, LONG))
    for delimiter in ";\t|":
        assert import_summary(write(tmp_path, LONG.replace(",", delimiter))) == plain


def test_a_look_without_the_control_is_told_and_compared_with_nothing(tmp_path):
    text = "arm,metric,look,n,mean,variance\ncontrol,m,1,100,2,1\nnew,m,1,100,3,1\nnew,m,2,200,3,1\n"
    found = import_summary(write(tmp_path, text))
    assert [effect.look for effect in found.effects] == [1.0]
    assert found.notes() == ("1 period not known of every arm, the first: look 2 of m.",)
    with pytest.raises(ExperimentError, match="control 'old' is not one of the arms: control, new"):
        import_summary(write(tmp_path, text), control="old")


def test_the_command_takes_the_control(tmp_path):
    install()
    path = write(tmp_path, LONG.replace("control", "old"))
    assert isinstance(CliRunner().invoke(app, ["experiment", "import-summary", str(path)]).exception, ExperimentError)
    told = CliRunner().invoke(app, ["experiment", "import-summary", str(path), "--control", "old", "--json"])
    assert json.loads(told.stdout)["control"] == "old"


def test_counts_of_a_folder_are_counts(tmp_path):
    header = "Date,Pageviews,Clicks,Enrollments,Payments\n"
    write(tmp_path, header + "d1,１００,50,10,5\nd2,100,50,,\n", "x_control.csv")
    write(tmp_path, header + "d1,100,50,12,6\nd2,1_0,50,12,6\n", "x_experiment.csv")
    with pytest.raises(DataError) as caught:
        import_summary(tmp_path)
    assert caught.value.faults == ("control, line 2: Pageviews is '１００'", "experiment, line 3: Pageviews is '1_0'")


def test_a_period_that_only_one_arm_has_is_said_and_not_added_up(tmp_path):
    plain = import_summary(write(tmp_path, LONG))
    assert plain.notes() == (INDEPENDENT,)
    found = import_summary(write(tmp_path, LONG + "new,d3,50,100\n"))
    assert found.notes() == ("1 period not known of every arm, the first: d3.", INDEPENDENT)
    assert found.effects == plain.effects


def test_a_period_whose_outcome_is_missing_in_one_arm_is_not_added_up_in_the_other(tmp_path):
    plain, found = (import_summary(write(tmp_path, LONG + rows)) for rows in ("", "control,d3,,100\nnew,d3,50,100\n"))
    assert found.effects[0].contrast == plain.effects[0].contrast


def test_arms_without_a_common_period_are_compared_with_nothing(tmp_path):
    found = import_summary(write(tmp_path, "arm,period,numerator,denominator\ncontrol,d1,10,100\nnew,d2,20,100\n")).effects[0].contrast
    assert (found.absolute, found.reason) == (None, "there is no period that both arms have")


def test_a_ramp_is_said_because_time_is_taken_for_the_arm(tmp_path):
    """Neither day differs between arms; the sums do, because the second day is better and has more of the new arm."""
    rows = "control,d1,90,900\nnew,d1,10,100\ncontrol,d2,100,500\nnew,d2,100,500\n"
    found = import_summary(write(tmp_path, "arm,period,numerator,denominator\n" + rows))
    assert (
        found.notes()[0]
        == "The arms' shares of the counts change between periods, and what changed with time is taken for the arm (conversion)."
    )


def test_ranges_of_counts_hold_the_truth_where_the_arms_differ_in_size_and_rate():
    """A pooled standard error held the difference 83 times in 100, and over the control's share the ratio 77 times."""
    rng, held, runs = np.random.default_rng(3), np.zeros(2), 120
    n, rates = (200, 2000), (0.3, 0.1)
    for _ in range(runs):
        cells = [Cell(arm, "m", "d1", int(rng.binomial(size, rate)), size) for arm, size, rate in zip("ab", n, rates, strict=True)]
        found = share_change(cells, "a", "b", level=0.95)
        held += (found.absolute.low <= 0.2 <= found.absolute.high, found.relative.low <= 2 <= found.relative.high)
    assert (held / runs).min() > 0.95 - 3 * math.sqrt(0.05 * 0.95 / runs)


def test_the_table_names_arm_and_look_and_rounds_no_difference_away(tmp_path, capsys):
    text = "arm,metric,look,n,mean,variance\n" + "".join(
        f"{arm},m,{look},1000000,{mean},1e-8\n" for look in (1, 2) for arm, mean in (("control", 1e-4), ("a", 1.2e-4), ("b", 1.3e-4))
    )
    print_summary(import_summary(write(tmp_path, text)).to_dict())
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["m", "a", "1", "+0.00002", "+0.0000197", "to", "+0.0000203", "–"] in lines
    assert ["m", "b", "2", "+0.00003", "+0.0000297", "to", "+0.0000303", "–"] in lines


def test_the_control_is_never_guessed(tmp_path):
    with pytest.raises(ExperimentError, match="control 'control' is not one of the arms: a, b"):
        import_summary(write(tmp_path, "arm,period,numerator,denominator\na,1,1,2\nb,1,1,2\n"))
    assert import_summary(write(tmp_path, LONG), control="new").effects[0].arm == "control"


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        ("control,1,0,50\nnew,1,0,50\n", "no_variation"),
        ("control,1,0,50\nnew,1,5,50\n", "not_estimable"),
        ("control,1,0,0\nnew,1,5,50\n", "undefined_denominator"),
    ],
)
def test_counts_that_allow_no_number_say_why(tmp_path, rows, status):
    contrast = import_summary(write(tmp_path, "arm,period,numerator,denominator\n" + rows)).effects[0].contrast
    assert (contrast.status, contrast.relative) == (status, None)
    assert contrast.reason


def test_means_and_variances_per_look_are_judged_by_welch(tmp_path):
    text = "arm,metric,look,n,mean,variance\ncontrol,views,1,100,2.0,1.0\nnew,views,1,80,2.5,2.0\ncontrol,views,2,1,2.0,\nnew,views,2,90,2.5,2\n"
    first, second = import_summary(write(tmp_path, text)).effects
    welch = stats.ttest_ind_from_stats(2.5, math.sqrt(2), 80, 2.0, 1.0, 100, equal_var=False)
    assert first.contrast.absolute.p == pytest.approx(welch.pvalue, rel=1e-12)
    assert (first.look, second.look) == (1.0, 2.0)
    assert (second.contrast.status, second.contrast.absolute) == ("insufficient", None)


def test_an_archive_with_both_arms_side_by_side_is_understood(tmp_path):
    header = "experiment_id,variant_id,metric_id,time_since_start,count_c,count_t,mean_c,mean_t,variance_c,variance_t\n"
    found = import_summary(write(tmp_path, header + "x,2,1,0.5,100,80,2.0,2.5,1.0,2.0\nx,2,1,1.0,200,180,2.0,2.5,1.0,\n"))
    one, two = found.effects
    assert (one.metric, one.arm, one.contrast.n, one.contrast.status) == ("x/2/1", "variant 2", (80, 100), "ok")
    assert (two.contrast.absolute, two.contrast.reason) == (None, "the mean or variance of variant 2 is missing")
    assert found.notes() == (
        "1 of 4 rows have no outcome and were left out (line 3).",
        "Ranges before the last look are no ground for a decision.",
    )


def test_impossible_variances_are_refused_with_their_line(tmp_path):
    text = "arm,metric,look,n,mean,variance\ncontrol,v,1,100,2,-1\nnew,v,1,many,2,1\nnew,v,1,10,inf,1\n"
    with pytest.raises(DataError) as caught:
        import_summary(write(tmp_path, text))
    assert [fault.split(":")[0] for fault in caught.value.faults] == ["line 2", "line 3", "line 4"]


def test_a_file_of_another_kind_is_refused_in_words(tmp_path):
    with pytest.raises(DataError, match="columns a, b are not those of a summary"):
        import_summary(write(tmp_path, "a,b\n1,2\n"))
    with pytest.raises(DataError, match="no such file"):
        import_summary(tmp_path / "absent.csv")
    broken = tmp_path / "broken.csv"
    broken.write_bytes(b"\xff\xfe\x00bad")
    with pytest.raises(DataError, match="inside it is UTF-16 text"):
        import_summary(broken)


def test_a_folder_needs_one_file_per_arm(tmp_path):
    header = "Date,Pageviews,Clicks,Enrollments,Payments\n"
    write(tmp_path, header + "d1,100,50,10,5\n", "x_control.csv")
    with pytest.raises(DataError, match="found 1"):
        import_summary(tmp_path)
    write(tmp_path, header + "d1,100,50,12,6\n", "x_experiment.csv")
    found = import_summary(tmp_path)
    assert [e.metric for e in found.effects] == ["gross conversion", "retention", "net conversion"]
    write(tmp_path, "Date,Pageviews\nd1,100\n", "x_experiment.csv")
    with pytest.raises(DataError, match="Clicks, Enrollments, Payments is missing"):
        import_summary(tmp_path)


def test_that_sums_cannot_tell_skewed_readers_is_said_of_unequal_arms(tmp_path):
    text = "arm,metric,look,n,mean,variance\ncontrol,m,1,{},2,1\nnew,m,1,100,3,1\n"
    assert import_summary(write(tmp_path, text.format(150))).notes() == ()
    assert import_summary(write(tmp_path, text.format(151))).notes() == (SKEWED,)
