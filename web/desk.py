"""The newspaper's desk as the site sees it: name, sections, authors, the editors' list and pins (``desk.json`` in the home folder)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from experiments.errors import ConfigError
from experiments.files import read_json, replace_json
from experiments.serving.recommender import Catalogue
from experiments.serving.slate import Pin

__all__ = ["Author", "Desk", "Section", "load_desk", "save_desk"]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    slug: str
    name: str
    says: str = ""


class Author(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    slug: str
    name: str
    beat: str = ""
    bio: str = ""


class Desk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``pins`` holds (article id, place, since, until) with unix seconds."""

    name: str = "Presslab"
    motto: str = ""
    sections: tuple[Section, ...] = ()
    authors: tuple[Author, ...] = ()
    editors_order: tuple[str, ...] = ()
    pins: tuple[tuple[str, int, float, float], ...] = ()

    def pins_at(self, catalogue: Catalogue) -> Sequence[Pin]:
        """Return the pins whose article the catalogue has."""
        return catalogue.derived(_pins, self.pins)


def _pins(catalogue: Catalogue, pins: tuple[tuple[str, int, float, float], ...]) -> tuple[Pin, ...]:
    found = ((catalogue.position(article), place, since, until) for article, place, since, until in pins)
    return tuple(Pin(position, place, since, until) for position, place, since, until in found if position is not None)


def save_desk(home: Path, desk: dict[str, Any]) -> None:
    """Store the desk; keys as in :class:`Desk`."""
    replace_json(home / "desk.json", desk)


def load_desk(home: Path) -> Desk:
    """Return the desk, or an unnamed one before any newspaper was built or imported.

    Raises
    ------
    ConfigError
        The file holds something else; what and where.
    """
    path = home / "desk.json"
    stored = read_json(path)
    try:
        return Desk() if stored is None else msgspec.convert(stored, Desk)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}.", "Mend it; running processes keep the last good one.") from None
