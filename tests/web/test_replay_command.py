"""``presslab data replay`` beside a running worker and without one."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from typer.testing import CliRunner

from experiments.events.store import balance
from experiments.migrate import migrate
from experiments.settings import Settings
from tests.events.story import view
from tests.events.test_replay import BROKEN, refused_once
from web.cli.commands import install
from web.cli.main import app
from web.worker import Worker


def asked(home: Path, *options: str) -> dict[str, object]:
    install()
    said = CliRunner().invoke(app, ["data", "replay", *options, "--json", "--home", str(home)])
    assert said.exit_code == 0, said.output
    return json.loads(said.stdout)  # type: ignore[no-any-return]


def letters(found: dict[str, object]) -> list[tuple[str, int]]:
    return [(one["reason"], one["n"]) for one in found["dead_letters"]]  # type: ignore[attr-defined]


def test_without_a_worker_the_command_does_it_itself_and_lists_what_is_left(home: Path) -> None:
    migrate(home)
    refused_once(home, [*map(view, range(3)), BROKEN])
    assert letters(asked(home, "--list")) == [("unknown kind or source", 3), ("click: bad article", 1)]
    planned = asked(home, "--dry-run")
    assert (planned["replayed"], len(letters(planned))) == (
        {"tried": 4, "stored": 3, "duplicate": 0, "conflict": 0, "erased": 0, "dead": 1},
        2,
    )
    assert letters(asked(home, "--reason", "unknown kind or source")) == [("click: bad article", 1)]
    unknown = CliRunner().invoke(app, ["data", "replay", "--reason", "click: bad", "--home", str(home)])
    assert "did you mean 'click: bad article'?" in str(unknown.exception)


def test_beside_a_running_worker_the_worker_does_it(home: Path) -> None:
    migrate(home)
    refused_once(home, [*map(view, range(3)), BROKEN])
    worker = Worker(Settings(home=home))
    loading = threading.Thread(target=worker._load)
    loading.start()
    try:
        found = asked(home)
    finally:
        worker.stopping.set()
        loading.join()
        worker.close()
    assert (found["replayed"]["stored"], letters(found)) == (3, [("click: bad article", 1)])  # type: ignore[index]
    assert [(row.kind, row.stored, row.dead, row.exact) for row in balance(home)] == [("click", 0, 1, True), ("view", 3, 0, True)]
