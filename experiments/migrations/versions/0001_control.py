"""Experiments, audit, job runs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "experiment",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("plan", sa.JSON, nullable=False),
        sa.Column("state", sa.String, nullable=False, index=True),
        sa.Column("phases", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("started_at", sa.DateTime),
        sa.Column("stopped_at", sa.DateTime),
        sa.Column("decided_at", sa.DateTime),
        sa.Column("decided_arm", sa.String),
    )
    op.create_table(
        "audit",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("actor", sa.String, nullable=False),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("subject", sa.String, nullable=False, index=True),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.Column("hash", sa.String, nullable=False),
    )
    op.create_table(
        "job_run",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("job", sa.String, nullable=False, index=True),
        sa.Column("slot", sa.DateTime, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("started_at", sa.DateTime, nullable=False),
        sa.Column("ended_at", sa.DateTime),
        sa.Column("seconds", sa.Float),
        sa.Column("exit_code", sa.Integer),
        sa.Column("peak_mb", sa.Float),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("log", sa.Text, nullable=False),
        sa.UniqueConstraint("job", "slot", "attempt"),
    )


def downgrade() -> None:
    for table in ("job_run", "audit", "experiment"):
        op.drop_table(table)
