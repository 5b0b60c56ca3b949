"""Most read in the last hour, or in the last day on a site with few readers."""

from experiments.experiment import Audience, Kind
from experiments.serving.recommender import Context, Ranking, register


@register
class MostRead:
    """Ranks by reads in the last hour (24 h while the half-life of the site's heat is above one hour)."""

    name = "most_read"
    kind: Kind = "heuristic"
    audience: Audience = "all"

    def rank(self, context: Context) -> Ranking:
        signals = context.signals
        window = 1 if signals.half_life_h <= 1 else 3  # rows of reads_in: 0.5, 1, 3, 24, 120 hours
        published = signals.catalogue.published[context.pool]
        return Ranking.best_first(context.pool, signals.reads_in[window][context.pool], "heat", published=published)
