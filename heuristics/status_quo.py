"""What the site does today: nothing under an article. The slot stays empty; that it would have been there is logged."""

from experiments.experiment import Audience, Kind
from experiments.serving.recommender import Context, Ranking, register


@register
class StatusQuo:
    """Recommends nothing."""

    name = "status_quo"
    kind: Kind = "status_quo"
    audience: Audience = "all"

    def rank(self, context: Context) -> Ranking:  # noqa: ARG002  (an arm gets the context whether it needs it or not)
        return Ranking.empty()
