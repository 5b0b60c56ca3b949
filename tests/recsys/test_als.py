"""ALS: finds what is there, equals implicit, explains itself exactly, and survives implicit's traps."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from experiments.errors import ArtefactError, DataError
from experiments.serving.artefacts import read_bundle, write_bundle
from experiments.serving.recommender import Catalogue, Context
from experiments.serving.signals import HOUR, Reads, Signals
from recsys import fit_als
from recsys.arms.als import Als
from recsys.fit_als import AlsRecipe, article_vectors
from recsys.interactions import Interactions
from recsys.requests import Site
from tests.recsys import small_site

N = 40
RECIPE = AlsRecipe(factors=8, regularization=0.1, iterations=8)
CATALOGUE = Catalogue(small_site.articles(N, 10.0))
UNTIL = small_site.START + 11 * 24 * HOUR


def checkerboard(withheld: tuple[int, int] = (0, 2)) -> Reads:
    """Even readers read every even article, odd readers every odd one; articles 38 and 39 nobody; one pair is withheld."""
    pairs = [(r, a) for r in range(30) for a in range(N - 2) if r % 2 == a % 2 and (r, a) != withheld]
    readers, articles = (np.array(column) for column in zip(*pairs, strict=True))
    at = UNTIL - HOUR + np.arange(len(pairs)) * 1e-3
    return Reads(readers.astype(np.int64), readers.astype(np.int64), articles.astype(np.int32), at)


def trained(reads: Reads | None = None, **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    recipe = replace(RECIPE, half_life_h=1e6, window_h=24, **changes)
    return fit_als.fit(checkerboard() if reads is None else reads, CATALOGUE, until=UNTIL, seed=3, recipe=recipe)


def arm() -> Als:
    return Als.load(*trained(), CATALOGUE)


def asked(*reads: int, pool: list[int] | None = None, article: int | None = None) -> Context:
    where = np.arange(N, dtype=np.int32) if pool is None else np.array(pool, np.int32)
    return Context(UNTIL, article, reads, Signals.empty(CATALOGUE, UNTIL), where)


def test_even_readers_are_shown_the_withheld_even_article() -> None:
    ranking = arm().rank(asked(*range(4, N - 2, 2)))
    assert 2 in ranking.articles[: N // 2].tolist()
    assert all(a % 2 == 0 for a in ranking.articles[:17].tolist())
    assert set(ranking.sources) == {"als"}


def matrix_of(context: Context, recent_reads: float) -> csr_matrix:
    weights = 0.5 ** (np.arange(len(context.reads))[::-1] / recent_reads)
    return csr_matrix((weights.astype(np.float32), ([0] * len(weights), context.reads)), shape=(1, N))


def reference(model_arm: Als) -> AlternatingLeastSquares:
    """implicit's own model with the arm's vectors."""
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(factors=8, regularization=0.1, alpha=10.0, random_state=0, num_threads=1)
    model.item_factors = model_arm.factors.vectors
    return model


@pytest.mark.parametrize("reads", [(4, 6, 8), (1, 7, 9, 30, 2), (5,)])
def test_fold_in_equals_implicits_own_to_1e_5(reads: tuple[int, ...]) -> None:
    model_arm, context = arm(), asked(*reads)
    expected = reference(model_arm).recalculate_user(0, matrix_of(context, model_arm.recent_reads))
    folded = model_arm.factors.fold_in(reads, 0.5 ** (np.arange(len(reads))[::-1] / model_arm.recent_reads))
    assert folded is not None
    np.testing.assert_allclose(folded.vector, expected, atol=1e-5)  # also: alpha is applied once


def test_explanations_add_up_to_the_served_score_and_equal_implicits() -> None:
    model_arm, context = arm(), asked(1, 7, 9, 30, 2)
    ranking = model_arm.rank(context)
    for article, score in zip(ranking.articles.tolist(), ranking.scores.tolist(), strict=True):
        parts = model_arm.explain(context, article)
        assert sum(value for _, value in parts) == pytest.approx(score, abs=1e-6)
        assert [value for _, value in parts] == sorted((value for _, value in parts), reverse=True)
    total, contributions, _ = reference(model_arm).explain(0, matrix_of(context, model_arm.recent_reads), 4, N=N)
    mine = dict(model_arm.explain(context, 4))
    assert sum(mine.values()) == pytest.approx(total, abs=1e-5)
    assert mine == pytest.approx({int(a): float(v) for a, v in contributions}, abs=1e-5)


def test_the_open_article_counts_as_the_latest_read() -> None:
    model_arm = arm()
    open_one, read_one = model_arm.rank(asked(6, article=4)), model_arm.rank(asked(6, 4))
    assert open_one.articles.tolist() == read_one.articles.tolist()
    assert open_one.scores.tolist() == read_one.scores.tolist()


def test_trap_empty_row_no_read_gives_no_ranking_instead_of_arbitrary_articles() -> None:
    assert len(arm().rank(asked()).articles) == 0
    assert arm().explain(asked(), 4) == []


def test_trap_unread_articles_have_no_vector_and_are_never_ranked() -> None:
    ranking = arm().rank(asked(4, 6))
    assert not {N - 2, N - 1} & set(ranking.articles.tolist())
    assert len(arm().rank(asked(N - 1)).articles) == 0
    assert arm().explain(asked(4), N - 1) == []


def test_trap_unknown_rows_outside_the_model_are_dropped_not_read_from_memory() -> None:
    model_arm = arm()
    assert model_arm.rank(asked(4, 6, 10**6)).articles.tolist() == model_arm.rank(asked(10**6, 4, 6)).articles.tolist()
    assert len(model_arm.rank(asked(10**6)).articles) == 0
    assert model_arm.explain(asked(4), 10**6) == []


def test_trap_a_short_pool_returns_only_its_articles_with_finite_scores() -> None:
    ranking = arm().rank(asked(4, pool=[6, N - 1]))
    assert ranking.articles.tolist() == [6]
    assert np.isfinite(ranking.scores).all()
    assert len(arm().rank(asked(4, pool=[])).articles) == 0


def test_trap_repeated_candidates_come_back_once_and_no_input_is_changed() -> None:
    context = asked(4, 6, pool=[8, 8, 2, 10])
    before = context.pool.copy()
    model_arm = arm()
    vectors = model_arm.factors.vectors.copy()
    first, second = model_arm.rank(context), model_arm.rank(context)
    assert sorted(first.articles.tolist()) == [2, 8, 10]
    assert first.scores.tolist() == second.scores.tolist()  # implicit zeroes entries of the row in place
    assert (context.pool == before).all()
    assert (model_arm.factors.vectors == vectors).all()


def test_trap_one_seed_gives_the_same_bits_with_one_and_two_threads() -> None:
    one, again, two, other = (trained(threads=n)[0]["vectors"] for n in (1, 1, 2, 1))
    assert (one == again).all()
    assert (one == two).all()
    assert (one == other).all()
    assert fit_als.fit(checkerboard(), CATALOGUE, until=UNTIL, seed=4, recipe=RECIPE)[0]["vectors"].tolist() != one.tolist()


def test_trap_any_sparse_layout_is_accepted_and_an_empty_one_is_refused() -> None:
    dense = np.kron(np.eye(2), np.ones((5, 4)))
    layouts = [csr_matrix(dense).tocoo(), csr_matrix(dense), csr_matrix(dense).tocsc()]
    vectors = [article_vectors(Interactions(layout, np.arange(10), 0.0), RECIPE, seed=1) for layout in layouts]
    assert all((v == vectors[0]).all() for v in vectors)
    with pytest.raises(DataError, match="no reads to learn from") as refused:
        article_vectors(Interactions(csr_matrix((3, 4)), np.arange(3), 0.0), RECIPE, seed=1)
    assert refused.value.hint == "Train later, or import a log."  # there is no option for the window


def test_trap_every_fit_is_of_a_fresh_model_with_a_seed_and_a_stated_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refitting one object starts from its old vectors; no seed and no thread are implicit's defaults for "any" and "all"."""
    made: list[AlternatingLeastSquares] = []

    class Seen(AlternatingLeastSquares):
        def fit(self, *arguments: Any, **named: Any) -> Any:
            assert all(self is not other for other in made)
            made.append(self)
            return super().fit(*arguments, **named)

    monkeypatch.setattr("implicit.cpu.als.AlternatingLeastSquares", Seen)
    trained(threads=2)
    trained()
    assert [model.num_threads for model in made] == [2, 1]
    assert [model.random_state for model in made] == [3, 3]


