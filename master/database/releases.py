"""Which releases there are, of which artifacts, and which of them should no longer be chosen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from master.database.records import Artifact, artifact_row
from master.database.tables import artifacts, release_assets, releases, runs, stage_attempts
from master.pipeline import EventKind, State

_GOOD = [state.value for state in State if state.good]


@dataclass(frozen=True, kw_only=True)
class ReleaseRow:
    """A public release. ``yanked`` says why it should no longer be chosen; ``None``: it may be."""

    tag: str
    run_id: int
    published_at: float
    yanked: str | None


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A wheel that an index lists; ``id`` is its artifact's."""

    id: int
    file: Artifact
    published_at: float
    yanked: str | None = None


def record(connection: sa.Connection, tag: str, run_id: int, paths: Iterable[str], now: float) -> None:
    """Note that a release is public, with these accepted artifacts of its run; again is the same as once."""
    release_id = connection.execute(sa.select(releases.c.id).where(releases.c.tag == tag)).scalar()
    if release_id is None:
        values = {"tag": tag, "run_id": run_id, "published_at": now}
        release_id = connection.execute(releases.insert().values(values).returning(releases.c.id)).scalar_one()
    have = set(
        connection.execute(
            sa.select(release_assets.c.artifact_id).where(release_assets.c.release_id == release_id)
        ).scalars()
    )
    query = sa.select(artifacts.c.id).where(artifacts.c.path.in_(list(paths)))
    for artifact_id in set(connection.execute(query).scalars()) - have:
        connection.execute(release_assets.insert().values(release_id=release_id, artifact_id=artifact_id))


def every(connection: sa.Connection) -> list[ReleaseRow]:
    """All releases, newest first."""
    query = sa.select(releases).order_by(releases.c.published_at.desc(), releases.c.id.desc())
    return [
        ReleaseRow(tag=row.tag, run_id=row.run_id, published_at=row.published_at, yanked=row.yanked)
        for row in connection.execute(query)
    ]


def yank(connection: sa.Connection, tag: str, reason: str | None) -> bool:
    """Have installers pass a release by, and why; ``None`` takes that back. False when there is no such release."""
    return connection.execute(releases.update().where(releases.c.tag == tag).values(yanked=reason)).rowcount == 1


def released_files(connection: sa.Connection) -> Sequence[Listed]:
    """The artifacts of all releases."""
    query = (
        sa.select(artifacts, releases.c.published_at, releases.c.yanked)
        .join(release_assets, release_assets.c.artifact_id == artifacts.c.id)
        .join(releases, releases.c.id == release_assets.c.release_id)
        .order_by(artifacts.c.id)
    )
    return [_listed(row, row.published_at, row.yanked) for row in connection.execute(query)]


def nightly_files(connection: sa.Connection) -> Sequence[Listed]:
    """What the runs of pushes to the default branch have left and retention has kept."""
    query = (
        sa.select(artifacts, stage_attempts.c.ended_at)
        .join(stage_attempts, stage_attempts.c.id == artifacts.c.attempt_id)
        .join(runs, runs.c.id == stage_attempts.c.run_id)
        .where(runs.c.kind == EventKind.PUSH.value, runs.c.trusted, stage_attempts.c.state.in_(_GOOD))
        .where(artifacts.c.removed_at.is_(None))
        .order_by(artifacts.c.id)
    )
    return [_listed(row, row.ended_at) for row in connection.execute(query)]


def _listed(row: sa.Row[tuple[object, ...]], published_at: float, yanked: str | None = None) -> Listed:
    return Listed(id=row.id, file=artifact_row(row), published_at=published_at, yanked=yanked)
