from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
from scipy import stats

from analysis.summaries import import_summary
from experiments.errors import DataError, ExperimentError

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
    assert (gross.skipped, found.rows, found.skipped) == (14, 74, 28)
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
    """22 of 200 against 38 of 200: pooled share 0.15, SE = sqrt(0.15 * 0.85 * 2 / 200)."""
    effect = import_summary(write(tmp_path, LONG)).effects[0]
    assert (effect.arm, effect.against) == ("new", "control")
    assert effect.contrast.absolute.estimate == pytest.approx(0.08)
    assert effect.contrast.absolute.se == pytest.approx(math.sqrt(0.15 * 0.85 / 100))
    assert effect.contrast.relative.estimate == pytest.approx(0.08 / 0.11)
    assert (effect.sign_test.periods, effect.sign_test.ahead, effect.sign_test.p) == (2, 2, 0.5)


def test_periods_without_outcome_are_skipped_and_counted(tmp_path):
    found = import_summary(write(tmp_path, LONG + "control,d3,,100\nnew,d3,,100\n"))
    assert (found.skipped, found.effects[0].skipped) == (2, 1)
    assert found.to_dict()["notes"] == ["2 of 6 rows have no outcome and were left out."]
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
        ("arm,metric,look,n,mean,variance\nnew,m,1,100,1e300,1\n", "line 2: mean 1e+300 with variance 1 is not possible"),
    ],
)
def test_lines_that_are_cut_too_long_or_beyond_all_numbers_are_named(tmp_path, text, says):
    with pytest.raises(DataError) as caught:
        import_summary(write(tmp_path, text))
    assert says in str(caught.value)


def test_a_period_that_only_one_arm_has_is_said(tmp_path):
    assert import_summary(write(tmp_path, LONG)).notes() == ()
    found = import_summary(write(tmp_path, LONG + "new,d3,50,100\n"))
    assert found.notes() == ("1 period not known of every arm, the first: d3.",)


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
    assert found.notes() == ("1 of 4 rows have no outcome and were left out.", "Ranges before the last look are no ground for a decision.")


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
    with pytest.raises(DataError, match="not readable as a CSV"):
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
