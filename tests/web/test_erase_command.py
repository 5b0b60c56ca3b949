"""``presslab data erase`` beside a running worker; without one see test_met.py."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments.errors import BusyError, DataError
from experiments.events.asking import erase_anywhere
from experiments.events.export import export_reader
from experiments.events.loader import Loader
from experiments.files import read_json
from experiments.migrate import migrate
from experiments.settings import Settings
from tests.events.story import START, send, view
from web.cli.commands import install
from web.cli.main import app
from web.worker import Worker


@pytest.fixture
def loading(home: Path) -> Iterator[Worker]:
    """A worker that loads events, as in `presslab worker`."""
    migrate(home)
    send(home, [view(1, "reader1")])
    worker = Worker(Settings(home=home))
    thread = threading.Thread(target=worker._load)
    thread.start()
    yield worker
    worker.stopping.set()
    thread.join()
    worker.close()


def test_beside_a_running_worker_the_worker_erases(home: Path, loading: Worker) -> None:
    install()
    assert export_reader(home, "reader1")
    said = CliRunner().invoke(app, ["data", "erase", "reader1", "--yes", "--home", str(home)])
    assert said.exit_code == 0, said.exception
    assert said.output == "The worker erased this reader; later events of this reader are refused.\n"
    assert export_reader(home, "reader1") == []


def test_an_erasure_that_nobody_carries_out_in_time_stays_asked_for(tmp_path: Path) -> None:
    with Loader(tmp_path, clock=lambda: START), pytest.raises(BusyError, match="did not answer") as told:
        erase_anywhere(tmp_path, "r", at_us=START, wait_s=0.1)
    assert "The request stays" in told.value.hint
    (request,) = (tmp_path / "erase").iterdir()
    assert read_json(request) == {"reader": "r", "asked_us": START}


def test_nobody_is_never_asked_to_be_erased(tmp_path: Path) -> None:
    with Loader(tmp_path, clock=lambda: START), pytest.raises(DataError, match="no reader was named"):
        erase_anywhere(tmp_path, "", at_us=START)
    assert not (tmp_path / "erase").exists()
