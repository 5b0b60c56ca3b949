"""MIND and anybody's table: what a row means, and what a broken one is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.content import load_catalogue
from experiments.errors import DataError
from experiments.events import lake
from recsys.importers import mind, table
from recsys.importers.log import import_log, parse_log, recognise
from recsys.importers.table import Layout, declared

DATA = Path(os.environ.get("PRESSLAB_DATA", Path(__file__).parents[2] / "../shared/data"))
AT = "11/12/2019 2:14:46 PM"
AT_US = 1_573_568_086_000_000


def folder(path: Path, *rows: str, news: tuple[str, ...] = ()) -> Path:
    (path / "behaviors.tsv").write_text("\n".join(rows) + "\n")
    if news:
        (path / "news.tsv").write_text("\n".join(news) + "\n")
    return path


def test_clicked_impressions_are_reads_and_histories_are_not(tmp_path: Path) -> None:
    parsed = mind.parse(folder(tmp_path, f"1\tU1\t{AT}\tN8 N9\tN1-0 N2-1 N3-1", "2\tU2\t11/12/2019 2:15:46 PM\t\tN1-0"))
    assert parsed.table.select(["reader", "article", "at"]).to_pydict() == {
        "reader": ["U1", "U1"], "article": ["N2", "N3"], "at": [AT_US, AT_US],
    }  # fmt: skip
    assert (parsed.read, parsed.reasons) == (2, {})
    assert parsed.notes[0].startswith("2 page views showed 4 articles, 2 were clicked; histories carry no time")


def test_news_is_published_when_it_was_first_shown_and_may_lack_an_abstract(tmp_path: Path) -> None:
    news = (
        'N2\tsports\tgolf\tA "quoted\' title\t\thttps://x\t[]\t[]', "N3\tnews\tcity\tThree\tWords.\thttps://x\t[]\t[]",
        "N7\tnews\tcity\tNever shown\t\thttps://x\t[]\t[]",
    )  # fmt: skip
    rows = ("1\tU1\t11/12/2019 2:10:46 PM\t\tN2-0", f"2\tU1\t{AT}\t\tN2-1 N3-1 N4-1")
    articles = {a.id: a for a in mind.parse(folder(tmp_path, *rows, news=news)).articles}
    assert set(articles) == {"N2", "N3", "N4"}
    assert (articles["N2"].title, articles["N2"].section, articles["N2"].dek) == ("A \"quoted' title", "sports", "")
    assert [round(articles[i].published_at.timestamp() * 1e6) for i in ("N2", "N3")] == [AT_US - 240_000_000, AT_US]
    assert articles["N4"].title == "Article N4"


def test_every_broken_row_is_told_with_its_line_and_reason(tmp_path: Path) -> None:
    rows = (
        f"1\tU1\t{AT}\t\tN2-1", f"2\tU1\t{AT}", f"3\tU1\t{AT}\t\tN2-1 N3-2 N4", "4\tU1\t2019-11-12\t\tN5-1", f"5\t\t{AT}\t\tN6-1", "",
        f"1\tU1\t{AT}\t\tN2-1", f"8\tU1\t{AT}\t\tN7-1 N12",
    )  # fmt: skip
    parsed = mind.parse(folder(tmp_path, *rows))
    assert parsed.table["article"].to_pylist() == ["N2"]
    assert parsed.refused == (
        (2, "3 columns instead of 5; is the row cut?"),
        (3, "the impression 'N3-2' ends with neither -0 nor -1; is the row cut?"),
        (4, "the time is missing or not readable"),
        (5, "the reader is missing"),
        (7, "the row repeats an earlier one"),
        (8, "the impression 'N12' ends with neither -0 nor -1; is the row cut?"),
    )
    with pytest.raises(DataError, match="nothing was written"):
        import_log("mind", tmp_path, tmp_path / "home")
    assert len(load_catalogue(tmp_path / "home")) == 0


def test_a_page_view_without_a_click_may_be_broken_too(tmp_path: Path) -> None:
    rows = ("1\tU1\tsoon\t\tN1-0", f"2\t\t{AT}\t\tN1-0 N2-0", f"3\tU3\t{AT}\t\tN1-0", f"4\tU4\t{AT}\t\tN1-1", "5\tU5\tsoon\t\tN1")
    parsed = mind.parse(folder(tmp_path, *rows))
    assert parsed.refused == (
        (1, "the time is missing or not readable"), (2, "the reader is missing"),
        (5, "the impression 'N1' ends with neither -0 nor -1; is the row cut?"),
    )  # fmt: skip
    assert (parsed.read, parsed.table.num_rows) == (4, 1)


@pytest.mark.parametrize(
    ("written", "us"),
    [
        ("1/1/2020 12:00:00 AM", 1_577_836_800_000_000),
        ("12/31/2019 12:59:59 PM", 1_577_797_199_000_000),
        ("02/29/2020 01:02:03 PM", 1_582_981_323_000_000),
        ("02/29/2019 1:02:03 PM", None),
        ("4/31/2019 1:02:03 PM", None),
        ("1/1/0000 1:02:03 PM", None),
        ("13/1/2019 1:02:03 PM", None),
        ("1/1/2019 13:02:03 PM", None),
        ("1/1/2019 0:02:03 AM", None),
        ("1/1/2019 1:60:03 AM", None),
        ("1/1/2019 1:02:03", None),
        (" 1/1/2019 1:02:03 AM", None),
        ("", None),
    ],
)
def test_only_a_moment_that_exists_is_a_time(tmp_path: Path, written: str, us: int | None) -> None:
    parsed = mind.parse(folder(tmp_path, f"1\tU1\t{written}\t\tN2-1"))
    assert parsed.table["at"].to_pylist() == ([] if us is None else [us])
    assert parsed.refused == (() if us else ((1, "the time is missing or not readable"),))


def test_news_cut_in_the_middle_keeps_what_precedes_the_cut(tmp_path: Path) -> None:
    news = ("N2\tnews\tcity\tTwo\tWords.\thttps://x\t[]\t[]", "N3\tnews\tcity\tThr")
    parsed = mind.parse(folder(tmp_path, f"1\tU1\t{AT}\t\tN2-1 N3-1", news=news))
    assert [a.title for a in parsed.articles] == ["Two", "Article N3"]
    assert parsed.notes[1] == "news.tsv line 2: 4 columns instead of 8; is the row cut?"


@pytest.mark.parametrize(
    ("content", "says"),
    [("<html>Sign in</html>", "web page"), ("a,b,c\n1,2,3\n", "no row has the 5 columns"), ("", "empty, not even a header")],
)
def test_a_file_that_is_not_mind_is_refused_in_words(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "behaviors.tsv").write_text(content)
    with pytest.raises(DataError, match=says):
        mind.parse(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        mind.parse(tmp_path / "nowhere")


def test_mind_is_recognised_and_reaches_the_lake_once(tmp_path: Path) -> None:
    assert recognise(folder(tmp_path, f"1\tU1\t{AT}\t\tN2-1", news=("N2\tnews\tcity\tTwo\t\tx\t[]\t[]",))) == "mind"
    assert recognise(tmp_path / "behaviors.tsv") == "mind"
    home = tmp_path / "home"
    first, again = (import_log("mind", tmp_path / "behaviors.tsv", home) for _ in range(2))
    assert (first.kept, again.sha256) == (1, first.sha256)
    assert lake.reads(home, until_us=AT_US + 1)["article"].to_pylist() == ["N2"]


@pytest.mark.skipif(not (DATA / "mind_subset").exists(), reason="needs ../shared/data/mind_subset (not present)")
def test_the_mind_subset_comes_in_whole() -> None:
    parsed = parse_log("mind", DATA / "mind_subset")
    assert (parsed.read, parsed.reasons, len(parsed.notes)) == (parsed.table.num_rows, {}, 1)
    assert parsed.notes[0].startswith("5,000 page views")
    known, faults = mind.parse_news(DATA / "mind_subset" / "news.tsv")
    assert (len(known), faults, sum(not a.dek for a in known)) == (2_000, (), 99)


ROWS = "who,what,at,kind,arm\nr,x,1500000000,View,als\nr,y,1500000010,impression,als\nr,y,1500000020,view,als\n"


def test_events_that_are_no_reads_are_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(ROWS)
    layout = Layout({"reader_id": "who", "article_id": "what", "ts": "at", "event": "kind"}, unit="s")
    parsed = table.parse(tmp_path / "log.csv", layout)
    assert parsed.table["article"].to_pylist() == ["x", "y"]
    assert parsed.notes == ("1 rows with the event 'impression' are not reads and were left out.",)
    assert parsed.read == 2


def test_a_name_does_not_say_what_a_file_holds(tmp_path: Path) -> None:
    (tmp_path / "log.csv.gz").write_text("reader_id,article_id,ts\nr,x,1500000000\n")
    assert table.parse(tmp_path / "log.csv.gz", Layout(unit="s")).read == 1


def test_faults_keep_their_lines_when_other_events_and_blank_lines_lie_between(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("reader_id,article_id,ts,event\nr,x,1500000000,view\nr,y,1,impression\n\nr,,1500000020,view\nr\n")
    assert table.parse(tmp_path / "log.csv", Layout(unit="s")).refused == (
        (5, "the article is missing"),
        (6, "1 columns instead of 4"),
    )


def test_the_command_reads_a_mapping_file(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(ROWS)
    (tmp_path / "map.toml").write_text('unit = "s"\n[columns]\nreader_id = "who"\narticle_id = "what"\nts = "at"\nevent = "kind"\n')
    command = [sys.executable, "-m", "web", "data", "import", "table", tmp_path / "log.csv", "--mapping", tmp_path / "map.toml"]
    done = subprocess.run([*command, "--home", tmp_path / "home", "--json"], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert (told["kept"], told["articles"], len(told["notes"])) == (2, 2, 1)


def test_a_mapping_that_cannot_be_used_is_refused_and_what_is_said_beside_it_wins(tmp_path: Path) -> None:
    file = tmp_path / "map.toml"
    file.write_text('unit = "s"\nzone = "UTC"\n')
    assert declared(file, unit="ms") == Layout(unit="ms", zone="UTC")
    for text, says in (
        ("unit = [", "not readable as TOML"),
        ('units = "s"', "did you mean 'unit'"),
        ('[columns]\nreader = "x"', "the role 'reader'"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=says):
            declared(file)
    with pytest.raises(DataError, match="no such file"):
        declared(tmp_path / "none.toml")


def test_a_column_that_is_missing_is_told_with_the_way_to_name_it(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,article_id,ts\n1,2,3\n")
    with pytest.raises(DataError) as refused:
        table.parse(tmp_path / "log.csv", Layout(unit="s"))
    assert refused.value.hint == "Say by --mapping FILE which column is which (docs/import.md)."
    assert refused.value.faults == ("column 'reader_id' is missing",)
