"""What a command asks of the one process that may write the store: done here, or by the worker when one runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

from experiments.errors import BusyError, DataError
from experiments.events.erase import Erased, erase_reader
from experiments.events.loader import Loader
from experiments.events.replay import Replayed, replay
from experiments.events.salvage import Salvaged, salvage
from experiments.files import read_json, replace_json

__all__ = ["answer_requests", "erase_anywhere", "replay_anywhere", "salvage_anywhere"]

ANSWER = ".answer"
WAIT_S, LOOK_S = 60.0, 0.05
FORGOTTEN_S = 3_600  # after which nobody waits for an answer any more
TASKS: dict[str, Callable[..., Any]] = {
    "replay": lambda _, loader, **asked: asdict(replay(loader, **asked)),
    "salvage": lambda home, loader: [asdict(one) for one in salvage(home, loader)],
}


def replay_anywhere(home: Path, *, at_us: int, reason: str = "", dry_run: bool = False, wait_s: float = WAIT_S) -> Replayed:
    """Try dead letters again (:func:`experiments.events.replay.replay`).

    Parameters
    ----------
    at_us : now, UTC microseconds. wait_s : for the worker, in seconds.

    Raises
    ------
    BusyError
        Whoever holds the loader did not answer in time; the request stays and is carried out when a worker comes to it.
    """
    return Replayed(**_done(home, "replay", {"reason": reason, "dry_run": dry_run}, at_us=at_us, wait_s=wait_s))


def salvage_anywhere(home: Path, *, at_us: int, wait_s: float = WAIT_S) -> list[Salvaged]:
    """Finish with damaged outbox files (:func:`experiments.events.salvage.salvage`); as :func:`replay_anywhere`."""
    return [Salvaged(**one) for one in _done(home, "salvage", {}, at_us=at_us, wait_s=wait_s)]


def erase_anywhere(home: Path, reader: str, *, at_us: int, wait_s: float = WAIT_S) -> Erased | None:
    """Erase a reader (:func:`experiments.events.erase.erase_reader`); as :func:`replay_anywhere`. None when the worker did it.

    Raises
    ------
    DataError
        The name is empty; a worker asked for that would be kept from every other erasure.
    """
    if not reader:
        raise DataError("no reader was named.", "`presslab data erase READER` takes the id that the reader's own page shows.")
    try:
        own = Loader(home, clock=lambda: at_us)
    except BusyError:
        request = home / "erase" / f"{uuid4().hex}.json"  # as the reader's own button asks
        replace_json(request, {"reader": reader, "asked_us": at_us})
        _wait(home, lambda: not request.exists(), wait_s)
        return None
    with own:
        return erase_reader(home, reader, until_us=at_us, loader=own)


def _done(home: Path, task: str, asked: dict[str, Any], *, at_us: int, wait_s: float) -> Any:
    try:
        with Loader(home, clock=lambda: at_us) as loader:
            return TASKS[task](home, loader, **asked)
    except BusyError:
        request = home / task / f"{uuid4().hex}.json"
        replace_json(request, asked)
    answer = request.with_suffix(ANSWER)
    _wait(home, answer.exists, wait_s)
    said = read_json(answer, of=(dict, list))
    answer.unlink()
    return said


def _wait(home: Path, done: Callable[[], bool], wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while not done():
        if time.monotonic() > deadline:
            raise BusyError(
                f"the worker of {home} did not answer within {wait_s:.0f} s.",
                "The request stays: it is carried out when a worker comes to it; `presslab doctor` says what keeps it.",
            )
        time.sleep(LOOK_S)


def answer_requests(home: Path, loader: Loader) -> None:
    """Carry out what was asked of the worker; killed before the answer, it is done once more, to no effect."""
    for task, do in TASKS.items():
        for request in sorted((home / task).glob("*.json")):
            replace_json(request.with_suffix(ANSWER), do(home, loader, **read_json(request)))
            request.unlink()
            for answer in (home / task).glob(f"*{ANSWER}"):
                if answer.stat().st_mtime < time.time() - FORGOTTEN_S:
                    answer.unlink()
