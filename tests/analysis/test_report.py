from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from analysis.guardrail import guardrail_state
from analysis.moments import Moments, Totals
from analysis.novelty import Halves
from analysis.observed import Observed
from analysis.report import Report, build_report
from analysis.small_counts import small_count_contrast
from analysis.words import money
from experiments.experiment import Arm, Phase
from experiments.metric import metric
from tests.analysis.tables import ARMS, SESSIONS, START, VIEWS, Line, crowd, plan, totals_of
from tests.analysis.test_words import assert_plain
from web.cli.report_table import print_report
from web.formatting import signed
from web.owner.memo import memo_of, number_rows

KEYS = {"experiment", "control", "level", "snapshot", "arms", "checks", "effects", "roi", "verdict", "sentences", "question", "dates"}


def world(seed=1, *, front=1.0, als=1.0, dwell=1.0, n=(800, 600, 600)) -> Totals:
    rng = np.random.default_rng(seed)
    return totals_of(
        {
            ("status_quo", 1): crowd(rng, n[0]),
            ("front", 1): crowd(rng, n[1], views=front),
            ("als", 1): crowd(rng, n[2], views=als, dwell=dwell),
        }
    )


def report(totals=None, *, experiment=None, days=14.0, state="stopped", balance=(Line(),), **how) -> Report:
    experiment, totals = experiment or plan(), totals or world()
    until = START + timedelta(days=days)
    return build_report(experiment, totals, balance, start=START, until=until, state=state, snapshot="seq-42", **how)


def numbers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, float):
        yield value


def test_how_the_rule_stands_beside_the_model_is_said_whichever_of_them_gains_more():
    less, more = (report(world(front=front, als=1.5)).to_dict()["sentences"] for front in (1.2, 1.8))
    assert any(sentence.startswith("Our best guess: front already brings ") for sentence in less)
    assert "Our best guess: front gains at least as much as als." in more


def test_the_shape_is_the_documented_one():
    found = report(world(front=1.4, als=1.5)).to_dict()
    assert set(found) >= KEYS
    assert set(found["arms"][0]) >= {"name", "kind", "readers", "share", "planned_share", "audience"}
    assert set(found["checks"][0]) == {"name", "state", "figure", "threshold", "p", "says"}
    wanted = "metric role arm against method n values absolute relative anytime adjusted posterior status reason"
    assert set(found["effects"][0]) >= set(wanted.split())
    assert set(found["effects"][0]["absolute"]) == {"estimate", "se", "low", "high", "p"}
    assert set(found["effects"][0]["posterior"]) == {"mean", "low", "high", "p_better", "expected_loss"}
    assert set(found["roi"]) >= {"currency", "horizon_days", "scenarios", "evpi", "unknowns", "studies", "next"}
    assert set(found["roi"]["scenarios"][0]) >= {"arm", "expected", "low", "high", "p_positive", "p_best"}
    assert set(found["verdict"]) == {"key", "arm", "sentence", "reasons"}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_every_pair_on_every_metric_model_against_heuristic_included():
    found = [(e["metric"], e["role"], e["arm"], e["against"]) for e in report().to_dict()["effects"]]
    pairs = [("front", "status_quo"), ("als", "status_quo"), ("als", "front")]
    roles = [("views_per_session", "goal"), ("bounce_rate", "secondary"), ("dwell_per_view", "guardrail")]
    assert found == [(metric, role, *pair) for metric, role in roles for pair in pairs]


def test_the_first_sentence_is_the_verdict():
    found = report(world(front=1.4, als=1.4))
    assert found.sentences[0] == found.verdict.sentence


def test_a_heuristic_that_pays_is_shipped_and_a_dear_model_is_not():
    arms = (*ARMS[:2], replace(ARMS[2], per_day=500.0))
    found = report(world(front=1.5, als=1.52), experiment=plan(arms))
    assert (found.verdict.key, found.verdict.arm) == ("ship", "front")
    assert any("Keep the heuristic" in reason for reason in found.verdict.reasons)


