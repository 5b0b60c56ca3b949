"""Protocol B: a log whose answer a person can see, no knowledge of the future, and the figures of the real log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.errors import ArmError, DataError
from recsys.evaluation import evaluate
from recsys.features import FEATURES
from recsys.fit_als import AlsRecipe
from recsys.fit_ranked import RankedRecipe
from recsys.importers.log import Layout, LogFile
from recsys.ranker_protocol import TRAIN_H, World, asked, ranker_ranks, world
from tests.recsys.test_importers import needs

HOUR_US = 3_600_000_000
HOURS, PAIRS, SESSIONS = TRAIN_H + 4, 20, 8
SMALL = RankedRecipe(trees=10, learning_rate=0.3, als=AlsRecipe(factors=4, iterations=2))
FIRST_HOUR = 490_000  # of the epoch


def pairs_log(path: Path, extra: list[tuple[str, str, str, float]] | None = None) -> Path:
    """Readers open one of twenty even articles and then always its odd neighbour; every article is read equally often."""
    rng = np.random.default_rng(0)
    rows = list(extra or [])
    for hour in range(HOURS):
        for number in range(SESSIONS):
            even, at = 2 * int(rng.integers(PAIRS)), hour + number / SESSIONS
            rows += [(f"r{number}", f"{hour}/{number}", f"a{even}", at), (f"r{number}", f"{hour}/{number}", f"a{even + 1}", at + 0.01)]
    reader, session, article, at = zip(*sorted(rows, key=lambda row: row[3]), strict=True)
    columns = {
        "user_id": reader,
        "session_id": session,
        "click_article_id": article,
        "click_timestamp": [round((FIRST_HOUR + t) * HOUR_US) // 1_000 for t in at],
        "click_deviceGroup": [1 + ord(one[-1]) % 2 for one in reader],
        "click_referrer_type": [1 + ord(one[-1]) % 3 for one in session],
    }
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> World:
    return replace(world(LogFile(pairs_log(tmp_path_factory.mktemp("log") / "pairs.parquet"), Layout())), recipe=SMALL)


def test_the_ranker_learns_what_readers_open_next_and_needs_co_reads_for_it(pairs: World) -> None:
    arms = ["ranked", "ranked_without_co_read", "co_read_heat", "last_hour"]
    ranks, readers, seconds = ranker_ranks(pairs, arms, span=(TRAIN_H + 1, HOURS))
    first = {name: float((values == 0).mean()) for name, values in ranks.items()}
    assert len(readers) == 3 * SESSIONS
    assert first["ranked"] == first["co_read_heat"] == 1.0
    assert first["last_hour"] < 0.3
    assert first["ranked_without_co_read"] < 0.9
    assert seconds["ranked"] > seconds["last_hour"] > 0


def test_what_others_read_after_the_full_hour_changes_nothing(pairs: World, tmp_path: Path) -> None:
    later = [("z", "z", "a0", TRAIN_H + 1.001), ("z", "z", "a3", TRAIN_H + 1.002), ("y", "y", "a0", TRAIN_H + 1.5)]
    more = replace(world(LogFile(pairs_log(tmp_path / "more.parquet", later), Layout())), recipe=SMALL)
    readers = {pairs.log.reader[one] for one in range(len(pairs.log.reader))}
    before = list(asked(pairs, TRAIN_H + 1, TRAIN_H + 2))
    after = [one for one in asked(more, TRAIN_H + 1, TRAIN_H + 2) if one.reader in readers and one.context.article != 0]
    known = [one for one in before if one.context.article != 0]
    assert len(known) == len(after) > 5
    for one, other in zip(known, after, strict=True):
        np.testing.assert_array_equal(one.features, other.features)
        assert (one.union.articles.tolist(), one.place) == (other.union.articles.tolist(), other.place)


@pytest.mark.parametrize("minutes", [60, 15, 10])
def test_signals_are_as_old_as_the_site_refreshes_them_and_see_no_read_at_or_after_that_moment(tmp_path: Path, minutes: int) -> None:
    on_the_grid = [("b", "b", "a0", TRAIN_H + 1.49), ("b", "b", "a7", TRAIN_H + 1.5)]
    new = [("n", f"n{hundredth}", f"n{hundredth}", TRAIN_H + 1 + hundredth / 100) for hundredth in range(100)]
    site = replace(
        world(LogFile(pairs_log(tmp_path / "pairs.parquet", on_the_grid + new), Layout())), recipe=SMALL, signals_minutes=minutes
    )
    found = list(asked(site, TRAIN_H + 1, TRAIN_H + 2))
    last = max(one.reader for one in found)
    opened = {number: (number / SESSIONS + 0.01) * 60 for number in range(SESSIONS)} | {last: 30}
    age = {one.reader: opened[one.reader] - (one.context.at - site.started - (TRAIN_H + 1) * 3_600) / 60 for one in found}
    assert age == pytest.approx({reader: at % minutes for reader, at in opened.items()})
    for moment in sorted({one.context.at for one in found}):
        unknown = site.reads.at >= moment
        others = {name: np.where(unknown, 0, getattr(site.reads, name)) for name in ("reader", "session", "article")}
        known = [one for one in found if one.context.at == moment]
        seen = set(site.log.article[~unknown].tolist())
        again = asked(replace(site, reads=replace(site.reads, **others)), TRAIN_H + 1, TRAIN_H + 2)
        for one, other in zip(known, [one for one in again if one.context.at == moment], strict=True):
            np.testing.assert_array_equal(one.features, other.features)
            assert one.union.articles.tolist() == other.union.articles.tolist()
            assert set(one.context.pool.tolist()) <= seen


def test_with_fresh_signals_a_rule_knows_what_came_up_within_the_hour(tmp_path: Path) -> None:
    """Article n0 first appears five minutes after the full hour; whoever opens it after a quarter of an hour finds it on top."""
    new = [(f"f{n}", f"f{n}", "n0", TRAIN_H + 1.08 + n / 10_000) for n in range(5)]
    late = [("l", "l", "a0", TRAIN_H + 1.4), ("l", "l", "n0", TRAIN_H + 1.41)]
    site = replace(world(LogFile(pairs_log(tmp_path / "pairs.parquet", [*new, *late]), Layout())), recipe=SMALL)
    last = int(site.log.reader.max())
    places = {}
    for minutes in (60, 15):
        ranks, readers, _ = ranker_ranks(replace(site, signals_minutes=minutes), ["last_hour"], span=(TRAIN_H + 1, TRAIN_H + 2))
        places[minutes] = float(ranks["last_hour"][readers == last][0])
    assert places == {60: np.inf, 15: 0.0}


@pytest.mark.parametrize("minutes", [0, 7, 61, 120])
def test_signals_that_do_not_meet_the_full_hour_are_refused(tmp_path: Path, minutes: int) -> None:
    with pytest.raises(DataError, match="do not meet the full hour"):
        evaluate(pairs_log(tmp_path / "pairs.parquet"), protocol="ranker", arms=["newest"], signals_minutes=minutes)


def test_other_protocols_have_no_minutes_between_signals(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'next-click' knows no minutes"):
        evaluate(tmp_path, protocol="next-click", signals_minutes=10)


def test_a_click_outside_the_candidates_is_a_miss_for_every_arm_and_ties_share_their_places(pairs: World) -> None:
    one = next(asked(pairs, TRAIN_H, TRAIN_H + 1))
    assert one.place is not None
    scores = np.zeros(len(one.union.articles))
    assert one.rank(scores) == (len(scores) - 1) / 2
    scores[one.place] = -np.inf
    assert one.rank(scores) == np.inf
    assert type(one)(one.reader, one.context, one.union, one.features, None).rank(scores) == np.inf


def test_the_session_and_the_articles_it_read_are_left_out_of_the_candidates(pairs: World) -> None:
    for one in asked(pairs, TRAIN_H, TRAIN_H + 1):
        assert one.context.article not in one.union.articles
        assert one.context.session_position == 0
        assert len(one.context.levels) == 2
        assert all(one.context.levels)
        assert one.features.shape == (len(one.union.articles), len(FEATURES))


def test_evaluate_speaks_protocol_b_with_registered_rules_beside_the_rankings(tmp_path: Path) -> None:
    log = pairs_log(tmp_path / "pairs.parquet")
    told = evaluate(log, protocol="ranker", arms=["front", "co_read_heat", "newest"], since=TRAIN_H + 1, until=TRAIN_H + 2)
    assert (told["protocol"], told["from"], told["to"], told["queries"]) == ("ranker", TRAIN_H + 1, TRAIN_H + 2, SESSIONS)
    assert [row["arm"] for row in told["arms"]] == ["front", "co_read_heat", "newest"]
    assert {"hit_rate_at_10", "mrr_at_10", "low", "high", "seconds"} <= set(told["arms"][0])
    assert told["arms"][0]["mrr_at_10"] == told["arms"][1]["mrr_at_10"] == 1.0
    assert {"a", "b", "wins", "losses", "p"} <= set(told["pairs"][0])


def test_unknown_arms_and_logs_too_short_to_learn_from_are_refused(pairs: World) -> None:
    with pytest.raises(ArmError, match="did you mean 'ranked'"):
        ranker_ranks(pairs, ["rankd"], span=(TRAIN_H, HOURS))
    with pytest.raises(DataError, match="can be learned from"):
        ranker_ranks(pairs, ["ranked"], span=(1, 2))
    with pytest.raises(DataError, match="has an earlier one"):
        ranker_ranks(pairs, ["newest"], span=(900, 901))


@pytest.mark.slow
def test_the_real_log_gives_the_documented_figures() -> None:
    told = evaluate(needs("globo/globo_clicks_h000_191.parquet"), protocol="ranker")
    rates = {row["arm"]: row["hit_rate_at_10"] for row in told["arms"]}
    assert told["queries"] == 5_750
    against = next(pair for pair in told["pairs"] if (pair["a"], pair["b"]) == ("ranked", "co_read_heat"))
    assert rates["ranked"] == pytest.approx(0.527, abs=0.006)
    assert against["p"] < 1e-24
    assert against["wins"] > 2 * against["losses"]
    expected = {"co_read_last_hour": 0.475, "co_read_heat": 0.472, "last_hour": 0.418}
    assert {name: rates[name] for name in expected} == pytest.approx(expected, abs=0.002)
    assert rates["als"] == pytest.approx(0.143, abs=0.012)
    assert rates["ranked_without_context"] == pytest.approx(0.519, abs=0.006)
    assert rates["ranked_without_recent"] == pytest.approx(0.503, abs=0.01)  # the reference ranker's features


@pytest.mark.slow
def test_on_the_real_log_rules_find_more_with_signals_of_ten_minutes() -> None:
    log, rates = needs("globo/globo_clicks_h000_191.parquet"), {}
    for minutes in (60, 10):
        told = evaluate(log, protocol="ranker", arms=["co_read_heat", "heat"], since=150, until=152, signals_minutes=minutes)
        assert (told["queries"], told["signals_minutes"]) == (500, minutes)
        rates |= {(row["arm"], minutes): row["hit_rate_at_10"] for row in told["arms"]}
    expected = {("co_read_heat", 60): 0.510, ("co_read_heat", 10): 0.568, ("heat", 60): 0.398, ("heat", 10): 0.446}
    assert rates == pytest.approx(expected, abs=0.003)
