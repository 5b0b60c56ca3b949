"""Stored results as the console reads them: one experiment in every state, jobs, models, drift, explanation, health."""

from __future__ import annotations

import copy
from statistics import NormalDist
from typing import Any

ARMS = (("status_quo", "status_quo"), ("front", "heuristic"), ("als", "model"))
METRICS = (("views_per_session", "goal"), ("read_to_end", "secondary"), ("bounce_rate", "guardrail"), ("dwell_per_view", "guardrail"))
VALUES = {
    "views_per_session": {"status_quo": 2.05, "front": 2.31, "als": 2.36},
    "read_to_end": {"status_quo": 0.81, "front": 0.9, "als": 0.93},
    "bounce_rate": {"status_quo": 0.41, "front": 0.39, "als": 0.385},
    "dwell_per_view": {"status_quo": 41_200.0, "front": 40_700.0, "als": 41_900.0},
}
HALF_WIDTH = {"views_per_session": 0.041, "read_to_end": 0.052, "bounce_rate": 0.035, "dwell_per_view": 0.018}
EXPORT = {
    "reader": "8f14e45fceea167a5a36dedd4bea2543",
    "first_seen": "2026-11-01T09:12:00+00:00",
    "expires": "2027-12-01T09:12:00+00:00",
    "groups": [{"experiment": "Do readers want recommendations?", "group": "most read now"}],
    "events": [
        {"at": "2026-11-20T08:00:00+00:00", "kind": "view", "article": "=HYPERLINK(1)"},
        {"at": None, "kind": "dwell", "article": None},
    ],
}


def effects() -> list[dict[str, Any]]:
    """Every pair on every metric."""
    pairs = (("front", "status_quo"), ("als", "status_quo"), ("als", "front"))
    return [_effect(metric, role, arm, against) for metric, role in METRICS for arm, against in pairs]


def _effect(metric: str, role: str, arm: str, against: str) -> dict[str, Any]:
    values = {name: VALUES[metric][name] for name in (arm, against)}
    estimate, half = values[arm] / values[against] - 1, HALF_WIDTH[metric]
    difference = values[arm] - values[against]
    width = half * values[against]
    return {
        "metric": metric,
        "role": role,
        "arm": arm,
        "against": against,
        "method": "ratio of sums, delta method, Fieller",
        "direction": "down" if metric == "bounce_rate" else "up",
        "unit": {"bounce_rate": "share", "dwell_per_view": "ms"}.get(metric, "articles"),
        "margin": 0.05 if role == "guardrail" else None,
        "n": {arm: 503, against: 498},
        "values": values,
        "absolute": {"estimate": difference, "se": width / 1.96, "low": difference - width, "high": difference + width, "p": 0.0123},
        "relative": {"estimate": estimate, "low": estimate - half, "high": estimate + half},
        "anytime": {"low": estimate - 1.5 * half, "high": estimate + 1.5 * half, "p": 0.05},
        "adjusted": None,
        "posterior": {"mean": estimate * 0.9, "low": estimate - half, "high": estimate + half, "p_better": 0.99, "expected_loss": 0.0001}
        if role == "goal"
        else None,
        "status": "ok",
        "reason": "",
    }


def scenario(arm: str, mean: float, sd: float, cost: float) -> dict[str, Any]:
    """Money of one arm, as fifty equally likely outcomes."""
    belief = NormalDist(mean, sd)
    dots = [belief.inv_cdf((i + 0.5) / 50) for i in range(50)]
    positive = sum(dot > 0 for dot in dots) / 50
    return {
        "arm": arm, "expected": mean, "low": belief.inv_cdf(0.05), "high": belief.inv_cdf(0.95), "p_positive": positive, "p_best": positive / 2,
        "cost": cost, "regret": 12.0, "build": cost * 0.6, "per_day": cost * 0.4 / 365, "quantiles": dots,
    }  # fmt: skip


CHECKS = [
    ("split", "ok", 0.012, 0.001, 0.41, "33.9% of readers got front; 33.3% were planned. Chance does this often."),
    ("one_arm", "ok", 0.0, 0.01, None, "Shown is what was assigned: no reader saw two arms."),
    ("unknown_arms", "ok", 0.0, 0.0, None, "No exposures to an arm that the plan does not have."),
    ("nothing_lost", "ok", 0.0, 0.0, None, "Nothing was lost: 41,204 events received, all accounted for."),
    ("fallbacks", "warn", 0.006, 0.02, None, "Als fell back on 0.6% of pages, front on none. Look at the deadline."),
    ("ran_long_enough", "ok", 14.0, 14.0, None, "Ran 14 of 14 planned days: two whole weeks."),
    ("heavy_reader", "ok", 0.2, 0.5, None, "No single reader moves the result by more than half its uncertainty."),
    ("recomputed", "ok", 1e-13, 1e-9, None, "A second program gives the same effect."),
]

