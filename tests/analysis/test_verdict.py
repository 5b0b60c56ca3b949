from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from analysis.verdict import Candidate, Progress, decide
from tests.analysis.test_words import assert_plain

DONE = Progress(14, 14, ended=True)
HURTS = "hurts dwell per view, and more harm than the agreed limit cannot be excluded"
HOLDS, BROKE = {"dwell_per_view": "holds"}, {"dwell_per_view": "broke"}


def rule(**values) -> Candidate:
    return Candidate("front", "heuristic", **{"guardrails": HOLDS, "worth": 100.0, "superior": True, **values})


def model(**values) -> Candidate:
    return Candidate("als", "model", **{"guardrails": HOLDS, "worth": 200.0, "superior": True, **values})


def key_of(*candidates, failed=(), progress=DONE, control="status_quo"):
    found = decide(candidates, control=control, failed=failed, progress=progress)
    return found.key, found.arm


def test_an_arm_without_a_number_is_not_said_to_have_failed():
    found = decide([rule(superior=False, unknown="front has 1 reader")], control="status_quo", failed=(), progress=DONE)
    assert found.sentence == "Keep status quo: no other arm could be judged."
    assert found.reasons == ("Front could not be judged: front has 1 reader.",)
    both = decide(
        [rule(superior=False, unknown="front has 1 reader"), model(superior=False)], control="status_quo", failed=(), progress=DONE
    )
    assert both.sentence == "Keep status quo: no other arm is shown to be better."


TRUTH = [
    ("a trust check fails", [rule(), model()], {"failed": ["events are missing"]}, ("do_not_use", None)),
    ("a failed check wins over a broken guardrail", [rule(guardrails=BROKE)], {"failed": ["events are missing"]}, ("do_not_use", None)),
    ("the planned end is ahead", [rule(), model()], {"progress": Progress(5, 14, ended=False)}, ("wait", None)),
    ("all arms hurt before the end", [rule(guardrails=BROKE)], {"progress": Progress(5, 14, ended=False)}, ("keep", "status_quo")),
    ("one arm hurts before the end", [rule(), model(guardrails=BROKE)], {"progress": Progress(5, 14, ended=False)}, ("wait", None)),
    ("both pay, the model more", [rule(), model()], {}, ("ship", "als")),
    ("both pay, the rule more", [rule(), model(worth=90.0)], {}, ("ship", "front")),
    ("both pay the same", [rule(), model(worth=100.0)], {}, ("ship", "front")),
    ("the model does not pay", [rule(), model(worth=-1.0)], {}, ("ship", "front")),
    ("the rule does not pay", [rule(worth=-1.0), model()], {}, ("ship", "als")),
    ("neither pays", [rule(worth=-1.0), model(worth=-2.0)], {}, ("keep", "status_quo")),
    ("exactly nothing is not a gain", [rule(worth=0.0)], {}, ("keep", "status_quo")),
    ("the model is shown, the rule is not but would be worth more", [rule(superior=False, worth=300.0), model()], {}, ("ship", "als")),
    ("the rule is shown, the model is not but would be worth more", [rule(), model(superior=False, worth=300.0)], {}, ("ship", "front")),
    ("a rule that hurts is no rival", [rule(guardrails=BROKE, worth=300.0), model()], {}, ("ship", "als")),
    ("the model hurts", [rule(), model(guardrails=BROKE)], {}, ("ship", "front")),
    ("the best was taken from its readers", [rule(), model()], {"progress": replace(DONE, halted=["als"])}, ("ship", "front")),
    ("the only one was taken, early", [rule()], {"progress": Progress(5, 14, ended=False, halted=["front"])}, ("keep", "status_quo")),
    ("the only arm hurts", [model(guardrails=BROKE)], {}, ("keep", "status_quo")),
    ("harm cannot be excluded", [model(guardrails={"dwell_per_view": "unclear"})], {}, ("keep", "status_quo")),
    ("harm within the margin is still harm", [model(guardrails={"dwell_per_view": "worse"})], {}, ("keep", "status_quo")),
    ("nothing shown", [rule(superior=False), model(superior=False)], {}, ("keep", "status_quo")),
    ("nothing shown, but money expected", [rule(superior=False, worth=500.0)], {}, ("keep", "status_quo")),
    (
        "both within the limit",
        [rule(superior=False, within=True, cost=9.0), model(superior=False, within=True, cost=8.0)],
        {},
        ("equal", "status_quo"),
    ),
    ("within, and the arm saves money", [rule(superior=False, within=True, cost=-5.0)], {}, ("equal", "front")),
    (
        "within, and the arm that saves money hurts",
        [rule(superior=False, within=True, cost=-5.0, guardrails={"dwell_per_view": "worse"})],
        {},
        ("equal", "status_quo"),
    ),
    ("shown and paying, though within the limit", [rule(within=True)], {}, ("ship", "front")),
    ("one within, one open", [rule(superior=False, within=True), model(superior=False)], {}, ("keep", "status_quo")),
    ("worse on the goal", [model(superior=False, harmful=True)], {}, ("keep", "status_quo")),
    ("nobody stated a value", [model(worth=None)], {}, ("keep", "status_quo")),
    ("too few readers for a verdict", [model(share=0.01)], {}, ("keep", "status_quo")),
    ("stopped too early", [rule()], {"progress": Progress(3, 14, ended=True, long_enough=False)}, ("keep", "status_quo")),
    ("the incumbent is the heuristic", [model(worth=-1.0)], {"control": "front"}, ("keep", "front")),
    ("nothing to compare", [], {}, ("keep", "status_quo")),
]


