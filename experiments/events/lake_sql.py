"""The rule of readers as SQL, kept beside the events: writing it takes longer than running it over a small site's events."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import ibis

from experiments.events import lake_rules, lake_tables, tail
from experiments.experiment import Experiment
from experiments.files import replace_file
from experiments.metric import Measure

__all__ = ["entered_sql", "rules_folder"]


def rules_folder(home: Path) -> Path:
    """Where the SQL of rules is kept; it may be removed at any time."""
    return home / "lake" / "rules"


def entered_sql(
    home: Path,
    experiment: Experiment,
    measures: Mapping[str, Measure],
    *,
    session_of_exposure: bool,
    before: Mapping[str, Measure] | None = None,
    most_read: Sequence[str] = (),
) -> str:
    """Return the SQL of :func:`experiments.events.lake_rules.entered` for the same arguments.

    It is kept under a name made of all that enters it, and of the program that wrote it: another one starts anew.
    """
    asked = (tuple(experiment.shares), experiment.window_days, experiment.segments, session_of_exposure, tuple(most_read))
    columns = [
        None if some is None else [(key, m.count, m.sum, sorted(m.where.items())) for key, m in some.items()] for some in (measures, before)
    ]
    folder = rules_folder(home) / _program()
    path = folder / f"{sha256(repr((asked, columns)).encode()).hexdigest()[:32]}.sql"
    if path.exists():
        return path.read_text("utf-8")
    rule = lake_rules.entered(experiment, measures, session_of_exposure=session_of_exposure, before=before, most_read=most_read)
    text = lake_tables.compiled(rule)
    if home.exists():  # nothing is written for a home without events
        _forget_other_programs(folder)
        with suppress(OSError):  # a full disk must not cost a report
            replace_file(path, text.encode())
    return text


def _program() -> str:
    """Names what writes the SQL: Ibis and the modules that hold rules and columns."""
    sources = [Path(str(module.__file__)).read_bytes() for module in (lake_rules, lake_tables, tail)]
    return sha256(b"\0".join([ibis.__version__.encode(), *sources])).hexdigest()[:16]


def _forget_other_programs(folder: Path) -> None:
    for other in folder.parent.glob("*"):
        if other.name != folder.name:
            shutil.rmtree(other, ignore_errors=True)