def test_trap_alpha_is_left_to_the_fit_and_never_multiplied_in_before() -> None:
    matrix = csr_matrix(np.kron(np.eye(2), np.ones((5, 4))).astype(np.float32))
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(factors=8, regularization=0.1, alpha=10.0, iterations=8, random_state=1, num_threads=1)
        model.fit(matrix, show_progress=False)
    assert (article_vectors(Interactions(matrix, np.arange(10), 0.0), RECIPE, seed=1) == model.item_factors).all()


@pytest.mark.parametrize(
    "call",
    [
        "partial_fit_items",  # leaves zero rows beyond the end and clears YtY
        "recalculate_item",
        "implicit.als",  # a function that picks a class; it has no load, and save writes reader vectors
        "implicit.bpr",  # has no fold-in
        ".recommend(",  # of many readers never returns in a forked child; changes the row it is given
    ],
)
def test_trap_calls_of_implicit_that_end_badly_are_not_made(call: str) -> None:
    root = Path(fit_als.__file__).parents[1]
    assert not [path for folder in ("recsys", "web", "experiments") for path in (root / folder).rglob("*.py") if call in path.read_text()]


def test_trap_web_workers_are_forked_before_anything_is_loaded_and_use_one_thread() -> None:
    from experiments.settings import Settings
    from web.serve import NUMERIC_THREADS, server_options

    assert server_options(Settings())["preload_app"] is False
    assert {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"} <= set(NUMERIC_THREADS)


def test_trap_models_are_trained_in_processes_of_their_own() -> None:
    from experiments.settings import Settings
    from web.jobs import timetable

    commands = {job.name: job.command for job in timetable(Settings())}
    assert all(commands[name][0] == "recsys.training" for name in ("als", "ranked"))


def test_a_busy_site_gets_the_measured_recipe_and_a_small_one_fewer_factors() -> None:
    few = checkerboard()
    at = np.sort(UNTIL - np.random.default_rng(0).random(72 * 2_000) * 72 * HOUR)
    codes = np.zeros(len(at), np.int64)
    chosen = [fit_als.for_site(AlsRecipe(), reads, until=UNTIL) for reads in (few, Reads(codes, codes, codes.astype(np.int32), at))]
    assert [(r.factors, r.regularization, r.window_h) for r in chosen] == [(16, 10.0, 336.0), (64, 0.1, 72.0)]
    assert fit_als.for_site(AlsRecipe(factors=5), few, until=UNTIL).factors == 5


def test_readers_never_leave_the_worker() -> None:
    arrays, about = trained()
    assert set(arrays) == {"vectors"}
    assert len(arrays["vectors"]) == len(about["ids"]) == N - 2


def test_vectors_follow_article_ids_when_the_catalogue_grows() -> None:
    arrays, about = trained()
    more = Catalogue([*CATALOGUE.articles, replace(CATALOGUE.articles[0], id="0-first")])
    ranking, moved = Als.load(arrays, about, CATALOGUE).rank(asked(4, 6)), Als.load(arrays, about, more)
    pool = np.arange(len(more), dtype=np.int32)
    again = moved.rank(Context(UNTIL, None, (5, 7), Signals.empty(more, UNTIL), pool))
    assert [more.ids[i] for i in again.articles] == [CATALOGUE.ids[i] for i in ranking.articles]


def test_bundles_that_do_not_fit_are_refused() -> None:
    arrays, about = trained()
    with pytest.raises(ArtefactError, match="shape"):
        Als.load({"vectors": arrays["vectors"][:-1]}, about, CATALOGUE)
    with pytest.raises(ArtefactError, match="constant"):
        Als.load({"vectors": np.ones_like(arrays["vectors"])}, about, CATALOGUE)
    with pytest.raises(ArtefactError, match="not finite"):
        Als.load({"vectors": np.full_like(arrays["vectors"], np.nan)}, about, CATALOGUE)
    with pytest.raises(ArtefactError, match="lacks"):
        Als.load({}, about, CATALOGUE)


def test_arms_load_without_the_learning_stack() -> None:
    code = "import recsys.arms.als, recsys.arms.ranked, sys; print(' '.join(sys.modules))"
    loaded = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
    assert not loaded & {"implicit", "scipy", "sklearn", "pandas", "mlflow", "shap", "pyarrow", "duckdb"}


def two_days() -> Reads:
    """The checkerboard twice: a day before ``UNTIL`` without articles 36 and 37, then with them."""
    pairs = checkerboard()
    early = pairs.take(pairs.article < N - 4)
    columns = ("reader", "session", "article", "at")
    later = {name: np.concatenate([getattr(early, name), getattr(pairs, name)]) for name in columns}
    later["at"][: len(early)] -= 24 * HOUR
    return Reads(**later)


def trainer(**changes: Any) -> fit_als.Trainer:
    recipe = replace(RECIPE, half_life_h=1e6, window_h=72, **changes)
    return fit_als.Trainer(two_days(), Site(CATALOGUE, two_days()), UNTIL, 3, recipe)


def test_a_fit_begins_at_the_vectors_of_an_earlier_moment_and_finds_new_articles() -> None:
    own = trainer(again=2)
    judged = own.fit(UNTIL - 12 * HOUR)
    arrays, about = own.fit(UNTIL)
    split_us = round((UNTIL - 12 * HOUR) * 1e6)
    assert judged[1]["began"] == {}
    assert about["began"] == {"version": "", "sha256": "", "until": split_us, "anew_until": split_us}
    assert {CATALOGUE.ids[36], CATALOGUE.ids[37]} == {*about["ids"]} - {*judged[1]["ids"]}
    anew = trainer(again=2).fit(UNTIL)[0]["vectors"]
    assert arrays["vectors"].shape == anew.shape
    assert (arrays["vectors"] != anew).any()
    ranked = Als.load(arrays, about, CATALOGUE).rank(asked(*range(4, N - 2, 2)))
    assert set(ranked.articles[: N // 2 - 1].tolist()) == set(range(0, N - 2, 2))


def test_a_fit_does_not_begin_at_what_was_read_later_or_at_itself() -> None:
    own, split = trainer(again=2), UNTIL - 12 * HOUR
    first = own.fit(split)[0]["vectors"]
    again = own.fit(split)[0]["vectors"]
    own.fit(UNTIL)
    after = own.fit(split)
    assert (first == again).all()
    assert (first == after[0]["vectors"]).all()
    assert after[1]["began"] == {}


def test_a_fit_that_begins_at_another_takes_as_many_iterations_as_the_recipe_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for: list[int] = []

    class Seen(AlternatingLeastSquares):
        def fit(self, *arguments: Any, **named: Any) -> Any:
            asked_for.append(self.iterations)
            return super().fit(*arguments, **named)

    monkeypatch.setattr("implicit.cpu.als.AlternatingLeastSquares", Seen)
    own = trainer(again=2)
    own.fit(UNTIL - 12 * HOUR)
    own.fit(UNTIL)
    assert asked_for == [RECIPE.iterations, 2]


def test_new_articles_of_new_readers_get_a_vector_about_as_long_as_from_a_fit_anew() -> None:
    reader, article = (np.array(column) for column in zip(*[(100 + r, a) for r in range(10) for a in (38, 39)], strict=True))
    early = two_days().before(UNTIL - 12 * HOUR)
    columns = {"reader": reader, "session": reader, "article": article.astype(np.int32), "at": np.full(len(reader), UNTIL - HOUR)}
    reads = Reads(**{name: np.concatenate([getattr(early, name), late]) for name, late in columns.items()})
    recipe = replace(RECIPE, half_life_h=1e6, window_h=72, again=2)
    own, anew = (fit_als.Trainer(reads, Site(CATALOGUE, reads), UNTIL, 3, recipe) for _ in range(2))
    own.fit(UNTIL - 12 * HOUR)
    lengths = []
    for arrays, about in (own.fit(UNTIL), anew.fit(UNTIL)):
        lengths.append(np.linalg.norm(arrays["vectors"][about["ids"].index(CATALOGUE.ids[39])]))
    assert lengths[0] == pytest.approx(lengths[1], rel=0.4)  # 0.78 and 1.00; begun at zero it is 1.73 here, and 0.34 elsewhere


@pytest.mark.parametrize("again", [0, None])
def test_on_a_small_site_every_fit_begins_anew(again: int | None) -> None:
    own = trainer(again=again)
    own.fit(UNTIL - 12 * HOUR)
    assert (own.fit(UNTIL)[0]["vectors"] == trainer(again=again).fit(UNTIL)[0]["vectors"]).all()


def published(own: fit_als.Trainer, until: float, tmp_path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    arrays, about = own.fit(until)
    return read_bundle(write_bundle(tmp_path / "als", arrays, {**about, "until": round(until * 1e6)}).path)


def test_a_fit_leads_on_from_a_published_version_as_from_one_of_its_own(tmp_path: Path) -> None:
    first, later, split = trainer(again=2), trainer(again=2), UNTIL - 12 * HOUR
    arrays, about = published(first, split, tmp_path)
    assert later.lead_on(arrays, about)
    (mine, said), (theirs, _) = later.fit(UNTIL), first.fit(UNTIL)
    assert (mine["vectors"] == theirs["vectors"]).all()
    split_us, sha256 = round(split * 1e6), about["files"]["arrays.npz"]["sha256"]
    assert said["began"] == {"version": "1", "sha256": sha256, "until": split_us, "anew_until": split_us}
    assert later.fit(split)[1]["began"] == {}  # what is judged anew has learned nothing later


def test_of_two_published_versions_the_later_is_led_on_from(tmp_path: Path) -> None:
    early, late = (published(trainer(again=2), UNTIL - hours * HOUR, tmp_path) for hours in (12, 6))
    for order in ((early, late), (late, early)):
        own = trainer(again=2)
        assert all(own.lead_on(*version) for version in order)
        assert own.fit(UNTIL)[1]["began"]["version"] == "2"


@pytest.mark.parametrize("changes", [{"alpha": 5.0}, {"factors": 4}, {"recent_reads": 3.0}, {"again": 0}])
def test_a_version_of_another_recipe_is_not_led_on_from(tmp_path: Path, changes: dict[str, Any]) -> None:
    version = published(trainer(**{"again": 2, **changes}), UNTIL - 12 * HOUR, tmp_path)
    own = trainer(again=changes.get("again", 2))
    assert not own.lead_on(*version)
    assert own.fit(UNTIL)[1]["began"] == {}


@pytest.mark.parametrize(("hours", "began"), [(48, {}), (48, None), (48, 48), (49, {}), (49, 49), (1, 49)])
def test_a_chain_of_versions_ends_two_days_after_its_first_fit(tmp_path: Path, hours: float, began: Any) -> None:
    """``began`` is a number of hours where it is that of a version of before, which told a moment alone, or of a chain."""
    own, anew_us = trainer(again=2), round((UNTIL - (began or hours) * HOUR) * 1e6) if began != {} else 0
    arrays, about = published(trainer(again=2), UNTIL - 12 * HOUR, tmp_path)
    about |= {"until": round((UNTIL - hours * HOUR) * 1e6)}
    for told in (anew_us, {"anew_until": anew_us}) if began else (began,):
        assert own.lead_on(arrays, {**about, "began": told}) == ((began or hours) <= 48)
