"""``presslab data salvage``: names damaged outbox files, and finishes with them when told so."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from experiments.events.outbox_file import outbox_files
from experiments.events.store import balance
from experiments.migrate import migrate
from experiments.settings import Settings
from tests.events.test_salvage import damaged
from web.cli.commands import install
from web.cli.main import app
from web.worker import Worker


def asked(home: Path, *options: object) -> dict[str, Any]:
    install()
    said = CliRunner().invoke(app, ["data", "salvage", *map(str, options), "--json", "--home", str(home)])
    assert said.exit_code == 0, said.output
    return json.loads(said.stdout)  # type: ignore[no-any-return]


def test_a_running_worker_finishes_with_what_the_command_names_and_a_copy_stays(home: Path, tmp_path: Path) -> None:
    migrate(home)
    file = damaged(home, lambda file: file._connection.execute("DELETE FROM entry WHERE seq = 3"))
    named = {str(file.path): "entry 3 is missing or damaged"}
    assert asked(home) == {"damaged": named, "copies": [], "salvaged": []}
    worker = Worker(Settings(home=home))
    loading = threading.Thread(target=worker._load)
    loading.start()
    try:
        found = asked(home, "--yes", "--aside", tmp_path / "aside")
    finally:
        worker.stopping.set()
        loading.join()
        worker.close()
    (one,) = found["salvaged"]
    assert (one["stored"], one["unsure"], one["lost"]) == (2, 1, 1)
    assert sorted(path.name for path in (tmp_path / "aside").iterdir()) == [f"{file.path.stem}.db", f"{file.path.stem}.db-wal"]
    assert outbox_files(home / "outbox") == []
    assert [(row.stored, row.dead, row.exact) for row in balance(home)] == [(4, 2, True)]
    assert asked(home) == {"damaged": {}, "copies": [], "salvaged": []}
