"""Metrics are one block each; a typo is answered with the nearest word."""

from __future__ import annotations

import pytest

from experiments.errors import MetricError
from experiments.metric import built_in, load_metrics, metric

LATE = '[metrics.x]\nsays = "X"\nquantile = 0.95\nof = "impression.latency_us"\n'
GOOD = '[metrics.x]\nsays = "X"\nnumerator = { count = "view" }\ndenominator = "session"\n'


def test_the_built_in_metrics_can_be_read() -> None:
    assert {"views_per_session", "bounce_rate", "dwell_per_view"} <= set(built_in())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD.replace('"view"', '"veiw"'), "counts 'veiw'; did you mean 'view'"),
        (GOOD.replace("says", "sayz"), "unknown key 'sayz'; did you mean 'says'"),
        (GOOD.replace('denominator = "session"', ""), "lacks 'denominator'"),
        (GOOD + 'direction = "sideways"', "must be 'up' or 'down'"),
        (GOOD.replace('count = "view"', 'count = "view", where = { colour = "red" }'), "filters by 'colour'"),
        (GOOD.replace('{ count = "view" }', '{ sum = "dwell.activ_ms" }'), "did you mean 'dwell.active_ms'"),
        ("[metrics.x", "not readable as TOML"),
        (LATE.replace("0.95", "95"), "quantile is 95, it must be a share between 0 and 1"),
        (LATE.replace("impression.latency_us", "impression.latency"), "did you mean 'impression.latency_us'"),
        (LATE.replace("impression.latency_us", "conversion.value"), "is a quantile of 'conversion.value'"),
        (LATE.replace('of = "impression.latency_us"', ""), "lacks 'of'"),
        (LATE + 'denominator = "session"', "takes 'of', and no numerator, denominator or cap"),
        (LATE + "divide_by = 0", "it must be a whole number of at least 1"),
        (GOOD + "divide_by = 10", "only these take divide_by"),
        ("metrics = 5", "holds no blocks"),
        ("[metrics]\nx = 5", "it must be a block"),
        (GOOD + "unit = 5", "unit is 5, it must be text"),
        (GOOD + 'needs_slot = "no"', "it must be true or false"),
        (GOOD.replace('{ count = "view" }', "5"), "numerator must give either count or sum"),
        (GOOD.replace('{ count = "view" }', "{ count = true }"), "numerator must give either count or sum"),
        (GOOD.replace('count = "view"', 'count = "view", where = ["red"]'), "numerator must give either count or sum"),
        (LATE.replace('"impression.latency_us"', "[]"), "of is [], it must be text"),
        (GOOD + "cap = 0.999", "its numerator must be a sum and its denominator 'reader'"),
    ],
)
def test_a_wrong_block_is_refused_in_words(text: str, says: str) -> None:
    with pytest.raises(MetricError) as refused:
        load_metrics(text)
    assert says in str(refused.value)


def test_a_quantile_is_of_the_events_of_its_field() -> None:
    found = load_metrics(LATE + "divide_by = 1000\n")["x"]
    assert (found.quantile, found.divide_by, found.numerator.sum, found.denominator.count) == (
        0.95,
        1000,
        "impression.latency_us",
        "impression",
    )


def test_all_wrong_blocks_are_listed_at_once() -> None:
    with pytest.raises(MetricError) as refused:
        load_metrics('[metrics.a]\nsays="A"\n[metrics.b]\nsays="B"\n')
    assert len(refused.value.faults) == 2


def test_an_unknown_metric_is_answered_with_the_nearest() -> None:
    with pytest.raises(MetricError, match="did you mean 'views_per_session'"):
        metric("views_per_sesion")
