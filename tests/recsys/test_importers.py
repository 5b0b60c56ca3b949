"""Importers: whole rows come in, every other row is told with its line and its reason."""

from __future__ import annotations

import csv
import io
import json
import os
import zipfile
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.content import load_catalogue
from experiments.errors import DataError
from experiments.events import lake
from experiments.events.erase import erase_reader
from experiments.events.store import open_store, store_path
from experiments.serving.level_shares import levels_of
from recsys.importers import deskdrop, globo, table
from recsys.importers.log import Imported, import_log, parse_log, recognise
from recsys.importers.table import Layout
from recsys.interactions import to_reads
from recsys.next_click import clicks

DATA = Path(os.environ.get("PRESSLAB_DATA", Path(__file__).parents[2] / "../shared/data"))
GLOBO_HEADER = "user_id,session_id,session_start,session_size,click_article_id,click_timestamp,click_environment"
START_MS = 1_506_826_800_026


def needs(name: str) -> Path:
    if not (DATA / name).exists():
        pytest.skip(f"needs ../shared/data/{name} (not present)")
    return DATA / name


def globo_csv(path: Path, *rows: str) -> Path:
    path.write_text("\n".join([GLOBO_HEADER, *rows]) + "\n")
    return path


def test_globo_rows_come_in_sorted_by_time_with_their_sessions(tmp_path: Path) -> None:
    file = globo_csv(tmp_path / "clicks_hour_000.csv", f"7,70,1,2,11,{START_MS + 5},4", f"7,70,1,2,10,{START_MS},4")
    parsed = globo.parse(file)
    assert parsed.table.to_pydict() == {
        "reader": ["7", "7"], "session": ["7\x1f70"] * 2, "article": ["10", "11"], "at": [START_MS * 1_000, (START_MS + 5) * 1_000],
        "weight": [1.0, 1.0], "seq": [0, 1],
    }  # fmt: skip
    assert [(a.id, a.title, a.imported) for a in parsed.articles] == [("10", "Article 10", True), ("11", "Article 11", True)]
    assert parsed.articles[0].published_at == datetime.fromtimestamp(START_MS / 1e3, UTC)


