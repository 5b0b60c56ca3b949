"""Protocol A: the statistics a person can check, and the figures of the real log."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from experiments.errors import ArmError, DataError
from recsys.comparison import compare, mcnemar, paired, share_range, wilson
from recsys.evaluation import evaluate, next_click_ranks
from recsys.importers import globo
from recsys.importers.table import Layout
from recsys.next_click import Clicks, Hour, clicks, hours
from tests.recsys.test_importers import needs
from web.cli import commands
from web.cli.evaluation_table import show
from web.cli.main import app

H = 3_600_000_000


def log(*rows: tuple[str, str, str, float]) -> Clicks:
    """Clicks of (reader, session, article, hour)."""
    columns = list(zip(*rows, strict=True))
    return clicks(
        pa.table({"reader": columns[0], "session": columns[1], "article": columns[2], "at": np.array([round(t * H) for t in columns[3]])})
    )


TINY = log(
    ("a", "s1", "x", 0.0), ("a", "s1", "y", 0.1), ("b", "s2", "x", 0.2), ("b", "s2", "y", 0.3), ("c", "s3", "z", 0.5), ("c", "s3", "x", 0.6),
    ("d", "s4", "x", 1.1), ("d", "s4", "y", 1.2), ("e", "s5", "z", 1.3),
)  # fmt: skip


def test_queries_are_clicks_with_an_earlier_one_in_the_session() -> None:
    (hour,) = hours(TINY, 1, 2)
    assert hour.queries.tolist() == [7]
    assert hour.candidates.tolist() == [0, 1, 2]
    assert hour.shown.tolist() == [[False, True, True]]  # x was just read
    assert hour.target.tolist() == [1]


def test_co_reads_count_both_directions_and_decay() -> None:
    (hour,) = hours(TINY, 1, 2)
    together, total = hour.co_reads()
    xy = 0.5 ** (0.9 / 8) + 0.5 ** (0.7 / 8)
    xz = 0.5 * 0.5 ** (0.4 / 8)  # z was followed by x; the reverse counts half
    assert together.tolist() == [[0.0, pytest.approx(xy), pytest.approx(xz)]]
    assert total.tolist() == [pytest.approx(xy + xz)]


def test_pairs_made_by_fewer_sessions_than_k_are_not_shown() -> None:
    (hour,) = hours(TINY, 1, 2)
    assert (hour.co_reads(2)[0] > 0).tolist() == [[False, True, False]]
    assert not hour.co_reads(3)[0].any()


def test_heat_halves_with_each_half_life() -> None:
    (hour,) = hours(TINY, 1, 2)
    assert hour.heat(1.0)[1] == pytest.approx(0.5**0.9 + 0.5**0.7)
    assert hour.clicks_in(1.0).tolist() == [3, 2, 1]


def test_clicks_at_or_after_the_hour_change_nothing_that_was_known() -> None:
    cut = log(
        *[(r, s, a, t) for r, s, a, t in [("a", "s1", "x", 0.0), ("a", "s1", "y", 0.1)]], ("d", "s4", "x", 1.1), ("d", "s4", "y", 1.2)
    )
    more = log(
        ("a", "s1", "x", 0.0),
        ("a", "s1", "y", 0.1),
        ("d", "s4", "x", 1.1),
        ("d", "s4", "y", 1.2),
        ("f", "s9", "y", 1.25),
        ("f", "s9", "x", 1.3),
    )
    (before,), (after,) = hours(cut, 1, 2), hours(more, 1, 2)
    assert before.heat(1.0).tolist() == after.heat(1.0).tolist()
    assert before.co_reads()[0][0].tolist() == after.co_reads()[0][0].tolist()


def test_ties_share_their_places_and_targets_outside_are_misses() -> None:
    data = log(
        *[("r", "s", f"a{i}", i / 100) for i in range(5)],
        ("q", "t", "a0", 1.0),
        ("q", "t", "a3", 1.1),
        ("q", "u", "a1", 1.2),
        ("q", "u", "new", 1.3),
    )
    hour = Hour(data, 1, np.array([6, 8]), np.arange(5))
    drawn = hour.ranks(np.array([9.0, 1.0, 1.0, 1.0, 0.0]))  # a1, a2, a3 tie, a0 was read: 0, 1 or 2 by lot
    assert drawn[0] in (0.0, 1.0, 2.0)
    assert drawn[1] == np.inf
    assert drawn.tolist() == Hour(data, 1, np.array([6, 8]), np.arange(5)).ranks(np.array([9.0, 1.0, 1.0, 1.0, 0.0])).tolist()
    assert hour.ranks(np.full(5, -np.inf)).tolist() == [np.inf, np.inf]


@pytest.mark.parametrize(("articles", "rate"), [(17, 10 / 16), (25, 10 / 24)])
def test_a_ranking_that_ties_everything_hits_as_often_as_chance(articles: int, rate: float) -> None:
    """Half the ties stood before every click: of 16 candidates all were hits, of 24 none, whatever the ranking was worth."""
    before = [("r", f"t{i}", f"a{i}", i / 100) for i in range(articles)]
    whole = [i for i in range(1_500) if (2 * i + 1) % articles]
    opened = [(f"r{i}", f"s{i}", f"a{i % articles}", 1.1 + i / 1e4) for i in whole]
    data = log(*before, *opened, *((f"r{i}", f"s{i}", f"a{(3 * i + 1) % articles}", 1.5 + i / 1e4) for i in whole))
    (hour,) = hours(data, 1, 2, queries_per_hour=2_000)
    assert (hour.ranks(np.zeros(articles)) < 10).mean() == pytest.approx(rate, abs=0.05)  # 4 standard errors


def test_arms_are_compared_on_the_same_queries() -> None:
    ranks = {"a": np.array([0.0, 2.0, np.inf, 50.0]), "b": np.array([0.0, 20.0, np.inf, 3.0])}
    told = compare(ranks, np.array([1, 1, 2, 3]))
    assert [row["hit_rate_at_10"] for row in told["arms"]] == [0.5, 0.5]
    assert told["arms"][0]["mrr_at_10"] == pytest.approx((1 + 1 / 3) / 4)
    assert (told["pairs"][0]["wins"], told["pairs"][0]["losses"], told["pairs"][0]["p"]) == (1, 1, 1.0)


def test_the_paired_interval_counts_readers_not_queries() -> None:
    one = np.arange(400) % 4 < 2
    none = np.zeros(400, bool)
    apart = paired("a", "b", hits=(one, none), readers=np.arange(400))
    together = paired("a", "b", hits=(one, none), readers=np.arange(400) // 2)
    assert apart.difference == together.difference == 0.5
    assert together.high - together.low == pytest.approx((apart.high - apart.low) * np.sqrt(2), rel=0.03)


@pytest.mark.parametrize(("won", "readers", "low"), [(1, 1, -1.0), (50, 1, -1.0), (2, 2, -1.0), (5, 5, 0.08), (300, 300, 0.98)])
def test_gaps_that_are_all_alike_are_not_certain(won: int, readers: int, low: float) -> None:
    """One reader, or two, say nothing of others; 300 who agree say much, but not all."""
    found = paired("a", "b", hits=(np.ones(won, bool), np.zeros(won, bool)), readers=np.arange(won) % readers)
    assert found.difference == found.high == 1.0
    assert found.low == pytest.approx(low, abs=0.01)
    same = paired("a", "b", hits=(np.ones(won, bool), np.ones(won, bool)), readers=np.arange(won) % readers)
    assert same.low < same.difference == 0.0 < same.high


def test_ranges_hold_the_truth_when_a_few_readers_ask_often() -> None:
    """Readers differ, a few of them ask up to 60 times; as independent page views the share's range would hold it in 57 of 100 logs."""
    rng, held = np.random.default_rng(1), np.zeros(2)
    for _ in range(300):
        readers = np.repeat(np.arange(100), np.minimum(rng.zipf(1.7, 100), 60))
        keen = rng.beta(2, 2, 100)[readers]  # mean 0.5
        first, second = rng.random(len(readers)) < keen, rng.random(len(readers)) < keen
        low, high = share_range(first, readers)
        gap = paired("a", "b", hits=(first, second), readers=readers)
        held += [low <= 0.5 <= high, gap.low <= 0.0 <= gap.high]
    assert (held / 300 > 0.9).all()


