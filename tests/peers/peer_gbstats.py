"""gbstats on our simulated readers: its two-sided t-test of ratios, means and proportions, and its sequential test."""

import importlib.metadata

from exchange import NOTHING, PARTS, answer, one_by_one, plain
from gbstats.frequentist.tests import FrequentistConfig, SequentialConfig, SequentialTwoSidedTTest, TwoSidedTTest
from gbstats.models.statistics import ProportionStatistic, RatioStatistic, SampleMeanStatistic


def mean_of(arm, column):
    return SampleMeanStatistic(n=arm["n"], sum=arm["sums"][column], sum_squares=arm["products"][column, column])


def statistic(chosen, arm):
    if chosen["zero_or_one"]:
        return ProportionStatistic(n=arm["n"], sum=arm["sums"]["numerator"])
    if chosen["mean"]:
        return mean_of(arm, "numerator")
    product = arm["products"]["numerator", "denominator"]
    top, bottom = mean_of(arm, "numerator"), mean_of(arm, "denominator")
    return RatioStatistic(n=arm["n"], m_statistic=top, d_statistic=bottom, m_d_sum_of_products=product)


def analyse(chosen, treated, control):
    if chosen["past"]:
        return "adjusts means, not ratios"
    if chosen["planned"]:
        return "has no test with a planned end"
    test, config = (TwoSidedTTest, FrequentistConfig) if chosen["looks"] == 1 else (SequentialTwoSidedTTest, SequentialConfig)

    def judge(one, two):
        arms = statistic(chosen, two), statistic(chosen, one)
        found = [test(*arms, config(difference_type=part)).compute_result() for part in PARTS]
        return [NOTHING if line.error_message else (line.expected, *line.ci, line.p_value) for line in found]

    return one_by_one(chosen, judge, treated, control)


def shown(control, treated, part):
    found = TwoSidedTTest(control, treated, FrequentistConfig(difference_type=part)).compute_result()
    return f"{found.expected:.3g} ({found.ci[0]:.3g} to {found.ci[1]:.3g}), p = {found.p_value:.2g}"


def cases():
    orders = [SampleMeanStatistic(n=n, sum=s, sum_squares=q) for s, q, n in ((1396.87, 52377.9767, 3407), (2422.7, 134698.29, 3461))]
    nobody, thirty = (ProportionStatistic(n=a["n"], sum=a["sums"]["numerator"]) for a in (plain(1000, 0.0), plain(1000, 30.0)))
    far = [1e8 - 1, 1e8, 1e8 + 1]
    offset = SampleMeanStatistic(n=3, sum=sum(far), sum_squares=sum(x * x for x in far)).variance
    return {
        "one decision": f"difference {shown(*orders, 'absolute')}; relative {shown(*orders, 'relative')}",
        "nobody": shown(nobody, thirty, "absolute"),
        "offset": f"{offset:g}",
    }


if __name__ == "__main__":
    answer(importlib.metadata.version("gbstats"), analyse, cases())