def test_globo_rows_keep_device_and_referrer_and_nothing_else_about_the_reader(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    head = f"{GLOBO_HEADER},click_deviceGroup,click_os,click_country,click_region,click_referrer_type"
    rows = (f"7,70,1,2,11,{START_MS + 5},4,3,17,1,25,2", f"7,70,1,2,10,{START_MS},4,3,17,1,25,")
    file.write_text("\n".join([head, *rows]) + "\n")
    home = tmp_path / "home"
    import_log("globo", file, home)
    reads = lake.reads(home, until_us=(START_MS + 10**6) * 1_000)
    assert (reads["device"].to_pylist(), reads["referrer"].to_pylist()) == (["3", "3"], ["", "2"])
    assert not set(reads.column_names) & {"os", "country", "region"}
    levels = to_reads(reads, load_catalogue(home)).levels
    assert levels.tolist() == [list(levels_of("3", "")), list(levels_of("3", "2"))]
    assert levels[0, 1] == 0


def test_logs_sealed_before_device_and_referrer_were_kept_are_still_read(tmp_path: Path) -> None:
    import_log("globo", globo_csv(tmp_path / "clicks.csv", f"1,5,1,2,10,{START_MS},4"), tmp_path)
    (sealed,) = (tmp_path / "lake").glob("*.parquet")
    manifest = json.loads(sealed.with_suffix(".json").read_text())
    pq.write_table(pq.read_table(sealed).drop_columns(["device", "referrer"]), sealed)
    sealed.with_suffix(".json").write_text(json.dumps({**manifest, "bytes": sealed.stat().st_size}))
    reads = lake.reads(tmp_path, until_us=(START_MS + 10**6) * 1_000)
    assert reads.select(["article", "device", "referrer"]).to_pylist() == [{"article": "10", "device": "", "referrer": ""}]


def test_hourly_files_of_a_folder_or_zip_are_one_log_and_a_header_alone_is_valid(tmp_path: Path) -> None:
    folder = tmp_path / "clicks"
    folder.mkdir()
    globo_csv(folder / "clicks_hour_000.csv", f"1,5,1,2,10,{START_MS},4")
    globo_csv(folder / "clicks_hour_001.csv")
    globo_csv(folder / "clicks_hour_002.csv", f"2,6,1,2,10,{START_MS + 9},4")
    with zipfile.ZipFile(tmp_path / "clicks.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"clicks/{file.name}")
    assert globo.parse(folder).table.equals(globo.parse(tmp_path / "clicks.zip").table)
    assert globo.parse(folder).table.num_rows == 2


def test_bad_rows_are_refused_with_line_and_reason(tmp_path: Path) -> None:
    good = f"1,5,1,2,10,{START_MS},4"
    file = globo_csv(
        tmp_path / "log.csv", good, "1,5,1,2,,3,4", "1,5,1,2,11,soon,4", "1,5,1,2,11,1506826800,4", "1,5,1", f"1,5,1,2,12,{START_MS},4"
    )
    parsed = globo.parse(file)
    assert parsed.table.num_rows == 2
    assert parsed.read == 6
    assert parsed.refused == (
        (3, "the article is missing"),
        (4, "the time is missing or not readable"),
        (5, "the time lies outside 2000 to 2100 (another unit?)"),
        (6, "3 columns instead of 7"),
    )
    assert sum(parsed.reasons.values()) == 4


def test_of_several_files_each_fault_is_told_with_its_file(tmp_path: Path) -> None:
    good = f"1,5,1,2,10,{START_MS},4"
    (tmp_path / "hours").mkdir()
    globo_csv(tmp_path / "hours" / "h0.csv", good, f"2,6,1,2,10,{START_MS},4", "1,5,1")
    globo_csv(tmp_path / "hours" / "h1.csv")
    globo_csv(tmp_path / "hours" / "h2.csv", f"1,5,1,2,,{START_MS},4", good, f"1,5,1,2,11,{START_MS},4")
    parsed = globo.parse(tmp_path / "hours")
    assert parsed.table["article"].to_pylist() == ["10", "10", "11"]
    assert parsed.refused == (
        (4, "h0.csv: 3 columns instead of 7"), (2, "h2.csv: the article is missing"), (3, "h2.csv: the row repeats an earlier one"),
    )  # fmt: skip
    assert parsed.reasons == {"3 columns instead of 7": 1, "the article is missing": 1, "the row repeats an earlier one": 1}


def test_too_many_bad_rows_write_nothing(tmp_path: Path) -> None:
    file = globo_csv(tmp_path / "log.csv", f"1,5,1,2,10,{START_MS},4", "1,5,1,2,11,soon,4")
    home = tmp_path / "home"
    with pytest.raises(DataError) as caught:
        import_log("globo", file, home)
    assert "1 of 2 rows cannot be used" in str(caught.value)
    assert "line 3: the time is missing or not readable" in str(caught.value)
    assert len(load_catalogue(home)) == 0
    found = import_log("globo", file, home, max_rejected=0.5)
    assert (found.kept, found.rejected) == (1, 1)


def test_an_import_reaches_the_lake_once(tmp_path: Path) -> None:
    file = globo_csv(tmp_path / "log.csv", f"1,5,1,2,10,{START_MS},4", f"1,5,1,2,11,{START_MS + 60_000},4")
    home = tmp_path / "home"
    first = import_log("globo", file, home)
    assert (first.read, first.kept, first.articles, first.readers) == (2, 2, 2, 1)
    assert import_log("globo", file, home).sha256 == first.sha256
    reads = lake.reads(home, until_us=(START_MS + 10**6) * 1_000)
    assert reads["article"].to_pylist() == ["10", "11"]
    assert load_catalogue(home).ids == ("10", "11")


def test_an_import_that_breaks_off_shows_readers_nothing_and_is_finished_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log.csv").write_text("reader_id,article_id,ts\na,x,1500000000\nb,y,1500000060\n")
    home, layout = tmp_path / "home", Layout(unit="s")

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as broken:
        broken.setattr(lake, "add_import", full)
        with pytest.raises(OSError, match="no space left"):
            import_log("table", tmp_path / "log.csv", home, layout=layout)
    assert len(load_catalogue(home)) == 0
    import_log("table", tmp_path / "log.csv", home, layout=layout)
    assert load_catalogue(home).ids == ("x", "y")
    assert len(lake.reads(home, until_us=2**62)) == 2


HEAD = "reader_id,article_id,ts\n"
MONTH = "".join(f"r{i % 7},a{i % 5},{1_500_000_000 + 60 * i}\n" for i in range(40))


def brought(home: Path, text: str, *options: object, name: str = "log.csv", **given: object) -> Imported:
    (home.parent / name).write_text(HEAD + text)
    return import_log("table", home.parent / name, home, **{"layout": Layout(unit="s"), **given})  # type: ignore[arg-type]


def held(home: Path) -> list[str]:
    return [row["reader"] for row in lake.reads(home, until_us=2**62).to_pylist()]


def test_the_same_file_again_says_that_it_was_imported_already(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert brought(home, MONTH).notes == ()
    again = brought(home, MONTH, name="copy.csv")
    assert again.notes == ("this file was imported already; nothing was changed.",)
    assert len(held(home)) == 40


def test_rows_of_an_earlier_import_are_left_out_and_counted_whatever_file_they_come_in(tmp_path: Path) -> None:
    """A log exported whole each month held the first month once more in every file: its reads counted twice without a word."""
    home = tmp_path / "home"
    brought(home, MONTH)
    found = brought(home, MONTH + "r1,a1,1500009999\n", name="longer.csv")
    assert (found.read, found.kept, found.rejected) == (41, 1, 40)
    assert found.reasons == {"the row came with an earlier import": 40}
    assert found.notes == ("40 rows came with an earlier import and were left out: each read counts once.",)
    assert len(held(home)) == 41
    same = brought(home, MONTH + "\n", name="blank.csv", max_rejected=0)
    assert (same.kept, len(held(home)), len(list((home / "lake").glob("*.parquet")))) == (0, 41, 2)


def test_the_same_file_read_another_way_is_told_and_can_replace_the_earlier_import(tmp_path: Path) -> None:
    """A wrong zone had no way back: the log counted twice, an hour apart."""
    home, written = tmp_path / "home", "r1,a1,2023-11-14 10:00:00\nr2,a1,2023-11-14 11:00:00\n"
    brought(home, written, layout=Layout(zone="UTC"))
    twice = brought(home, written, layout=Layout(zone="Europe/Paris"))
    assert "read another way before" in twice.notes[0]
    assert "--replace" in twice.notes[0]
    assert len(held(home)) == 4
    once = brought(home, written, layout=Layout(zone="Europe/Paris"), replacing=True)
    assert "earlier imports of this file that were removed: 1" in once.notes[-1]
    assert [row["at"] for row in lake.reads(home, until_us=2**62).to_pylist()] == [1_699_952_400_000_000, 1_699_956_000_000_000]


def test_an_erased_reader_does_not_come_back_with_an_import(tmp_path: Path) -> None:
    home = tmp_path / "home"
    brought(home, MONTH)
    open_store(store_path(home), create=True).close()
    erase_reader(home, "r1", until_us=1)
    found = brought(home, MONTH.replace(",a", ",b"), name="next.csv", max_rejected=0)
    gone = MONTH.count("r1,")
    assert (found.read, found.kept, found.rejected) == (40, 40 - gone, gone)
    assert found.reasons == {"the reader was erased here": gone}
    assert found.notes == (f"{gone} rows of readers who were erased here were left out.",)
    assert "r1" not in held(home)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<!DOCTYPE html><html>Sign in</html>", "web page"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"\x00\x01\x02", "neither CSV nor Parquet"),
        (b"", "empty"),
    ],
)
def test_a_file_that_is_no_table_is_refused_in_words_whatever_its_name(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "log.csv").write_bytes(content)
    with pytest.raises(DataError, match=says):
        globo.parse(tmp_path / "log.csv")


def zipped(password: bool = False) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo("log.csv")  # of a fixed date: the bytes name a test, and every worker must find the same ones
        archive.writestr(entry, "reader_id,article_id,ts\n" + "a,x,1500000000\n" * 200, zipfile.ZIP_DEFLATED)
    whole = bytearray(buffer.getvalue())
    if password:
        for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            whole[whole.index(mark) + place] |= 1
    return bytes(whole)


DAMAGED = zipped()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (DAMAGED[: len(DAMAGED) // 2], "cannot be unpacked: File is not a zip file"),
        (DAMAGED[:60] + bytes(20) + DAMAGED[80:], "cannot be unpacked"),
        (zipped(password=True), "cannot be unpacked: .*password"),
        ("reader_id,article_id,ts\né,x,1\n".encode("latin-1"), "Save it in UTF-8"),
        ("reader_id,article_id,ts\na,x,1\n".encode("utf-16"), "save it as CSV in UTF-8"),
        (b"reader_id,article_id,ts,ts\na,x,1,2\n", "2 columns are called 'ts'"),
    ],
)
def test_a_damaged_or_ambiguous_file_is_refused_with_what_to_do(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "log.csv").write_bytes(content)
    with pytest.raises(DataError, match=says):
        table.parse(tmp_path / "log.csv", Layout(unit="s"))


def test_lines_are_those_of_the_file_also_after_a_text_of_several_lines(tmp_path: Path) -> None:
    rows = ['a,x,1500000000,"two\n\nlines, and ""more"""', "b,,1500000000,n", "", "c,z,soon,n"]
    (tmp_path / "log.csv").write_text("\n".join(["reader_id,article_id,ts,note", *rows]) + "\n")
    found = table.parse(tmp_path / "log.csv", Layout(unit="s"))
    assert found.table["reader"].to_pylist() == ["a"]
    assert found.refused == ((5, "the article is missing"), (7, "the time is missing or not readable"))


@pytest.mark.parametrize("opened", ['"b,y,1500000060', 'b,y,"1500000060', 'b,"y,1500000060'])
def test_lines_that_an_open_quote_swallows_are_refused_one_by_one(tmp_path: Path, opened: str) -> None:
    """They counted as one row: a log could lose half its lines and stay below one refused row in a hundred."""
    good = [f"r{i},x,{1_500_000_000 + i}" for i in range(300)]
    (tmp_path / "log.csv").write_text("\n".join(["reader_id,article_id,ts", *good[:200], opened, *good[200:]]) + "\n")
    found = table.parse(tmp_path / "log.csv", Layout(unit="s"))
    assert (found.read, found.table.num_rows, sum(found.reasons.values())) == (301, 200, 101)
    assert found.refused[0][0] == 202
    assert "lines 202 to 302 were read as one row; is a quote left open?" in found.refused[0][1]
    with pytest.raises(DataError, match="101 of 301 rows cannot be used"):
        import_log("table", tmp_path / "log.csv", tmp_path / "home", layout=Layout(unit="s"))


def test_a_quote_left_open_in_a_large_file_loses_no_line_without_saying_so(tmp_path: Path) -> None:
    """Rows are read in blocks of a megabyte; at the end of one an open quote was closed, and 6,708 lines were gone for one refused row."""
    rows = [f"r{i},x,{1_500_000_000 + i}" for i in range(120_000)]
    (tmp_path / "log.csv").write_text("\n".join(["reader_id,article_id,ts", *rows[:90_000], '"b,y,1500000060', *rows[90_000:]]))
    found = table.parse(tmp_path / "log.csv", Layout(unit="s"))
    assert (found.read, found.table.num_rows, sum(found.reasons.values())) == (120_001, 90_000, 30_001)
    (tmp_path / "log.csv").write_text("\n".join(["reader_id,article_id,ts", '"b,y,1500000060', *rows]))
    with pytest.raises(DataError, match="longer than a megabyte; is a quote left open"):
        table.parse(tmp_path / "log.csv", Layout(unit="s"))


def test_lines_that_an_open_quote_swallows_are_refused_also_where_an_inch_sign_hides_the_lines(tmp_path: Path) -> None:
    """Which quotes are pairs cannot be told then; an id of three lines was taken for a reader's."""
    rows = ['a,x,1500000000,5" screen', '"b,x,1500000000,n', "c,x,1500000000,n", 'd",x,1500000000,n', "e,x,1500000000,n"]
    (tmp_path / "log.csv").write_text("\n".join(["reader_id,article_id,ts,note", *rows]) + "\n")
    found = table.parse(tmp_path / "log.csv", Layout(unit="s"))
    assert found.table["reader"].to_pylist() == ["a", "e"]
    assert (found.read, sum(found.reasons.values())) == (5, 3)


def test_blanks_around_names_and_values_are_no_part_of_them(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text('reader_id , article_id , "ts"\n a , x , 1500000000\nb , y\n c , z , 1500000001 \n')
    found = table.parse(tmp_path / "log.csv", Layout(unit="s"))
    assert found.table["reader"].to_pylist() == ["a", "c"]
    assert found.table["article"].to_pylist() == ["x", "z"]
    assert found.refused == ((3, "2 columns instead of 3"),)


def test_missing_columns_are_named_with_the_nearest_ones(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("reader,article_id,time\na,b,1\n")
    with pytest.raises(DataError) as caught:
        table.parse(tmp_path / "log.csv")
    assert "column 'reader_id' is missing; is it 'reader'?" in str(caught.value)
    assert "column 'ts' is missing" in str(caught.value)


def test_numbers_need_a_unit_and_written_times_a_zone(tmp_path: Path) -> None:
    numbers, words = tmp_path / "numbers.csv", tmp_path / "words.csv"
    numbers.write_text("reader_id,article_id,ts\na,x,1500000000\na,y,1500000060\n")
    words.write_text("reader_id,article_id,ts\na,x,2017-07-14T04:40:00\na,y,2017-07-14 04:41:00\n")
    with pytest.raises(DataError, match="unit was not declared"):
        table.parse(numbers)
    with pytest.raises(DataError, match="no zone was declared"):
        table.parse(words)
    seconds = table.parse(numbers, Layout(unit="s")).table
    assert seconds["at"].to_pylist() == [1_500_000_000_000_000, 1_500_000_060_000_000]
    assert table.parse(words, Layout(zone="Europe/Paris")).table["at"].to_pylist() == [1_500_000_000_000_000, 1_500_000_060_000_000]


def test_times_with_an_offset_need_no_zone(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("reader_id,article_id,ts\na,x,2017-07-14T02:40:00Z\na,y,2017-07-14T04:40:01+02:00\n")
    assert table.parse(tmp_path / "log.csv").table["at"].to_pylist() == [1_500_000_000_000_000, 1_500_000_001_000_000]


@pytest.mark.parametrize("zone", ["", "Europe/Paris"])
def test_one_unreadable_time_is_one_refused_row_and_each_row_may_have_its_own_offset(tmp_path: Path, zone: str) -> None:
    rows = ["a,x,2017-07-14T02:40:00Z", "b,y,soon", "c,z,2017-07-14 04:40:00+02", "d,z,", "e,z,1500000000.5"]
    rows += ["f,x,2017-07-14T04:40:00"] if zone else []
    (tmp_path / "log.csv").write_text("\n".join(["reader_id,article_id,ts", *rows]))
    found = table.parse(tmp_path / "log.csv", Layout(zone=zone))
    assert found.table["at"].to_pylist() == [1_500_000_000_000_000] * (3 if zone else 2)
    assert [line for line, _ in found.refused] == [3, 5, 6]
    assert set(found.reasons) == {"the time is missing or not readable"}


@pytest.mark.parametrize("layout", [Layout(), Layout(unit="s")])
def test_a_number_among_written_times_is_one_refused_row(tmp_path: Path, layout: Layout) -> None:
    """A time that was never set is 0; the file was refused for want of a unit, and with one every other row was."""
    (tmp_path / "log.csv").write_text("reader_id,article_id,ts\na,x,2017-07-14T02:40:00Z\nb,y,0\nc,z,2017-07-14T02:40:01Z\n")
    found = table.parse(tmp_path / "log.csv", layout)
    assert found.table["at"].to_pylist() == [1_500_000_000_000_000, 1_500_000_001_000_000]
    assert found.refused == ((3, "the time is missing or not readable"),)


def test_words_for_now_are_no_times_and_small_letters_are_letters(tmp_path: Path) -> None:
    rows = ["a,x,2017-07-14t02:40:00z", "b,x,now", "c,x,today", "d,x,2017-07-14 02:40:01z"]
    (tmp_path / "log.csv").write_text("\n".join(["reader_id,article_id,ts", *rows]))
    for layout in (Layout(), Layout(zone="Europe/Paris")):
        found = table.parse(tmp_path / "log.csv", layout)
        assert found.table["at"].to_pylist() == [1_500_000_000_000_000, 1_500_000_001_000_000]
        assert [line for line, _ in found.refused] == [3, 4]


def test_a_time_that_clocks_show_twice_or_leave_out_is_refused_for_that(tmp_path: Path) -> None:
    rows = ["a,x,2023-10-29 02:30:00", "b,x,2023-03-26 02:30:00", "c,x,2023-10-29 03:30:00", "d,x,2023-10-29 02:30:00+02:00", "e,x,soon"]
    (tmp_path / "log.csv").write_text("\n".join(["reader_id,article_id,ts", *rows]))
    found = table.parse(tmp_path / "log.csv", Layout(zone="Europe/Paris"))
    assert found.table["reader"].to_pylist() == ["d", "c"]
    assert [(line, "clocks show twice" in why) for line, why in found.refused] == [(2, True), (3, True), (6, False)]


def test_a_header_alone_needs_no_line_end(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("reader_id,article_id,ts")
    assert table.parse(tmp_path / "log.csv").read == 0


def test_an_id_with_a_control_character_is_refused(tmp_path: Path) -> None:
    """A writer that died left zero bytes in the file."""
    good = [f"r{i},x,{1_500_000_000 + i}" for i in range(60)]
    (tmp_path / "log.csv").write_text("\n".join(["reader_id,article_id,ts", *good, "b\0c,x,1500000000"]))
    found = table.parse(tmp_path / "log.csv", Layout(unit="s"))
    assert found.table.num_rows == 60
    assert found.refused == ((62, "an id holds a zero byte, a line end or another control character"),)


TIMES = [1_500_000_000, 1_500_000_001]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"reader_id": [[1], [2]]}, "column 'reader_id' holds list"),
        ({"article_id": [b"\xff\x00", b"ab"]}, "column 'article_id' holds binary"),
        ({"session": [[1], [2]]}, "column 'session' holds list"),
        ({"ts": [[1], [2]]}, "the column of times holds list"),
        ({"ts": [{"a": 1}, {"a": 2}]}, "the column of times holds struct"),
    ],
)
def test_a_column_of_a_type_that_is_no_id_and_no_time_is_refused_in_words(
    tmp_path: Path, columns: dict[str, list[object]], says: str
) -> None:
    pq.write_table(pa.table({"reader_id": ["a", "b"], "article_id": [1, 2], "ts": TIMES} | columns), tmp_path / "log.parquet")
    with pytest.raises(DataError, match=says):
        table.parse(tmp_path / "log.parquet", Layout(unit="s"))


def test_a_time_beyond_63_bits_is_one_refused_row(tmp_path: Path) -> None:
    times = pa.array([2**63 + 5, 1_500_000_000_000_000], pa.uint64())
    pq.write_table(pa.table({"reader_id": ["a", "b"], "article_id": [1, 2], "ts": times}), tmp_path / "log.parquet")
    found = table.parse(tmp_path / "log.parquet", Layout(unit="us"))
    assert found.table["reader"].to_pylist() == ["b"]
    assert "outside 2000 to 2100" in found.refused[0][1]


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ("[columns]\nreader_id = 5\n", 'columns must be a table of role = "column of the file"'),
        ('columns = "x"\n', "columns must be a table"),
        ("unit = 5\n", "unit must be text in quotes"),
        ("zone = 5\n", "zone must be text in quotes"),
        ('[columns]\nreader_id = "ts"\n', "the column 'ts' more than one role"),
    ],
)
def test_a_mapping_that_is_none_is_refused_in_words(tmp_path: Path, mapping: str, says: str) -> None:
    (tmp_path / "map.toml").write_text(mapping)
    with pytest.raises(DataError) as caught:
        table.read_layout(tmp_path / "map.toml")
    assert says in str(caught.value)
    with pytest.raises(DataError, match="the mapping cannot be read"):
        table.read_layout(tmp_path)