@pytest.mark.parametrize(("case", "candidates", "how", "expected"), TRUTH, ids=[case[0] for case in TRUTH])
def test_truth_table(case, candidates, how, expected):
    assert key_of(*candidates, **how) == expected


def test_every_verdict_is_plain_short_and_has_at_most_four_reasons():
    states = ["holds", "unclear", "worse", "broke"]
    arms = [
        [
            make(superior=s, within=w, worth=v, guardrails={"dwell_per_view": g, "bounce_rate": "holds"})
            for s, w, v, g in itertools.product([True, False], [True, False], [None, -1.0, 150.0], states)
        ]
        for make in (rule, model)
    ]
    stages = [DONE, Progress(3.25, 14, ended=False), Progress(3.25, 14, ended=True, long_enough=False)]
    for one, two in itertools.product(*arms):
        for progress in stages:
            found = decide([one, two], control="status_quo", failed=[], progress=progress)
            assert len(found.reasons) <= 4
            assert_plain(found.sentence, *found.reasons)


def test_the_sentence_begins_with_the_decision():
    starts = {
        "ship": decide([rule()], control="status_quo", failed=[], progress=DONE),
        "keep": decide([rule(superior=False)], control="status_quo", failed=[], progress=DONE),
        "equal": decide([rule(superior=False, within=True)], control="status_quo", failed=[], progress=DONE),
        "wait": decide([rule()], control="status_quo", failed=[], progress=Progress(5, 14, ended=False)),
        "do_not_use": decide([rule()], control="status_quo", failed=["events are missing"], progress=DONE),
    }
    assert [verdict.sentence for verdict in starts.values()] == [
        "Ship front: it brings more than it costs and hurts nothing we guard.",
        "Keep status quo: no other arm is shown to be better.",
        "No practical difference: take the cheapest, status quo.",
        "Keep running: 5 of 14 planned days are over.",
        "Do not use these numbers: events are missing.",
    ]


def test_an_arm_not_shown_to_improve_the_goal_is_said_to_pay_on_average_where_it_does():
    paying, idle = (decide([rule(superior=False, worth=worth)], control="status_quo", failed=[], progress=DONE) for worth in (500.0, None))
    assert paying.reasons == ("Front would pay on average, but chance alone may explain that.",)
    assert idle.reasons == ("Front is not shown to improve the goal.",)


def test_an_arm_that_pays_on_average_but_loses_in_most_outcomes_is_not_praised():
    found = decide([rule(worth=1.8, earns=0.43)], control="status_quo", failed=[], progress=DONE)
    assert found.key == "ship"
    assert (
        found.sentence
        == "Ship front: on average it brings more than it costs, but in most outcomes it loses money. It hurts nothing we guard."
    )
    even = decide([rule(worth=1.8, earns=0.5)], control="status_quo", failed=[], progress=DONE)
    assert even.sentence == "Ship front: it brings more than it costs and hurts nothing we guard."


def test_a_model_that_does_not_beat_the_rule_is_told_so():
    found = decide([rule(), model(worth=90.0)], control="status_quo", failed=[], progress=DONE)
    assert "Keep the heuristic: als does not beat front by more than it costs." in found.reasons


def test_a_model_that_was_shown_to_pay_is_not_held_back_by_a_rule_that_was_not():
    found = decide([rule(superior=False, worth=300.0), model()], control="status_quo", failed=[], progress=DONE)
    assert (found.key, found.arm) == ("ship", "als")
    assert found.reasons == (
        "Als improves the goal and earns more than the other arms that may be shipped.",
        "No harm beyond the agreed limit on dwell per view.",
        "Front would pay more on average, but chance alone may explain that.",
    )