def test_a_model_that_beats_the_heuristic_by_more_than_it_costs_is_shipped():
    found = report(world(front=1.3, als=1.9))
    assert (found.verdict.key, found.verdict.arm) == ("ship", "als")


def test_no_difference_keeps_the_status_quo():
    assert report(world()).verdict.key in ("keep", "equal")


def test_a_broken_guardrail_keeps_the_status_quo():
    found = report(world(als=1.9, dwell=0.6))
    assert (found.verdict.key, found.verdict.arm) == ("keep", "status_quo")
    assert "dwell per view" in found.verdict.sentence


def test_a_broken_split_blocks_the_verdict_but_not_the_display():
    found = report(world(front=1.5, n=(1100, 400, 400)))
    assert found.verdict.key == "do_not_use"
    assert found.exit_status == 4
    effect = found.to_dict()["effects"][0]
    assert effect["absolute"]["estimate"] is not None


@pytest.mark.parametrize("broken", ["balance", "crossed", "unknown_arms", "clicks_without_exposure", "fallbacks", "distinct"])
def test_each_trust_check_can_block(broken):
    totals, balance = world(front=1.5), (Line(),)
    counts = totals.counts
    if broken == "balance":
        balance = (Line(exact=False),)
    elif broken == "distinct":
        rows = totals.distinct["views_per_session"]
        totals = replace(totals, distinct={"views_per_session": (replace(rows[0], count=rows[0].count + 1), *rows[1:])})
    else:
        value = {"crossed": 100, "unknown_arms": {"ghost": 1}, "clicks_without_exposure": 1, "fallbacks": {"als": 100}}[broken]
        totals = replace(totals, counts=replace(counts, **{broken: value}))
    assert report(totals, balance=balance).verdict.key == "do_not_use"


def test_before_the_planned_end_there_are_counts_and_wait():
    found = report(world(front=1.5), days=5.0, state="running")
    plain = found.to_dict()
    assert (found.verdict.key, found.exit_status) == ("wait", 3)
    assert plain["roi"] is None
    for effect in plain["effects"]:
        assert (effect["status"], effect["reason"]) == ("insufficient", "before the planned end")
        assert not [*numbers(effect["absolute"]), *numbers(effect["relative"]), *numbers(effect["values"])]
        assert effect["posterior"] is None
        assert sum(effect["n"].values()) > 0
    assert [arm["readers"] for arm in plain["arms"]] == [800, 600, 600]


def test_before_the_planned_end_guardrails_show_a_range_that_may_be_looked_at():
    effects = report(days=5.0, state="running").to_dict()["effects"]
    assert all((effect["anytime"]["low"] is not None) == (effect["role"] == "guardrail") for effect in effects)


def test_an_experiment_that_runs_on_after_its_planned_end_is_read():
    assert report(days=14.0, state="running").to_dict()["effects"][0]["absolute"]["estimate"] is not None


def test_a_test_stopped_before_its_shortest_length_changes_nothing():
    found = report(world(front=1.5), days=5.0, state="stopped", experiment=plan(minimum_days=7.0))
    assert (found.verdict.key, found.verdict.arm) == ("keep", "status_quo")


def test_without_a_stated_value_there_is_no_money_and_costs_decide():
    free = tuple(replace(arm, per_day=0.0) for arm in ARMS)
    costly = report(world(front=1.5, als=1.5), experiment=plan(value_per_view=None))
    costless = report(world(front=1.3, als=1.9), experiment=plan(free, value_per_view=None))
    assert costly.to_dict()["roi"] is None
    assert costly.to_dict()["roi_reason"] == "nobody has stated what an article view is worth"
    assert costly.verdict.key == "keep"
    assert (costless.verdict.key, costless.verdict.arm) == ("ship", "als")


