"""Tables of the command line, in a terminal of 80 columns and in a narrow one."""

from __future__ import annotations

import pytest

from tests.web import results
from web.cli.output import print_table
from web.cli.report_table import print_report
from web.formatting import money

HEAD = ("name", "kind", "slates ")
ROWS = [("front_personal", "heuristic", "1,204"), ("status_quo", "–", "–")]


def test_a_table_that_fits_has_one_line_per_row(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_table("Arms", HEAD, ROWS)
    assert capsys.readouterr().out.splitlines()[2].split() == ["front_personal", "heuristic", "1,204"]


def test_no_word_is_broken_where_a_table_does_not_fit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    print_table("Arms [all]", HEAD, ROWS)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["Arms [all]", "front_personal", "  kind    heuristic", "  slates  1,204", "status_quo"]


def test_the_terminal_writes_amounts_as_the_page_does_and_tells_the_decision(capsys: pytest.CaptureFixture[str]) -> None:
    decision = {"arm": "als", "who": "Ines", "at": "2026-11-22T00:00:00+00:00", "reason": "[bold]it pays"}
    belief = {"says": ""}
    print_report({**results.SHIP, "belief": belief, "decision": decision})
    told = capsys.readouterr().out
    found = results.SHIP["roi"]["scenarios"][1]
    assert f"{money(found['low'])} to {money(found['high'])}" in told
    assert "Decided: ALS. Ines decided on 22 November 2026: [bold]it pays." in told