def test_a_broken_guardrail_is_named():
    found = decide([model(guardrails=BROKE)], control="status_quo", failed=[], progress=DONE)
    assert found.sentence == f"Keep status quo: als {HURTS}."


def reasons_of(*candidates):
    return decide(candidates, control="status_quo", failed=[], progress=DONE).reasons


def test_a_rule_that_is_shipped_is_not_said_to_earn_more_than_a_model_that_was_not_shown_to():
    found = reasons_of(rule(), model(superior=False, worth=300.0))
    assert found == (
        "Front improves the goal and earns more than the other arms that may be shipped.",
        "No harm beyond the agreed limit on dwell per view.",
        "Als would pay more on average, but chance alone may explain that.",
    )


def test_of_an_arm_that_could_not_be_judged_nothing_is_compared():
    assert "Als could not be judged: als has 1 reader." in reasons_of(
        rule(), model(superior=False, worth=300.0, unknown="als has 1 reader")
    )


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"unknown": "als has 9 readers", "superior": False, "worth": None}, "Als could not be judged: als has 9 readers."),
        ({"worth": None, "unpriced": "little is known"}, "Als improves the goal, but costs cannot be weighed: little is known."),
        ({"worth": 50.0, "unknown": "als has 9 readers", "superior": False}, "Als could not be judged: als has 9 readers."),
    ],
)
def test_a_model_whose_worth_is_not_known_is_not_said_to_fall_short_of_the_rule(other, says):
    found = reasons_of(rule(), model(**other))
    assert found[-1] == says
    assert found[0] == f"Front improves the goal and earns more than {'it costs' if other['worth'] is None else 'the other arms'}."


def test_a_model_that_was_taken_from_its_readers_is_not_said_to_fall_short_of_the_rule():
    found = verdict_of(rule(), model(worth=50.0), progress=replace(DONE, halted=["als"]))
    assert found.reasons[-1] == "Als was taken from all its readers while the test ran; the record says why."


def test_an_arm_earns_more_than_the_others_only_as_far_as_they_have_a_price():
    found = reasons_of(rule(), replace(rule(worth=20.0), arm="newest"), model(worth=None))
    assert found[0] == "Front improves the goal and earns more than the other arms that have a price."


def test_a_verdict_knows_the_arm_its_sentence_speaks_of():
    assert verdict_of(rule(worth=-5.0, superior=False), model(worth=-9.0)).about == "als"
    assert verdict_of(rule(worth=-5.0), model(worth=-9.0)).about == "front"
    assert verdict_of(rule(worth=-5.0), model(worth=None)).about == "als"
    assert verdict_of(rule(superior=False), model(guardrails=BROKE)).about == "als"
    assert verdict_of(rule(superior=False)).about is None
    assert verdict_of(rule()).about == "front"


def test_a_range_that_shows_a_change_by_itself_only_is_explained():
    assert reasons_of(rule(superior=False, alone=True)) == (
        "Front looks better by itself, but not where all comparisons and looks are judged together.",
    )


def test_why_an_improvement_has_no_price_is_said():
    found = decide([rule(worth=None, unpriced="no article views were counted")], control="status_quo", failed=[], progress=DONE)
    assert found.sentence == "Keep status quo: front improves the goal, but no article views were counted."
    assert found.reasons == ("Front improves the goal, but costs cannot be weighed: no article views were counted.",)


def test_a_share_just_below_the_least_is_not_rounded_up_to_it():
    assert reasons_of(rule(share=0.0997)) == ("Front improves the goal, but had less than the 10% of readers that a decision needs.",)


def test_one_day_is_a_day():
    short = decide([rule()], control="status_quo", failed=[], progress=Progress(1, 14, ended=True, long_enough=False))
    assert short.reasons[0] == "Stopped after 1 day: too short for this plan to change anything."


@pytest.mark.parametrize("gone", [{"halted": ["front"]}, {}])
def test_a_test_that_runs_on_without_its_arm_is_not_said_to_be_stopped(gone):
    early = Progress(2, 14, ended=False, long_enough=False, **gone)
    found = decide([rule() if gone else rule(guardrails=BROKE)], control="status_quo", failed=(), progress=early)
    says = "front was taken from all its readers while the test ran" if gone else f"front {HURTS}"
    assert found.sentence == f"Keep status quo: {says}."
    assert len(found.reasons) == 1


