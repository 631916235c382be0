"""What each worker said last of its host."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "worker_probes",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("worker", sa.String(255), nullable=False, unique=True),
        sa.Column("probed_at", sa.Float, nullable=False),
        sa.Column("read_at", sa.Float, nullable=False),
        sa.Column("facts", sa.JSON),
        sa.Column("problem", sa.Text, nullable=False, server_default=""),
    )
