from __future__ import annotations

import copy
import csv
import gzip
import io
import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.http import parse_options_header

from tests.web import results
from tests.web.markup import Element, parse, texts
from tests.web.preview import PreviewSite
from web.owner.memo import memo_of
from web.owner.pages import card_of
from web.owner.trusted import trust_lines

BANNED = ("p-value", "significant", "null hypothesis", "confidence", "credible", "lift", "uplift", "SRM", "posterior")
PAGES = ("/", "/jobs", "/models", "/drift", "/explain", "/health", "/record", *(f"/experiment/{name}" for name in results.REPORTS))
ORDER = [
    "Can we trust it?",
    "What changed",
    "What it is worth",
    "How it settled",
    "For whom: look, do not decide",
    "What we still do not know",
]


def open_page(client: FlaskClient, address: str) -> Element:
    answer = client.get(f"/console/en{address}")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    return parse(answer.text)


@pytest.mark.parametrize("address", PAGES)
def test_every_page_is_well_formed_and_has_one_heading_and_no_empty_cell(client: FlaskClient, address: str) -> None:
    page = open_page(client, address)
    assert len(page.all("h1")) == 1
    names = [e.attributes["id"] for e in page.walk() if "id" in e.attributes]
    assert len(names) == len(set(names))
    cells = [cell for table in page.all("table", "plain") for cell in table.all("td")]
    assert [cell for cell in cells if not cell.text and not cell.all("svg")] == []


def test_the_navigation_names_seven_places_and_marks_where_we_are(client: FlaskClient) -> None:
    nav = open_page(client, "/jobs").one("nav")
    assert texts(nav.all("a")) == ["Experiments", "Models", "Drift", "Explain", "Jobs", "Health", "Record"]
    assert [a.text for a in nav.all("a") if a.attributes.get("aria-current") == "page"] == ["Jobs"]


@pytest.mark.parametrize("name", results.REPORTS)
def test_a_report_follows_the_order_and_begins_with_the_decision(client: FlaskClient, name: str) -> None:
    headings = texts(open_page(client, f"/experiment/{name}").all("h2"))
    assert headings[1:] == [*ORDER, "Numbers and method", "Decision log"]


@pytest.mark.parametrize("name", results.REPORTS)
def test_no_banned_word_stands_before_the_numbers(client: FlaskClient, name: str) -> None:
    text = open_page(client, f"/experiment/{name}").one("main").text.split("Numbers and method")[0]
    found = [word for word in BANNED if re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE)]
    assert found == []


@pytest.mark.parametrize(
    "address", [*(f"/console/en{page}" for page in PAGES), "/en/", "/en/privacy", "/en/how-we-choose", "/en/why/TOKEN"]
)
def test_no_sentence_of_a_page_is_longer_than_25_words(client: FlaskClient, address: str) -> None:
    spoken = [
        e.text for e in parse(client.get(address).text).one("main").all() if e.tag in ("p", "h1", "h2", "dd", "figcaption", "span", "small")
    ]
    assert [s for text in spoken for s in re.split(r"(?<=[.!?:;])\s", text) if len(s.split()) > 25] == []


@pytest.mark.parametrize(
    ("name", "headline", "badge"),
    [
        ("related", "Ship front", "Ready to decide"),
        ("headlines", "Keep running", "Running"),
        ("sport-box", "Do not use these numbers", "Not trustworthy"),
        ("footers", "No practical difference: take status quo", "Ready to decide"),
        ("odd", "Keep status quo", "Ready to decide"),
    ],
)
def test_the_verdict_says_what_to_do(client: FlaskClient, name: str, headline: str, badge: str) -> None:
    page = open_page(client, f"/experiment/{name}")
    assert page.one("h2", "headline").text == headline
    assert page.all("span", "badge")[0].text == badge


@pytest.mark.parametrize(
    ("ends", "says"),
    [({}, "21 November 2026"), ({"stopped_at": "2026-11-18T15:00:00+00:00"}, "18 November 2026")],
)
def test_the_list_says_until_when_a_test_really_ran(preview: PreviewSite, ends: dict[str, str], says: str) -> None:
    (summary,) = (known for known in preview.reports() if known["name"] == "related")
    assert card_of(summary | ends).dates.endswith(f", until {says}")


def test_the_money_sentence_counts_the_dots(client: FlaskClient) -> None:
    page = open_page(client, "/experiment/related")
    drawings = page.all("svg", "dots")
    assert len(drawings) == 2
    hollow = [len(drawing.all("circle", "loss")) for drawing in drawings]
    captions = texts(page.all("figcaption"))
    assert [f"In {50 - n} of 50 equally likely outcomes" in caption for n, caption in zip(hollow, captions, strict=True)] == [True, True]


