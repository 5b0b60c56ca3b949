"""From the advice to the record: what a page says once a test was stopped or decided, and how both are done on it."""

from __future__ import annotations

import html
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from experiments.clock import moment, system_clock
from experiments.experiment import Experiment
from experiments.files import read_json, replace_json
from experiments.ladder import decided_arms, halt, propose
from experiments.lifecycle import Step, audit_faults, decide, draft, experiment_named, note, publish_plan, ramp, start, stop, trail
from experiments.migrate import migrate
from experiments.settings import Settings
from experiments.tables import control_engine
from tests.web.markup import Element, parse
from tests.web.site_fixture import ALL, NOW, Stand
from web.cli import commands
from web.cli.main import app
from web.follow_up import followed
from web.jobs import job_named, timetable
from web.reporting import named_report

PAGE = "/console/en/experiment/related"
OWN = {"Origin": "http://localhost"}
commands.install()


@pytest.fixture
def reported(stand: Stand) -> Stand:
    """A running test of one exposed reader, with its first report."""
    visit(stand)
    named_report(stand.home, "related", source="simulated", until_us=stand.clock())
    return stand


@pytest.fixture
def ended(stand: Stand) -> Stand:
    """A test that was stopped after a day, with the report written after it."""
    visit(stand)
    stop(control_engine(stand.home), "related", Step("Ines", NOW + timedelta(days=1), "enough"))
    stand.advance(2 * 86_400)
    named_report(stand.home, "related", source="simulated", until_us=stand.clock())
    return stand


def visit(stand: Stand) -> None:
    stand.reader_in("front").get(f"/en/article/{stand.article}")
    stand.events()


def page_of(stand: Stand, path: str = PAGE) -> Element:
    return parse(stand.client().get(path).text)


def test_a_decided_test_says_so_with_reason_and_record(ended: Stand) -> None:
    decide(control_engine(ended.home), "related", "front", Step("Ines", NOW + timedelta(days=2), "the editors like it"))
    page = page_of(ended)
    assert page.one("article", "memo").all("span", "badge")[0].text == "Decided"
    assert page.one("h2", "headline").text == "Decided: front"
    assert "Ines decided on 22 November 2026: the editors like it." in page.one("section", "verdict").text
    assert "The advice wasKeep status quo" in page.one("section", "verdict").text
    assert [row.all("td")[2].text for row in page.all("section")[-1].one("tbody").all("tr")] == [
        "planned",
        "started",
        "stopped",
        "decided: front",
    ]
    assert not page.all("form", "step")
    card = page_of(ended, "/console/en/").one("article", "experiment")
    assert "Decided: front" in card.text
    assert "The advice was: Keep status quo" in card.text


def test_a_decided_test_tells_what_another_in_its_place_gives_readers_now(ended: Stand) -> None:
    engine, later = control_engine(ended.home), Step("Ines", NOW + timedelta(days=2), "spring")
    draft(engine, replace(ended.plan, name="next"), later)
    start(engine, "next", later)
    done = CliRunner().invoke(app, ["experiment", "decide", "related", "front", "--reason", "it pays", "--home", str(ended.home)])
    assert "to every reader it may serve outside the test 'next', which runs in this place." in " ".join(done.stderr.split())
    box = page_of(ended).one("section", "verdict").text
    assert "The test next runs in this place: its readers get its arms, all others get front." in box
    stop(engine, "next", later)
    assert "Readers get front until a new test begins in this place." in page_of(ended).one("section", "verdict").text
    decide(engine, "next", "newest", Step("Ines", moment(system_clock()) + timedelta(days=1), "it pays more"))
    assert "The later test next was decided for newest: readers get that now." in page_of(ended).one("section", "verdict").text
    halt(engine, decided_arms(engine)[0], replace(later, reason="readers of 'newest': 9 of 9 met an error"), action="trip")
    assert "Readers get front until a new test begins in this place." in page_of(ended).one("section", "verdict").text


