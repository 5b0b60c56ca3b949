"""What files of others may hold instead of a table of numbers: refused in words, with the lines an editor shows."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.own.data import Analysis, analyse
from analysis.own.plan import wanted
from experiments.errors import DataError
from experiments.events.reader_dates import Dates
from tests.analysis.own.test_data import csv, parquet, readers


def run(path: Path, metric: str = "depth=views/visits", *, arm: str = "arm", **how: Any) -> Analysis:
    return analyse(path, [wanted(metric)], reader="uid", arm=arm, control="control", **how)


def refusal(path: Path, metric: str = "depth=views/visits", **how: Any) -> str:
    with pytest.raises(DataError) as caught:
        run(path, metric, **how)
    return str(caught.value)


@pytest.mark.parametrize("written", ["1_000", "１２", "0x10", "1,000", "12,5", "1 000", "$5", "5%", "NULL", "true"])
def test_what_only_looks_like_a_number_is_none(tmp_path: Path, written: str) -> None:
    columns: dict[str, list[Any]] = readers(40)
    columns["views"][3] = columns["visits"][4] = f'"{written}"'
    says = refusal(csv(tmp_path / "t.csv", columns))
    assert f"column 'views' is no number in 1 row: line 5 has '{written}'." in says
    assert f"column 'visits' is no number in 1 row: line 6 has '{written}'." in says


def test_lines_are_those_of_an_editor_when_some_are_empty_cut_or_go_on_inside_quotes(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = ['"a', '1",control,1,1', "", "b,new,x,1", "c,new", "d,new,1,-1", "e,,inf,1,9", ",new,inf,1"]
    path.write_text("\n".join(["uid,arm,views,visits", *rows, ""]))
    assert refusal(path).splitlines()[1:] == [
        "  - the reader is empty in 1 row (new: 1): line 9.",
        "  - 'visits' is below zero in 1 row (new: 1): line 7.",
        "  - column 'views' is no number in 1 row: line 5 has 'x'.",
        "  - line 6: Expected Number of Columns: 4 Found: 2",
        "  - line 8: Expected Number of Columns: 4 Found: 5",
    ]


def test_a_line_without_end_is_refused_and_not_left_out(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", readers(40))
    path.write_text(path.read_text() + "x" * 40_000_000 + "\n")
    assert "line 42: it is longer than 500,000 bytes" in refusal(path)


def test_faults_of_values_and_of_dates_are_told_together(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {**readers(40), "day": ["2026-03-31"] * 40}
    columns["day"][1], columns["day"][2], columns["views"][3] = "epoch", "1970-01-01", "x"
    path = csv(tmp_path / "t.csv", columns)
    says = refusal(path, dates=Dates("day", date(2026, 3, 31)))
    assert "'day' is no date in 1 row: line 3." in says
    assert "'day' is before 1990-01-01, as if nobody knew it, in 1 row: line 4." in says
    assert "column 'views' is no number in 1 row: line 5" in says


@pytest.mark.parametrize("kind", ["int8", "uint8", "uint16", "uint64"])
def test_small_and_unsigned_columns_say_the_same(tmp_path: Path, kind: str) -> None:
    columns = readers(60)
    table = pa.table({**columns, "views": pa.array(columns["views"], getattr(pa, kind)())})
    pq.write_table(table, tmp_path / "t.parquet")
    assert run(tmp_path / "t.parquet").effects == run(csv(tmp_path / "t.csv", columns)).effects


def test_the_largest_of_unsigned_numbers_are_centred_like_others(tmp_path: Path) -> None:
    columns = readers(60)
    far = {**columns, "views": pa.array([2**63 + 4096 * v for v in columns["views"]], pa.uint64())}
    pq.write_table(pa.table(far), tmp_path / "t.parquet")
    spread, plain = (
        run(path, "v=views").effects[0].contrast.absolute for path in (tmp_path / "t.parquet", csv(tmp_path / "t.csv", columns))
    )
    assert spread is not None
    assert plain is not None
    assert spread.se == pytest.approx(4096 * plain.se, rel=1e-9)


def test_a_column_may_be_called_what_we_call_a_reader_but_not_what_a_row_is_called(tmp_path: Path) -> None:
    columns = readers(60)
    path = csv(tmp_path / "t.csv", {**columns, "one reader": columns["views"], "row": columns["arm"]})
    assert run(path, "views=one reader").effects[0].contrast == run(path, "views=views").effects[0].contrast
    assert "a column cannot be called 'row' here" in refusal(path, segments=("row",))
    assert "cannot be called 'arm' here" in refusal(csv(tmp_path / "u.csv", {**columns, "group": columns["arm"]}), "views=arm", arm="group")


def test_columns_that_differ_in_capitals_only_are_refused(tmp_path: Path) -> None:
    columns = {**readers(40), "Views": [1] * 40}
    assert "the columns 'Views' and 'views' differ in capitals only" in refusal(csv(tmp_path / "t.csv", columns))
    assert "the columns 'views' and 'Views' have one name" in refusal(parquet(tmp_path / "t.parquet", columns))


@pytest.mark.parametrize("word", ["nan", "NaN", "NULL", "None"])
def test_a_reader_called_nothing_is_nobody(tmp_path: Path, word: str) -> None:
    columns = readers(40)
    columns["uid"][4] = word
    assert "the reader is empty in 1 row" in refusal(csv(tmp_path / "t.csv", columns))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b"\n", "line 1 is empty"),
        (b"\x1f\x8bxx", "inside it is a gzip file"),
        (b"PK\x03\x04xx", "inside it is a zip file or a spreadsheet"),
        ("uid,arm\n".encode("utf-16"), "inside it is UTF-16 text"),
        ("uid,arm\n".encode("utf-16-le"), "line 1: there is a zero byte"),
        (b"uid,arm,views,visits\na,control,1,1\nb,ne\0w,1,1\n", "line 3: there is a zero byte"),
        (b"x" * 200_000, "its first line is none of names"),
    ],
)
def test_what_is_no_table_of_text_is_said_to_be_none(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    assert says in refusal(tmp_path / "t.csv")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_lines_are_counted_alike_whatever_they_end_in(tmp_path: Path, end: str, mark: str) -> None:
    lines = csv(tmp_path / "t.csv", readers(40)).read_text().splitlines()
    lines[5], lines[8], lines[12] = "u4,new,3", "u7,new,x,1", ""
    (tmp_path / "t.csv").write_bytes((mark + end.join([*lines, ""])).encode())
    assert refusal(tmp_path / "t.csv").splitlines()[1:] == [
        "  - column 'views' is no number in 1 row: line 9 has 'x'.",
        "  - line 6: Expected Number of Columns: 4 Found: 3",
    ]
    (tmp_path / "t.csv").write_bytes(end.join([*lines[:7], "a\0,new,1,1", ""]).encode())
    assert "line 8: there is a zero byte" in refusal(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("ends", "says"),
    [(("\r\n", "\n"), "CR LF, others in LF"), (("\r", "\n"), "LF, others in CR"), (("\r", "\r\n"), "CR LF, others in CR")],
)
def test_lines_that_end_in_two_ways_are_said_to(tmp_path: Path, ends: tuple[str, str], says: str) -> None:
    lines = csv(tmp_path / "t.csv", readers(200)).read_text().splitlines()
    (tmp_path / "t.csv").write_bytes("".join(line + ends[i > 100] for i, line in enumerate(lines)).encode())
    assert f"some lines end in {says}. Save it with one kind of line end." in refusal(tmp_path / "t.csv")


def test_a_column_inside_another_may_have_its_name(tmp_path: Path) -> None:
    columns = readers(60)
    inner = pa.array([{"views": "x", "arm": [1]} for _ in columns["uid"]])
    pq.write_table(pa.table({"more": inner, **columns}), tmp_path / "t.parquet")
    assert run(tmp_path / "t.parquet").effects == run(csv(tmp_path / "t.csv", columns)).effects


def test_lists_and_structures_name_nobody(tmp_path: Path) -> None:
    columns = readers(60)
    nested = {"uid": pa.array([{"id": u} for u in columns["uid"]]), "arm": pa.array([[a] for a in columns["arm"]])}
    pq.write_table(pa.table({**columns, **nested, "group": nested["arm"]}), tmp_path / "t.parquet")
    assert refusal(tmp_path / "t.parquet", segments=("group",)).splitlines()[1:] == [
        "  - column 'uid' holds struct, no names.",
        "  - column 'arm' holds varchar[], no names.",
        "  - column 'group' holds varchar[], no names.",
    ]


def test_the_day_of_a_time_with_a_zone_is_that_of_utc_and_the_refusal_says_so(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {**readers(40), "day": ["2026-04-01T01:30:00+02:00"] * 40}
    columns["day"][3] = "2026-03-31T23:30:00-05:00"
    says = refusal(csv(tmp_path / "t.csv", columns), dates=Dates("day", date(2026, 3, 31)))
    assert "'day' is after the end, 2026-03-31 in UTC, in 1 row: line 5." in says