def test_before_the_end_there_are_counts_but_no_range(client: FlaskClient) -> None:
    page = open_page(client, "/experiment/headlines")
    assert "Not shown yet" in page.text
    assert not page.all("table", "forest")
    assert "498 readers" in page.text
    assert "No amount yet: before the planned end." in page.text


def test_an_untrusted_report_is_greyed_and_puts_the_failed_check_first(client: FlaskClient) -> None:
    page = open_page(client, "/experiment/sport-box")
    assert len(page.all("section", "distrusted")) == 3
    assert "Not ranked: a check above failed" in page.text
    assert "Knowing everything now" not in page.text
    assert 'aria-label="Studies"' not in client.get("/console/en/experiment/sport-box").text
    assert 'aria-label="Studies"' in client.get("/console/en/experiment/related").text
    first = page.one("ul", "checks").all("li")[0]
    assert "Traffic split" in first.text
    assert first.one("span", "mark").attributes["aria-label"] == "failed"


@pytest.mark.parametrize(
    ("state", "command"), [("running", "experiment stop sport-box"), ("stopped", "experiment decide sport-box status_quo")]
)
def test_an_untrusted_report_names_a_command_that_works_in_its_state(state: str, command: str) -> None:
    box = memo_of(results.REPORTS["sport-box"] | {"state": state}).verdict
    assert command in box.command


def test_a_reason_that_is_the_verdict_itself_is_not_said_twice() -> None:
    verdict = {"key": "do_not_use", "arm": None, "sentence": "Do not use these numbers: one arm fails.", "reasons": ["one arm fails"]}
    box = memo_of(results.REPORTS["sport-box"] | {"verdict": verdict, "sentences": []}).verdict
    assert (box.sentence, box.reasons) == ("One arm fails.", ())


def test_what_cannot_be_estimated_is_said_in_words(client: FlaskClient) -> None:
    rows = [row for row in open_page(client, "/experiment/odd").one("table", "forest").all("tr") if row.all("td", "unknown")]
    assert [row.one("td", "words").text for row in rows] == ["not estimable: ALS has no matured reader yet"]
    assert not rows[0].all("line", "whisker")


def test_hostile_names_stay_text(client: FlaskClient) -> None:
    for address in ("/", "/experiment/odd", "/experiment/odd.html", "/jobs"):
        page = client.get(f"/console/en{address}").text
        assert "<script>" not in page
        assert "Traceback <b>" not in page


def test_a_report_with_nothing_but_the_agreed_shape_still_renders(client: FlaskClient, preview: PreviewSite) -> None:
    keep = ("experiment", "control", "level", "snapshot", "arms", "checks", "effects", "roi", "verdict")
    bare: dict[str, Any] = {key: copy.deepcopy(results.SHIP[key]) for key in keep}
    for effect in bare["effects"]:
        for key in ("direction", "unit", "margin"):
            effect.pop(key)
    bare["roi"] = {
        **{key: bare["roi"][key] for key in ("currency", "horizon_days", "evpi", "unknowns", "studies", "next")},
        "scenarios": [
            {key: s[key] for key in ("arm", "expected", "low", "high", "p_positive", "p_best")} for s in bare["roi"]["scenarios"]
        ],
    }  # fmt: skip
    preview.stored["reports"] = {"bare": {**bare, "experiment": "bare"}}
    page = open_page(client, "/experiment/bare")
    assert page.one("h1").text == "Experiment bare"
    assert "Single outcomes were not stored" in page.text


def test_one_number_is_the_same_in_page_json_and_table(client: FlaskClient) -> None:
    stored = client.get("/console/en/experiment/related.json").get_json()
    effect = stored["effects"][0]
    cells = next(csv.DictReader(io.StringIO(client.get("/console/en/experiment/related.csv").text)))
    assert float(cells["relative.estimate"]) == effect["relative"]["estimate"]
    assert "+8.6% to +17%" in open_page(client, "/experiment/related").text


def test_the_saved_report_needs_no_other_file(client: FlaskClient) -> None:
    answer = client.get("/console/en/experiment/related.html")
    assert "attachment" in answer.headers["Content-Disposition"]
    page = parse(answer.text)
    assert not page.all("link")
    assert not page.all("script")
    assert not [e for e in page.walk() if "src" in e.attributes]
    assert len(answer.data) < 100_000


