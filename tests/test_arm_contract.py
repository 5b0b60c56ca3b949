"""Every registered arm keeps its contract; a new arm is one file and gets this suite for free."""

from __future__ import annotations

import ast
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest

from experiments.errors import ArmError
from experiments.serving.recommender import Catalogue, Context, Ranking, arm_class, discover
from experiments.serving.signals import Past, Reads, build_signals
from recsys import contract
from recsys.contract import CHECKS, broken_promises
from recsys.practice import UNTIL, OnTrial, on_trial, practice_site

ROOT = Path(__file__).parents[1]
ARMS = tuple(discover())


@cache
def trial_of(name: str) -> OnTrial:
    return on_trial(arm_class(name))


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", ARMS)
def test_every_arm(name: str, check: str) -> None:
    assert CHECKS[check](trial_of(name)) == ""


def test_the_arms_of_the_design_are_there() -> None:
    assert {"status_quo", "front", "front_personal", "newest", "most_read", "als", "ranked"} <= set(ARMS)


Rank = Callable[["Faulty", Context], Ranking]


class Faulty:
    """An arm that is right but for what ``fault`` does."""

    name = "faulty"
    kind = "heuristic"
    audience = "all"
    fault: ClassVar[Rank]

    def __init__(self) -> None:
        self.calls = 0

    def rank(self, context: Context) -> Ranking:
        self.calls += 1
        return type(self).fault(self, context)


def good(context: Context) -> Ranking:
    return Ranking.best_first(context.pool, context.signals.catalogue.published[context.pool] - UNTIL, "newest")


def twice(_: Faulty, context: Context) -> Ranking:
    pool = np.repeat(context.pool, 2)
    return Ranking(pool, np.zeros(len(pool), np.float32), ("newest",) * len(pool))


def from_elsewhere(_: Faulty, context: Context) -> Ranking:
    everything = np.arange(len(context.signals.catalogue), dtype=np.int32)
    return Ranking.best_first(everything, np.zeros(len(everything)), "newest")


def worst_first(_: Faulty, context: Context) -> Ranking:
    ranking = good(context)
    return replace(ranking, scores=ranking.scores[::-1])


def not_a_number(_: Faulty, context: Context) -> Ranking:
    ranking = good(context)
    return replace(ranking, scores=np.full_like(ranking.scores, np.nan))


def by_chance(_: Faulty, context: Context) -> Ranking:
    return Ranking.best_first(context.pool, np.random.default_rng().random(len(context.pool)), "newest")


def by_the_number_of_calls(arm: Faulty, context: Context) -> Ranking:
    return Ranking.best_first(context.pool, np.roll(np.arange(len(context.pool)), arm.calls), "newest")


def needs_a_pool(_: Faulty, context: Context) -> Ranking:
    context.pool[0]
    return good(context)


def needs_reads(_: Faulty, context: Context) -> Ranking:
    context.signals.co_articles[0]
    return good(context)


def keeps_the_size_of_the_catalogue(arm: Faulty, context: Context) -> Ranking:
    np.zeros(90)[context.pool]
    return good(context)


def writes_to_the_signals(_: Faulty, context: Context) -> Ranking:
    context.signals.heat[0] += 1
    return good(context)


def sorts_the_pool(_: Faulty, context: Context) -> Ranking:
    context.pool[::-1].sort()
    return good(context)


def reads_a_file(_: Faulty, context: Context) -> Ranking:
    Path(__file__).read_bytes()
    return good(context)


def asks_the_network(_: Faulty, context: Context) -> Ranking:
    with socket.socket() as connection:
        connection.settimeout(0.1)
        connection.connect_ex(("127.0.0.1", 9))
    return good(context)


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (twice, "ranks_distinct_articles_of_the_pool"),
        (from_elsewhere, "ranks_distinct_articles_of_the_pool"),
        (worst_first, "ranks_distinct_articles_of_the_pool"),
        (not_a_number, "ranks_distinct_articles_of_the_pool"),
        (by_chance, "same_request_same_list"),
        (by_the_number_of_calls, "same_request_same_list"),
        (needs_a_pool, "an_empty_pool_gives_an_empty_list"),
        (needs_reads, "a_site_without_reads_is_served"),
        (keeps_the_size_of_the_catalogue, "articles_newer_than_the_model_are_no_obstacle"),
        (writes_to_the_signals, "inputs_stay_as_they_were"),
        (sorts_the_pool, "inputs_stay_as_they_were"),
        (reads_a_file, "opens_no_file_and_no_connection"),
        (asks_the_network, "opens_no_file_and_no_connection"),
    ],
)
def test_an_arm_that_breaks_a_promise_is_told_which(fault: Rank, check: str) -> None:
    kind = type("Broken", (Faulty,), {"fault": fault})
    told = broken_promises(OnTrial(kind, practice_site()))
    assert check.replace("_", " ") in [line.partition(":")[0] for line in told], told


def test_an_arm_that_never_answers_is_told_so_at_the_first_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """``arm check`` of such an arm never ended."""
    monkeypatch.setattr(contract, "CHECK_S", 0.01)
    for_ever = threading.Event()
    kind = type("Hangs", (Faulty,), {"fault": lambda _, context: for_ever.wait()})
    first, *others = broken_promises(OnTrial(kind, practice_site()))
    for_ever.set()
    assert first == "ranks distinct articles of the pool: it takes longer than 0.01 s."
    assert {line.partition(": ")[2] for line in others} == {"not looked at any more"}
    assert len(others) == len(CHECKS) - 1


def test_an_arm_that_ends_the_process_is_told_so_at_every_check() -> None:
    def ends(_: Faulty, context: Context) -> Ranking:
        raise SystemExit(0)

    told = broken_promises(OnTrial(type("Ends", (Faulty,), {"fault": ends}), practice_site()))
    assert "same request same list: it raised SystemExit: 0." in told


