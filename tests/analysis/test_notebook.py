"""``from analysis import analyse`` on events in whatever they come: the same engine, the same report."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import analyse
from analysis.own.events import given
from analysis.report import Report
from experiments.errors import DataError
from experiments.experiment import Arm, Experiment
from tests.events.story import START, Story, send

PLAN = Experiment(
    "related",
    "Does it pay?",
    "status_quo",
    (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5)),
    window_days=1.0,
    planned_days=2.0,
    minimum_days=1.0,
    value_per_view=0.01,
)
UNTIL = datetime.fromtimestamp(START / 1e6, UTC) + timedelta(days=3)


@pytest.fixture(scope="module")
def story() -> Story:
    """In the front arm every reader opens one more article; everybody also differs a little."""
    story = Story()
    for i in range(120):
        arm = ("status_quo", "front")[i % 2]
        story.exposed(f"r{i}", i % 50, arm)
        for k in range(i // 2 % 3 + i % 2):
            story.page(f"r{i}", i % 50 + 1 + k)
    return story


def framed(story: Story) -> pd.DataFrame:
    names = ("id", "kind", "page_view", "reader", "experiment", "arm", "source", "device", "bot", "config", "received_at")
    rows = [{**{n: getattr(e, n) for n in names}, "issued_at": e.issued_at, "body": json.dumps(e.body)} for e in story.events]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def frame(story: Story) -> pd.DataFrame:
    return framed(story)


@pytest.fixture(scope="module")
def report(frame: pd.DataFrame) -> Report:
    return analyse(PLAN, frame, until=UNTIL)


def test_a_frame_gives_the_report_of_the_same_events_in_a_home(tmp_path: Path, story: Story, report: Report) -> None:
    send(tmp_path, story.events)
    stored = analyse(PLAN, tmp_path, until=UNTIL)
    assert stored.to_dict()["effects"] == report.to_dict()["effects"]
    goal = report.compared.of("views_per_session", "front", "status_quo")
    assert goal is not None
    assert goal.contrast.values[0] == goal.contrast.values[1] + 1
    assert report.totals.readers() == {"front": 60, "status_quo": 60}


def test_arrow_parquet_csv_and_times_instead_of_numbers_give_the_same(tmp_path: Path, frame: pd.DataFrame, report: Report) -> None:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(table, tmp_path / "events.parquet")
    assert given(tmp_path / "events.parquet") == given(table)
    frame.assign(id=frame["id"].map(bytes.hex)).to_csv(tmp_path / "events.csv", index=False)
    timed = frame.assign(issued_at=pd.to_datetime(frame["issued_at"], unit="us", utc=True)).drop(columns=["id", "received_at"])
    for data in (table, str(tmp_path / "events.csv"), timed):
        assert analyse(PLAN, data, until=UNTIL).to_dict()["effects"] == report.to_dict()["effects"]


def test_events_that_come_twice_and_in_another_order_change_nothing(frame: pd.DataFrame, report: Report) -> None:
    shuffled = pd.concat([frame, frame.iloc[::3]]).sample(frac=1, random_state=1)
    assert analyse(PLAN, shuffled, until=UNTIL).to_dict()["effects"] == report.to_dict()["effects"]


def test_a_report_shows_itself_in_lines_markdown_rows_and_files(tmp_path: Path, report: Report) -> None:
    goal = report.compared.of("views_per_session", "front", "status_quo")
    assert goal is not None
    assert report.verdict.sentence in repr(report)
    assert len(repr(report).splitlines()) < 10
    row = report.to_frame().iloc[0]
    assert (row["metric"], row["arm"], row["estimate"]) == ("views_per_session", "front", goal.contrast.absolute.estimate)
    for name in ("report.html", "report.md", "report.json"):
        report.save(tmp_path / name)
        assert report.verdict.sentence in (tmp_path / name).read_text("utf-8")
    assert "<table>" in (tmp_path / "report.html").read_text("utf-8")
    with pytest.raises(DataError, match="html"):
        report.save(tmp_path / "report.docx")


@pytest.fixture(scope="module")
def clicked() -> Story:
    """One reader sees the slot and clicks in the test, another the site's own choice before any test."""
    story = Story()
    page = story.exposed("r", 1, "front")
    story.add("impression", page, "r", 1, arm="front", body={"slot": "article.related", "articles": ["a2"]})
    story.add("click", page, "r", 2, arm="front", body={"slot": "article.related", "article": "a2", "position": 1})
    page = story.page("s", 1)
    story.add("impression", page, "s", 1, experiment="", body={"slot": "article.related", "articles": ["a2"]})
    story.add("click", page, "s", 2, experiment="", body={"slot": "article.related", "article": "a2", "position": 1})
    return story