def test_a_report_of_any_name_can_be_saved(client: FlaskClient, preview: PreviewSite) -> None:
    preview.stored["reports"] = {"試験": {**results.SHIP, "experiment": "試験"}}
    for suffix in ("csv", "html"):
        answer = client.get(f"/console/en/experiment/試験.{suffix}")
        told = answer.headers["Content-Disposition"]
        assert (answer.status_code, told.isascii()) == (200, True)  # a server cannot send other letters in a header
        assert parse_options_header(told) == ("attachment", {"filename": f"試験.{suffix}"})


@pytest.mark.parametrize("address", PAGES)
def test_pages_are_small(client: FlaskClient, address: str) -> None:
    assert len(gzip.compress(client.get(f"/console/en{address}").data)) < 30_000


def test_an_experiment_without_a_report_says_what_happens_next(client: FlaskClient, preview: PreviewSite) -> None:
    summary: dict[str, Any] = {"name": "new", "question": "Does it pay?", "state": "running", "owner": "Ines", "verdict": None, "arms": []}
    preview.reports = lambda: [summary]  # type: ignore[method-assign]
    page = open_page(client, "/experiment/new")
    assert "No report yet" in page.text
    assert client.get("/console/en/experiment/unknown").status_code == 404


def test_a_long_list_of_experiments_comes_in_pages_and_is_searched(client: FlaskClient, preview: PreviewSite) -> None:
    preview.stored["reports"] = {f"t{i}": {**results.SHIP, "experiment": f"t{i}", "owner": "Bram" if i == 7 else "Ines"} for i in range(60)}
    first, second = open_page(client, "/"), open_page(client, "/?page=2")
    assert [len(page.all("article", "experiment")) for page in (first, second)] == [50, 10]
    assert [card.one("h2").one("a").attributes["href"] for card in open_page(client, "/?q=bram").all("article")] == [
        "/console/en/experiment/t7"
    ]
    assert not open_page(client, "/?state=Running").all("article")
    assert "None of 60 experiments holds all of these words" in open_page(client, "/?q=nobody").text


def test_a_job_runs_on_request_and_a_refusal_is_told(client: FlaskClient, preview: PreviewSite) -> None:
    answer = client.post("/console/en/jobs/als/run")
    assert answer.status_code == 303
    assert preview.ran == ["als"]
    assert "als starts within a second." in client.get(answer.headers["Location"]).text
    refused = client.get(client.post("/console/en/jobs/nix/run").headers["Location"]).text
    assert "no job is called &#39;nix&#39;" in refused


def test_overdue_and_failed_jobs_say_why(client: FlaskClient) -> None:
    rows = {row.one("th").text.split(" ")[0]: row.text for row in open_page(client, "/jobs").one("tbody").all("tr")}
    assert "overdue" in rows["drift"]
    assert "presslab worker" in rows["drift"]
    assert "3 readers, 20 needed" in rows["als"]


@pytest.mark.parametrize(
    ("key", "address", "words"),
    [
        ("reports", "/", "No experiment yet: plan one from a question."),
        ("models", "/models", "No model is trained."),
        ("drift", "/drift", "No reference yet"),
        ("explanation", "/explain", "No explanation is stored."),
        ("jobs", "/jobs", "The worker has never reported."),
        ("health", "/health", "Nothing was checked yet."),
    ],
)
def test_an_empty_page_names_the_next_step(client: FlaskClient, preview: PreviewSite, key: str, address: str, words: str) -> None:
    preview.stored["standing"] = {"refreshed": [], "arms": []}
    preview.stored[key] = {"reports": {}, "models": [], "jobs": [], "health": {"state": "ok"}}.get(key)
    assert words in open_page(client, address).text


def test_a_refused_model_is_named_with_its_reason_also_when_none_was_ever_published(client: FlaskClient) -> None:
    panel = next(section for section in open_page(client, "/models").all("section") if section.one("h2").text == "ranked")
    assert "The last training was refused" in panel.text
    assert "the gap of 5.0% is more than its uncertainty" in panel.text


def test_the_models_page_shows_gates_and_what_the_ranker_is_without_als(client: FlaskClient) -> None:
    panel = next(section for section in open_page(client, "/models").all("section") if section.one("h2").text == "ranked")
    assert "Gates, run 3: not all passed" in panel.text
    assert "less often than 'front'" in panel.text
    assert "without als" in panel.text.lower()
    assert "Experiment related-ranked, since 21 Nov 2026, 02:30 UTC: 5% of the audience get it." in " ".join(panel.text.split())
    assert {"ranked", "front"} <= set(texts(open_page(client, "/models").all("h2")))
    assert "newest" not in texts(open_page(client, "/models").all("h2"))


