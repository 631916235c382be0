"""GitHub: its deliveries, who vouches for a run, and what GitHub is still to be told."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("delivery", sa.String(64), nullable=False, unique=True),
        sa.Column("digest", sa.String(64), unique=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("received_at", sa.Float, nullable=False, index=True),
        sa.Column("payload", sa.JSON),
        sa.Column("subject", sa.String(255), nullable=False, server_default="", index=True),
        sa.Column("happened_at", sa.Float, nullable=False, server_default="0"),
        sa.Column("state", sa.String(16), nullable=False, index=True),
        sa.Column("outcome", sa.Text, nullable=False, server_default=""),
        sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
        sa.Column("not_before", sa.Float, nullable=False, server_default="0"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("key", sa.String(255), nullable=False, unique=True),
        sa.Column("run_id", sa.Integer, nullable=False, index=True),
        sa.Column("wanted", sa.JSON, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("sent", sa.Integer, nullable=False, server_default="0"),
        sa.Column("remote_id", sa.String(64), nullable=False, server_default=""),
        sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
        sa.Column("not_before", sa.Float, nullable=False, server_default="0"),
        sa.Column("error", sa.Text, nullable=False, server_default=""),
    )
    not_sent = sa.text("version > sent")
    op.create_index("ix_outbox_not_sent", "outbox", ["not_before"], sqlite_where=not_sent, postgresql_where=not_sent)
    with op.batch_alter_table("runs") as runs:
        runs.add_column(sa.Column("held", sa.Text, nullable=False, server_default=""))
        runs.add_column(sa.Column("approved", sa.Text, nullable=False, server_default=""))
    op.create_index("ix_runs_head", "runs", ["head"])