SHIP: dict[str, Any] = {
    "experiment": "related",
    "question": "Do readers open more articles when we recommend under each one, and does a model earn more than a rule?",
    "owner": "Ines, product",
    "control": "status_quo",
    "level": 0.95,
    "state": "stopped",
    "snapshot": "s-5f21c09a",
    "goal": "views_per_session",
    "dates": {
        "start": "2026-11-07T00:00:00+00:00",
        "planned_end": "2026-11-21T00:00:00+00:00",
        "until": "2026-11-21T00:00:00+00:00",
        "days": 14.0,
        "planned_days": 14.0,
    },
    "sentences": [
        "Ship front: it brings more than it costs and hurts nothing we guard.",
        "Articles opened per session: 8.6% to 17% higher with front than with status quo.",
        "Such a range holds the truth 19 times out of 20.",
        "In 50 of 50 equally likely outcomes front earns money.",
        "We expect €8,200 over 365 days, costs deducted.",
        "If we ship front and are wrong, expect to lose about €1 a month.",
        "Our best guess: front already brings 84% of what als gains.",
    ],
    "computed_at": "2026-11-21T00:20:09+00:00",
    "next_refresh": "2026-11-21T15:20:00+00:00",
    "signals": "shared",
    "code": "0.1.0",
    "audience_share": 0.38,
    "arms": [
        {"name": "status_quo", "kind": "status_quo", "readers": 498, "share": 0.332, "planned_share": 1 / 3, "audience": "all"},
        {"name": "front", "kind": "heuristic", "readers": 509, "share": 0.339, "planned_share": 1 / 3, "audience": "all"},
        {"name": "als", "kind": "model", "readers": 493, "share": 0.329, "planned_share": 1 / 3, "audience": "agreed"},
    ],
    "checks": [dict(zip(("name", "state", "figure", "threshold", "p", "says"), row, strict=True)) for row in CHECKS],
    "effects": effects(),
    "roi": {
        "currency": "EUR",
        "horizon_days": 365,
        "scenarios": [scenario("status_quo", 0, 1e-9, 0), scenario("front", 8_200, 3_100, 900), scenario("als", 3_900, 4_600, 6_400)],
        "evpi": 412.0,
        "unknowns": [
            {"name": "value per view", "evppi": 210.0, "share_of_variance": {"front": 0.61, "als": 0.44}},
            {"name": "reader interest", "evppi": 150.0, "share_of_variance": {"front": 0.37, "als": 0.3}},
            {"name": "what als adds to front", "evppi": 0.0, "share_of_variance": {"front": 0.0, "als": 0.21}},
        ],
        "studies": [{"name": "the same test again", "days": 14.0, "evsi": 130.0, "cost": 95.0, "enbs": 35.0}],
        "next": "Settle value per view first: it is worth €210. Running the same test again is worth €130 and costs €95.",
    },
    "verdict": {
        "key": "ship",
        "arm": "front",
        "sentence": "Ship front: it brings more than it costs and hurts nothing we guard.",
        "reasons": [
            "Front improves the goal and earns more than the other arms.",
            "No harm beyond the agreed limit on bounce rate, dwell per view.",
            "Keep the heuristic: als does not beat front by more than it costs.",
        ],
    },
    "log": [{"at": "2026-11-06T10:00:00+00:00", "who": "Ines", "did": "planned", "reason": ""}],
}


def _variant(name: str, **changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(SHIP), "experiment": name, **changes}


def _waiting() -> dict[str, Any]:
    report = _variant(
        "headlines", state="running", roi=None, roi_reason="before the planned end", question="Do readers want shorter headlines?"
    )
    report["dates"] |= {"until": "2026-11-12T12:00:00+00:00", "days": 5.5}
    report["sentences"] = ["Keep running: 5.5 of 14 planned days are over."]
    for effect in report["effects"]:
        effect.update(absolute=None, relative=None, anytime=None, posterior=None, status="insufficient", reason="before the planned end")
    report["verdict"] = {
        "key": "wait", "arm": None, "sentence": "Keep running: 5.5 of 14 planned days are over.",
        "reasons": ["Effects are shown once, at the planned end, so that looking early cannot mislead."],
    }  # fmt: skip
    return report