def test_the_models_page_says_which_version_was_judged_and_that_the_published_one_learned_more(client: FlaskClient) -> None:
    panels = {section.one("h2").text: section.text for section in open_page(client, "/models").all("section")}
    assert (
        "Judged was version 6 as readers got it, on page views from 21 Nov 2026, 12:00 UTC on, which it had not learned from"
        in panels["als"]
    )
    assert "Judged was a version made for it, of reads up to 20 Nov 2026, 02:00 UTC, on page views after them" in panels["ranked"]


def test_the_models_page_says_how_much_of_what_was_opened_next_could_have_been_shown(client: FlaskClient) -> None:
    panels = {section.one("h2").text: section.text for section in open_page(client, "/models").all("section")}
    assert "81.8% was among the candidates of ranked (812 of 993). Over the last 24 hours: 80%." in panels["ranked"]
    assert "candidates" not in panels["als"].lower()


def test_ages_stand_beside_the_limits_from_which_somebody_should_look(client: FlaskClient) -> None:
    ages = {row.one("th").text: row.text for row in open_page(client, "/models").all("table")[0].one("tbody").all("tr")}
    assert "fresh" in ages["Heat and co-reading"]
    assert "15 min" in ages["Heat and co-reading"]
    assert "too old" in ages["Article vectors"]
    assert "3 h" in ages["Article vectors"]


def test_health_begins_with_the_first_broken_thing(client: FlaskClient, preview: PreviewSite) -> None:
    assert open_page(client, "/health").one("h1").text == "The worker has not reported for 3 h. Start it: presslab worker"
    preview.stored["health"] = {"state": "ok", "since": "2026-11-20T09:00:00+00:00", "checks": []}
    assert open_page(client, "/health").one("h1").text == "All well since 20 Nov 2026, 09:00 UTC"


def test_an_explanation_of_one_slate_names_the_reads_behind_it(client: FlaskClient) -> None:
    page = open_page(client, "/explain?arm=als&article=hostile&reads=hostile,other")
    assert len(page.all("tbody")[-1].all("tr")) == 4
    assert "(60%)" in page.text


def test_models_that_must_be_trained_again_come_first_then_inputs_by_how_far_they_moved(client: FlaskClient) -> None:
    assert texts(open_page(client, "/drift").all("h2")) == [
        "Reads of articles a model has no vector of",
        "Heat of the article",
        "Age of the article, hours",
    ]


def test_a_model_that_knows_too_few_articles_is_named(client: FlaskClient) -> None:
    page = open_page(client, "/drift")
    assert "ALS, version 4: 20%, at most 5.0%. Train it again: presslab model train als" in page.text


@pytest.mark.parametrize("name", ["experiments", "jobs", "models", "drift", "explain", "health", "record"])
def test_every_page_has_its_result_as_json(client: FlaskClient, name: str) -> None:
    assert client.get(f"/console/en/{name}.json").is_json


def test_a_question_in_order_is_answered_by_its_own_check_first() -> None:
    checks = [{"name": name, "state": "ok", "says": name} for name in ("clicks_without_exposure", "late", "nothing_lost")]
    [line] = trust_lines(checks)
    assert (line.says, [more.says for more in line.more]) == (("nothing_lost",), ["clicks_without_exposure", "late"])


def test_a_feature_is_named_by_what_it_means_and_an_article_is_offered_by_its_title(client: FlaskClient, preview: PreviewSite) -> None:
    features = [{"name": "als", "says": "score of the folded-in reader", "mean_abs": 0.4}]
    preview.stored["explanation"] = {**results.EXPLANATION, "features": features}
    page = open_page(client, "/explain")
    assert page.one("table", "bars").one("tbody").one("th").text == "Score of the folded-in reader (als)"
    assert len(page.one("datalist").all("option")) == 100


@pytest.mark.parametrize(("state", "until", "told"), [("running", 28, True), ("running", 27, False), ("stopped", 28, False)])
def test_a_test_that_nobody_stopped_says_that_later_readers_do_not_count(state: str, until: int, told: bool) -> None:
    report = copy.deepcopy(results.REPORTS["related"])
    dates = {
        "start": "2026-01-01T00:00:00+00:00",
        "until": f"2026-01-{until:02}T00:00:00+00:00",
        "planned_end": "2026-01-28T00:00:00+00:00",
    }
    memo = memo_of({**report, "state": state, "dates": {**report["dates"], **dates}})
    assert ("what readers do after that does not count" in dict(memo.facts)["Ran"]) is told
