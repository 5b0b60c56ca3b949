"""tea-tasting on our simulated readers: its ratio of means with its own covariates, its proportion for yes or no."""

import tea_tasting as tt
from exchange import NOTHING, answer, one_by_one, plain

RATIO = tt.RatioOfMeans("numerator", "denominator")
PAST = tt.RatioOfMeans("numerator", "denominator", "views before", "sessions before")
SHARE = tt.Proportion("numerator", method="norm")


def aggregates(arm):
    n, sums = arm["n"], arm["sums"]
    covariances = {(a, b): (p - sums[a] * sums[b] / n) / (n - 1) for (a, b), p in arm["products"].items()}
    means, variances = {c: s / n for c, s in sums.items()}, {c: covariances[c, c] for c in sums}
    return tt.aggr.Aggregates(n, means, variances, {(a, b): v for (a, b), v in covariances.items() if a < b})


def analyse(chosen, treated, control):
    if chosen["planned"]:
        return "has no method for looking early"
    metric = SHARE if chosen["zero_or_one"] else PAST if chosen["past"] else RATIO

    def judge(one, two):
        found = metric.analyze_aggregates(control=aggregates(two), treatment=aggregates(one))
        lines = [
            (*(getattr(found, f"{prefix}effect_size{end}") for end in ("", "_ci_lower", "_ci_upper")), found.pvalue)
            for prefix in ("", "rel_")
        ]
        return lines if two["sums"]["numerator"] else (lines[0], NOTHING)

    return one_by_one(chosen, judge, treated, control)


def cases():
    found = SHARE.analyze_aggregates(control=aggregates(plain(1000, 0.0)), treatment=aggregates(plain(1000, 30.0)))
    line = found.effect_size, found.effect_size_ci_lower, found.effect_size_ci_upper, found.pvalue
    return {"nobody": "{:.3f} ({:.4f} to {:.4f}), p = {:.1e}".format(*line), "early": "no method for looking early"}


if __name__ == "__main__":
    answer(tt.__version__, analyse, cases())
