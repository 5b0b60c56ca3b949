"""Protocol D: the split, what models may see, and the published figures, which come with a warning."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_matrix
from typer.testing import CliRunner

from experiments.errors import ArmError, DataError
from recsys import collaborative
from recsys.evaluation import evaluate
from recsys.published import Split, published_ranks, split_of
from recsys.published_rankings import RANKINGS, Training, closeness, published_rankings
from tests.recsys.test_importers import needs
from web.cli import commands
from web.cli.main import app

TASTES = np.arange(240).reshape(2, 120)  # even readers read the first 120 articles, odd ones the others


def table(readers: int = 40, reads: int = 20) -> Any:
    rng = np.random.default_rng(1)
    rows = [
        (reader, article, weight)
        for reader in range(readers)
        for article in rng.choice(TASTES[reader % 2], reads, replace=False)
        for weight in (1.0, 2.0)
    ]
    reader, article, weight = (np.array(column) for column in zip(*rows, strict=True))
    return pa.table(
        {"reader": reader.astype(str), "article": article.astype(str), "at": np.arange(len(rows)) * 1_000_000, "weight": weight}
    )


@pytest.fixture(scope="module")
def split() -> Split:
    return split_of(table())


def test_a_fifth_of_every_readers_articles_is_hidden(split: Split) -> None:
    assert np.bincount(split.reader).tolist() == [4] * 40
    assert np.bincount(split.training.reader).tolist() == [16] * 40
    hidden, seen = (set(zip(part.reader.tolist(), part.article.tolist(), strict=True)) for part in (split, split.training))
    assert not hidden & seen
    assert set(split.training.strength) == {2.0}  # log2(1 + 1 + 2)


def test_readers_of_fewer_than_five_articles_are_left_out() -> None:
    four = pa.table({"reader": ["900"] * 4, "article": ["1", "2", "3", "4"], "at": np.arange(4), "weight": np.ones(4)})
    assert split_of(pa.concat_tables([table(), four])).never.shape[0] == 40


def test_ids_are_ordered_as_numbers_when_they_are_numbers() -> None:
    numbers = table()
    texts = numbers.set_column(0, "reader", pa.array([f"r{int(i):04}" for i in numbers["reader"].to_pylist()]))
    one, other = split_of(numbers), split_of(texts)
    assert np.array_equal(one.article, other.article)


def test_models_see_nothing_of_the_hidden_pairs(split: Split) -> None:
    for name, model in published_rankings([n for n in RANKINGS if n != "svd"]).items():
        moved = replace(split, article=split.article[::-1].copy())
        assert np.array_equal(model(split.training), model(moved.training)), name
    assert (
        not csr_matrix((np.ones(len(split.reader)), (split.reader, split.article)), split.never.shape).multiply(split.training.matrix).nnz
    )


def test_an_article_is_ranked_beside_a_hundred_that_the_reader_never_opened(split: Split) -> None:
    models = {
        "opened": lambda data: (~split.never).astype(float),
        "never": lambda data: split.never.astype(float),
        "same": lambda data: np.zeros(split.never.shape),
    }
    ranks, asked, _ = published_ranks(split, models)
    assert {name: set(values) for name, values in ranks.items()} == {"opened": {0.0}, "never": {100.0}, "same": {50.0}}
    assert len(asked.reader) == 160


@pytest.mark.long
def test_models_find_the_readers_taste_and_popularity_does_not(split: Split) -> None:
    ranks, _, _ = published_ranks(split, published_rankings(RANKINGS))
    mean = {name: float(values.mean()) for name, values in ranks.items()}
    assert mean["popularity"] > 40
    assert all(mean[name] < mean["popularity"] - 5 for name in RANKINGS[1:]), mean


def test_bm25_is_implicits(split: Split) -> None:
    from implicit.nearest_neighbours import BM25Recommender

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # kNN models warn at every fit
        theirs = BM25Recommender(K=500, num_threads=1)
        theirs.fit(split.training.matrix, show_progress=False)
    ours = collaborative.bm25(split.training.matrix, neighbours=500)
    assert ours == pytest.approx((split.training.matrix @ theirs.similarity).toarray())


def test_the_walk_goes_over_readers_in_common_and_damps_articles_that_everybody_reads() -> None:
    read = csr_matrix(np.array([[1.0, 1, 0], [0, 1, 1]]))
    plain = collaborative.rp3beta(read, alpha=1.0, beta=0.0)
    assert plain[0].tolist() == [0.25, 0.5, 0.25]  # from article 0 to 1: 1 x 1/2; from 1 to 0 and to 2: 1/2 x 1/2 each
    damped = collaborative.rp3beta(read, alpha=1.0, beta=1.0)
    assert damped[0].tolist() == [0.25, 0.25, 0.25]


def test_what_needs_a_moment_is_refused_and_so_are_hours_and_small_logs(tmp_path: Path) -> None:
    with pytest.raises(ArmError, match="ranks as of a moment"):
        published_rankings(["heat"])
    with pytest.raises(ArmError, match="did you mean 'als'"):
        published_rankings(["alz"])
    with pytest.raises(DataError, match="has no hours"):
        evaluate(tmp_path, protocol="published", since=3)
    with pytest.raises(DataError, match="no reader of this log has 5 articles"):
        split_of(table(reads=4))
    with pytest.raises(DataError, match="101 must be left"):
        split_of(table(readers=2, reads=20))


def test_a_random_split_warns_in_the_table_and_in_json(tmp_path: Path) -> None:
    commands.install()
    log = tmp_path / "log.csv"
    rows = table().to_pydict()
    lines = [f"{1_500_000_000 + n},VIEW,{a},{r},1" for n, (r, a) in enumerate(zip(rows["reader"], rows["article"], strict=True))]
    log.write_text("\n".join(["timestamp,eventType,contentId,personId,sessionId", *lines]) + "\n")
    told = evaluate(log, protocol="published", arms=["popularity", "bm25"])
    assert told["split"] == "random"
    assert "order of rankings reverses" in told["warning"]
    assert {"recall_at_10", "ndcg_at_10", "mrr_at_10", "low", "high", "seconds"} <= set(told["arms"][0])
    shown = CliRunner().invoke(app, ["evaluate", str(log), "--protocol", "published", "--arms", "popularity,bm25"])
    assert shown.exit_code == 0, shown.output
    assert shown.output.startswith("WARNING, random split")


@pytest.mark.long
def test_on_the_real_log_the_published_order_comes_back() -> None:
    told = evaluate(needs("deskdrop"), protocol="published", arms=["popularity", "svd", "als", "bm25", "blend"])
    recall = {row["arm"]: row["recall_at_10"] for row in told["arms"]}
    assert (told["readers"], told["pairs_seen"], told["queries"]) == (1_140, 31_284, 7_822)
    assert recall["popularity"] == pytest.approx(0.366, abs=0.002)
    documented = {"svd": 0.476, "als": 0.536, "bm25": 0.560, "blend": 0.569}
    assert {name: recall[name] for name in documented} == pytest.approx(documented, abs=0.01)


def test_the_tuned_blend_names_its_parts_and_can_leave_one_out(split: Split) -> None:
    whole, bare = (model(split.training) for model in published_rankings(["tuned", "tuned-closeness"]).values())
    assert not np.allclose(whole, bare)
    with pytest.raises(ArmError, match="no ranking is called 'tuned-luck'"):
        published_rankings(["tuned-luck"])


def test_closeness_likes_articles_read_on_days_the_reader_was_active() -> None:
    # reader 0 was active on days 0 and 30; article 1 was read by another on day 1, article 2 on day 15
    data = Training(np.array([0, 0, 1, 1]), np.array([0, 3, 1, 2]), np.ones(4), np.array([0.2, 30.0, 1.4, 15.0]), (2, 4))
    scores = closeness(data)
    assert scores[0, 1] > scores[0, 2] + 3


@pytest.mark.long
def test_on_the_real_log_the_tuned_blend_passes_058_with_and_without_times() -> None:
    told = evaluate(needs("deskdrop"), protocol="published", arms=["blend", "tuned", "tuned-closeness"])
    recall = {row["arm"]: row["recall_at_10"] for row in told["arms"]}
    assert recall["tuned"] == pytest.approx(0.621, abs=0.005)
    assert recall["tuned-closeness"] == pytest.approx(0.610, abs=0.005)
    assert told["pairs"][0]["high"] < -0.04