def test_nobody_yet_is_a_report_too():
    found = report(totals_of({}), days=1.0, state="running").to_dict()
    assert found["verdict"]["key"] == "wait"
    done = report(totals_of({})).to_dict()
    assert {effect["status"] for effect in done["effects"]} == {"insufficient"}
    assert done["verdict"]["key"] == "keep"
    json.dumps(done, allow_nan=False)


def test_one_arm_empty_leaves_the_others_readable():
    totals = world(front=1.5)
    without = {cell: m for cell, m in totals.moments.items() if cell[0] != "als"}
    found = report(replace(totals, moments=without)).to_dict()
    statuses = {(e["arm"], e["against"]): e["status"] for e in found["effects"] if e["role"] == "goal"}
    assert statuses == {("front", "status_quo"): "ok", ("als", "status_quo"): "insufficient", ("als", "front"): "insufficient"}


def test_click_through_is_undefined_where_no_slot_is_filled():
    tables = {(arm, 1): [(1 + i % 2, 1, i % 3, 4) for i in range(40)] for arm in ("status_quo", "front", "als")}
    totals = totals_of(tables, keys=(VIEWS, SESSIONS, "count_click", "count_impression"))
    effects = report(totals, experiment=plan(guardrails={}, secondary=("click_through",))).to_dict()["effects"]
    found = {(e["arm"], e["against"]): e["status"] for e in effects if e["metric"] == "click_through"}
    assert found == {("front", "status_quo"): "undefined_for_arm", ("als", "status_quo"): "undefined_for_arm", ("als", "front"): "ok"}


def test_the_same_rows_in_any_order_give_the_same_bytes():
    rng = np.random.default_rng(9)
    tables = {(arm, phase): crowd(rng, 120) for arm in ("status_quo", "front", "als") for phase in (1, 2)}
    texts = set()
    for seed in range(3):
        order = random.Random(seed)
        shuffled = {cell: order.sample(tables[cell].tolist(), 120) for cell in order.sample(list(tables), len(tables))}
        texts.add(json.dumps(report(totals_of(shuffled)).to_dict(), sort_keys=True))
    assert len(texts) == 1


def test_a_ramp_is_held_to_the_shares_of_each_phase():
    rng = np.random.default_rng(3)
    sizes = {("status_quo", 1): 1800, ("front", 1): 100, ("als", 1): 100, ("status_quo", 2): 400, ("front", 2): 300, ("als", 2): 300}
    totals = totals_of({cell: crowd(rng, n) for cell, n in sizes.items()})
    first = Phase(1, START, (("status_quo", 0.9), ("front", 0.05), ("als", 0.05)))
    second = Phase(2, START + timedelta(days=3), (("status_quo", 0.4), ("front", 0.3), ("als", 0.3)))
    states = {c.name: c.state for c in report(totals, phases=(first, second)).checks}
    assert (states["split"], states["split_matured"], states["recomputed"]) == ("ok", "ok", "ok")
    assert {c.name: c.state for c in report(totals).checks}["split"] == "block"


def test_an_arm_that_was_taken_from_its_readers_is_not_shipped_on_what_it_did_before():
    rng = np.random.default_rng(1)
    tables = {(arm.name, 0): crowd(rng, round(2000 * arm.share), views=1.9 if arm.name == "als" else 1.0) for arm in ARMS}
    tables |= {(arm.name, 1): crowd(rng, round(1000 * arm.share)) for arm in ARMS[:2]}
    whole, less = tuple(plan().shares.items()), tuple((plan().shares | {"als": 0.0}).items())
    totals, gone = totals_of(tables), (Phase(0, START, whole), Phase(1, START + timedelta(days=7), less))
    found = report(totals, phases=gone)
    assert found.verdict.sentence == "Keep status quo: als was taken from all its readers while the test ran."
    assert "Als was taken from all its readers while the test ran; the record says why." in found.verdict.reasons
    early = report(totals, phases=gone, state="running", days=9.0).verdict
    assert (early.key, early.reasons[-1]) == ("wait", "Als was taken from all its readers while the test ran; the record says why.")
    back = (*gone, Phase(2, START + timedelta(days=8), whole))
    assert report(totals, phases=back).verdict.arm == "als"