def test_a_share_of_one_reader_or_of_hits_alone_is_worth_as_many_page_views_as_there_are_readers() -> None:
    assert share_range(np.ones(50, bool), np.zeros(50, np.int64)) == pytest.approx(wilson(1.0, 1))
    assert share_range(np.zeros(60, bool), np.arange(60) % 20) == pytest.approx(wilson(0.0, 20))
    alike = np.arange(60) % 20 < 10  # the three page views of each reader agree
    assert share_range(alike, np.arange(60) % 20) == pytest.approx(wilson(0.5, 20 * 19 / 20))


def test_intervals_agree_with_statsmodels() -> None:
    from statsmodels.stats.contingency_tables import mcnemar as reference
    from statsmodels.stats.proportion import proportion_confint

    assert wilson(17 / 90, 90) == pytest.approx(proportion_confint(17, 90, method="wilson"))
    assert mcnemar(12, 25) == pytest.approx(reference([[0, 12], [25, 0]], exact=True).pvalue)


def test_unknown_rankings_protocols_and_empty_spans_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArmError, match="did you mean 'newest'"):
        next_click_ranks(TINY, ["newst"], span=(1, 2))
    with pytest.raises(DataError, match="the log ends at hour 1"):
        next_click_ranks(TINY, ["newest"], span=(5, 6))
    with pytest.raises(DataError, match="no protocol"):
        evaluate(tmp_path, protocol="random")