def test_a_decided_arm_that_a_guardrail_took_back_is_not_said_to_be_what_readers_get(ended: Stand) -> None:
    engine, step = control_engine(ended.home), Step("Ines", NOW + timedelta(days=2), "the editors like it")
    decide(engine, "related", "front", step)
    assert "Readers get front until a new test begins" in page_of(ended).text
    halt(engine, decided_arms(engine)[0], replace(step, actor="timetable", reason="readers of 'front': 9 of 9 met an error"), action="trip")
    page = page_of(ended)
    assert "A guardrail took front back from all readers: readers of 'front': 9 of 9 met an error." in page.text
    assert "Readers get front" not in page.text
    card = page_of(ended, "/console/en/").one("article", "experiment")
    assert "Front was taken from all readers" in card.text


def test_a_report_from_before_the_stop_does_not_ask_to_keep_running(reported: Stand) -> None:
    stop(control_engine(reported.home), "related", Step("Ines", NOW, "enough"))
    assert "Keep running" not in page_of(reported).text
    assert "Keep running" not in page_of(reported, "/console/en/").text
    assert "presslab experiment report related" in page_of(reported).one("section", "verdict").text
    assert not page_of(reported).all("form", "step")


def test_a_test_is_stopped_and_decided_on_its_page(reported: Stand) -> None:
    client = reported.client()
    assert client.post(f"{PAGE}/stop", data={"who": "Ines", "reason": ""}, headers=OWN).status_code == 303
    assert experiment_named(control_engine(reported.home), "related").state == "stopped"
    named_report(reported.home, "related", source="simulated", until_us=reported.clock())
    typed = {"who": "Ines", "reason": "the editors like it", "arm": "newest"}
    assert client.post(f"{PAGE}/decide", data=typed, headers=OWN).status_code == 303
    record = experiment_named(control_engine(reported.home), "related")
    assert (record.state, record.decided_arm) == ("decided", "newest")
    assert [(row.actor, row.reason) for row in trail(control_engine(reported.home))[-2:]] == [
        ("Ines (named on the page)", ""),
        ("Ines (named on the page)", "the editors like it"),
    ]


def test_a_decision_without_a_reason_is_asked_for_again_and_keeps_what_was_typed(ended: Stand) -> None:
    answer = ended.client().post(f"{PAGE}/decide", data={"who": 'Ines "the owner"', "arm": "newest"}, headers=OWN)
    page = parse(answer.text)
    assert answer.status_code == 422
    assert page.one("div", "stale").one("a").attributes["href"] == "#reason"
    fields = {e.attributes["id"]: e for e in page.one("form", "step").walk() if "id" in e.attributes}
    assert fields["who"].attributes["value"] == 'Ines "the owner"'
    assert fields["reason"].attributes["aria-describedby"] == "reason-fault"
    assert fields["reason-fault"].text == "Say in one sentence why."
    assert [o.text for o in page.all("option") if "selected" in o.attributes] == ["Newest"]
    assert experiment_named(control_engine(ended.home), "related").state == "stopped"


def test_a_step_that_is_not_allowed_is_refused_in_words(reported: Stand) -> None:
    answer = reported.client().post(f"{PAGE}/decide", data={"who": "Ines", "arm": "front", "reason": "now"}, headers=OWN)
    assert answer.status_code == 422
    assert "experiment 'related' is running; this step needs it to be stopped." in html.unescape(answer.text)


