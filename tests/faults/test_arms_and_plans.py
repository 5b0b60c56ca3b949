"""Arms that fail or hang, damaged models, damaged plans: readers get pages, nobody changes arm, every fallback is counted."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from experiments.assignment import Allocation, allocation, assign, assign_many, reader_key
from experiments.experiment import Arm, Experiment
from experiments.files import replace_json
from experiments.lifecycle import Step, draft, publish_plan, start
from experiments.migrate import migrate
from experiments.serving.artefacts import publish, write_bundle
from experiments.serving.pick import Picker
from experiments.serving.recommender import Context, Ranking
from experiments.serving.slate import SlateRules
from experiments.tables import control_engine
from heuristics.newest import Newest
from tests.experiments.test_pick import asked as asked  # a fixture
from tests.web.site_fixture import PHONE, Stand
from web.demo.newspaper import build_newspaper
from web.published import Published, refresh

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


# D18: damaged models

META = {"ids": ["a000", "a001", "a002"], "parameters": {"alpha": 1.0, "regularization": 0.1, "recent_reads": 3.0}}
VECTORS = np.array([[1, 2], [3, 4], [5, 6]], np.float32)


def repack(bundle: Path, arrays: dict[str, Any] | None = None, *, packed: bool = False, **meta: Any) -> None:
    """Change a bundle and make every hash right again, pointer included: only what it says is wrong."""
    manifest = json.loads((bundle / "manifest.json").read_text()) | meta
    if arrays is not None:
        buffer = io.BytesIO()
        (np.savez_compressed if packed else np.savez)(buffer, **arrays)
        (bundle / "arrays.npz").write_bytes(buffer.getvalue())
        described = {name: {"dtype": np.asarray(a).dtype.str, "shape": list(np.shape(a))} for name, a in arrays.items()}
        content = buffer.getvalue()
        manifest |= {"arrays": described, "files": {"arrays.npz": {"sha256": sha256(content).hexdigest(), "size": len(content)}}}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    pointer = json.loads((bundle.parent / "current.json").read_text())
    replace_json(bundle.parent / "current.json", pointer | {"sha256": sha256((bundle / "manifest.json").read_bytes()).hexdigest()})


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def linked(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a byte of the arrays changed": lambda b: flip(b / "arrays.npz"),
    "a byte of the manifest changed": lambda b: flip(b / "manifest.json"),
    "the manifest is not the published one": lambda b: (b / "manifest.json").write_text((b / "manifest.json").read_text() + "\n"),
    "the arrays are cut": lambda b: (b / "arrays.npz").write_bytes((b / "arrays.npz").read_bytes()[:-1]),
    "the arrays are gone": lambda b: (b / "arrays.npz").unlink(),
    "the manifest is gone": lambda b: (b / "manifest.json").unlink(),
    "the arrays are a link": lambda b: linked(b / "arrays.npz"),
    "the pointer is no JSON": lambda b: (b.parent / "current.json").write_text("{"),
    "a number is not finite": lambda b: repack(b, {"vectors": np.where(VECTORS == 3, np.nan, VECTORS)}),
    "the arrays are pickled": lambda b: repack(b, {"vectors": np.array([{"a": 1}], object)}),
    "it unpacks to more than it may": lambda b: repack(b, {"vectors": np.zeros((3, 200_000), np.float32)}, packed=True),
    "vectors and articles differ in number": lambda b: repack(b, {"vectors": VECTORS[:2]}),
    "every article has the same vector": lambda b: repack(b, {"vectors": np.ones((3, 2), np.float32)}),
    "its parameters are missing": lambda b: repack(b, parameters={}),
    "its parameters are a list": lambda b: repack(b, parameters=[1, 2]),
    "it has a newer layout": lambda b: repack(b, layout=2),
}


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Published]:
    """A home whose first model serves; a second one is published and then damaged."""
    home = tmp_path_factory.mktemp("damaged") / "home"
    build_newspaper(home, NOW)
    publish(home, "als", write_bundle(home / "models" / "als", {"vectors": VECTORS}, META).version, at_us=1)
    before = refresh(home, None)
    assert before.bundles == {"als": "1"}
    return home, before


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_d18_a_damaged_model_is_refused_by_name_and_the_old_one_serves(
    serving: tuple[Path, Published], damage: Callable[[Path], object]
) -> None:
    home, before = serving
    publish(home, "als", (bundle := write_bundle(home / "models" / "als", {"vectors": VECTORS * 2}, META)).version, at_us=2)
    damage(bundle.path)
    after = refresh(home, before)
    assert (after.bundles, after.arms["als"]) == (before.bundles, before.arms["als"])
    assert after.faults["model als"]
    (home / "models" / "als" / "current.json").unlink()


def test_d18_a_whole_model_would_have_been_taken(serving: tuple[Path, Published]) -> None:
    home, before = serving
    bundle = write_bundle(home / "models" / "als", {"vectors": VECTORS * 2}, META)
    publish(home, "als", bundle.version, at_us=2)
    repack(bundle.path, {"vectors": VECTORS * 3})
    after = refresh(home, before)
    assert (after.bundles, after.faults) == ({"als": bundle.version}, {})
    (home / "models" / "als" / "current.json").unlink()


# D19: arms that fail or hang


class Broken:
    """An arm that raises, or does not answer before it is let go."""

    kind, audience = "heuristic", "all"

    def __init__(self, name: str, *, hangs: bool) -> None:
        self.name, self.hangs = name, hangs
        self.let_go = threading.Event()

    def rank(self, context: Context) -> Ranking:
        if self.hangs:
            self.let_go.wait()
        raise RuntimeError("no signals")


@pytest.mark.parametrize("hangs", [False, True], ids=["raises", "hangs"])
def test_d19_pages_do_not_wait_for_a_broken_arm_and_each_of_them_is_counted(home: Path, hangs: bool) -> None:
    stand, arm = Stand(home, deadline_ms=30), Broken("front", hangs=hangs)
    stand.site.published = replace(stand.site.published, arms={**stand.site.published.arms, "front": arm})  # type: ignore[dict-item]
    client = stand.reader_in("front")
    for _ in range(30):
        answer = client.get(f"/en/article/{stand.article}", headers=PHONE)  # returns although the arm never does
        assert (answer.status_code, 'class="slot"' in answer.text) == (200, True)
    arm.let_go.set()
    stand.site.close()
    exposures = [event for event in stand.events() if event["kind"] == "exposure"]
    assert [event["body"]["outcome"] for event in exposures] == ["fallback"] * 30
    assert {event["arm"] for event in exposures} == {"front"}


def test_d19_two_arms_that_hang_leave_room_for_a_third(asked: Context) -> None:
    picker, hanging = Picker(deadline_ms=20), [Broken("front", hangs=True), Broken("other", hangs=True)]
    for arm in hanging * 5:
        picker.pick(arm, asked, rules=SlateRules())  # type: ignore[arg-type]
    picker.deadline_s = 5
    outcome = picker.pick(Newest(), asked, rules=SlateRules()).outcome
    for arm in hanging:
        arm.let_go.set()
    assert outcome == "served"


# D26: damaged plans

ARMS = (Arm("status_quo", "status_quo", 0.5), Arm("front", "heuristic", 0.3), Arm("newest", "heuristic", 0.2))
PLAN = Experiment("related", "?", "status_quo", ARMS)
READERS = np.random.default_rng(26).integers(0, 2**64, 100_000, np.uint64)


def rewritten(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Change the published plan and make its checksum right again."""

    def write(path: Path) -> None:
        stored = json.loads(path.read_text())
        change(stored["body"])
        digest = sha256(json.dumps(stored["body"], sort_keys=True).encode()).hexdigest()
        path.write_text(json.dumps({"version": digest[:16], "sha256": digest, "body": stored["body"]}))

    return write


