"""The newest articles first: the rule every site starts with."""

from experiments.experiment import Audience, Kind
from experiments.serving.recommender import Context, Ranking, register


@register
class Newest:
    """Ranks by publication time."""

    name = "newest"
    kind: Kind = "heuristic"
    audience: Audience = "all"

    def rank(self, context: Context) -> Ranking:
        published = context.signals.catalogue.published[context.pool]
        return Ranking.best_first(context.pool, (published - context.at) / 3600, "newest")
