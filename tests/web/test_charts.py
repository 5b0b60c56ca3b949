from __future__ import annotations

import re
from itertools import pairwise

import pytest

from tests.web.markup import Element, parse
from web.charts.bars import draw_bars, draw_histograms, draw_spark
from web.charts.dots import draw_dots, money_scale, stack
from web.charts.forest import Forest, ForestRow, draw_forest
from web.charts.scale import nice_scale
from web.formatting import money, percent

HOSTILE = '<script>"x"</script>'


def row(label: str, low: float | None, high: float | None, limit: float | None = None, kind: str = "model") -> ForestRow:
    middle = None if low is None or high is None else (low + high) / 2
    return ForestRow(label, "Articles", kind, middle, low, high, "in words", limit)


def forest(*rows: ForestRow, most: float = 1.0) -> Forest:
    return draw_forest(rows, label=lambda value: percent(value, plus=True), most=most)


def position(element: Element, name: str) -> float:
    return float(element.attributes[name].removesuffix("%"))


@pytest.mark.parametrize(("low", "high"), [(0.018, 0.064), (-0.2, 0.31), (-0.04, -0.01), (0.0, 0.0)])
def test_the_marks_of_a_forest_are_the_values_of_its_table(low: float, high: float) -> None:
    drawn = forest(row("a", low, high), row("b", -0.05, 0.02, limit=-0.03))
    line = parse(drawn.rows[0][1]).one("line", "whisker")
    width = drawn.scale.high - drawn.scale.low
    seen = [drawn.scale.value(position(line, name)) for name in ("x1", "x2")]
    assert seen == pytest.approx([low, high], abs=width * 1e-5)  # positions are written with three decimals of a percent
    assert drawn.table.rows[0][3] == f"{percent(low, plus=True)} to {percent(high, plus=True)}"


def test_zero_and_every_limit_lie_on_the_axis() -> None:
    drawn = forest(row("a", 0.3, 0.4), row("b", 0.3, 0.4, limit=-0.2))
    assert drawn.scale.holds(0.0)
    assert drawn.scale.holds(-0.2)
    limit = parse(drawn.rows[1][1]).one("line", "limit")
    assert drawn.scale.value(position(limit, "x1")) == pytest.approx(-0.2, abs=1e-4)


def test_a_range_beyond_the_axis_ends_in_an_arrow_and_keeps_its_words() -> None:
    drawn = forest(row("a", -0.1, 7.0), most=1.0)
    assert drawn.scale.high == 1.0
    assert len(parse(drawn.rows[0][1]).all("path", "cut")) == 1
    assert drawn.table.rows[0][3] == "−10% to +700%"


def test_what_is_not_estimable_has_words_and_no_mark() -> None:
    drawn = forest(row("a", None, None), row("b", 0.01, 0.02))
    svg = parse(drawn.rows[0][1])
    assert not svg.all("line", "whisker")
    assert not svg.all("path")
    assert drawn.table.rows[0][2:4] == ("not estimable", "in words")


def test_names_are_escaped_in_every_drawing() -> None:
    drawings = [
        forest(row(HOSTILE, 0.1, 0.2, kind=HOSTILE)).rows[0][1],
        draw_dots([1.0, -1.0], scale=money_scale([[1.0, -1.0]]), kind=HOSTILE, title=HOSTILE, label=lambda _: HOSTILE).svg,
        draw_bars([(HOSTILE, 1.0)], label=lambda _: HOSTILE, head=(HOSTILE, ""), kind=HOSTILE)[0][1],
        draw_histograms([1.0], [1.0], bins=[HOSTILE], name=HOSTILE, label=str).svg,
        draw_spark([1.0], title=HOSTILE),
    ]
    for svg in drawings:
        assert "<script>" not in svg
        assert "&lt;script&gt;" in svg
        parse(svg)


def test_the_dots_are_the_outcomes_and_losses_are_hollow() -> None:
    outcomes = [-300.0, 120.0, 125.0, 900.0, 4_000.0]
    scale = money_scale([outcomes])
    chart = draw_dots(outcomes, scale=scale, kind="model", title="t", label=money)
    dots = parse(chart.svg).all("circle")
    assert [scale.value(position(dot, "cx")) for dot in dots] == pytest.approx(outcomes, abs=(scale.high - scale.low) * 1e-5)
    assert ["loss" in dot.attributes["class"] for dot in dots] == [True, False, False, False, False]
    assert [cells[1] for cells in chart.table.rows] == [money(value) for value in outcomes]


def test_dots_of_one_level_never_touch() -> None:
    outcomes = [i * 0.7 for i in range(50)]
    scale = money_scale([outcomes])
    places: dict[int, list[float]] = {}
    for value, level in zip(outcomes, stack(outcomes, scale), strict=True):
        places.setdefault(level, []).append(scale.position(value) / 100 * 260)
    gaps = [b - a for level in places.values() for a, b in pairwise(level)]
    assert min(gaps) >= 9.0 - 1e-9


def test_an_axis_without_values_still_has_a_length() -> None:
    assert nice_scale([]).low < nice_scale([]).high
    assert draw_dots([], scale=money_scale([]), kind="model", title="t", label=money).table.rows == ()


def test_bars_and_histograms_draw_what_their_words_say() -> None:
    (_, longest, _), (_, half, words) = draw_bars([("a", 2.0), ("b", 1.0)], label=money, head=("x", "y"))
    assert [re.findall(r'width="([\d.]+)%" height="14"', svg)[-1] for svg in (longest, half)] == ["100.00", "50.00"]
    assert words == "€1"
    chart = draw_histograms([0.5, 0.5], [1.0, 0.0], bins=["low", "high"], name="heat", label=percent)
    heights = [float(bar.attributes["height"]) for bar in parse(chart.svg).all("rect")]
    assert heights == [30.0, 60.0, 30.0, 0.0]
    assert chart.table.rows == (("low", "50%", "100%"), ("high", "50%", "0%"))


def test_no_drawing_uses_a_style_attribute_or_a_view_box_with_text() -> None:
    drawn = forest(row("a", 0.1, 0.2))
    dots = draw_dots([1.0], scale=money_scale([[1.0]]), kind="model", title="t", label=money).svg
    for svg in (drawn.axis, drawn.rows[0][1], dots):
        assert "style=" not in svg
        assert "viewBox" not in svg