PLAN_DAMAGES: dict[str, Callable[[Path], object]] = {
    "absent": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "no text": lambda path: path.write_bytes(b"\xff\xfe" * 50),
    "a list": lambda path: path.write_text("[1]"),
    "a word": lambda path: path.write_text('"plan"'),
    "a number": lambda path: path.write_text("7"),
    "without a body": lambda path: path.write_text('{"version": "x", "sha256": "y"}'),
    "of another checksum": lambda path: path.write_text(path.read_text().replace("0.3", "0.2").replace('"version": "', '"version": "x')),
    "newer, with a key we do not know": rewritten(lambda body: body["experiments"][0]["plan"].update(cohorts=3)),
    "newer, of another shape": rewritten(lambda body: body.update(experiments={"related": 1})),
    "of a share that is a text": rewritten(lambda body: body["experiments"][0]["shares"].update(front="much")),
    "of an arm above its share": rewritten(lambda body: body["experiments"][0]["shares"].update(front=0.9)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.fixture
def planned(home: Path) -> Path:
    migrate(home)
    build_newspaper(home, NOW)
    engine, step = control_engine(home), Step("test", NOW, "a test")
    draft(engine, PLAN, step)
    start(engine, "related", step)
    publish_plan(home, engine, at=NOW)
    return home


@pytest.mark.parametrize("damage", PLAN_DAMAGES.values(), ids=PLAN_DAMAGES)
def test_d26_a_damaged_plan_moves_no_reader_and_a_site_starts_with_it(planned: Path, damage: Callable[[Path], object]) -> None:
    before = refresh(planned, None)
    arms = assign_many(before.experiments[0].allocation, READERS)
    damage(planned / "plan" / "current.json")
    after = refresh(planned, before)
    assert (assign_many(after.experiments[0].allocation, READERS) == arms).all()
    assert ("plan" in after.faults) == (planned / "plan" / "current.json").exists()
    assert refresh(planned, None).experiments == ()  # nobody is enrolled by a plan that cannot be read


# D27: assignment over the life of an experiment


class Life(RuleBasedStateMachine):
    """An experiment that starts, ramps, stops, is published, damaged and read again, in any order."""

    readers = tuple(reader_key(f"reader {n}") for n in range(60))

    @initialize()
    def begin(self) -> None:
        self.now: Allocation | None = None
        self.shares = dict.fromkeys(PLAN.shares, 0.0)
        self.seen: dict[int, str] = {}
        self.phase = 0

    @rule(parts=st.lists(st.floats(0, 1), min_size=3, max_size=3))
    def ramps(self, parts: list[float]) -> None:
        self.shares = {name: share * part for (name, share), part in zip(PLAN.shares.items(), parts, strict=True)}
        self.phase += 1
        self.now = allocation(PLAN, self.shares, phase=self.phase)

    @rule()
    def runs_in_full(self) -> None:
        self.shares = dict(PLAN.shares)
        self.now = allocation(PLAN, phase=self.phase)

    @precondition(lambda self: self.now is not None)
    @rule()
    def is_published_and_read_by_another_process(self) -> None:
        assert self.now is not None
        again = Experiment.from_dict(json.loads(json.dumps(PLAN.to_dict())))
        assert allocation(again, json.loads(json.dumps(self.shares)), phase=self.phase) == self.now

    @rule()
    def stops(self) -> None:
        self.now = None

    @invariant()
    def a_reader_has_one_arm_for_ever(self) -> None:
        if self.now is None:
            return
        many = assign_many(self.now, np.array(self.readers, np.uint64))
        for reader, index in zip(self.readers, many, strict=True):
            given = assign(self.now, reader)
            assert (given.arm if given else None) == (self.now.ranges[index][2] if index >= 0 else None)
            if given:
                assert self.seen.setdefault(reader, given.arm) == given.arm
                assert self.shares[given.arm] > 0


def live(examples: int, steps: int) -> None:
    chosen = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(Life, settings=chosen)


def test_d27_no_reader_ever_changes_arm() -> None:
    live(30, 15)


@pytest.mark.slow
def test_d27_no_reader_ever_changes_arm_in_two_thousand_lives() -> None:
    live(2_000, 50)