def test_money_follows_the_direction_of_time_and_value():
    once, twice = (report(world(front=1.5), experiment=plan(value_per_view=v)).roi.expected()["front"] for v in (0.01, 0.02))
    assert twice + 365 == pytest.approx(2 * (once + 365), rel=1e-9)


@pytest.mark.parametrize("reports", [25, pytest.param(200, marks=pytest.mark.slow)])
def test_reports_of_all_kinds_speak_in_plain_words(reports):
    rng = np.random.default_rng(12)
    for seed in range(reports):
        n = tuple(int(x) for x in rng.integers(25, 250, 3))
        totals = world(seed, front=rng.uniform(0.8, 1.8), als=rng.uniform(0.8, 1.8), dwell=rng.uniform(0.7, 1.2), n=n)
        arms = tuple(Arm(a.name, a.kind, k / sum(n), per_day=float(rng.uniform(0, 30))) for a, k in zip(ARMS, n, strict=True))
        value = None if seed % 5 == 0 else 0.01
        found = report(totals, experiment=plan(arms, value_per_view=value), days=float(rng.choice([3, 14, 15])), state="running").to_dict()
        lines = [line["says"] for line in (*found["checks"], *found["effects"])]
        assert_plain(*lines, *found["sentences"], *found["verdict"]["reasons"], *([found["roi"]["next"]] if found["roi"] else []))
        assert all(math.isfinite(x) for x in numbers(found))


def rare_world(bounced=(2, 9, 4)) -> Totals:
    """Readers with one session each, of whom few bounce."""
    tables = {}
    for (arm, n), few in zip((("status_quo", 800), ("front", 600), ("als", 600)), bounced, strict=True):
        table = crowd(np.random.default_rng(4), n)
        table[:, 1], table[:, 2] = 1, 0
        table[:few, 2] = 1
        tables[arm, 1] = table
    return totals_of(tables)


def test_rare_events_are_judged_by_the_score_test_and_others_are_not():
    effects = {(e["metric"], e["arm"], e["against"]): e for e in report(rare_world()).to_dict()["effects"]}
    found, wanted = effects["bounce_rate", "front", "status_quo"], small_count_contrast((9, 600), (2, 800), level=0.95)
    assert found["absolute"]["low"] == wanted.absolute.low
    assert found["relative"]["high"] == wanted.relative.high
    assert "rare events" in found["method"]
    assert "rare events" not in effects["views_per_session", "front", "status_quo"]["method"]


def test_a_goal_of_rare_events_is_decided_at_the_level_of_its_family():
    found = report(rare_world(), experiment=plan(goal="bounce_rate", secondary=(), guardrails={})).to_dict()["effects"][0]
    wider = small_count_contrast((9, 600), (2, 800), level=found["family"]["level"]).absolute
    assert (found["family"]["low"], found["family"]["high"]) == (wider.low, wider.high)
    assert found["family"]["low"] < found["absolute"]["low"]


def test_everybody_against_nobody_is_a_report_too_and_is_not_adjusted():
    found = report(rare_world((0, 600, 5)), experiment=plan(goal="bounce_rate", secondary=(), guardrails={}, planned_days=14.0))
    effect = found.to_dict()["effects"][0]
    assert effect["values"] == {"front": 1.0, "status_quo": 0.0}
    assert (effect["adjusted"], effect["absolute"]["low"] > 0.9) == (None, True)
    assert effect["adjusted_reason"]


def test_secondary_metrics_carry_a_p_value_for_how_many_were_looked_at():
    effects = report(rare_world()).to_dict()["effects"]
    secondary = [e for e in effects if e["role"] == "secondary"]
    assert [e["q"] for e in secondary] == pytest.approx(multipletests([e["absolute"]["p"] for e in secondary], method="fdr_bh")[1])
    assert all(e["q"] is None for e in effects if e["role"] != "secondary")
    early = report(rare_world(), days=5.0, state="running").to_dict()["effects"]
    assert all(e["q"] is None for e in early)


