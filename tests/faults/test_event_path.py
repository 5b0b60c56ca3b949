"""The event path as a state machine: written, sealed, killed, damaged, loaded, restarted, salvaged and replayed in any order."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from experiments.events.loader import Loader
from experiments.events.outbox_file import OutboxFile, outbox_files
from experiments.events.replay import replay
from experiments.events.salvage import salvage
from experiments.events.store import balance, read_store, store_path
from experiments.events.wire import encode
from tests.events.story import START, view

MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
FEW = st.lists(st.integers(0, 30), min_size=1, max_size=6)


class EventPath(RuleBasedStateMachine):
    """Knows what was acknowledged, and which of it lies in files that were damaged and may be lost."""

    @initialize()
    def begins(self) -> None:
        self.home = Path(tempfile.mkdtemp(dir=MEMORY))
        (self.home / "outbox").mkdir()
        self.loader = Loader(self.home, clock=lambda: START)
        self.files = self.payload = 0
        self.live: OutboxFile | None = None
        self.left: list[OutboxFile] = []  # of owners that were killed; closing them would tidy their logs
        self.acknowledged: dict[Path, set[bytes]] = {}
        self.doubtful: set[bytes] = set()
        self.damaged = False

    @rule(numbers=FEW, arm=st.sampled_from(["", "als", "front"]), kind=st.sampled_from(["good", "other payload", "refused"]))
    def writes(self, numbers: list[int], arm: str, kind: str) -> None:
        if self.live is None:
            self.files += 1
            self.live = OutboxFile(self.home / "outbox", f"{self.files:06}")
        self.payload += 1
        body = {"good": {"page_type": "front"}, "other payload": {"page_type": "front", "x": self.payload}, "refused": {"page_type": "?"}}[
            kind
        ]
        events = [view(number, arm=arm, body=body) for number in numbers]
        self.live.write(map(encode, events), {("view", arm): len(events)})
        if kind != "refused":
            self.acknowledged.setdefault(self.live.path, set()).update(event.id for event in events)

    @precondition(lambda self: self.live)
    @rule()
    def owner_seals(self) -> None:
        assert self.live
        self.live.seal()
        self.live = None

    @precondition(lambda self: self.live)
    @rule(
        damage=st.sampled_from(
            ["", "", "DELETE FROM entry WHERE seq = 2", "UPDATE entry SET body = x'00' WHERE seq = 1", "UPDATE tally SET n = n + 1"]
        )
    )
    def owner_is_killed(self, damage: str) -> None:
        assert self.live
        if damage:
            self.live._connection.execute(damage)
            self.damaged = True
            self.doubtful |= self.acknowledged.get(self.live.path, set())
        os.close(self.live._lock)
        self.left.append(self.live)
        self.live = None

    @rule(most=st.integers(1, 9))
    def loads(self, most: int) -> None:
        self.loader.load(most=most)

    @rule()
    def loader_is_replaced(self) -> None:
        self.loader.close()
        self.loader = Loader(self.home, clock=lambda: START)

    @rule(dry_run=st.booleans())
    def dead_letters_are_tried_again(self, dry_run: bool) -> None:
        replay(self.loader, dry_run=dry_run)

    @rule()
    def damaged_files_are_salvaged(self) -> None:
        self.loader.drain()
        salvage(self.home, self.loader)
        self.damaged = False

    @invariant()
    def nothing_is_made_up_and_nothing_counted_twice(self) -> None:
        with closing(read_store(store_path(self.home))) as store:
            ids = [row[0] for row in store.execute("SELECT id FROM event")]
        assert len(ids) == len(set(ids))
        assert set(ids) <= set().union(*self.acknowledged.values())
        assert self.damaged or all(row.exact for row in balance(self.home))

    def teardown(self) -> None:
        if not hasattr(self, "loader"):
            return
        if self.live:
            self.live.seal()
        self.damaged_files_are_salvaged()
        with self.loader.transaction() as store:
            stored = {row[0] for row in store.execute("SELECT id FROM event")}
        assert set().union(*self.acknowledged.values()) - stored <= self.doubtful
        assert all(row.exact and not row.pending for row in balance(self.home))
        assert outbox_files(self.home / "outbox") == []
        self.loader.close()
        for file in self.left:
            file._connection.close()
        shutil.rmtree(self.home)


def live(examples: int, steps: int) -> None:
    chosen = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(EventPath, settings=chosen)


def test_whatever_happens_to_outboxes_and_loader_nothing_acknowledged_is_lost_or_counted_twice() -> None:
    live(15, 12)


@pytest.mark.slow
def test_in_a_thousand_histories_nothing_acknowledged_is_lost_or_counted_twice() -> None:
    live(1_000, 40)
