"""The tables of runs and attempts: the truth about every event, kept beside Buildbot's own tables.

Times are seconds since the epoch. Every id of Buildbot's is kept without a foreign key: its janitor may delete
old builds, and what we know of them stays. A change here needs a migration (``migrations/versions``).
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa


class Prose(sa.TypeDecorator[str]):
    """Text that came from outside, without what a database refuses (NUL, half a surrogate pair): a title or a
    line of a log must never keep a run from going on."""

    impl: type[sa.String] = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return None if value is None else value.encode("utf-8", "replace").decode("utf-8").replace("\0", "")


class Line(Prose):
    """The same, of a length that is limited."""

    impl = sa.String
    cache_ok = True


metadata = sa.MetaData()

inbox = sa.Table(
    "inbox",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("key", sa.String(255), nullable=False, unique=True),  # one telling of one event, by its source
    sa.Column("source", sa.String(32), nullable=False),
    sa.Column("received_at", sa.Float, nullable=False),
    sa.Column("event", sa.JSON, nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),  # new, run, ignored, refused
    sa.Column("outcome", Prose, nullable=False, server_default=""),
    sa.Column("run_id", sa.Integer),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("event_key", sa.String(640), nullable=False, unique=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("acts_as", sa.String(16), nullable=False),
    sa.Column("ref", sa.String(255), nullable=False, index=True),
    sa.Column("head", sa.String(64), nullable=False, index=True),
    sa.Column("base", sa.String(64), nullable=False),
    sa.Column("pull_request", sa.Integer, nullable=False),
    sa.Column("tag", sa.String(255), nullable=False),
    sa.Column("message", Prose, nullable=False),
    sa.Column("author", Prose, nullable=False),
    sa.Column("reason", Prose, nullable=False),
    sa.Column("trusted", sa.Boolean, nullable=False),
    sa.Column("publish", sa.Boolean, nullable=False),
    sa.Column("threads", sa.Integer, nullable=False),
    sa.Column("selected", sa.JSON),
    sa.Column("changed_files", sa.JSON),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("ended_at", sa.Float, index=True),
    sa.Column("result", sa.String(16), nullable=False, server_default=""),
    sa.Column("result_reason", Prose, nullable=False, server_default=""),
    sa.Column("cancelled", Prose, nullable=False, server_default=""),  # why; empty while it is wanted
    sa.Column("held", Prose, nullable=False, server_default=""),  # why nothing of it may start; empty once it may
    sa.Column("approved", Prose, nullable=False, server_default=""),  # by whom, of one that was held
)

stage_attempts = sa.Table(
    "stage_attempts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    sa.Column("stage", sa.String(64), nullable=False),
    sa.Column("variant", sa.String(64), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", Prose, nullable=False, server_default=""),
    sa.Column("retryable", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("not_before", sa.Float, nullable=False, server_default="0"),
    sa.Column("waiting_since", sa.Float, nullable=False, server_default="0"),
    sa.Column("started_at", sa.Float),
    sa.Column("ended_at", sa.Float),
    sa.Column("buildset_id", sa.Integer, index=True),
    sa.Column("request_id", sa.Integer, index=True),
    sa.Column("build_id", sa.Integer),  # the build that runs it, and once settled the one whose outcome was accepted
    sa.Column("worker", sa.String(255), nullable=False, server_default=""),
    sa.Column("withdrawn", Prose, nullable=False, server_default=""),
    # builds of its request that Buildbot ended as RETRY: counted up to and including build ``counted_build``
    sa.Column("lost_with_worker", sa.Integer, nullable=False, server_default="0"),
    sa.Column("lost_with_master", sa.Integer, nullable=False, server_default="0"),
    sa.Column("counted_build", sa.Integer, nullable=False, server_default="0"),
    sa.UniqueConstraint("run_id", "stage", "variant", "number", name="uq_stage_attempts_slot"),
)

artifacts = sa.Table(
    "artifacts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("attempt_id", sa.Integer, sa.ForeignKey("stage_attempts.id", ondelete="CASCADE"), nullable=False),
    sa.Column("name", Prose, nullable=False),
    sa.Column("path", Prose, nullable=False, index=True),  # below the artifact folder, with forward slashes
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("removed_at", sa.Float),  # by retention: the row stays, so that people can see what there was
    sa.UniqueConstraint("attempt_id", "name", name="uq_artifacts_name"),
)

releases = sa.Table(
    "releases",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("tag", sa.String(255), nullable=False, unique=True),
    sa.Column("run_id", sa.Integer, nullable=False),
    sa.Column("published_at", sa.Float, nullable=False),
    sa.Column("yanked", Prose),  # why it should no longer be chosen (PEP 592); null while it may
)

release_assets = sa.Table(
    "release_assets",
    metadata,
    sa.Column("release_id", sa.Integer, sa.ForeignKey("releases.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("artifact_id", sa.Integer, sa.ForeignKey("artifacts.id"), primary_key=True, index=True),
)

uploads = sa.Table(  # whole files in the store; they are artifacts once their build's attempt is accepted
    "uploads",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("build_id", sa.Integer, nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("folded", sa.String(255), nullable=False),  # see master.artifacts.names.folded
    sa.Column("path", Prose, nullable=False, index=True),  # below the artifact folder, with forward slashes
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("finished_at", sa.Float, nullable=False),
    sa.UniqueConstraint("build_id", "folded", name="uq_uploads_name"),
)

journal = sa.Table(
    "journal",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("text", Prose, nullable=False),
)

polled_refs = sa.Table(
    "polled_refs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("repository", sa.String(512), nullable=False),
    sa.Column("ref", sa.String(255), nullable=False),
    sa.Column("head", sa.String(64), nullable=False),
    sa.UniqueConstraint("repository", "ref", name="uq_polled_refs_ref"),
)

deliveries = sa.Table(  # what GitHub has delivered, kept before it was told so
    "deliveries",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("delivery", sa.String(64), nullable=False, unique=True),  # GitHub's own number of it
    sa.Column("digest", sa.String(64), unique=True),  # of the body's bytes, where no two are equal; else null
    sa.Column("name", sa.String(64), nullable=False),  # of the event: push, issue_comment …
    sa.Column("received_at", sa.Float, nullable=False, index=True),
    sa.Column("payload", sa.JSON(none_as_null=True)),  # null once it was acted upon
    sa.Column("subject", Line(255), nullable=False, server_default="", index=True),  # a ref, "pull 7"
    sa.Column("happened_at", sa.Float, nullable=False, server_default="0"),  # by GitHub's clock, of what took effect
    sa.Column("state", sa.String(16), nullable=False, index=True),  # new, done, ignored, refused
    sa.Column("outcome", Prose, nullable=False, server_default=""),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
    sa.Column("not_before", sa.Float, nullable=False, server_default="0"),
)

outbox = sa.Table(  # what GitHub is to show in the end: a row for each status and each comment
    "outbox",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),  # status, comment
    sa.Column("key", sa.String(255), nullable=False, unique=True),  # SHA and context, or the pull request's number
    sa.Column("run_id", sa.Integer, nullable=False, index=True),  # the newest that has a say in it
    sa.Column("wanted", sa.JSON, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),  # of what is wanted
    sa.Column("sent", sa.Integer, nullable=False, server_default="0"),  # the version that GitHub has accepted
    sa.Column("remote_id", sa.String(64), nullable=False, server_default=""),  # a comment's, at GitHub
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),  # in a row
    sa.Column("not_before", sa.Float, nullable=False, server_default="0"),  # its turn is from then on
    sa.Column("error", Prose, nullable=False, server_default=""),
)
sa.Index(
    "ix_outbox_not_sent",
    outbox.c.not_before,
    sqlite_where=outbox.c.version > outbox.c.sent,
    postgresql_where=outbox.c.version > outbox.c.sent,
)

worker_probes = sa.Table(  # what each worker said last of its host
    "worker_probes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("worker", sa.String(255), nullable=False, unique=True),
    sa.Column("probed_at", sa.Float, nullable=False),  # by the worker's clock: tells one probe from another; or 0
    sa.Column("read_at", sa.Float, nullable=False),  # when this was first read
    sa.Column("facts", sa.JSON(none_as_null=True)),  # see master.probe_facts; null: nothing that can be read
    sa.Column("problem", Prose, nullable=False, server_default=""),  # and why
)