def test_being_wrong_is_told_as_the_loss_of_those_outcomes_and_never_as_less():
    found = report(world(front=1.2, als=0.9))
    (scenario,) = (s for s in found.roi.scenarios if s.arm == "front")
    (says,) = (s for s in found.sentences if s.startswith("If we ship front"))
    assert 0 < scenario.regret < scenario.loss_if_wrong
    assert (
        says
        == f"If we ship front and are wrong, expect to lose about {money(scenario.loss_if_wrong / (365 * 12 / 365.25), 'EUR')} a month."
    )
    sure = report(world(front=2.5, als=1.0))
    assert "If we ship front, we reckon with no outcome that loses money." in sure.sentences


def test_the_figures_are_those_of_the_arm_that_the_verdict_names():
    """The model improves the goal and costs too much; the rule, not shown to improve it, loses less."""
    dear = plan((ARMS[0], ARMS[1], replace(ARMS[2], build=20_000.0)))
    found = report(world(front=1.02, als=1.3), experiment=dear)
    assert found.verdict.sentence == "Keep status quo: als does not earn what it costs."
    worth = found.roi.expected()
    assert worth["front"] > worth["als"]
    assert found.sentences[1].endswith("with als than with status quo.")
    assert f"We expect {money(worth['als'], 'EUR')} over 365 days, costs deducted." in found.sentences
    assert any(says.endswith("equally likely outcomes als earns money.") for says in found.sentences)


def test_an_arm_for_readers_who_agreed_is_not_shipped_on_views_of_all_others(capsys):
    arms = (ARMS[0], replace(ARMS[2], share=0.6, audience="agreed", build=3_000.0))
    rng = np.random.default_rng(1)
    totals = totals_of({(arm.name, 1): crowd(rng, round(2000 * arm.share), views=1.2 if arm.name == "als" else 1.0) for arm in arms})
    everybody, few = (report(replace(totals, audience_share=share), experiment=plan(arms)) for share in (1.0, 0.2))
    assert (everybody.verdict.arm, few.verdict.sentence) == ("als", "Keep status quo: als does not earn what it costs.")
    cost = 3_000 + 5 * 365
    assert few.roi.expected()["als"] + cost == pytest.approx(0.2 * (everybody.roi.expected()["als"] + cost))
    told = few.to_dict()["roi"]
    assert [s["views_per_day"] for s in told["scenarios"]] == [10_000, 2_000]
    assert told["bears_on"][0].startswith("als is counted on the 2,000 views a day of readers who agreed to personal choice")
    assert few.price(value_per_view=0.01).expected() == few.roi.expected()
    print_report(few.to_dict())
    assert_plain(*told["bears_on"])
    says = "ALS is counted on the 2,000 views a day of readers who agreed to personal choice. All others would keep the status quo."
    assert says in " ".join(capsys.readouterr().out.split())
    assert says in memo_of(few.to_dict()).money.assumes


def test_an_arm_that_broke_a_guardrail_is_no_reason_for_another_test():
    rng, arms = np.random.default_rng(1), (replace(ARMS[0], share=0.5), replace(ARMS[2], share=0.5))
    tables = {("status_quo", 1): crowd(rng, 800), ("als", 1): crowd(rng, 800, views=1.2, dwell=0.5)}
    found = report(totals_of(tables), experiment=plan(arms))
    assert found.verdict.sentence.startswith("Keep status quo: als hurts dwell per view")
    told = found.to_dict()["roi"]
    assert (told["ruled_out"], told["evpi"], told["studies"]) == (["als"], 0.0, [])
    assert told["next"].startswith("Stop testing")


