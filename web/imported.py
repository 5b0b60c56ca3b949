"""An imported log becomes a site: a desk for its sections, signals as of its last click."""

from __future__ import annotations

from pathlib import Path

from experiments.content import load_catalogue
from experiments.settings import load_settings
from web.desk import load_desk, save_desk
from web.signal_job import SignalJob

__all__ = ["last_read_us", "open_for_readers", "reads_of"]


def open_for_readers(home: Path) -> None:
    """Write a desk if the site has none, and publish signals; times stay those of the log."""
    catalogue = load_catalogue(home)
    if load_desk(home).name == "Presslab":
        sections = [{"slug": section, "name": section.replace("-", " ").capitalize()} for section in catalogue.sections]
        save_desk(home, {"name": "Imported articles", "motto": "Read from a log", "sections": sections})
    SignalJob(load_settings(home)).run(last_read_us(home) + 1)


def last_read_us(home: Path) -> int:
    """Return when somebody last read an article here, UTC microseconds; 0 before any read."""
    from experiments.events import lake

    table = lake.reads(home, until_us=2**62)
    return int(table["at"][-1].as_py()) if len(table) else 0  # they come in order of time


def reads_of(home: Path, reader: str) -> list[str]:
    """Return the articles a reader read, oldest first, each once, wherever they came from."""
    from experiments.events import lake

    table = lake.reads(home, until_us=2**62)
    rows = zip(table["reader"].to_pylist(), table["article"].to_pylist(), strict=True)
    return list(dict.fromkeys(article for who, article in rows if who == reader))