def _broken() -> dict[str, Any]:
    report = _variant("sport-box", question="Does a box of sport results keep readers?")
    says = "51.3% of readers got front; 50% were planned. Chance alone does this less than once in 1,000 tests. Likely cause: front pages fail."
    report["checks"][0].update(state="block", figure=0.013, p=0.0004, says=says)
    report["sentences"] = ["Do not use these numbers: readers were not split as planned."]
    report["verdict"] = {
        "key": "do_not_use",
        "arm": None,
        "sentence": "Do not use these numbers: readers were not split as planned.",
        "reasons": [says],
    }
    return report


def _hostile() -> dict[str, Any]:
    report = _variant("odd", question='<script>alert("q")</script>')
    report["arms"][1]["name"] = "<script>x</script>"
    for effect in report["effects"]:
        for key in ("arm", "against"):
            effect[key] = "<script>x</script>" if effect[key] == "front" else effect[key]
    report["effects"][1].update(
        absolute=None, relative=None, anytime=None, posterior=None, status="not_estimable", reason="ALS has no matured reader yet"
    )
    report["roi"]["scenarios"][1]["arm"] = "<script>x</script>"
    report["sentences"] = []
    report["verdict"] = {
        "key": "keep",
        "arm": "status_quo",
        "sentence": "Keep status quo: no other arm is shown to be better.",
        "reasons": [],
    }
    return report


def _equal() -> dict[str, Any]:
    verdict = {"key": "equal", "arm": "status_quo", "sentence": "No practical difference: take the cheapest, status quo.", "reasons": []}
    return _variant("footers", verdict=verdict, roi=None, sentences=[], question="Does the footer matter?", effects=effects())


REPORTS = {report["experiment"]: report for report in (_broken(), SHIP, _waiting(), _equal(), _hostile())}


def summary(report: dict[str, Any]) -> dict[str, Any]:
    """What the list of experiments gets."""
    keys = ("question", "state", "owner", "verdict", "snapshot", "arms")
    dates = {"started_at": report["dates"]["start"], "planned_end": report["dates"]["planned_end"], "stopped_at": None}
    return {"name": report["experiment"], "decided_arm": None, **dates, **{key: report.get(key) for key in keys}}


def _job(name: str, says: str, schedule: str, state: str, **more: Any) -> dict[str, Any]:
    base = {"last_started": "2026-11-21T14:00:00+00:00", "last_seconds": 1.2, "next_due": "2026-11-21T15:00:00+00:00", "overdue": False}
    return {
        "name": name,
        "says": says,
        "schedule": schedule,
        "state": state,
        **base,
        "reason": "",
        "log": "",
        "durations": [1.0, 1.4, 1.2],
        **more,
    }


JOBS = [
    _job("loader", "Events from the outboxes into the store", "always", "running", durations=[], last_seconds=None, last_started=None, next_due=None),
    _job("signals", "Heat and co-reading, as of this minute", "every 1 min", "done"),
    _job("als", "Article vectors from the last days' reads", "every hour at :10", "failed", reason="training: 3 readers, 20 needed", log="Traceback <b>"),
    _job(
        "drift", "Inputs now against the reference", "daily at 02:00 UTC", "never ran", overdue=True, last_started=None, last_seconds=None, durations=[],
        reason="The worker has not reported for 3 h. Start it: presslab worker",
    ),
]  # fmt: skip

MODELS = [
    {
        "arm": "als", "version": "20261121T1410-9a3f", "live": True, "trained_at": "2026-11-21T14:10:00+00:00", "seed": 1,
        "files": {"factors.npz": {"sha256": "9a3f" * 16, "bytes": 412_000}}, "parameters": {"factors": 64, "alpha": 10},
        "metrics": {"hit_rate_at_10": 0.41, "heuristic_hit_rate_at_10": 0.38}, "reads": 14_220, "readers": 1_204, "articles": 181,
    },
    {"arm": "als", "version": "20261120T1410-71cc", "live": False, "trained_at": "2026-11-20T14:10:00+00:00"},
]  # fmt: skip