def test_an_arm_without_a_price_says_that_too_few_of_its_readers_came_back():
    """The rule's effect fades, so money is reckoned with second halves; hardly any reader of the model had one."""
    rng = np.random.default_rng(4)
    sizes, lifts = {"status_quo": 340, "front": 340, "als": 79}, {"status_quo": (1, 1), "front": (1.8, 1.25), "als": (1.7, 1.7)}
    keys, cells, tables = ("en", "ed", "ln", "ld"), {}, {}
    for arm, n in sizes.items():
        taste, early = rng.gamma(8, 1 / 8, n), 1 + rng.poisson(0.8, n)
        late = (rng.random(n) < 0.28) * 1
        views = [rng.poisson(3 * taste * s * lift) for s, lift in zip((early, late), lifts[arm], strict=True)]
        cells[arm, 0] = Moments.from_rows(np.column_stack([views[0], early, views[1], late]), keys)
        total = views[0] + views[1]
        tables[arm, 1] = np.column_stack([total, early + late, rng.random(n) < 0.3, rng.poisson(60_000, n) * total])
    arms = tuple(Arm(arm, kind, sizes[arm] / 759) for arm, kind in zip(sizes, ("status_quo", "heuristic", "model"), strict=True))
    seen = Observed(halves=Halves(cells, ("en", "ed"), ("ln", "ld")))
    found = report(totals_of(tables), experiment=plan(arms), observed=seen)
    assert {"front", "als"} == set(found.compared.belief.arms)
    assert set(found.roi.expected()) == {"status_quo", "front"}
    late = "the second half of readers' windows, on which money rests, says too little of it"
    assert found.verdict.reasons[0] == "Front improves the goal and earns more than it costs."
    assert found.to_dict()["roi"]["unpriced"] == {"als": late}
    assert f"ALS has no price: {late}." in memo_of(found.to_dict()).money.assumes
    assert found.price(value_per_view=0.01).expected() == found.roi.expected()
    assert f"Als improves the goal, but costs cannot be weighed: {late}." in found.verdict.reasons
    assert_plain(*found.sentences, *found.verdict.reasons)


def test_where_the_control_has_nothing_that_is_why_no_arm_has_a_price():
    tables = {(arm.name, 1): crowd(np.random.default_rng(1), round(2000 * arm.share)) for arm in ARMS}
    tables["status_quo", 1][:, 0] = 0
    found = report(totals_of(tables), experiment=plan(secondary=(), guardrails={}))
    says = "a relative change cannot be estimated: the control's value is not above zero"
    assert (found.roi, found.roi_reason) == (None, says)
    assert f"Front improves the goal, but costs cannot be weighed: {says}." in found.verdict.reasons


def test_a_share_of_views_is_not_priced_as_views():
    """More of the opened articles may be rare ones without a single article more."""
    rare = plan(goal="beyond_most_read", secondary=(), guardrails={})
    rng = np.random.default_rng(1)
    opened = {(arm.name, 1): 1 + rng.poisson(3, 300) for arm in ARMS}
    tables = {cell: np.column_stack([rng.binomial(views, 0.4), views]) for cell, views in opened.items()}
    keys = metric("beyond_most_read").numerator.key, metric("beyond_most_read").denominator.key
    found = report(totals_of(tables, keys=keys), experiment=rare)
    assert (found.roi, found.roi_reason) == (None, "beyond most read does not count article views, so its change has no price")


def test_a_range_that_shows_a_change_by_itself_only_is_explained_beside_verdict_and_ranges():
    found = report(world(4, front=1.1))
    front = found.compared.of("views_per_session", "front", "status_quo")
    assert front.contrast.absolute.low > 0 >= front.family.low
    assert found.verdict.reasons[0] == "Front looks better by itself, but not where all comparisons and looks are judged together."
    note = "Each range is that of its comparison alone. Wide enough for all comparisons and looks together, it reaches no change: "
    assert memo_of(found.to_dict()).forest_note == f"{note}front against status quo."
    assert not memo_of(report(world(front=2.5)).to_dict()).forest_note