def test_a_step_from_another_site_is_refused(stand: Stand) -> None:
    assert stand.client().post(f"{PAGE}/stop", data={"who": "Ines"}, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert experiment_named(control_engine(stand.home), "related").state == "running"


def test_the_record_names_who_did_what_and_finds_an_altered_entry(ended: Stand) -> None:
    typed = {"who": "Ines", "reason": "the editors like it", "arm": "newest"}
    ended.client().post(f"{PAGE}/decide", data=typed, headers=OWN)
    page = page_of(ended, "/console/en/record")
    first = page.one("tbody").all("tr")[0].text
    assert "Ines (named on the page)" in first
    assert "decided: newest The advice was: Keep status quo" in first
    assert "nothing was altered" in page.text
    with control_engine(ended.home).begin() as connection:
        connection.exec_driver_sql("UPDATE audit SET actor = 'Bram' WHERE action = 'stop'")
    assert "(stop related) was altered" in page_of(ended, "/console/en/record").text


def test_a_long_record_comes_in_pages_and_by_test(stand: Stand) -> None:
    for number in range(50):
        note(control_engine(stand.home), "related", "ramp", Step("Ines", NOW, f"step {number}"))
    first, second = (page_of(stand, f"/console/en/record?about=related&page={n}") for n in (1, 2))
    assert [len(page.one("tbody").all("tr")) for page in (first, second)] == [50, 2]
    assert "Page 1 of 2" in first.text
    assert "Nobody has taken a step in this test yet" in page_of(stand, "/console/en/record?about=other&page=x").text


def drafted(stand: Stand) -> str:
    """A draft in another place; returns its page."""
    draft(control_engine(stand.home), replace(stand.plan, name="footer", slot="footer", layer="footer"), Step("Ines", NOW, "an idea"))
    return "/console/en/experiment/footer"


def test_a_draft_shows_its_plan_and_is_started_on_its_page(stand: Stand) -> None:
    path = drafted(stand)
    page = page_of(stand, path)
    assert "Must not get worse" in page.one("dl", "facts").text
    assert "Front 33.3%" in page.one("dl", "facts").text
    assert "One view is worthnot stated, so the report will tell no amounts" in page.one("dl", "facts").text
    refused = stand.client().post(f"{path}/start", data={"who": "Ines"}, headers=OWN)
    assert (refused.status_code, parse(refused.text).one("div", "stale").one("a").attributes["href"]) == (422, "#reason")
    assert stand.client().post(f"{path}/start", data={"who": "Ines", "reason": "spring"}, headers=OWN).status_code == 303
    assert experiment_named(control_engine(stand.home), "footer").state == "running"


def test_a_draft_tells_what_is_at_stake_before_it_is_started(stand: Stand) -> None:
    dear = (stand.plan.arms[0], replace(stand.plan.arms[1], build=900.0, per_day=0.3), stand.plan.arms[2])
    limits = {"bounce_rate": 0.05, "slot_latency_p95": 20.0}
    staked = replace(
        stand.plan, name="footer", slot="footer", layer="footer", arms=dear, value_per_view=0.04, smallest_uplift=0.02, guardrails=limits
    )
    draft(control_engine(stand.home), staked, Step("Ines", NOW, "an idea"))
    told = page_of(stand, "/console/en/experiment/footer").one("dl", "facts").text
    assert "Sessions that end after one page (5.0% allowed); Time the slot takes, exceeded on one page in twenty (20 ms allowed)" in told
    assert "a change of 2.0% and more" in told
    assert "One view is worth€0.04" in told
    assert "Front €900 still to build, €0.30 a day" in told


def test_a_draft_with_an_arm_that_nobody_wrote_is_refused_on_its_page_by_name(stand: Stand) -> None:
    arms = (*stand.plan.arms[:2], replace(stand.plan.arms[2], name="tide"))
    draft(
        control_engine(stand.home),
        replace(stand.plan, name="footer", slot="footer", layer="footer", arms=arms),
        Step("Ines", NOW, "an idea"),
    )
    page = page_of(stand, "/console/en/experiment/footer")
    assert "It cannot start as it is planned: No arm is called 'tide'" in page.text
    assert "The plan is ready" not in page.text
    assert not page.all("form", "step")
    form = {"who": "Ines", "reason": "spring"}
    refused = stand.client().post("/console/en/experiment/footer/start", data=form, headers=OWN)
    assert refused.status_code == 422
    assert "no arm is called 'tide'" in parse(refused.text).one("div", "stale").text


def test_a_draft_that_waits_for_an_approval_cannot_be_started_around_it(stand: Stand) -> None:
    path = drafted(stand)
    proposed = propose(control_engine(stand.home), "footer", "front", shares=(0.01,), version="", step=Step("Bram", NOW, "checked"))
    page = page_of(stand, path)
    assert not page.all("form", "step")
    assert f"presslab arm step front --approve {proposed.proposal}" in page.text
    refused = stand.client().post(f"{path}/start", data={"who": "Ines", "reason": "spring"}, headers=OWN)
    assert refused.status_code == 422
    assert f"presslab arm step front --approve {proposed.proposal} --reason" in parse(refused.text).one("div", "stale").text
    assert experiment_named(control_engine(stand.home), "footer").state == "draft"


def test_a_running_test_without_a_report_can_be_stopped(stand: Stand) -> None:
    assert page_of(stand).one("form", "step").attributes["action"] == f"{PAGE}/stop"
    assert stand.client().post(f"{PAGE}/stop", data={"who": "Ines"}, headers=OWN).status_code == 303
    assert experiment_named(control_engine(stand.home), "related").state == "stopped"
    assert not page_of(stand).all("form", "step")


def test_a_report_that_was_not_written_twice_in_a_row_says_so(home: Path) -> None:
    engine, plan = control_engine(home), Experiment("related", "Does it pay?", "status_quo", ALL, window_days=1.0)
    migrate(home)
    draft(engine, plan, Step("Ines", NOW))
    record, report = start(engine, "related", Step("Ines", NOW)), {"computed_at": NOW.isoformat()}
    job = job_named(timetable(Settings(home=home, profile="production")), "report")

    def told(hours: float) -> str:
        return str(followed(report, record, (), now=NOW + timedelta(hours=hours), job=job, silent="The worker is off.")["stale"])

    assert told(1.9) == ""
    assert told(2.1) == "This report should be written every hour at :20 and was not. The worker is off."


def seen_on(stand: Stand, path: str) -> str:
    """The mark in the form of a page."""
    marks = [e.attributes["value"] for e in page_of(stand, path).one("form", "step").walk() if e.attributes.get("name") == "seen"]
    return str(marks[0])


def test_a_draft_that_was_planned_anew_is_not_started_from_a_page_that_shows_the_old_plan(stand: Stand) -> None:
    path = drafted(stand)
    typed = {"who": "Ines", "reason": "spring", "seen": seen_on(stand, path)}
    anew = replace(stand.plan, name="footer", slot="footer", layer="footer", planned_days=99)
    draft(control_engine(stand.home), anew, Step("Bram", NOW, "longer"))
    refused = stand.client().post(f"{path}/start", data=typed, headers=OWN)
    assert refused.status_code == 422
    assert "The plan was changed since you opened this page." in refused.text
    assert experiment_named(control_engine(stand.home), "footer").state == "draft"
    assert stand.client().post(f"{path}/start", data={**typed, "seen": seen_on(stand, path)}, headers=OWN).status_code == 303


def test_a_decision_is_not_recorded_beside_another_advice_than_the_page_showed(ended: Stand) -> None:
    typed = {"who": "Ines", "reason": "as advised", "arm": "status_quo", "seen": seen_on(ended, PAGE)}
    path = ended.home / "reports" / "related.json"
    report = read_json(path)
    replace_json(path, {**report, "verdict": {**report["verdict"], "key": "ship", "arm": "front", "sentence": "Ship front."}})
    refused = ended.client().post(f"{PAGE}/decide", data=typed, headers=OWN)
    assert refused.status_code == 422
    assert "The report advises something else since you opened this page." in refused.text
    assert experiment_named(control_engine(ended.home), "related").state == "stopped"


def test_a_form_that_is_sent_twice_takes_one_step_and_offers_it_no_more(ended: Stand) -> None:
    typed = {"who": "Ines", "reason": "the editors like it", "arm": "newest", "seen": seen_on(ended, PAGE)}
    first, second = (ended.client().post(f"{PAGE}/decide", data=typed, headers=OWN) for _ in range(2))
    assert (first.status_code, second.status_code) == (303, 303)  # it was recorded, and the page that follows says so
    assert not page_of(ended).all("form", "step")
    assert [row.action for row in trail(control_engine(ended.home), "related")].count("decide") == 1


@pytest.mark.parametrize(("step", "action"), [("start", "start"), ("stop", "stop")])
def test_a_test_that_is_started_or_stopped_by_a_form_sent_twice_says_no_word_of_a_fault(stand: Stand, step: str, action: str) -> None:
    path = drafted(stand) if step == "start" else PAGE
    typed = {"who": "Ines", "reason": "spring"}
    codes = [stand.client().post(f"{path}/{step}", data=typed, headers=OWN).status_code for _ in range(2)]
    assert codes == [303, 303]
    assert [row.action for row in trail(control_engine(stand.home), path.rpartition("/")[2])].count(action) == 1


@pytest.mark.parametrize("step", ["stop", "decide"])
def test_a_form_that_is_sent_again_tells_pages_what_the_first_was_killed_before_telling(reported: Stand, step: str) -> None:
    engine, taken = control_engine(reported.home), Step("Ines (named on the page)", NOW, "spring")
    stop(engine, "related", taken)
    if step == "decide":
        publish_plan(reported.home, engine, at=NOW)
        decide(engine, "related", "front", taken)
    typed = {"who": "Ines", "reason": "spring", "arm": "front"}
    assert reported.client().post(f"{PAGE}/{step}", data=typed, headers=OWN).status_code == 303
    told = read_json(reported.home / "plan" / "current.json")["body"]
    assert "related" not in [one["plan"]["name"] for one in told["experiments"]]
    assert told["defaults"] == ({"article.related": "front"} if step == "decide" else {})


def test_a_step_that_was_taken_in_other_words_is_refused_and_the_page_says_what_stands(ended: Stand) -> None:
    typed = {"who": "Ines", "reason": "the editors like it", "arm": "newest"}
    assert ended.client().post(f"{PAGE}/decide", data=typed, headers=OWN).status_code == 303
    for changed in ({"who": "Bram"}, {"reason": "on second thoughts"}, {"arm": "front"}):
        again = ended.client().post(f"{PAGE}/decide", data=typed | changed, headers=OWN)
        page = parse(again.text)
        assert (again.status_code, page.one("div", "stale").one("h2").text) == (422, "Nothing more was recorded")
        assert "experiment 'related' is decided" in page.one("div", "stale").text
        assert "Ines (named on the page)" in page.text


def test_of_two_people_who_decide_at_once_one_is_refused_and_the_record_holds(ended: Stand) -> None:
    def posted(arm: str) -> int:
        typed = {"who": f"{arm} {uuid4().hex}", "reason": "at once", "arm": arm}
        return ended.client().post(f"{PAGE}/decide", data=typed, headers=OWN).status_code

    with ThreadPoolExecutor(4) as people:
        assert sorted(people.map(posted, ("front", "newest", "status_quo", "front"))) == [303, 422, 422, 422]
    assert audit_faults(control_engine(ended.home)) == []


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("<b>Ines</b>", "<b>Ines</b>"),
        ("Ines\x00\x1b[31m", "Ines[31m"),
        ("\u202eseni\u202c\u200b", "seni"),
        ("Ines\r\nBram\t\u2028x", "Ines Bram x"),
    ],
)
def test_a_name_is_kept_on_one_line_without_signs_that_nobody_sees(ended: Stand, typed: str, kept: str) -> None:
    data = {"who": typed, "reason": typed, "arm": "newest"}
    assert ended.client().post(f"{PAGE}/decide", data=data, headers=OWN).status_code == 303
    last = trail(control_engine(ended.home))[-1]
    assert (last.actor, last.reason) == (f"{kept} (named on the page)", kept)
    assert html.escape(kept) in ended.client().get("/console/en/record").text
    assert "<b>Ines" not in ended.client().get(PAGE).text


