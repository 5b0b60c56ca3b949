"""Which articles every arm showed, and whose readers opened what: from events, sealed or not."""

from __future__ import annotations

from collections import Counter
from hashlib import md5
from pathlib import Path

import pytest

from experiments.events.lake_articles import Shown, articles_shown, reads_of_arms
from experiments.events.loader import Loader
from experiments.events.sealing import seal
from experiments.experiment import Arm, Experiment
from tests.events.story import DAY, START, Story, send

ARMS = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.5))
PLAN = Experiment("related", "Does it pay?", "status_quo", ARMS, window_days=1.0)
ODD = 'it\'s "odd"]'


def showed(story: Story, reader: str, minute: float, arm: str, articles: list[str], **more: object) -> None:
    page = story.exposed(reader, minute, arm, page={"article": f"opened by {reader}"}, **more)
    body = {"slot": "article.related", "articles": articles, "latency_us": 1}
    story.add("impression", page, reader, minute, arm=arm, body=body, **more)


def story_of() -> Story:
    story = Story()
    story.page("anna", -40)
    showed(story, "anna", 0, "front", ["a1", ODD])
    showed(story, "anna", 20, "front", ["a1", "a3"])
    showed(story, "anna", 2 * 1440, "front", ["after her window"])
    showed(story, "bert", 5, "front", ["a1"])
    showed(story, "carl", 5, "status_quo", [])
    showed(story, "robot", 7, "front", ["seen by a robot"], bot=True)
    showed(story, "dora", 9.5 * 1440, "front", ["her window is not over"])
    story.page("dora", 60)  # before she was in the test: nobody's reader yet
    story.page("eric", 30)
    story.page("eric", 31, "front")
    return story


def asked(home: Path) -> tuple[Shown, dict[str, int]]:
    cut = {"until_us": START + 10 * DAY, "source": "live"}
    return articles_shown(home, PLAN, **cut), reads_of_arms(home, PLAN, **cut)  # type: ignore[arg-type]


def sealed(home: Path) -> None:
    with Loader(home, clock=lambda: START + 12 * DAY) as loader:
        seal(home, until_us=START + 5 * DAY, loader=loader)


def test_places_are_counted_per_arm_bucket_and_article_in_the_readers_windows(tmp_path: Path) -> None:
    send(tmp_path, story_of().events)
    shown, _ = asked(tmp_path)
    assert set(shown.arms) == {"front"}
    bucket, article, places = shown.arms["front"]
    ours = {reader: int(md5(reader.encode(), usedforsecurity=False).hexdigest()[:8], 16) % 200 for reader in ("anna", "bert")}
    per_bucket: Counter[int] = Counter()
    for b, n in zip(bucket.tolist(), places.tolist(), strict=True):
        per_bucket[b] += n
    assert per_bucket == {ours["anna"]: 4, ours["bert"]: 1}
    per_article: Counter[int] = Counter()
    for a, n in zip(article.tolist(), places.tolist(), strict=True):
        per_article[a] += n
    assert sorted(per_article.values()) == [1, 1, 3]
    # a1, a3, the odd one; opened: one by anna, bert, carl, dora each, and the story's "a1"; what a robot opened does not count
    assert (shown.catalogue, shown.buckets) == (7, 200)


def test_what_all_arms_learn_from_is_told_by_whose_readers_opened_it(tmp_path: Path) -> None:
    send(tmp_path, story_of().events)
    assert asked(tmp_path)[1] == {"": 2, "front": 5, "status_quo": 1}


@pytest.mark.usefixtures("either_engine_long")
def test_sealed_days_give_the_same_from_the_bodies_they_keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    send(tmp_path, story_of().events)
    before = asked(tmp_path)
    sealed(tmp_path)
    after = [asked(tmp_path)]
    monkeypatch.setattr("experiments.events.lake_tables.EVENTS_AT_ONCE", 5)
    after.append(asked(tmp_path))
    for shown, reads in after:
        assert reads == before[1]
        assert shown.catalogue == before[0].catalogue
        assert [column.tolist() for column in shown.arms["front"]] == [column.tolist() for column in before[0].arms["front"]]


def test_without_events_nothing_was_shown(tmp_path: Path) -> None:
    shown, reads = asked(tmp_path)
    assert (dict(shown.arms), shown.catalogue, reads) == ({}, 0, {})
