"""Most read in the last hour, or in the last day on a site with few readers."""

from experiments.experiment import Audience, Kind
from experiments.serving.recommender import Context, Ranking, register


@register
class MostRead:
    """Ranks by reads in the last hour (of 24 h on a site with fewer than 2,000 reads an hour)."""

    name = "most_read"
    kind: Kind = "heuristic"
    audience: Audience = "all"

    def rank(self, context: Context) -> Ranking:
        signals = context.signals
        window = 1 if signals.busy else 3  # rows of reads_in: 0.5, 1, 3, 24, 120 hours
        published = signals.catalogue.published[context.pool]
        return Ranking.best_first(context.pool, signals.reads_in[window][context.pool], "heat", published=published)