def test_what_a_slot_showed_outside_of_a_test_is_an_event_like_any_other(clicked: Story) -> None:
    events, faults = given(framed(clicked)).events()
    assert (events, faults) == (clicked.events, [])


def test_what_a_slot_showed_in_a_test_must_name_it(clicked: Story) -> None:
    _, faults = given(framed(clicked).assign(experiment="")).events()
    assert faults == [
        f"row {n}: '{kind}' needs the experiment of its slot" for n, kind in ((2, "exposure"), (3, "impression"), (4, "click"))
    ]


def test_money_can_be_asked_again_at_another_price(report: Report) -> None:
    cheap, dear = report.price(value_per_view=0.01), report.price(value_per_view=0.01, cost={"front": 1e6})
    assert cheap is not None
    assert dear is not None
    assert dear.expected()["front"] == pytest.approx(cheap.expected()["front"] - 1e6)


def test_money_is_not_asked_at_the_cost_of_what_is_no_arm(report: Report) -> None:
    with pytest.raises(DataError) as refused:
        report.price(value_per_view=0.01, cost={"fornt": 1e6, "als": 1.0})
    assert refused.value.faults == (
        "a cost is stated for 'fornt', which is no arm; did you mean 'front'? Known: front, status_quo.",
        "a cost is stated for 'als', which is no arm; known: front, status_quo.",
    )


