"""One slate explained for given reads: the console's view of an arm at work."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from experiments.errors import ArmError, NotFoundError, nearest
from experiments.serving.answers import sound, within
from experiments.serving.recent import before_page, unread
from experiments.serving.recommender import Context, Explainable
from experiments.serving.slate import SlateRules, pool_at
from web.published import Published

__all__ = ["explain_slate"]

SHOWN = 10
PATIENCE_S = 10.0
ADDITIVITY = 1e-6


def explain_slate(published: Published, *, arm: str, article: str, reads: Sequence[str], at: float, rules: SlateRules) -> dict[str, Any]:
    """Return the arm's best articles with what each read contributed; contributions are checked to add up to the score.

    Raises
    ------
    NotFoundError
        The article or the arm is unknown.
    ArmError
        The arm takes longer than 10 s, its answer is no ranking, or the contributions of an item do not add up to its score within 1e-6.
    """
    catalogue = published.catalogue
    if arm not in published.arms:
        raise NotFoundError(f"no arm called '{arm}' is ready; {nearest(arm, published.arms)}")
    position = catalogue.position(article)
    if position is None:
        raise NotFoundError(f"no article has the id '{article}'; {nearest(article, catalogue.ids)[:200]}")
    pool = pool_at(catalogue, at, article=position, rules=rules)
    note = ""
    if len(pool) < rules.n:  # an imported log: its articles are old by the wall clock
        at, pool = published.signals.at, pool_at(catalogue, published.signals.at, article=position, rules=rules)
        note = "The pool is the one of the last signals: by the clock every article is too old."
    known = before_page(catalogue.known(reads).tolist(), position)
    context = Context(at, position, known, published.signals, unread(pool, known), n=rules.n)
    recommender = published.arms[arm]
    ranking = sound(within(PATIENCE_S, partial(recommender.rank, context), doing=f"arm '{arm}'"))
    items = []
    for place, score, source in list(zip(ranking.articles.tolist(), ranking.scores.tolist(), ranking.sources, strict=True))[:SHOWN]:
        parts: list[tuple[int, float]] = []
        if isinstance(recommender, Explainable):
            parts = within(PATIENCE_S, partial(recommender.explain, context, place), doing=f"the explanation of arm '{arm}'")
        if parts and abs(sum(value for _, value in parts) - score) > ADDITIVITY * max(1.0, abs(score)):
            raise ArmError(
                f"arm '{arm}': the reasons for '{catalogue.ids[place]}' do not add up to its score.", "Retrain the arm or roll back."
            )
        reasons = [{"article": catalogue.ids[read], "weight": value} for read, value in parts]
        items.append({"article": catalogue.ids[place], "score": score, "source": source, "reasons": reasons})
    return {"items": items, "note": note}
