"""Everything a power cut may legally leave of a recorded run.

A run is recorded by strace: each write, truncation, creation, renaming, removal and sync below one folder, and each line
written to standard output. A disk that loses its power keeps what was synced; of what came later it keeps any sectors,
and of later names any first part, as a file system with a journal does.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.faults.harness import ROOT

CALLS = "openat,write,pwrite64,ftruncate,rename,unlink,fsync,fdatasync"
SECTOR = 512
HEX = re.compile(r"(?:\\x[0-9a-f]{2})+")
SAID = re.compile(r'write\(1<[^>]*>, "([^"]*)"')
WROTE = re.compile(r'pwrite64\(\d+<([^>]*)>(\(deleted\))?, "([^"]*)"(?:\.\.\.)?, \d+, (\d+)\)')
OPENED = re.compile(r'openat\([^,]*, "([^"]*)", [^)]*O_CREAT')
CUT = re.compile(r"ftruncate\(\d+<([^>]*)>, (\d+)\)")
SYNCED = re.compile(r"f(?:data)?sync\(\d+<([^>]*)>\)")
RENAMED = re.compile(r'rename\("([^"]*)", "([^"]*)"\)')
REMOVED = re.compile(r'unlink\("([^"]*)"\)')


@dataclass(frozen=True, slots=True)
class Step:
    """One thing the run did: ``what`` to which ``path``; ``data`` written at ``offset``, the new name, or what was said."""

    what: str
    path: str = ""
    data: bytes = b""
    offset: int = 0


def record(home: Path, module: str, *arguments: str) -> list[Step]:
    """Run ``python -m module home ...`` and return its steps."""
    trace = home.with_suffix(".trace")
    command = ["strace", "-f", "-y", "-xx", "-s", "100000", "-qq", "-o", str(trace), "-e", f"trace={CALLS}", "-e", "signal=none"]
    subprocess.run([*command, sys.executable, "-m", module, str(home), *arguments], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return list(_steps(trace, str(home)))


def _steps(trace: Path, home: str) -> Iterator[Step]:
    begun: dict[str, str] = {}
    for line in trace.read_text().splitlines():
        process, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            begun[process] = call.removesuffix("<unfinished ...>").rstrip()
            continue
        if call.startswith("<..."):
            call = begun.pop(process) + call.partition("resumed>")[2]
        yield from _step(call, home)


def _step(call: str, home: str) -> Iterator[Step]:
    if " = -1 " in call:
        return
    if said := SAID.match(call):
        yield Step("said", data=_bytes(said[1]))
    elif wrote := WROTE.match(call):
        yield from _below(home, Step("write", _text(wrote[1]), _bytes(wrote[3]), int(wrote[4])))
    elif opened := OPENED.match(call):
        yield from _below(home, Step("create", _text(opened[1])))
    elif cut := CUT.match(call):
        yield from _below(home, Step("cut", _text(cut[1]), offset=int(cut[2], 0)))
    elif synced := SYNCED.match(call):
        yield from _below(home, Step("sync", _text(synced[1])))
    elif renamed := RENAMED.match(call):
        yield from _below(home, Step("rename", _text(renamed[1]), _text(renamed[2]).removeprefix(f"{home}/").encode()))
    elif removed := REMOVED.match(call):
        yield from _below(home, Step("remove", _text(removed[1])))


def _below(home: str, step: Step) -> Iterator[Step]:
    """Steps in the folder; what lies in shared memory (``-shm``) is no file to SQLite and never outlives the power."""
    if (step.path == home or step.path.startswith(f"{home}/")) and not step.path.endswith("-shm"):
        yield Step(step.what, step.path[len(home) + 1 :], step.data, step.offset)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _text(text: str) -> str:
    return HEX.sub(lambda found: _bytes(found[0]).decode(), text)


@dataclass(slots=True, eq=False)
class _File:
    synced: bytes = b""
    later: list[Step] = field(default_factory=list)

    def sync(self) -> None:
        self.synced, self.later = _written(self.synced, self.later), []

    def after(self, chance: Random, kept: float) -> bytes:
        return _written(self.synced, [part for step in self.later for part in _torn(step, chance, kept)])


def _written(content: bytes, steps: Sequence[Step]) -> bytes:
    file = bytearray(content)
    for step in steps:
        size = step.offset if step.what == "cut" else max(len(file), step.offset + len(step.data))
        file = file[:size].ljust(size, b"\0")
        file[step.offset : step.offset + len(step.data)] = step.data
    return bytes(file)


def _torn(step: Step, chance: Random, kept: float) -> Iterator[Step]:
    """What is left of one step: all, nothing, or some of its sectors."""
    fate = chance.random()
    if fate < kept:
        yield step
    elif fate < kept + (1 - kept) / 2 and step.what == "write":
        at = step.offset
        while at < step.offset + len(step.data):
            end = min((at // SECTOR + 1) * SECTOR, step.offset + len(step.data))
            if chance.random() < 0.5:
                yield Step("write", step.path, step.data[at - step.offset : end - step.offset], at)
            at = end


class Disk:
    """The files of a run, with what is durable and what is not yet."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.said: list[bytes] = []
        self._names: dict[str, _File] = {}
        self._durable: dict[str, _File] = {}
        self._later: list[tuple[str, dict[str, _File]]] = []  # folder, and its names after each change
        for step in steps:
            self._do(step)

    def _do(self, step: Step) -> None:
        names = self._names
        if step.what == "said":
            self.said += step.data.splitlines()
        elif step.what == "create" and step.path not in names:
            names[step.path] = _File()
            self._renamed(step.path)
        elif step.what == "rename":
            names[step.data.decode()] = names.pop(step.path)
            self._renamed(step.path)
        elif step.what == "remove":
            del names[step.path]
            self._renamed(step.path)
        elif step.what in ("write", "cut") and step.path in names:
            names[step.path].later.append(step)
        elif step.what == "sync" and step.path in names:
            names[step.path].sync()
        elif step.what == "sync":
            self._sync_folder(step.path)

    def _renamed(self, path: str) -> None:
        self._later.append((_folder(path), {name: file for name, file in self._names.items() if _folder(name) == _folder(path)}))

    def _sync_folder(self, folder: str) -> None:
        for changed, names in self._later:
            if changed == folder:
                self._durable = _with(self._durable, changed, names)
        self._later = [one for one in self._later if one[0] != folder]

    def without_power(self, home: Path, chance: Random, *, kept: float) -> None:
        """Write into ``home`` what the disk may hold after a power cut now; ``kept`` is the share of later writes left whole."""
        names = self._durable
        for folder, changed in self._later[: chance.randint(0, len(self._later))]:
            names = _with(names, folder, changed)
        (home / "outbox").mkdir(parents=True)
        for name, file in sorted(names.items()):
            (home / name).write_bytes(file.after(chance, kept))


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _with(names: dict[str, _File], folder: str, changed: dict[str, _File]) -> dict[str, _File]:
    return {name: file for name, file in names.items() if _folder(name) != folder} | changed