def one(column: str, value: Any, *, where: str = "view"):  # type: ignore[no-untyped-def]
    """Change one value, in the second view or the first row of another kind."""

    def changed(frame: pd.DataFrame) -> pd.DataFrame:
        row = frame.index[frame["kind"] == where][1 if where == "view" else 0]
        mixed = frame[column].astype(object).tolist()
        mixed[row] = value
        return frame.assign(**{column: pd.Series(mixed, dtype=object)})

    return changed


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.drop(columns="reader"), "the column 'reader' is missing"),
        (lambda f: f.rename(columns={"device": "devise"}), "'devise' is unknown; did you mean 'device'"),
        (lambda f: f.assign(page_view="x"), "row 1: bad id"),
        (lambda f: f.assign(issued_at="yesterday"), "row 1: 'yesterday' is no time"),
        (lambda f: f.assign(body="{"), "row 1:"),
        (lambda f: f.assign(kind="glance"), "row 1: unknown kind or source"),
        (lambda f: f.assign(source="x"), "... and"),
        (lambda f: f.head(0), "there is no event"),
        (lambda f: f.to_dict("records"), "cannot be read from a list"),
        (lambda f: pd.concat([f, f[["arm"]]], axis=1), "the column 'arm' is named twice"),
        (one("reader", None), "row 3: the reader is missing"),
        (one("reader", math.nan), "row 3: the reader is missing"),
        (one("reader", 5), "row 3: reader is 5, not a text"),
        (one("kind", b"view"), "row 3: kind is b'view', not a text"),
        (one("arm", -1), "row 3: arm is -1, not a text"),
        (one("experiment", None, where="exposure"), "row 2: 'exposure' needs the experiment of its slot"),
        (one("issued_at", 10**30), "row 3: the time 1000000000000000000000000000000 is not between 1990 and 2200"),
        (one("issued_at", -1), "row 3: the time -1 is not between"),
        (one("issued_at", 1_767_225_600), "row 3: the time 1767225600 is not between"),
        (one("issued_at", math.inf), "row 3:"),
        (one("issued_at", 1.5e15 + 0.5), "row 3: 1500000000000000.5 is no time"),
        (one("issued_at", True), "row 3: True is no time"),
        (one("issued_at", datetime(2026, 1, 1)), "row 3: the time 2026-01-01T00:00:00 has no zone"),
        (one("bot", "perhaps"), "row 3: bot is 'perhaps', neither true nor false"),
        (one("body", "[]"), "row 3: "),
        (one("body", '{"page_type": NaN}'), "row 3: not readable"),
        (one("id", 5), "row 3: the id 5 is neither 16 bytes"),
    ],
)
def test_events_that_cannot_be_read_are_refused_in_words(frame: pd.DataFrame, change, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError) as caught:
        analyse(PLAN, change(frame.head(60)), until=UNTIL)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("e.csv", b"PAR1xxxx", "inside it is a Parquet file"),
        ("e.csv", b"", "the file is empty"),
        ("e.csv", b"kind,page_view,reader,issued_at\n", "there is no event"),
        ("e.csv", b"kind,page_view,reader,issued_at\n\nview,x\n", "line 3: 2 values, 4 columns"),
        ("e.csv", b'kind,page_view,reader,issued_at\n\nview,"x\nx",a,1\n', "line 3: the time 1 is not between"),
        ("e.csv", b"kind,page_view,reader,issued_at\nview,x,\xe9,1\n", "inside it is no UTF-8 text"),
        ("e.csv", "kind".encode("utf-16"), "inside it is UTF-16 text"),
        ("e.parquet", b"kind,page_view\n", "inside it is no Parquet file"),
        ("e.parquet", b"PAR1" + bytes(50) + b"PAR1", "not readable"),
        ("e.txt", b"kind,page_view\n", "the suffix '.txt' is not known"),
    ],
)
def test_files_that_are_no_events_are_refused_in_words(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        analyse(PLAN, tmp_path / name, until=UNTIL)
    assert says in str(caught.value)


def test_readers_of_a_csv_file_keep_their_zeros(tmp_path: Path, frame: pd.DataFrame, report: Report) -> None:
    """Of 120 readers 60 are called 00 to 059, the others 60 to 119: as numbers nobody changes, as texts neither."""
    number = frame["reader"].str[1:]
    named = frame.assign(reader=number.where(number.astype(int) >= 60, "0" + number)).drop(columns="id")
    named.loc[named["reader"] == "60", "reader"] = "1"  # and there is 01
    named.to_csv(tmp_path / "e.csv", index=False)
    assert analyse(PLAN, tmp_path / "e.csv", until=UNTIL).totals.readers() == report.totals.readers()


@pytest.mark.parametrize("until", ["2026-01-04", datetime(2026, 1, 4), 5])
def test_a_data_cut_needs_a_zone(frame: pd.DataFrame, until: Any) -> None:
    with pytest.raises(DataError, match="not a time with a zone"):
        analyse(PLAN, frame, until=until)


def test_a_notebook_shows_verdict_and_a_forest_and_the_saved_page_is_the_same(tmp_path: Path, report: Report) -> None:
    shown = report._repr_html_()
    assert f"<strong>{report.verdict.sentence}</strong>" in shown
    assert shown.count("<svg") == sum(effect.contrast.relative is not None for effect in report.compared.effects) > 0
    report.save(tmp_path / "report.html")
    assert shown in (tmp_path / "report.html").read_text()


def test_before_the_planned_end_no_forest_is_drawn(frame: pd.DataFrame) -> None:
    early = analyse(PLAN, frame, until=datetime.fromtimestamp(START / 1e6, UTC) + timedelta(days=1.5))
    assert "<svg" not in early._repr_html_()


def test_a_test_is_decided_by_what_was_known_at_its_planned_end_whenever_it_is_asked(frame: pd.DataFrame) -> None:
    end = datetime.fromtimestamp(START / 1e6, UTC) + timedelta(days=PLAN.planned_days)
    at_the_end, later = (
        analyse(PLAN, frame, until=until, start=datetime.fromtimestamp(START / 1e6, UTC)).to_dict()
        for until in (end, end + timedelta(days=40))
    )
    assert later == at_the_end
