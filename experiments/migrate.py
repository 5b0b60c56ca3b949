"""Bring the stores of a home to the current layout: the only place where tables are made or changed."""

from __future__ import annotations

import fcntl
import os
from importlib.resources import as_file, files
from pathlib import Path

from sqlalchemy import inspect, text

from experiments.errors import ConfigError
from experiments.events.store import upgrade_store
from experiments.tables import control_engine

__all__ = ["LATEST", "layout", "migrate", "require_layout"]

LATEST = "0001"


def migrate(home: Path) -> str:
    """Apply what is missing, one process at a time; returns the layout's version."""
    from alembic import command
    from alembic.config import Config

    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(home / "migrate.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        upgrade_store(home)
        if layout(home) == LATEST:
            return LATEST
        config = Config()
        with as_file(files("experiments").joinpath("migrations")) as folder, control_engine(home).connect() as connection:
            config.set_main_option("script_location", str(folder))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
    finally:
        os.close(descriptor)
    return LATEST


def require_layout(home: Path) -> None:
    """Raise a :class:`ConfigError` unless the stores of a home are of the current layout."""
    if layout(home) != LATEST:
        raise ConfigError(f"{home}: the stores are not of layout {LATEST}.", "Run `presslab migrate`.")


def layout(home: Path) -> str | None:
    """Return the version of the control database, or None before the first migration."""
    if not (home / "control.db").exists():
        return None
    engine = control_engine(home)
    if not inspect(engine).has_table("alembic_version"):
        return None
    with engine.connect() as connection:
        return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar())
