"""Rows of the control database: plans, what was decided, who did it, and what ran.

Rows store; they do not validate (SQLModel skips validation for tables). Check the frozen value first.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Column, Engine, UniqueConstraint, event
from sqlmodel import Field, SQLModel, create_engine

__all__ = ["AuditRow", "ExperimentRow", "JobRunRow", "control_engine"]


class ExperimentRow(SQLModel, table=True):
    """One experiment: its plan, its state, its phases."""

    __tablename__ = "experiment"

    name: str = Field(primary_key=True)
    plan: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    state: str = Field(index=True)
    phases: list[dict[str, Any]] = Field(sa_column=Column(JSON, nullable=False))
    created_at: datetime
    started_at: datetime | None = None
    stopped_at: datetime | None = None
    decided_at: datetime | None = None
    decided_arm: str | None = None


class AuditRow(SQLModel, table=True):
    """One change of state; ``hash`` chains over the row before."""

    __tablename__ = "audit"

    number: int | None = Field(default=None, primary_key=True)
    at: datetime
    actor: str
    action: str
    subject: str = Field(index=True)
    reason: str
    detail: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    hash: str


class JobRunRow(SQLModel, table=True):
    """One attempt of a job; (job, slot) is unique, so no job runs twice for the same due time."""

    __tablename__ = "job_run"
    __table_args__ = (UniqueConstraint("job", "slot", "attempt"),)

    number: int | None = Field(default=None, primary_key=True)
    job: str = Field(index=True)
    slot: datetime
    attempt: int = 1
    state: str
    started_at: datetime
    ended_at: datetime | None = None
    seconds: float | None = None
    exit_code: int | None = None
    peak_mb: float | None = None
    reason: str = ""
    log: str = ""


def control_engine(home: Path) -> Engine:
    """Return an engine on ``control.db``: rollback journal, every transaction takes the write lock at once."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = create_engine(f"sqlite:///{home / 'control.db'}", connect_args={"timeout": 10})

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