def test_a_change_that_only_a_difference_can_tell_is_told_as_one_everywhere(capsys):
    """Nobody opens an article in the status quo, so that there is no relative change."""
    tables = {(arm.name, 1): np.column_stack([np.zeros(n, int), np.ones(n, int)]) for arm, n in zip(ARMS, (400, 300, 300), strict=True)}
    tables["front", 1][:150, 0] = 2
    found = report(totals_of(tables, keys=(VIEWS, SESSIONS)), experiment=plan(secondary=(), guardrails={}))
    effect = found.to_dict()["effects"][0]
    reason = "a relative change cannot be estimated: the control's value is not above zero"
    assert (effect["status"], effect["relative"]["low"], effect["reason"]) == ("not_estimable", None, reason)
    low, high = (f"{effect['absolute'][end]:.3g}" for end in ("low", "high"))
    assert effect["says"] == f"Articles opened per session: {low} to {high} articles more with front than with status quo; {reason}."
    rows = [row.words for row, _ in memo_of(found.to_dict()).forest.rows]
    assert rows[0] == f"+{low} to +{high} articles; {reason}"
    assert f"| +1 | +{low} to +{high} |" in found.to_markdown()
    print_report(found.to_dict())
    assert f"+{low} to +{high} articles" in " ".join(capsys.readouterr().out.split())


def test_readers_of_a_time_without_some_arm_are_left_out_and_said_to_be():
    rng = np.random.default_rng(1)
    tables = {(arm.name, 2): crowd(rng, 300) for arm in ARMS} | {(arm.name, 1): crowd(rng, 250) for arm in ARMS[:2]}
    found = report(totals_of(tables))
    (check,) = (check for check in found.checks if check.name == "left_out")
    assert (check.state, check.figure, check.says) == (
        "warn",
        500.0,
        "500 readers came while an arm had fewer than two; no comparison counts them.",
    )
    assert found.to_dict()["effects"][0]["n"] == {"front": 300, "status_quo": 300}
    assert "left_out" not in {check.name for check in report().checks}


@pytest.mark.parametrize("state", ["stopped", "running"])
def test_harm_to_a_guardrail_breaks_it_also_where_the_control_has_none(state):
    """Nobody leaves after one page in the status quo, four in five do with the rule: no relative change, yet certain harm."""
    rng = np.random.default_rng(1)
    tables = {(arm.name, 1): crowd(rng, n) for arm, n in zip(ARMS, (800, 600, 600), strict=True)}
    for (arm, _), table in tables.items():
        table[:, 2] = rng.binomial(table[:, 1], 0.8) if arm == "front" else 0
    watched = plan(secondary=(), guardrails={"bounce_rate": 0.05})
    found = report(totals_of(tables), experiment=watched, state=state, days=14.0 if state == "stopped" else 5.0)
    effect = found.compared.of("bounce_rate", "front", "status_quo")
    assert (effect.contrast.relative, guardrail_state(effect, early=state == "running")) == (None, "broke")
    assert guardrail_state(found.compared.of("bounce_rate", "als", "status_quo"), early=state == "running") == "holds"
    assert "Front hurts bounce rate, and more harm than the agreed limit cannot be excluded." in found.verdict.reasons


def test_the_range_that_decides_stands_among_the_numbers():
    found = report(world(4, front=1.1))
    head, rows = number_rows(found.to_dict())
    family = found.compared.effects[0].family
    cells = [row[head.index("Range that decides")] for row in rows]
    assert cells[0] == f"{signed(family.low)} to {signed(family.high)}"
    assert cells[3] == "only for the deciding measure"


def test_no_further_test_is_advised_from_numbers_that_are_not_to_be_used():
    found = report(world(front=1.5, n=(1100, 400, 400)))
    assert found.verdict.key == "do_not_use"
    assert found.to_dict()["roi"]["next"].startswith("Next: find out why these numbers cannot be trusted")
    assert "another test" in repr(found)
