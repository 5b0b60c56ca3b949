"""Metrics are one block each; a typo is answered with the nearest word."""

from __future__ import annotations

import pytest

from experiments.errors import MetricError
from experiments.metric import built_in, load_metrics, metric

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
    ],
)
def test_a_wrong_block_is_refused_in_words(text: str, says: str) -> None:
    with pytest.raises(MetricError) as refused:
        load_metrics(text)
    assert says in str(refused.value)


def test_all_wrong_blocks_are_listed_at_once() -> None:
    with pytest.raises(MetricError) as refused:
        load_metrics('[metrics.a]\nsays="A"\n[metrics.b]\nsays="B"\n')
    assert len(refused.value.faults) == 2


def test_an_unknown_metric_is_answered_with_the_nearest() -> None:
    with pytest.raises(MetricError, match="did you mean 'views_per_session'"):
        metric("views_per_sesion")
