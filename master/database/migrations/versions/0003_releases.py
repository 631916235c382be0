"""Releases and their assets, and artifacts that retention has removed."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


# What was accepted before uploads had a table of their own; retention goes by that. ``folded`` keeps a build that runs
# from uploading two names that some system takes for one. These builds are over: of names that were accepted and would
# be one, all but the first have one that no upload can have.
_UPLOADS_OF_BEFORE = """
    insert into uploads (build_id, name, folded, path, size, sha256, finished_at)
    select s.build_id, a.name,
        case when exists (select 1 from uploads u where u.build_id = s.build_id and u.folded = lower(a.name))
                or exists (select 1 from artifacts b join stage_attempts t on t.id = b.attempt_id
                    where t.build_id = s.build_id and lower(b.name) = lower(a.name) and b.id < a.id)
            then '/' || cast(a.id as varchar(20)) else lower(a.name) end,
        a.path, a.size, a.sha256, s.ended_at
    from artifacts a join stage_attempts s on s.id = a.attempt_id
    where s.build_id is not null and s.ended_at is not null
        and not exists (select 1 from uploads u where u.path = a.path)
"""

# What was published before releases had a table of their own is kept for good, too. Which stage published is not in
# the database, only what it was called: as a stage is that does not say what it uses.
_RELEASES_OF_BEFORE = """
    insert into releases (tag, run_id, published_at)
    select r.tag, max(r.id), max(coalesce(s.ended_at, s.created_at))
    from runs r join stage_attempts s on s.run_id = r.id
    where r.tag <> '' and s.stage = 'release' and s.state in ('success', 'warnings')
    group by r.tag
"""

_ASSETS_OF_BEFORE = """
    insert into release_assets (release_id, artifact_id)
    select l.id, a.id
    from releases l join runs r on r.tag = l.tag
        join stage_attempts s on s.run_id = r.id join artifacts a on a.attempt_id = s.id
    where s.state in ('success', 'warnings') and (a.name like '%.whl' or a.name like '%.manifest.json')
        and not exists (select 1 from stage_attempts n where n.run_id = s.run_id and n.stage = s.stage
            and n.variant = s.variant and n.state in ('success', 'warnings') and n.number > s.number)
        and exists (select 1 from stage_attempts p where p.run_id = r.id and p.stage = 'release'
            and p.state in ('success', 'warnings'))
"""


def upgrade() -> None:
    op.add_column("artifacts", sa.Column("removed_at", sa.Float()))
    op.create_index("ix_artifacts_path", "artifacts", ["path"])
    op.create_index("ix_uploads_path", "uploads", ["path"])
    op.execute(_UPLOADS_OF_BEFORE)
    op.create_table(
        "releases",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("tag", sa.String(length=255), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("published_at", sa.Float(), nullable=False),
        sa.Column("yanked", sa.Text()),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("tag"),
    )
    op.create_table(
        "release_assets",
        sa.Column("release_id", sa.Integer(), nullable=False),
        sa.Column("artifact_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["release_id"], ["releases.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifacts.id"]),
        sa.PrimaryKeyConstraint("release_id", "artifact_id"),
    )
    op.create_index("ix_release_assets_artifact_id", "release_assets", ["artifact_id"])
    op.execute(_RELEASES_OF_BEFORE)
    op.execute(_ASSETS_OF_BEFORE)
