"""The way back from a backup: checked before anything is written, without the readers who were erased and the tokens that were revoked since."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from experiments.errors import ConfigError, DataError, NotFoundError
from experiments.events.backup import DRILLING, LAYOUT, MANIFEST, check_databases, copies, digest, newest_seq, sync_all
from experiments.events.erase import erase_readers
from experiments.events.loader import Loader
from experiments.events.outbox_file import outbox_files
from experiments.events.reading import WHOLE_STORE_S
from experiments.events.salvage import named_in
from experiments.events.store import balance, erase_key, read_store, reader_key, store_path
from experiments.files import read_json, replace_json, sync_folder
from experiments.settings import API_TOKENS

__all__ = ["Restored", "drill", "newest", "restore"]


@dataclass(frozen=True, slots=True)
class Restored:
    """What came back: number of files, the last event of the store, and how many events of readers erased since were left out."""

    home: Path
    files: int
    last_seq: int
    erased: int


def restore(backup: Path, home: Path, *, at_us: int, erased_in: Path | None = None) -> Restored:
    """Bring a backup back to an empty folder, without the readers who were erased and the tokens that were revoked since.

    Parameters
    ----------
    backup : one copy made by :func:`back_up`; later copies beside it are asked who was erased, and what was revoked, since.
    home : must not exist, or be empty.
    erased_in : another home that knows who was erased, or asked for it, and which tokens hold, if it can still be read.

    Raises
    ------
    DataError
        A file of the backup is missing or changed; every such file is named and nothing is restored.
    ConfigError
        ``home`` is not empty.
    """
    manifest = _checked(backup)
    if home.exists() and any(home.iterdir()):
        raise ConfigError(f"{home} is not empty; a restore would overwrite what is there.", "Move it away or choose another --home.")
    hidden = home.with_name(f".{home.name}.restoring")
    shutil.rmtree(hidden, ignore_errors=True)
    for name in manifest["files"]:
        (hidden / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(backup / name, hidden / name)
        (hidden / name).chmod(0o600)
    for path in outbox_files(hidden / "outbox"):
        path.with_suffix(".lock").touch()  # a lock that nobody holds: its owner is gone
    check_databases(hidden)
    later = [one for one in copies(backup.parent) if one.name > backup.name]
    _miss_nothing(hidden, at_us)
    others = [*later, *([erased_in] if erased_in else [])]
    erased = _erase_again(hidden, [hidden, *others], at_us)  # an erasure may have waited for the copy to be taken
    _revoke_again(hidden, others)
    sync_all(hidden)
    if home.exists():
        home.rmdir()
    hidden.rename(home)
    sync_folder(home.parent)
    return Restored(home, len(manifest["files"]), manifest["last_seq"], erased)


def drill(backup: Path, *, at_us: int, tested: Path | None = None) -> Restored:
    """Restore a backup aside, load what waits in it, and hold the balance to it; leaves nothing behind.

    Parameters
    ----------
    tested : home that remembers, in ``drill.json``, that a copy of it was tested.

    Raises
    ------
    DataError
        It cannot be restored, or events are missing or counted twice.
    """
    with TemporaryDirectory(dir=backup.parent, prefix=DRILLING) as aside:
        home = Path(aside) / "home"
        found = restore(backup, home, at_us=at_us)
        seq = newest_seq(home)
        with Loader(home, clock=lambda: at_us) as loader:
            loader.drain()
        uneven = [f"{row.kind} {row.arm}".strip() for row in balance(home) if not row.exact]
    if uneven or seq != found.last_seq:
        raise DataError(f"the backup {backup} restores, but its events do not balance.", "Take another one.", faults=uneven)
    if tested is not None:
        taken_us = read_json(backup / MANIFEST)["taken_us"]
        replace_json(tested / "drill.json", {"at_us": at_us, "backup_us": taken_us, "path": str(backup), "last_seq": seq})
    return found


def newest(folder: Path) -> Path:
    """Return the newest backup in ``folder``, or ``folder`` itself when it is one."""
    if (folder / MANIFEST).exists():
        return folder
    known = copies(folder)
    if not known:
        raise NotFoundError(f"there is no backup in {folder}.", "Make one: presslab backup FOLDER")
    return known[-1]


def _checked(backup: Path) -> dict[str, Any]:
    manifest: dict[str, Any] | None = read_json(backup / MANIFEST)
    if manifest is None or manifest.get("layout") != LAYOUT:
        raise NotFoundError(f"{backup} is not a backup this program reads.", "Name a folder that `presslab backup` made.")
    faults = []
    for name, entry in manifest["files"].items():
        if not (backup / name).resolve().is_relative_to(backup.resolve()) or not (backup / name).is_file():
            faults.append(f"{name} is missing")
        elif digest(backup / name) != entry["sha256"]:
            faults.append(f"{name} was changed")
    if faults:
        raise DataError(f"the backup {backup} is damaged; nothing was restored.", "Take another backup.", faults=faults)
    return manifest


def _miss_nothing(home: Path, at_us: int) -> None:
    """Take for received what was loaded, of outboxes that were not finished: what else the copy of one holds is counted when it is loaded.

    The store was copied after them, and may have heard of entries that came meanwhile.
    """
    if store_path(home).exists():
        with Loader(home, clock=lambda: at_us) as loader, loader.transaction() as store:
            store.execute("UPDATE tally SET received = loaded WHERE outbox IN (SELECT outbox FROM outbox_offset WHERE state = 'open')")


def _erase_again(home: Path, others: list[Path], at_us: int) -> int:
    """Erase whoever was erased in these homes or copies, or asked there for it; returns how many events went."""
    keys: set[bytes] = set()
    asked: set[str] = set()
    for other in others:
        asked |= {told["reader"] for path in (other / "erase").glob("*.json") if (told := read_json(path))}
        if (other / "erase.key").exists() and store_path(other).exists():
            if not (home / "erase.key").exists():
                shutil.copyfile(other / "erase.key", home / "erase.key")
            with closing(read_store(store_path(other))) as store:
                keys |= {key for (key,) in store.execute("SELECT key FROM erased")}
    if not (keys or asked):
        return 0
    gone, key = 0, erase_key(home)
    keys |= {reader_key(key, reader) for reader in asked}
    with Loader(home, clock=lambda: at_us) as loader:
        loader.drain()
        back = [reader for reader in _readers(home) if reader_key(key, reader) in keys]
        if back:
            erased = erase_readers(home, back, until_us=at_us, loader=loader)
            gone = erased.rows + erased.dead_letters + erased.imported
        with loader.transaction() as store:  # also those of whom this copy holds nothing, yet
            store.executemany("INSERT INTO erased VALUES (?, ?) ON CONFLICT DO NOTHING", [(key, at_us) for key in keys])
    return gone


def _revoke_again(home: Path, others: list[Path]) -> None:
    """Leave only the tokens that every other home or copy knows which has any."""
    tokens, known = read_json(home / API_TOKENS), [read_json(other / API_TOKENS) for other in others]
    if tokens:
        replace_json(home / API_TOKENS, {name: one for name, one in tokens.items() if all(its is None or name in its for its in known)})


def _readers(home: Path) -> set[str]:
    """Everybody of whom an event, a dead letter or an imported read is held."""
    with closing(read_store(store_path(home), longest_s=WHOLE_STORE_S)) as store:
        found = {reader for (reader,) in store.execute("SELECT DISTINCT reader FROM event WHERE reader <> ''")}
        for (letter,) in store.execute("SELECT payload FROM dead_letter"):
            found |= named_in(letter)
    for path in (home / "lake").rglob("*.parquet"):
        import pyarrow.parquet as parquet  # Arrow is loaded only where partitions exist

        if "reader" in parquet.read_schema(path).names:
            found |= set(parquet.read_table(path, columns=["reader"])["reader"].unique().to_pylist())
    return found - {"", None}
