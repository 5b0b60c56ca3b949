"""The secret keys of an installation: made once, readable by its owner only."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from pathlib import Path

from experiments.events.ids import Tokens

__all__ = ["tokens_of"]


def tokens_of(home: Path) -> Tokens:
    """Return the token maker of this installation; the first call makes the key."""
    path = home / "keys.json"
    if not path.exists():
        _make(path)
    stored = json.loads(path.read_text())
    return Tokens({name: bytes.fromhex(key) for name, key in stored["keys"].items()}, stored["current"])


def _make(path: Path) -> None:
    """Write the keys aside and link them into place; whoever comes second keeps the first one's keys."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump({"current": "1", "keys": {"1": secrets.token_hex(32)}}, file)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        return
    finally:
        os.unlink(temporary)