@pytest.mark.parametrize(
    ("field", "typed"), [("who", "\u200b"), ("who", "\x00"), ("reason", "..."), ("who", "x" * 81), ("reason", "x" * 10_000)]
)
def test_nothing_is_recorded_of_a_field_that_says_nothing_or_would_be_cut(ended: Stand, field: str, typed: str) -> None:
    data = {"who": "Ines", "reason": "the editors like it", "arm": "newest", field: typed}
    answer = ended.client().post(f"{PAGE}/decide", data=data, headers=OWN)
    assert (answer.status_code, parse(answer.text).one("div", "stale").one("a").attributes["href"]) == (422, f"#{field}")
    assert experiment_named(control_engine(ended.home), "related").state == "stopped"


def test_a_report_says_for_how_long_readers_had_an_arm_that_was_taken_from_them(reported: Stand) -> None:
    """An arm that doubled views while it was shown stood there with a quarter more, and without a word."""
    engine = control_engine(reported.home)
    planned = experiment_named(engine, "related").experiment
    ramp(engine, "related", {**planned.shares, "front": 0.0}, Step("timetable", NOW + timedelta(days=3), "its readers met errors"))
    reported.advance(5 * 86_400)
    named_report(reported.home, "related", source="simulated", until_us=reported.clock())
    says = "Readers lost front after 3 days: they had it for about 0.83 of the 1 day over which each of them is followed"
    assert says in page_of(reported).one("main").text
