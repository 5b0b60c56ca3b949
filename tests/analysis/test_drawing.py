from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from analysis.drawing import INSET, WIDTH, draw_forest
from analysis.own.data import analyse
from analysis.own.plan import wanted
from tests.analysis.own.test_data import csv, readers
from tests.analysis.test_report import report, world


def drawn(effects):
    return ElementTree.fromstring(draw_forest(effects))


def test_marks_mapped_back_are_the_numbers_and_every_comparison_has_a_row():
    effects = report(world(front=1.1, als=1.2)).compared.effects
    rows = drawn(effects).findall("tbody/tr")
    assert len(rows) == len(effects)
    ranges = [e.contrast.relative for e in effects]
    low, high = min(0.0, *(r.low for r in ranges)), max(0.0, *(r.high for r in ranges))
    for row, found in zip(rows, ranges, strict=True):
        line = row.findall("td/svg/line")[1]
        values = [low + (float(line.get(end)) - INSET) / (WIDTH - 2 * INSET) * (high - low) for end in ("x1", "x2")]
        assert values == pytest.approx([found.low, found.high], abs=(high - low) / 1_000)


def test_an_enormous_range_is_cut_and_its_words_are_exact(tmp_path: Path):
    columns = readers(80)
    columns["views"] = [v * 40 if a == "new" else v for v, a in zip(columns["views"], columns["arm"], strict=True)]
    found = analyse(csv(tmp_path / "t.csv", columns), [wanted("views=views")], reader="uid", arm="arm", control="control")
    (row,) = drawn(found.effects).findall("tbody/tr")
    assert all(0 <= float(line.get("x2")) <= WIDTH for line in row.findall("td/svg/line"))
    assert re.search(r"\+[\d,]{4,}%", row.findall("td")[1].text)


def test_names_cannot_become_markup_and_what_is_not_estimable_has_its_reason(tmp_path: Path):
    columns = readers(100)
    columns["arm"] = ["<script>" if a == "new" else a for a in columns["arm"]]
    path = csv(tmp_path / "t.csv", columns | {"nothing": [0] * 100})
    metrics = [wanted("views=views"), wanted("nothing=nothing")]
    found = analyse(path, metrics, reader="uid", arm="arm", control="control")
    assert "<script>" not in found._repr_html_()
    rows = drawn(found.effects).findall("tbody/tr")
    assert rows[1].find("td/svg") is None
    assert rows[1].findall("td")[1].text == found.effects[1].contrast.reason
    assert draw_forest(found.effects[1:]) == ""
