"""The ranker: equal to scikit-learn, blind to the future, explained to the last bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from experiments.errors import ArtefactError, DataError
from experiments.serving.level_shares import levels_of
from experiments.serving.recommender import Catalogue, Context
from experiments.serving.signals import HOUR, Reads, SignalRules, build_signals
from recsys.arms.als import folded
from recsys.arms.ranked import Ranked
from recsys.candidates import candidates
from recsys.explanation import contributions
from recsys.factors import Factors
from recsys.features import FEATURES, GROUPS, compute_features
from recsys.fit_ranked import RankedRecipe, Trainer, flatten
from recsys.interactions import to_reads
from recsys.requests import Site
from recsys.trees import Trees, trees_from_arrays
from tests.recsys import small_site

CATALOGUE = Catalogue(small_site.articles(60, 6.0))
UNTIL = small_site.START + 6 * 24 * HOUR
READS = to_reads(small_site.read_table(CATALOGUE, readers=150, sessions=500, days=6.0), CATALOGUE)
RECIPE = RankedRecipe(requests=200, trees=12, negatives=20)


def fitted(seed: int = 0, missing: float = 0.2) -> tuple[HistGradientBoostingClassifier, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(3_000, len(FEATURES)))
    y = (x[:, 0] + x[:, 3] * x[:, 5] + (x[:, 2] > 0.3)) > 0.5
    x[rng.random(x.shape) < missing] = np.nan
    return HistGradientBoostingClassifier(max_iter=40, max_leaf_nodes=31, early_stopping=False, random_state=0).fit(x, y), x


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_the_walk_equals_scikit_learn_to_1e_9_also_where_values_are_missing(missing: float) -> None:
    model, x = fitted(missing=missing)
    trees = trees_from_arrays(flatten(model).arrays(), len(FEATURES))
    fresh = np.concatenate(
        [x[:500], np.full((1, len(FEATURES)), np.nan), np.full((1, len(FEATURES)), 1e300), np.full((1, len(FEATURES)), -1e300)]
    )
    np.testing.assert_allclose(trees.decision(fresh), model.decision_function(fresh), atol=1e-9, rtol=0)


def test_a_value_on_a_threshold_goes_where_scikit_learn_sends_it() -> None:
    model, x = fitted()
    trees = flatten(model)
    inner = np.flatnonzero(~trees.leaf)
    on = x[np.arange(len(inner)) % len(x)].copy()
    on[np.arange(len(inner)), trees.feature[inner]] = trees.threshold[inner]
    np.testing.assert_allclose(trees.decision(on), model.decision_function(on), atol=1e-9, rtol=0)


def test_rows_are_scored_alike_alone_and_together_also_where_features_are_the_same_in_all_of_them() -> None:
    model, x = fitted()
    trees, rows = flatten(model), x[:150].copy()
    rows[:, ::3] = x[1, ::3]
    rows[:, 1::3] = np.nan
    rows[70, 1] = 0.0
    np.testing.assert_array_equal(trees.decision(rows), np.concatenate([trees.decision(row[None]) for row in rows]))
    np.testing.assert_allclose(trees.decision(rows), model.decision_function(rows), atol=1e-9, rtol=0)


@pytest.mark.parametrize("leaves", [2, 40, 64])
def test_trees_of_few_and_of_many_leaves_are_scored_alike(leaves: int) -> None:
    x = np.random.default_rng(1).normal(size=(3_000, len(FEATURES)))
    model = HistGradientBoostingClassifier(max_iter=3, max_leaf_nodes=leaves, early_stopping=False).fit(x, np.sin(9 * x[:, 0]) > x[:, 1])
    np.testing.assert_allclose(flatten(model).decision(x), model.decision_function(x), atol=1e-9, rtol=0)


def test_trees_of_more_leaves_than_a_word_has_bits_are_refused() -> None:
    x = np.random.default_rng(1).normal(size=(5_000, len(FEATURES)))
    model = HistGradientBoostingClassifier(max_iter=1, max_leaf_nodes=65, early_stopping=False).fit(x, x[:, 0] * x[:, 1] > x[:, 2])
    with pytest.raises(ArtefactError, match="more than 64 leaves"):
        trees_from_arrays(flatten(model).arrays(), len(FEATURES))


def test_missing_values_really_go_both_ways() -> None:
    trees = flatten(fitted()[0])
    inner = ~trees.leaf
    assert 0 < trees.missing_left[inner].mean() < 1


def test_shap_contributions_add_up_to_the_served_score() -> None:
    model, x = fitted()
    trees = flatten(model)
    base, values, error = contributions(trees, x[:200])
    np.testing.assert_allclose(base + values.sum(axis=1), model.decision_function(x[:200]), atol=1e-9)
    assert error < 1e-9


def test_contributions_that_miss_the_served_score_are_not_published() -> None:
    model, x = fitted()
    trees = flatten(model)
    with pytest.raises(ArtefactError, match="miss the served score"):
        contributions(_Lying(**trees.arrays()), x[:50])


class _Lying(Trees):
    """Serves other scores than its arrays say, as a wrong conversion would."""

    def decision(self, features: np.ndarray) -> np.ndarray:
        return Trees.decision(self, features) + 1e-3


def test_damaged_trees_are_refused_before_the_walk_could_run_for_ever() -> None:
    arrays = flatten(fitted()[0]).arrays()
    inner = int(np.flatnonzero(~arrays["leaf"])[0])
    for name, value, says in (("left", inner, "backwards"), ("right", 10**6, "outside"), ("feature", len(FEATURES), "beyond")):
        broken = {**arrays, name: np.where(np.arange(len(arrays[name])) == inner, value, arrays[name])}
        with pytest.raises(ArtefactError, match=says):
            trees_from_arrays(broken, len(FEATURES))
    with pytest.raises(ArtefactError, match="lack value"):
        trees_from_arrays({k: v for k, v in arrays.items() if k != "value"}, len(FEATURES))
    constant = HistGradientBoostingClassifier(max_iter=2).fit(np.zeros((50, len(FEATURES))), np.arange(50) % 2)
    with pytest.raises(ArtefactError, match="constant"):
        trees_from_arrays(flatten(constant).arrays(), len(FEATURES))


def context_at(at: float, reads: Reads, article: int = 40, own: tuple[int, ...] = (30, 35)) -> Context:
    signals = build_signals(reads, CATALOGUE, at=at, rules=SignalRules(co_read_sessions=1))
    pool = np.flatnonzero(CATALOGUE.published <= at).astype(np.int32)
    return Context(at, article, own, signals, pool[pool != article], session_position=1, levels=levels_of("phone", "direct"))


def vectors() -> Factors:
    return Factors(np.random.default_rng(0).normal(size=(len(CATALOGUE), 4)).astype(np.float32), 10.0, 0.1)


def inputs(context: Context) -> np.ndarray:
    union = candidates(context, folded(vectors(), context, 10.0))
    return compute_features(context, union.articles, union.als)


def test_a_later_read_changes_no_feature() -> None:
    at = UNTIL - 24 * HOUR
    before, after = READS.before(at), READS
    assert len(after) > len(before) + 50
    np.testing.assert_array_equal(inputs(context_at(at, before)), inputs(context_at(at, after)))


def test_what_happened_earlier_does_change_features() -> None:
    at = UNTIL - 24 * HOUR
    assert not np.array_equal(inputs(context_at(at, READS)), inputs(context_at(at, READS.before(at - HOUR * 3))), equal_nan=True)


def test_features_can_be_recounted_by_hand() -> None:
    at = UNTIL - 24 * HOUR
    context = context_at(at, READS)
    union = candidates(context, None)
    table = dict(zip(FEATURES, compute_features(context, union.articles, union.als).T, strict=True))
    past = READS.before(at)
    counts = np.bincount(past.article[past.at >= at - HOUR], minlength=len(CATALOGUE))
    np.testing.assert_array_equal(table["pop1"], counts[union.articles])
    np.testing.assert_allclose(table["age"], (at - CATALOGUE.published[union.articles]) / HOUR)
    assert np.isnan(table["als"]).all()
    assert (table["pos"] == 1).all()
    assert table["poprank"].min() == 0
    assert list(FEATURES)[:5] == ["pop05", "pop1", "pop3", "pop24", "pop120"]


def test_pair_features_can_be_recounted_by_hand() -> None:
    context = replace(context_at(UNTIL - 24 * HOUR, READS), session_position=1)
    union = candidates(context, None)
    table = dict(zip(FEATURES, compute_features(context, union.articles, union.als).T, strict=True))
    near = context.signals.near

    def shares(article: int) -> np.ndarray:
        return np.array([dict(zip(*near.of(article), strict=True)).get(one, 0.0) / (near.total[article] + 5.0) for one in union.articles])

    assert table["near"].max() > 0
    np.testing.assert_allclose(table["near"], shares(40))
    np.testing.assert_allclose(table["near_session"], shares(40) + 0.7 * shares(35), rtol=1e-6)  # 30 was read in an earlier session
    np.testing.assert_allclose(table["onward_share1"], context.signals.onward_in[1, union.articles] / context.signals.onward_in[1].sum())
    closed = compute_features(replace(context, article=None), union.articles, union.als)
    assert not closed[:, [list(FEATURES).index(name) for name in GROUPS["near"]]].any()


def test_features_of_device_and_referrer_can_be_recounted_by_hand() -> None:
    at = UNTIL - 24 * HOUR
    context = context_at(at, READS)
    union = candidates(context, None)
    table = dict(zip(FEATURES, compute_features(context, union.articles, union.als).T, strict=True))
    everybody, counts = np.zeros(len(CATALOGUE)), np.zeros(len(CATALOGUE))
    past, counted = READS.before(at), set()
    for now in range(1, len(past)):
        before = np.flatnonzero(past.session[:now] == past.session[now])[-1:]
        who = past.reader[now], past.article[now], past.at[now] // 86_400
        if past.at[now] < at - 6 * HOUR or who in counted:
            continue
        counted.add(who)
        if len(before) and past.article[before[0]] != past.article[now]:
            weight = 0.5 ** ((at - past.at[now]) / HOUR / 1.5)
            everybody[past.article[now]] += weight
            counts[past.article[now]] += weight * (past.levels[before[0], 0] == levels_of("phone", "")[0])
    usual = (everybody / everybody.sum())[union.articles]
    phones = (counts[union.articles] + 30 * usual) / (counts.sum() + 30)
    assert 0 < counts.sum() < everybody.sum()
    np.testing.assert_allclose(table["device_share"], phones, rtol=1e-5)
    np.testing.assert_allclose(table["device_lift"], np.log((phones + 1e-6) / (usual + 1e-6)), atol=1e-5)
    untold = compute_features(replace(context, levels=()), union.articles, union.als)
    np.testing.assert_allclose(untold[:, list(FEATURES).index("referrer_share")], usual, rtol=1e-5)
    assert not untold[:, list(FEATURES).index("device_lift")].any()


def test_candidates_come_from_the_pool_once_and_missing_vectors_stay_missing() -> None:
    context = context_at(UNTIL - 24 * HOUR, READS)
    factors = vectors()
    factors.vectors[::2] = 0.0
    union = candidates(context, folded(factors, context, 10.0))
    assert set(union.articles.tolist()) <= set(context.pool.tolist())
    assert len(set(union.articles.tolist())) == len(union.articles) == len(union.sources)
    assert np.isnan(union.als[union.articles % 2 == 0]).all()
    assert np.isfinite(union.als[union.articles % 2 == 1]).all()
    assert set(union.sources) <= {"co_read", "heat", "als"}


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    return Trainer(READS, Site(CATALOGUE, READS, SignalRules(co_read_sessions=1)), UNTIL, 0, RECIPE)


def test_a_trained_ranker_ranks_from_its_arrays_alone(trainer: Trainer, tmp_path: Path) -> None:
    from experiments.serving.artefacts import read_bundle, write_bundle

    arrays, about = trainer.fit(UNTIL)
    stored = read_bundle(write_bundle(tmp_path / "ranked", arrays, about).path)
    arm, context = Ranked.load(*stored, CATALOGUE), context_at(UNTIL, READS)
    ranking = arm.rank(context)
    union, features = arm.inputs(context)
    assert sorted(ranking.articles.tolist()) == union.articles.tolist()
    assert ranking.scores[0] == pytest.approx(float(arm.trees.decision(features).max()))
    assert len(arm.rank(replace(context, pool=np.zeros(0, np.int32))).articles) == 0


def test_examples_after_the_split_do_not_train_the_model(trainer: Trainer) -> None:
    split = UNTIL - 24 * HOUR
    early = Trainer(READS.before(split), Site(CATALOGUE, READS.before(split), SignalRules(co_read_sessions=1)), UNTIL, 0, RECIPE)
    assert trainer.fit(split)[1]["rows"]["page_views"] < trainer.fit(UNTIL)[1]["rows"]["page_views"]
    np.testing.assert_array_equal(trainer.fit(split)[0]["vectors"], early.fit(split)[0]["vectors"])


def test_the_ablation_leaves_its_features_out(trainer: Trainer) -> None:
    arrays, _ = trainer.fit(UNTIL, trainer.ablations["without_als"])
    used = {list(FEATURES)[i] for i in np.unique(arrays["feature"][~arrays["leaf"]])}
    assert not used & {"als", "als_rank"}


def test_another_list_of_features_and_too_few_page_views_are_refused(trainer: Trainer) -> None:
    arrays, about = trainer.fit(UNTIL)
    with pytest.raises(ArtefactError, match="another list of features"):
        Ranked.load(arrays, {**about, "fingerprint": "old"}, CATALOGUE)
    few = READS.before(small_site.START + 26 * HOUR)
    with pytest.raises(DataError, match="are needed"):
        Trainer(few, Site(CATALOGUE, few), UNTIL, 0, RECIPE)
