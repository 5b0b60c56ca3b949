"""D13: one bit of an outbox file flips, in the database or in its log; the loader takes it for what it was, or raises an alarm."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from experiments.events.loader import Loader
from experiments.events.outbox_file import OutboxFile
from experiments.events.store import balance, read_store, store_path
from experiments.events.wire import decode, encode
from tests.events.story import START, send, view

BEFORE = [view(n, "before") for n in range(1_000, 1_010)]
EVENTS = [view(n) for n in range(30)]
BODIES = {event.id: decode(encode(event))[-1] for event in (*BEFORE, *EVENTS)}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """The same thirty events: as a killed owner leaves them (all in the log), and sealed (all in the database)."""
    folder, killed = tmp_path / "sealed", tmp_path / "killed"
    folder.mkdir()
    file = OutboxFile(folder, "one")
    for number in range(10):
        file.write([encode(event) for event in EVENTS[number * 3 : number * 3 + 3]], {("view", ""): 3})
    shutil.copytree(folder, killed)
    (killed / "one.db-shm").unlink(missing_ok=True)
    file.seal()
    return killed, folder


def flips(path: Path, n: int, chance: random.Random) -> Iterator[bytes]:
    content = path.read_bytes()
    for _ in range(n):
        flipped = bytearray(content)
        flipped[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        yield bytes(flipped)


def check_flip(home: Path, files: Path, name: str, content: bytes) -> str:
    """Load a file with a flipped bit into a home that holds events; says what became of it."""
    send(home, BEFORE)
    shutil.copytree(files, home / "outbox", dirs_exist_ok=True)
    (home / "outbox" / name).write_bytes(content)
    (home / "outbox" / "one.lock").touch()
    with Loader(home, clock=lambda: START) as loader:
        alarms = loader.drain().alarms
    with closing(read_store(store_path(home))) as store:
        rows = dict(store.execute("SELECT id, body FROM event").fetchall())
        alarms += store.execute("SELECT count(*) FROM outbox_offset WHERE alarm <> ''").fetchone()[0]
        dead = store.execute("SELECT count(*) FROM dead_letter").fetchone()[0]
        assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert rows.items() <= BODIES.items()  # nothing false
    assert {event.id for event in BEFORE} <= set(rows)  # nothing that was there before is touched
    whole = len(rows) == len(BODIES)
    assert whole or alarms or dead or not all(row.exact for row in balance(home))
    shutil.rmtree(home)
    return "harmless" if whole else "alarmed"


def check(home: Path, files: tuple[Path, Path], n: int) -> set[str]:
    chance = random.Random(13)
    return {
        check_flip(home, folder, name, content)
        for folder, name in ((files[0], "one.db-wal"), (files[0], "one.db"), (files[1], "one.db"))
        for content in flips(folder / name, n, chance)
    }


def test_d13_a_flipped_bit_is_harmless_or_raises_an_alarm(home: Path, files: tuple[Path, Path]) -> None:
    assert check(home, files, 4) <= {"harmless", "alarmed"}


@pytest.mark.slow
def test_d13_five_hundred_flipped_bits(home: Path, files: tuple[Path, Path]) -> None:
    assert check(home, files, 170) == {"harmless", "alarmed"}