def test_an_arm_without_fault_is_told_nothing() -> None:
    assert broken_promises(OnTrial(type("Right", (Faulty,), {"fault": lambda _, context: good(context)}), practice_site())) == []


class Stored(Faulty):
    """A model arm whose weights are a fitted array; ``Stored.Trainer`` is found in this very module."""

    kind = "model"
    trainer = __name__
    forgets = False

    def __init__(self, weights: npt.NDArray[np.float64]) -> None:
        super().__init__()
        self.weights = weights

    @classmethod
    def load(cls, arrays: Mapping[str, Any], about: Mapping[str, Any], catalogue: Catalogue) -> Stored:
        weights = np.zeros(len(catalogue))
        weights[[catalogue.positions[i] for i in about["ids"]]] = arrays["weights"]
        return cls(np.zeros_like(weights) if cls.forgets and "version" in about else weights)

    def rank(self, context: Context) -> Ranking:
        return Ranking.best_first(context.pool, self.weights[context.pool], "newest")

    def explain(self, context: Context, article: int) -> list[tuple[int, float]]:
        return [(0, float(self.weights[article]))]


class Trainer:
    """Counts reads before ``until``; a :class:`Leaking` one counts them all."""

    def __init__(self, reads: Reads, site: Any, until: float, seed: int) -> None:
        self.reads, self.site = reads, site

    def fit(self, until: float, without: Any = ()) -> tuple[dict[str, Any], dict[str, Any]]:
        counted = self.reads if Leaking.on else self.reads.before(until)
        catalogue = self.site.catalogue
        return {"weights": np.bincount(counted.article, minlength=len(catalogue)).astype(float)}, {"ids": list(catalogue.ids)}


class Leaking:
    on = False


def told_of(kind: type) -> list[str]:
    return [line.partition(":")[0] for line in broken_promises(on_trial(kind))]


def test_a_model_that_is_right_is_told_nothing() -> None:
    assert told_of(Stored) == []


def test_a_model_that_comes_back_from_disk_different_is_told_so() -> None:
    assert told_of(type("Forgets", (Stored,), {"forgets": True})) == ["written and read it is the same arm"]


def test_a_model_that_learns_from_later_reads_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Leaking, "on", True)
    assert told_of(Stored) == ["what happens later changes nothing"]


def test_a_rule_that_looks_at_later_reads_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guards are in ``build_signals``: without them every arm that follows heat would know the future."""
    monkeypatch.setattr(Reads, "before", lambda self, until, since=-np.inf: self)
    monkeypatch.setattr(Past, "within", lambda self, at, hours: slice(0, len(self.reads)))
    kind = type(
        "Hot", (Faulty,), {"fault": lambda _, context: Ranking.best_first(context.pool, context.signals.heat[context.pool], "heat")}
    )
    assert CHECKS["what_happens_later_changes_nothing"](OnTrial(kind, practice_site())) != ""


def test_reasons_that_miss_the_score_are_told() -> None:
    wrong = type("Wrong", (Stored,), {"explain": lambda self, context, article: [(0, float(self.weights[article]) + 1e-3)]})
    assert told_of(wrong) == ["reasons add up to the score"]


def test_a_model_that_names_nobody_who_trains_it_cannot_be_tried() -> None:
    with pytest.raises(ArmError, match="no `trainer`"):
        on_trial(type("Orphan", (Faulty,), {"load": classmethod(lambda cls, *_: cls())}))


def test_features_of_the_ranker_do_not_move_with_later_reads() -> None:
    from recsys.practice import later_reads

    trial = trial_of("ranked")
    arm: Any = trial.arm()
    later = build_signals(later_reads(trial.site), trial.site.catalogue, at=UNTIL, rules=trial.site.signal_rules)
    for context in trial.requests:
        first, second = arm.inputs(context), arm.inputs(replace(context, signals=later))
        np.testing.assert_array_equal(first[0].articles, second[0].articles)
        np.testing.assert_array_equal(first[1], second[1])


NEVER_CALLED = {
    "recommend": "returns arbitrary ids for an empty row, zeroes rows in place, hangs in a forked child",
    "recommend_all": "the same",
    "recalculate_user": "reads outside memory for rows beyond the model",
    "recalculate_item": "needs reader factors, which never leave training",
    "partial_fit_users": "leaves zero rows",
    "partial_fit_items": "leaves zero rows and clears the cached YtY",
    "BayesianPersonalizedRanking": "has no fold-in",
}


def test_trap_the_calls_of_implicit_that_bite_are_made_nowhere() -> None:
    made: dict[str, str] = {}
    for path in (path for folder in ("recsys", "web", "experiments", "heuristics") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            if name in NEVER_CALLED:
                made[f"{path.relative_to(ROOT)}:{node.lineno}"] = NEVER_CALLED[name]  # type: ignore[attr-defined]
    assert made == {}


def test_trap_alpha_is_applied_by_the_fit_and_never_multiplied_in_before() -> None:
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix
    from threadpoolctl import threadpool_limits

    from recsys.fit_als import AlsRecipe, article_vectors
    from recsys.interactions import Interactions

    weights = csr_matrix(np.kron(np.eye(2), np.ones((6, 4))).astype(np.float32))
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(factors=3, regularization=0.1, alpha=10.0, iterations=5, random_state=2, num_threads=1)
        model.fit(weights, show_progress=False)
    mine = article_vectors(
        Interactions(weights, np.arange(12), 0.0), AlsRecipe(factors=3, regularization=0.1, alpha=10.0, iterations=5), seed=2
    )
    np.testing.assert_array_equal(mine, model.item_factors)