def verdict_of(*candidates, **how):
    return decide(candidates, control="status_quo", failed=[], **{"progress": DONE, **how})


def test_harm_that_is_certain_is_not_called_one_that_cannot_be_excluded():
    found = verdict_of(rule(guardrails={"dwell_per_view": "worse", "bounce_rate": "holds"}))
    assert found.sentence == "Keep status quo: front improves the goal, but hurts dwell per view, though within the agreed limit."
    assert found.reasons == ("Front improves the goal, but hurts dwell per view, though within the agreed limit.",)
    both = verdict_of(rule(guardrails={"dwell_per_view": "worse", "bounce_rate": "unclear"}))
    assert both.reasons == (
        "Front improves the goal, but hurts dwell per view, though within the agreed limit, and harm to bounce rate cannot be excluded.",
    )


def test_an_arm_that_is_better_but_too_small_is_not_said_to_be_no_better():
    found = verdict_of(rule(share=0.05))
    assert found.sentence == "Keep status quo: front improves the goal, but had less than the 10% of readers that a decision needs."


def test_a_test_stopped_early_by_harm_is_not_said_to_have_told_nothing():
    short = Progress(3, 14, ended=True, long_enough=False)
    assert verdict_of(rule(guardrails=BROKE), progress=short).sentence == f"Keep status quo: front {HURTS}."
    halted = replace(short, halted=["front"])
    assert verdict_of(rule(), progress=halted).sentence == "Keep status quo: front was taken from all its readers while the test ran."
    one = verdict_of(rule(guardrails=BROKE), model(), progress=short)
    assert one.sentence == "Keep status quo: the test was stopped before it could tell."
    assert "Als looks better, but so short a test cannot tell." in one.reasons


def test_a_test_stopped_early_changes_nothing_even_where_no_difference_is_seen():
    short = Progress(3, 14, ended=True, long_enough=False)
    saves = rule(superior=False, within=True, cost=-5.0)
    assert (verdict_of(saves, progress=short).key, verdict_of(saves).key) == ("keep", "equal")


def test_what_is_taken_is_called_the_cheapest_only_where_it_is():
    dear = verdict_of(rule(superior=False, within=True, cost=-5.0, guardrails={"dwell_per_view": "unclear"}))
    assert (dear.key, dear.arm) == ("equal", "status_quo")
    assert dear.sentence == "No practical difference: take status quo, the cheapest that may be shipped."
    assert dear.reasons[1:] == ("Front is cheaper, but harm to dwell per view cannot be excluded.",)
    small = verdict_of(rule(superior=False, within=True, cost=-5.0, share=0.05))
    assert (small.arm, small.reasons[1:]) == (
        "status_quo",
        ("Front is cheaper, but had less than the 10% of readers that a decision needs.",),
    )


def test_where_nothing_is_guarded_and_nothing_else_compared_nothing_is_said_of_it():
    found = verdict_of(rule(guardrails={}))
    assert found.sentence == "Ship front: it brings more than it costs; no guardrail was set."
    assert found.reasons == ("Front improves the goal and earns more than it costs.",)


@pytest.mark.parametrize(
    "goal",
    [
        {},
        {"superior": False, "alone": True},
        {"superior": False, "harmful": True},
        {"superior": False, "within": True},
        {"superior": False},
    ],
)
@pytest.mark.parametrize("harm", ["holds", "unclear", "worse", "broke", None])
@pytest.mark.parametrize("share", [0.5, 0.05])
def test_no_verdict_denies_what_it_names(goal, harm, share):
    """Better x guardrail x few readers: the headline and its reasons say the same of every arm, in plain words."""
    guardrails = {} if harm is None else {"dwell_per_view": harm}
    for worth, cost, long_enough in itertools.product([None, -1.0, 150.0], [-5.0, 5.0], [True, False]):
        progress = replace(DONE, long_enough=long_enough, days=14 if long_enough else 3)
        found = verdict_of(rule(guardrails=guardrails, share=share, worth=worth, cost=cost, **goal), progress=progress)
        says = " ".join([found.sentence, *found.reasons])
        assert_plain(found.sentence, *found.reasons)
        assert not ("improves the goal" in says and "shown to be better" in says)
        assert not ("hurts nothing" in says and harm != "holds")
        assert not ("take the cheapest, status quo" in says and cost < 0)
        assert found.key not in ("ship", "equal") or long_enough
        assert found.arm == "status_quo" or (share > 0.1 and harm in ("holds", None))
        assert harm != "worse" or "cannot be excluded" not in says
