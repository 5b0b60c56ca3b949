"""Candidate recall: a site whose events a person can count, from the outbox through the store to the page."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from experiments.content import add_articles, load_catalogue
from experiments.events import lake
from experiments.serving.artefacts import publish, write_bundle
from experiments.serving.recommender import Article
from experiments.settings import Settings
from recsys import fit_als
from recsys.candidate_recall import main, measure
from recsys.interactions import to_reads
from tests.events.story import MINUTE, START, Story, send
from web.jobs import timetable
from web.standing import standing
from web.stored import Stored

HOUR = 60
UNTIL = START + 3 * HOUR * MINUTE
READ, ARTICLES = 110, 150  # the last forty were never read: neither hot, nor read after another, nor with a vector


def opened(story: Story, reader: str, minute: float, article: int, *, agreed: bool = True) -> None:
    story.page(reader, minute, body={"article": f"a{article:03d}", "agreed": agreed})


def learn(home: Path, *, until: int) -> None:
    """Publish vectors learned from the events before ``until`` as the ranker's."""
    catalogue = load_catalogue(home)
    reads = to_reads(lake.reads(home, until_us=until), catalogue)
    arrays, about = fit_als.fit(reads, catalogue, until=until / 1e6, seed=0)
    publish(home, "ranked", write_bundle(home / "models" / "ranked", arrays, {**about, "until": until}).version, at_us=until)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Two hours in which 110 of 150 articles are read; in the third hour three readers go on to another article."""
    day_before = datetime.fromtimestamp(START / 1e6 - 86_400, UTC)
    add_articles(tmp_path, [Article(f"a{i:03d}", f"Title {i}", "", "", "city", "x", day_before) for i in range(ARTICLES)])
    story = Story()
    for article in range(READ):
        for reader in range(2):
            opened(story, f"r{article}-{reader}", article, article)
            opened(story, f"r{article}-{reader}", article + 1, (article + 1) % READ)
    opened(story, "anna", 2 * HOUR + 10, 0)
    opened(story, "anna", 2 * HOUR + 11, 1)  # read right after the first by others: a candidate
    opened(story, "ben", 2 * HOUR + 20, 0)
    opened(story, "ben", 2 * HOUR + 21, ARTICLES - 1)  # nobody read it before: no candidate
    opened(story, "cleo", 2 * HOUR + 30, 0, agreed=False)
    opened(story, "cleo", 2 * HOUR + 31, ARTICLES - 2, agreed=False)  # the ranker never serves her
    opened(story, "dora", 3 * HOUR + 5, 0)
    opened(story, "dora", 3 * HOUR + 6, 1)  # after the hour
    send(tmp_path, story.events)
    return tmp_path


def test_of_two_articles_opened_next_in_the_last_hour_one_was_a_candidate(site: Path) -> None:
    learn(site, until=START + 2 * HOUR * MINUTE)
    state = measure(site, until_us=UNTIL)
    assert (state["page_views"], state["found"], state["recall"], state["version"]) == (2, 1, 0.5, "1")
    shown = {row["arm"]: row["recall"] for row in standing(Stored(Settings(home=site), lambda: UNTIL))["arms"]}
    assert shown["ranked"] == state
    assert shown["front"] is None


def test_hours_add_up_to_a_day_and_the_same_hour_counts_once(site: Path) -> None:
    learn(site, until=START + 2 * HOUR * MINUTE)
    for _ in range(2):
        measure(site, until_us=UNTIL)
    later = measure(site, until_us=UNTIL + HOUR * MINUTE)
    assert (later["page_views"], later["recall"]) == (1, 1.0)
    assert [one["page_views"] for one in later["hours"]] == [2, 1]
    assert later["day"] == {"page_views": 3, "found": 2, "recall": 2 / 3}
    quiet = measure(site, until_us=UNTIL + 30 * HOUR * MINUTE)
    assert (quiet["recall"], quiet["day"]["recall"], len(quiet["hours"])) == (None, None, 3)


def test_a_model_is_not_asked_about_page_views_it_may_have_learned_from(site: Path) -> None:
    learn(site, until=START + (2 * HOUR + 15) * MINUTE)
    assert (measure(site, until_us=UNTIL)["page_views"], measure(site, until_us=UNTIL)["found"]) == (1, 0)


def test_what_happens_after_the_hour_changes_nothing(site: Path) -> None:
    learn(site, until=START + 2 * HOUR * MINUTE)
    before = measure(site, until_us=UNTIL)
    story = Story(pages=10_000)
    for reader in range(100):
        opened(story, f"late{reader}", 3 * HOUR + 1, ARTICLES - 1)
    send(site, story.events)
    assert measure(site, until_us=UNTIL) == before


def test_the_job_runs_every_hour_and_says_what_it_found(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--home", str(site), "--until", str(UNTIL)]
    assert main(arguments) == 3
    assert "no version of 'ranked' is in force" in json.loads(capsys.readouterr().out)["reason"]
    learn(site, until=START + 2 * HOUR * MINUTE)
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["says"] == "50.0% of 2 articles opened next in the hour to 03:00 UTC were candidates"
    assert main(["--home", str(site), "--until", str(UNTIL + 30 * HOUR * MINUTE)]) == 0
    assert json.loads(capsys.readouterr().out)["says"] == "nobody went on to another article in the hour to 09:00 UTC"
    (job,) = [job for job in timetable(Settings(home=site, profile="production")) if job.name == "recall"]
    assert job.schedule() == "every hour at :50"
    assert job.command[0] == "recsys.candidate_recall"
