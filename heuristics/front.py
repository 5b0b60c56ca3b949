"""The rule a senior editor respects: what is read now, and what else readers of this article read."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from experiments.experiment import Audience, Kind
from experiments.serving.recommender import Context, Ranking, register

HEAT_SHARE = 0.3  # weight of heat beside co-reading (measured on a log of 1.5 million clicks)


@register
class Front:
    """Scores ``C_ij / (sum_j C_ij + 5) + 0.3 * H_j / sum H``: co-reads of the open article plus the site's heat."""

    name = "front"
    kind: Kind = "heuristic"
    audience: Audience = "all"
    card: ClassVar[Mapping[str, str]] = {
        "limits": "Knows nothing of the reader; a new article waits for its first reads or its section's credit.",
        "cost": "None beyond the signals every arm uses.",
        "owner": "newsroom",
        "retrain": "Never: it follows the signals, which are refreshed every minute.",
    }

    def rank(self, context: Context) -> Ranking:
        if not len(context.pool):
            return Ranking.empty()
        heat = context.signals.warmth(context.pool, context.at)
        following = context.signals.followed_by(context.article, context.pool)
        scores = following + HEAT_SHARE * heat / max(float(heat.sum()), 1e-9)
        best = Ranking.best_first(context.pool, scores, "heat", published=context.signals.catalogue.published[context.pool])
        shares = context.signals.followed_by(context.article, best.articles).tolist()
        return replace(best, sources=tuple("co_read" if share > 0 else "heat" for share in shares))
