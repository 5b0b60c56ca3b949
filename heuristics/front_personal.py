"""The front rule, leaning a little towards the sections a reader who agreed reads most."""

from collections.abc import Mapping
from typing import ClassVar

from experiments.experiment import Audience, Kind
from experiments.serving.recommender import Context, Ranking, register
from heuristics.front import Front

READS, PRIOR = 20, 10.0  # how many reads are looked at; how many reads the site's own mix counts as
MOST = 0.2  # share of the score that the sections may ever have
OFTEN = 2  # reads from which on a reader often reads a section
DAY = 3  # row of Signals.reads_in: reads of the last 24 hours


@register
class FrontPersonal:
    """Scores ``(1 - w) * front / max front + w * A_s / max A``: the site's rule, and up to a fifth the reader's own sections.

    ``A_s = (n_s + 10 p_s) / (n + 10)`` from the last 20 reads, ``p_s`` the site's own share, ``w = 0.2 n / (n + 10)``: a reader
    without reads gets exactly what ``front`` gives.
    """

    name = "front_personal"
    kind: Kind = "heuristic"
    audience: Audience = "agreed"
    card: ClassVar[Mapping[str, str]] = {
        "limits": "Sections only; a reader of one section sees at most a fifth of the score move.",
        "cost": "None beyond the signals every arm uses.",
        "owner": "newsroom",
        "retrain": "Never: it follows the signals, which are refreshed every minute.",
    }

    def rank(self, context: Context) -> Ranking:
        """Rank the pool; an article of a section read twice or more that tipped the balance says ``section``."""
        base = Front().rank(context)
        section = context.signals.catalogue.section
        read = section[list(context.reads[-READS:])].tolist()
        n = len(read)
        if not n or not len(base.articles):
            return base
        affinity, weight = self._affinity(context), MOST * n / (n + PRIOR)
        sections, often = section[base.articles].tolist(), {code for code in read if read.count(code) >= OFTEN}
        highest, keenest = max(float(base.scores[0]), 1e-9), max(affinity.values())
        plain = [(1 - weight) * score / highest for score in base.scores.tolist()]
        own = [weight * affinity[code] / keenest for code in sections]
        sources = [
            "section" if mine > rule and code in often else word
            for mine, rule, code, word in zip(own, plain, sections, base.sources, strict=True)
        ]
        scores = [a + b for a, b in zip(plain, own, strict=True)]
        return Ranking.best_first(base.articles, scores, sources, published=context.signals.catalogue.published[base.articles])

    def _affinity(self, context: Context) -> dict[int, float]:
        """Share of each section of the pool in the reader's last reads, drawn towards its share of what the site reads in a day."""
        signals, section = context.signals, context.signals.catalogue.section
        own = section[list(context.reads[-READS:])].tolist()
        inside = section[context.pool]
        daily = signals.reads_in[DAY][context.pool]
        codes = sorted(set(inside.tolist()))
        total = float(daily.sum())
        usual = {code: float(daily[inside == code].sum()) / total if total else 1 / len(codes) for code in codes}
        return {code: (own.count(code) + PRIOR * usual[code]) / (len(own) + PRIOR) for code in codes}