STANDING = {
    "refreshed": [
        {"name": "signals", "says": "Heat and co-reading", "until": "2026-11-21T14:04:00+00:00", "age_s": 60.0, "limit_s": 900, "stale": False},
        {"name": "als", "says": "Article vectors", "until": "2026-11-21T09:10:00+00:00", "age_s": 17_700.0, "limit_s": 10_800, "stale": True},
    ],
    "arms": [
        {
            "arm": "als", "kind": "model", "owner": "data science", "version": "20261121T1410-9a3f", "reason": "", "gates": None, "ladder": None,
            "compared": [{"arm": "als", "hit_rate": 0.2, "low": 0.18, "high": 0.22}],
            "training": {"state": "published", "at": 1_795_269_000_000_000, "says": "version 7 is published",
                         "judged": {"version": "6", "until": 1_795_262_400_000_000, "since": 1_795_262_400_000_000}}, "recall": None,
        },
        {
            "arm": "ranked", "kind": "model", "owner": "data science", "version": "", "reason": "",
            "compared": [
                {"arm": "ranked", "hit_rate": 0.31, "low": 0.28, "high": 0.34}, {"arm": "front", "hit_rate": 0.36, "low": 0.33, "high": 0.39},
                {"arm": "without_als", "hit_rate": 0.305, "low": None, "high": None},
            ],
            "ladder": {
                "experiment": "related-ranked", "state": "live", "share": 0.05, "proposal": 17, "since": "2026-11-21T02:30:00+00:00", "why": "approved",
            },
            "recall": {"at": 1_795_269_000_000_000, "page_views": 993, "found": 812, "recall": 812 / 993, "day": {"page_views": 2_000, "found": 1_600, "recall": 0.8}},
            "training": {"state": "refused", "at": 1_795_228_200_000_000, "reason": "the gap of 5.0% is more than its uncertainty (3.1%).",
                         "judged": {"version": "", "until": 1_795_140_000_000_000, "since": 1_795_140_000_000_000}},
            "gates": {
                "run": 3, "against": "front", "passed": False, "until": "2026-11-21T02:30:00+00:00", "split": "2026-11-20T02:30:00+00:00", "earlier_looks": 1,
                "gates": [
                    {"number": 1, "name": "contract", "passed": True, "figure": "12 of 12 kept", "limit": "all", "reason": ""},
                    {"number": 3, "name": "offline against the heuristic", "passed": False, "figure": "-5.0%", "limit": "at least -3.1%", "reason": "less often than 'front'"},
                    {"number": 5, "name": "diversity", "passed": None, "figure": "not yet", "limit": "", "reason": "readers have read nothing"},
                ],
            },
        },
        {
            "arm": "front", "kind": "heuristic", "owner": "newsroom", "version": "", "reason": "", "compared": [], "training": None, "ladder": None,
            "gates": {
                "run": 1, "against": "front", "passed": True, "until": "2026-11-21T02:30:00+00:00", "split": "2026-11-20T02:30:00+00:00", "earlier_looks": 0,
                "gates": [{"number": 1, "name": "contract", "passed": True, "figure": "12 of 12 kept", "limit": "all", "reason": ""}],
            },
        },
        {"arm": "newest", "kind": "heuristic", "owner": "", "version": "", "reason": "", "compared": [], "training": None, "gates": None, "ladder": None},
    ],
}  # fmt: skip

DRIFT = {
    "at": "2026-11-21T02:00:11+00:00",
    "reason": "",
    "days": {"reads": 4_100, "recent": 3, "reference": 14},
    "models": [{"arm": "als", "version": "4", "without_vector": 0.201, "limit": 0.05, "state": "warn"}],
    "inputs": [
        {
            "name": "article_age", "says": "age of the article, hours", "divergence": 0.021, "limit": 0.05, "state": "ok",
            "bins": ["0-1", "1-6", "6-24", "24-72", "over 72"], "reference": [0.1, 0.3, 0.3, 0.2, 0.1], "current": [0.14, 0.28, 0.3, 0.2, 0.08],
        },
        {
            "name": "heat", "says": "heat of the article", "divergence": 0.081, "limit": 0.05, "state": "warn",
            "bins": ["0", "1-2", "3-9", "10+"], "reference": [0.5, 0.3, 0.15, 0.05], "current": [0.2, 0.3, 0.3, 0.2],
        },
    ],
}  # fmt: skip

EXPLANATION = {
    "arm": "ranked", "version": "20261121T0230-aa01", "at": "2026-11-21T03:30:40+00:00", "rows": 2_000, "additivity_error": 9e-15, "state": "ok",
    "features": [{"name": "heat, last hour", "mean_abs": 0.81}, {"name": "co-read with the open article", "mean_abs": 0.44}, {"name": "age, hours", "mean_abs": 0.2}],
}  # fmt: skip

HEALTH = {
    "state": "bad",
    "says": "The worker has not reported for 3 h. Start it: presslab worker",
    "since": None,
    "checks": [
        {"name": "worker", "state": "bad", "says": "has not reported for 3 h. Start it: presslab worker"},
        {"name": "event balance", "state": "ok", "says": "41,204 received, all accounted for"},
        {"name": "disk", "state": "ok", "says": "31.2 GB free"},
        {
            "name": "last backup",
            "state": "warn",
            "says": "There is no backup of the last 2 days; one is due daily at 06:30 UTC. Taken 3.2 days ago (17 Nov 2026, 07:04 UTC); 7 copies are kept in /srv/presslab/instance-backups.",
        },
    ],
    "versions": {"presslab": "0.1.0", "python": "3.11.9"},
}
