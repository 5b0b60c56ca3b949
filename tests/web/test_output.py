"""Tables of the command line, in a terminal of 80 columns and in a narrow one."""

from __future__ import annotations

import pytest

from tests.analysis.test_report import report
from tests.web import results
from web.cli.output import print_table, say
from web.cli.report_table import print_report, print_summary
from web.formatting import interval, money
from web.owner.memo import memo_of, number_rows

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


def test_names_in_brackets_are_written_and_never_taken_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    verdict = {"key": "keep", "arm": "new", "sentence": "Keep new[/b]: no other arm is shown to be better.", "reasons": []}
    print_report({**results.SHIP, "question": "test[final].csv: 400 rows", "verdict": verdict})
    told = capsys.readouterr().out
    assert "test[final].csv: 400 rows" in told
    assert "Keep new[/b]: no other arm" in told
    print_summary({"metrics": [], "notes": ["1 period not known of every arm, the first: [/may]."]})
    assert "the first: [/may]." in capsys.readouterr().out
    say("draft of [/b]")
    assert capsys.readouterr().err == "draft of [/b]\n"


def test_a_reason_that_the_verdict_already_says_is_not_said_again(capsys: pytest.CaptureFixture[str]) -> None:
    split = "readers were not split as planned"
    verdict = {
        "key": "do_not_use",
        "arm": None,
        "sentence": f"Do not use these numbers: {split}.",
        "reasons": [split, "events are missing"],
    }
    print_report({**results.SHIP, "verdict": verdict})
    told = capsys.readouterr().out
    assert told.count(split) == 1
    assert "· events are missing" in told


def test_the_terminal_shows_the_range_of_a_guardrail_that_may_be_looked_at_early_as_the_page_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = report(days=5.0, state="running").to_dict()
    print_report(found)
    told = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    (effect, *_) = (e for e in found["effects"] if e["role"] == "guardrail")
    words = interval(effect["anytime"]["low"], effect["anytime"]["high"])
    assert f"dwell_per_view guardrail front status_quo – {words}" in told
    assert words in [row.words for row, _ in memo_of(found).forest.rows]  # type: ignore[union-attr]


def test_what_narrows_a_range_stands_beside_it_on_the_page_and_in_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    goal, other = results.effects()[0], results.effects()[3]
    adjusted = {
        "estimate": 0.2,
        "se": 0.03,
        "low": 0.14,
        "high": 0.26,
        "p": 0.001,
        "relative": {"estimate": 0.1, "low": 0.07, "high": 0.13},
    }
    found = {**results.SHIP, "effects": [goal | {"adjusted": adjusted}, other | {"q": 0.031}]}
    print_report(found)
    told = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "views_per_session front status_quo +10% +7.0% to +13% –" in told
    assert "read_to_end front status_quo – – 0.031" in told
    head, rows = number_rows(found)
    assert rows[0][head.index("Adjusted for what readers did before")] == "+7.0% to +13%"
    assert rows[1][head.index("q")] == "0.031"
