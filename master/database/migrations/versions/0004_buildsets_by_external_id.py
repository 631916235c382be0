"""An index on Buildbot's buildsets: by their external id, what a crash left is found again for every attempt."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Buildbot's tables are made first (master.launch); without them there is nothing to find
    if sa.inspect(op.get_bind()).has_table("buildsets"):
        op.create_index("ix_mlc_ci_buildsets_external_idstring", "buildsets", ["external_idstring"], if_not_exists=True)
