"""The real site while versions of a model change under load: who was served which, and until when."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from secrets import token_hex

import numpy as np

from experiments.assignment import allocation, assign, reader_key
from experiments.clock import system_clock
from experiments.events.loader import Loader
from experiments.events.store import read_store, store_path
from experiments.experiment import Arm, Experiment
from experiments.lifecycle import Step, draft, publish_plan, start
from experiments.migrate import migrate
from experiments.serving.artefacts import publish, rollback, write_bundle
from experiments.tables import control_engine
from tests.faults.site import ARTICLES, Visitor, serving, wait_until
from web.confirmed import Confirmed, confirmed
from web.demo.newspaper import build_newspaper
from web.identity import choices_text
from web.keys import tokens_of
from web.site_protocol import Choices

__all__ = ["Change", "Load", "changed_under_load"]

PLAN = Experiment("related", "?", "front", (Arm("front", "heuristic", 0.1), Arm("als", "model", 0.9, "agreed")))
META = {"ids": ARTICLES, "parameters": {"alpha": 1.0, "regularization": 0.1, "recent_reads": 3.0}}
PAGES = 12  # between two changes
PROCESSES = 2  # of the site


@dataclass(frozen=True)
class Change:
    """One change of the version in force: what the processes confirmed, and seconds from the change to the last page of another version."""

    confirmed: Confirmed
    last_old_s: float
    late: int  # pages of another version after all processes had confirmed


@dataclass(frozen=True)
class Load:
    """Pages that were asked for meanwhile, requests that failed or had a 5xx, and pages that als ranked, by version."""

    pages: int
    failed: int
    served: dict[str, int]


class _Agreed(Visitor):
    """A reader of the model's arm, who lets the site choose from what they read; their cookies stay as they are."""

    def __init__(self, port: int, cookie: str) -> None:
        super().__init__(port, cookie=cookie)
        self.fixed = cookie

    def read(self, article: str) -> str:
        self.cookie = self.fixed
        return super().read(article)


def changed_under_load(home: Path, changes: int, *, visitors: int = 4) -> tuple[list[Change], Load]:
    """Let readers read without a pause on a site of two processes while its model goes back and forth between two versions."""
    _begin(home)
    done: list[tuple[int, int, str, Confirmed]] = []
    with serving(home) as (_, port):
        readers = [_Agreed(port, cookie) for _, cookie in zip(range(visitors), _cookies(home), strict=False)]
        assert wait_until(lambda: confirmed(home, bool, patience_s=0).of == PROCESSES)  # one may answer before the other is there
        for reader in readers:
            reader.start()
        for _, version in zip(range(changes), cycle(["1", "2"]), strict=False):
            seen = sum(reader.pages for reader in readers)
            assert wait_until(lambda seen=seen: sum(reader.pages for reader in readers) > seen + PAGES)  # type: ignore[misc]
            asked = system_clock()
            rollback(home, "als", version, at_us=asked)
            told = confirmed(home, lambda one, version=version: one.get("bundles", {}).get("als") == version)  # type: ignore[misc]
            done.append((asked, system_clock(), version, told))
        time.sleep(0.2)
        for reader in readers:
            reader.over.set()
        for reader in readers:
            reader.join(timeout=60)
    shown = _shown(home)
    load = Load(
        sum(r.pages for r in readers), sum(r.failed + r.errors for r in readers), {v: sum(v == w for _, w in shown) for v in ("1", "2")}
    )
    return [_change(one, following, shown) for one, following in zip(done, [*done[1:], None], strict=True)], load


def _change(
    one: tuple[int, int, str, Confirmed], following: tuple[int, int, str, Confirmed] | None, shown: Sequence[tuple[int, str]]
) -> Change:
    asked, arrived, version, told = one
    until = following[0] if following else 2**62
    old = [at for at, served in shown if asked < at < until and served != version]
    return Change(told, (max(old) - asked) / 1e6 if old else 0.0, sum(at > arrived for at in old))


def _begin(home: Path) -> None:
    migrate(home)
    build_newspaper(home, datetime.now(UTC))
    rng = np.random.default_rng(3)
    for number in (1, 2):
        vectors = rng.normal(size=(len(ARTICLES), 8)).astype(np.float32)
        publish(home, "als", write_bundle(home / "models" / "als", {"vectors": vectors}, META).version, at_us=number)
    engine, step = control_engine(home), Step("test", datetime.now(UTC), "a test")
    draft(engine, PLAN, step)
    start(engine, "related", step)
    publish_plan(home, engine, at=step.at)


def _cookies(home: Path) -> Iterator[str]:
    """Of readers who agreed and get the model."""
    tokens, shares = tokens_of(home), allocation(PLAN, PLAN.shares)
    choice = tokens.sign("choice", choices_text(Choices(True, True, True)))
    while True:
        reader = token_hex(16)
        given = assign(shares, reader_key(reader))
        if given is not None and given.arm == "als":
            yield f"pl_choice={choice}; pl_id={tokens.sign('id', f'{reader}.{system_clock() // 1_000_000}.l')}"


def _shown(home: Path) -> list[tuple[int, str]]:
    """(Moment, version) of every page that als ranked."""
    with Loader(home, clock=system_clock) as loader:
        loader.drain()
    with closing(read_store(store_path(home))) as store:
        rows = store.execute("SELECT issued_at, body FROM event WHERE kind = 'impression' AND arm = 'als'").fetchall()
    return [(at, version) for at, body in rows if (version := json.loads(body)["artefact"])]