def test_a_table_is_evaluated_in_the_unit_that_was_declared_and_says_what_was_left_out(tmp_path: Path) -> None:
    """Forty readers open two articles a day for three days; every row stands there twice, and a clock was set far ahead once."""
    starts = [1_700_000_000 + day * 86_400 + 60 * reader for day in range(3) for reader in range(40)]
    rows = [f"r{n % 40},a{(n + step) % 7},{at + step}" for n, at in enumerate(starts) for step in (0, 1)]
    file = tmp_path / "log.csv"
    file.write_text("\n".join(["reader_id,article_id,ts", *rows, *rows, "r0,a0,9999999999"]) + "\n")
    commands.install()
    options = ["--arms", "newest,heat", "--from", "24", "--to", "1e15"]
    assert "Give --unit" in str(CliRunner().invoke(app, ["evaluate", str(file), *options]).exception)
    shown = CliRunner().invoke(app, ["evaluate", str(file), *options, "--unit", "s"])
    assert shown.exit_code == 0, shown.output
    assert "241 of 481 rows of the log could not be used: 240 times the row repeats an earlier one; 1 times the time" in shown.output
    told = evaluate(file, arms=["heat"], since=24, until=1e15, layout=Layout(unit="s"))
    assert (told["queries"], told["read"], told["kept"], sum(told["refused"].values())) == (80, 481, 240, 241)
    assert (told["from"], told["to"]) == (24, 49)  # not the hours that were asked for: the log ends in hour 48
    told = evaluate(file, arms=["heat"], since=-5, until=25, layout=Layout(unit="s"))
    assert (told["from"], told["to"]) == (0, 25)


def test_a_log_of_which_no_row_can_be_used_says_why(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("reader_id,article_id,ts\n,a,2026-01-01T00:00:00Z\nr,a,soon\n")
    with pytest.raises(DataError, match="none of its 2 rows can be used") as caught:
        evaluate(tmp_path / "log.csv")
    assert set(caught.value.faults) == {"1 times the reader is missing", "1 times the time is missing or not readable"}


@pytest.mark.parametrize("hour", [float("nan"), float("inf")])
@pytest.mark.parametrize("protocol", ["next-click", "ranker", "weekly"])
def test_an_hour_that_is_no_number_is_refused(tmp_path: Path, protocol: str, hour: float) -> None:
    with pytest.raises(DataError, match="are hours counted from the first click"):
        evaluate(tmp_path, protocol=protocol, since=hour)


def test_one_reader_is_shown_to_say_nothing_of_others_whatever_p_is(capsys: pytest.CaptureFixture[str]) -> None:
    told = compare({"a": np.zeros(50), "b": np.full(50, np.inf)}, np.zeros(50, np.int64))
    for row in told["arms"]:
        row["seconds"] = 0.0
    head = {"protocol": "next-click", "split": "time", "from": 0, "to": 1, "queries": 50, "read": 50, "refused": {}, "notes": []}
    show(head | told)
    assert "-1.000 to +1.000" in capsys.readouterr().out


@pytest.mark.long
def test_on_the_real_log_the_heuristic_beats_plain_als_and_heat_its_documented_figures() -> None:
    data = clicks(globo.parse(needs("globo/globo_clicks_h000_191.parquet")).table)
    ranks, readers, _ = next_click_ranks(data, ["newest", "heat", "last_hour", "co_read_heat", "als"], span=(126, 130))
    rates = {row["arm"]: row["hit_rate_at_10"] for row in compare(ranks, readers)["arms"]}
    gap = paired("co_read_heat", "als", hits=(ranks["co_read_heat"] < 10, ranks["als"] < 10), readers=readers)
    assert len(readers) == 1_000
    assert gap.low > 0.15
    assert gap.p < 1e-12
    assert rates["newest"] < 0.02 < rates["als"] < rates["heat"] < rates["co_read_heat"]


@pytest.mark.slow
def test_the_real_log_gives_the_documented_figures() -> None:
    told = evaluate(needs("globo/globo_clicks_h000_191.parquet"), arms=["newest", "heat", "last_hour", "co_read", "co_read_heat", "als"])
    rates = {row["arm"]: row["hit_rate_at_10"] for row in told["arms"]}
    expected = {"newest": 0.001, "heat": 0.401, "last_hour": 0.412, "co_read": 0.494, "co_read_heat": 0.505, "co_read_heat_k10": 0.483}
    assert told["queries"] == 12_000
    assert told["ceiling"] == pytest.approx(0.970, abs=0.002)
    assert {name: rates[name] for name in expected} == pytest.approx(expected, abs=0.002)
    assert rates["als"] == pytest.approx(0.180, abs=0.01)