def test_a_reader_column_called_session_names_no_session(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("session,article_id,ts\na,x,1500000000\na,y,1500009000\n")
    found = table.parse(tmp_path / "log.csv", Layout({"reader_id": "session"}, unit="s"))
    assert len(set(found.table["session"].to_pylist())) == 2


@pytest.mark.parametrize(("zone", "hour"), [("", 2), ("UTC", 2), ("Europe/Paris", 4)])
def test_times_of_parquet_are_read_as_they_are_typed(tmp_path: Path, zone: str, hour: int) -> None:
    """With a zone in the type nothing need be declared; without one, or as days, it must be."""
    moment, day = datetime(2017, 7, 14, hour, 40), datetime(2017, 7, 13, 22)
    for kind in (pa.timestamp("ms", "UTC"), pa.timestamp("ns", "Asia/Tokyo")) if not zone else (pa.timestamp("s"), pa.timestamp("ns")):
        pq.write_table(
            pa.table({"reader_id": ["a", "b"], "article_id": ["x", "y"], "ts": pa.array([moment, None], kind)}), tmp_path / "log.parquet"
        )
        found = table.parse(tmp_path / "log.parquet", Layout(zone=zone))
        assert found.table["at"].to_pylist() == [1_500_000_000_000_000]
        assert found.refused == ((2, "the time is missing or not readable"),)
    days = pa.table({"reader_id": ["a"], "article_id": ["x"], "ts": pa.array([date(2017, 7, 14)])})
    pq.write_table(days, tmp_path / "days.parquet")
    found = table.parse(tmp_path / "days.parquet", Layout(zone="Europe/Paris"))
    assert found.table["at"].to_pylist() == [round(day.replace(tzinfo=UTC).timestamp() * 1e6)]


def test_sessions_are_cut_after_thirty_minutes_without_a_read(tmp_path: Path) -> None:
    rows = ["b,x,0", "a,x,0", "a,y,1799", "a,z,3599", "b,y,10"]
    shifted = [f"{r},{a},{1_500_000_000 + int(t)}" for r, a, t in (row.split(",") for row in rows)]
    (tmp_path / "log.csv").write_text("\n".join(["who,what,when", *shifted]))
    layout = Layout({"reader_id": "who", "article_id": "what", "ts": "when"}, unit="s")
    found = table.parse(tmp_path / "log.csv", layout).table
    assert list(zip(found["article"].to_pylist(), found["session"].to_pylist(), strict=True)) == [
        ("x", "b\x1f\x1f1500000000000000"), ("x", "a\x1f\x1f1500000000000000"), ("y", "b\x1f\x1f1500000000000000"),
        ("y", "a\x1f\x1f1500000000000000"), ("z", "a\x1f\x1f1500003599000000"),
    ]  # fmt: skip


def test_sessions_of_different_readers_and_files_are_never_one(tmp_path: Path) -> None:
    """A log may number each reader's visits from 1, and files of a month each are imported one by one."""
    rows = ["a,x,0,1", "b,y,10,1", "a,y,20,1", "a/1,z,30,", "a,z,40,/1"]
    shifted = [f"{r},{a},{1_500_000_000 + int(t)},{s}" for r, a, t, s in (row.split(",") for row in rows)]
    (tmp_path / "log.csv").write_text("\n".join(["reader_id,article_id,ts,session", *shifted]))
    found = table.parse(tmp_path / "log.csv", Layout(unit="s")).table
    assert clicks(found).previous.tolist() == [-1, -1, 0, -1, -1]
    for month, at in (("m1", 1_500_000_000), ("m2", 1_502_600_000)):
        (tmp_path / f"{month}.csv").write_text(f"reader_id,article_id,ts\na,{month},{at}\n")
        import_log("table", tmp_path / f"{month}.csv", tmp_path / "home", layout=Layout(unit="s"))
    assert len(set(lake.reads(tmp_path / "home", until_us=2**62)["session"].to_pylist())) == 2


def test_rows_that_name_no_session_are_cut_by_their_own_readers(tmp_path: Path) -> None:
    """Strangers without a session had one in common: the next click of one was another's."""
    rows = ["a,x,0,s", "b,x,0,", "c,y,10,", "b,y,20,", "b,z,4000, "]
    shifted = [f"{r},{a},{1_500_000_000 + int(t)},{s}" for r, a, t, s in (row.split(",") for row in rows)]
    (tmp_path / "log.csv").write_text("\n".join(["reader_id,article_id,ts,session", *shifted]))
    found = table.parse(tmp_path / "log.csv", Layout(unit="s")).table
    assert clicks(found).previous.tolist() == [-1, -1, -1, 1, -1]
    globo_csv(tmp_path / "clicks.csv", f"1,,1,2,10,{START_MS},4", f"2,,1,2,11,{START_MS + 1},4")
    assert len(set(globo.parse(tmp_path / "clicks.csv").table["session"].to_pylist())) == 2


def test_ids_of_64_bits_stay_exact_and_decimals_are_refused(tmp_path: Path) -> None:
    big = 9_200_000_000_000_000_001
    pq.write_table(pa.table({"reader_id": [big], "article_id": [-big], "ts": [1_500_000_000]}), tmp_path / "log.parquet")
    assert table.parse(tmp_path / "log.parquet", Layout(unit="s")).table["reader"].to_pylist() == [str(big)]
    pq.write_table(pa.table({"reader_id": [1.5], "article_id": [1], "ts": [1_500_000_000]}), tmp_path / "float.parquet")
    with pytest.raises(DataError, match="decimal numbers"):
        table.parse(tmp_path / "float.parquet", Layout(unit="s"))


DESKDROP = "timestamp,eventType,contentId,personId,sessionId,userAgent,userRegion,userCountry"


def test_deskdrop_weighs_events_and_drops_repeated_rows(tmp_path: Path) -> None:
    rows = ["1465413032,VIEW,-3499919498720038879,-88,12,,,", '1465413040,COMMENT CREATED,-3499919498720038879,-88,12,"A, b",NY,US']
    (tmp_path / "users_interactions.csv").write_text("\n".join([DESKDROP, rows[0], rows[1], rows[0]]))
    parsed = parse_log(recognise(tmp_path), tmp_path)
    assert parsed.table["weight"].to_pylist() == [1.0, 4.0]
    assert parsed.table["article"].to_pylist() == ["-3499919498720038879"] * 2
    assert parsed.refused == ((4, "the row repeats an earlier one"),)


def test_an_event_that_is_not_known_is_told(tmp_path: Path) -> None:
    rows = ["1465413032,SHARE,-5,7,12,,,", "1465413033,view,-5,7,12,,,", "1465413034,VIEW,-5,7,12,,,", "1465413035,SHARE,-5,7,12,,,"]
    (tmp_path / "users_interactions.csv").write_text("\n".join([DESKDROP, *rows]))
    parsed = deskdrop.parse(tmp_path)
    assert parsed.table["weight"].to_pylist() == [1.0] * 4
    assert [note.split(",")[0] for note in parsed.notes] == ["2 rows have the event 'SHARE'", "1 rows have the event 'view'"]


def test_a_cut_article_file_keeps_what_precedes_the_cut(tmp_path: Path) -> None:
    head = "timestamp,eventType,contentId,title,text,lang"
    (tmp_path / "shared_articles.csv").write_text(
        f'{head}\n1465413032,CONTENT SHARED,5,One,"two\nlines",en\n1465413033,CONTENT SHARED,6,Two,"cut he'
    )
    articles, faults = deskdrop.parse_articles(tmp_path / "shared_articles.csv")
    assert [(a.id, a.title, a.body) for a in articles] == [("5", "One", "two\nlines")]
    assert [line for line, _ in faults] == [4]


def test_long_texts_are_read_and_other_readers_of_csv_keep_their_limit(tmp_path: Path) -> None:
    before, long = csv.field_size_limit(), "x" * 200_000
    (tmp_path / "shared_articles.csv").write_text(
        f"timestamp,eventType,contentId,title,text,lang\n1465413032,CONTENT SHARED,5,One,{long},en\n"
    )
    (article,), faults = deskdrop.parse_articles(tmp_path / "shared_articles.csv")
    assert (article.body, faults, csv.field_size_limit()) == (long, (), before)


def test_the_globo_file_comes_in_whole() -> None:
    parsed = globo.parse(needs("globo/globo_clicks_h000_191.parquet"))
    assert (parsed.table.num_rows, parsed.reasons, len(parsed.articles)) == (1_539_319, {}, 26_351)
    assert len(parsed.table["session"].unique()) == 541_977
    assert len(parsed.table["reader"].unique()) == 237_481


def test_deskdrop_comes_in_but_for_its_eleven_repeated_rows() -> None:
    parsed = deskdrop.parse(needs("deskdrop"))
    assert (parsed.read, parsed.table.num_rows, len(parsed.articles)) == (72_312, 72_301, 2_987)
    assert sum(not a.title.startswith("Article ") for a in parsed.articles) == 213
    assert parsed.notes[0].startswith("shared_articles_top214_truncated.csv line 215: 14 columns instead of 16")
