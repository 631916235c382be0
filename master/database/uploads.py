"""What the artifact process reads and writes: whether a build still runs, what it has uploaded, what was accepted.

Every function takes a connection and is one step of a transaction that its caller opens.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from buildbot.db.model import Model

from master.database import store
from master.database.records import Artifact, artifact_row
from master.database.tables import artifacts, stage_attempts, uploads


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """An artifact that everybody may know of; ``id`` is its row's, ``at`` the end of its attempt."""

    id: int
    run_id: int
    stage: str
    variant: str
    at: float | None
    file: Artifact


def begin_writing(connection: sa.Connection) -> None:
    """Have what is read from here on stay as it is until the transaction ends. On PostgreSQL that is for the queries
    to ask (``for update``); on SQLite nobody else writes from here on."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("begin immediate")  # Python's driver begins none for a query


def runs_still(connection: sa.Connection, build_id: int, *, hold: bool = False) -> bool:
    """Whether a build is under way. With ``hold`` it cannot end before the caller's transaction does."""
    if hold:
        begin_writing(connection)
    b = Model.builds.c
    query = sa.select(b.id).where(b.id == build_id, b.complete_at.is_(None))
    return connection.execute(query.with_for_update() if hold else query).first() is not None


def running_among(connection: sa.Connection, build_ids: Collection[int]) -> set[int]:
    """Those of the builds that are under way."""
    b = Model.builds.c
    query = sa.select(b.id).where(b.id.in_(build_ids), b.complete_at.is_(None))
    return set(connection.execute(query).scalars())


def of_build(connection: sa.Connection, build_id: int) -> list[Artifact]:
    """What a build has uploaded whole, by name."""
    u = uploads.c
    query = sa.select(u.name, u.path, u.size, u.sha256).where(u.build_id == build_id).order_by(u.name)
    return [Artifact(**row._mapping) for row in connection.execute(query)]


def bytes_kept(connection: sa.Connection) -> int:
    """How much all uploads take together."""
    return int(connection.execute(sa.select(sa.func.coalesce(sa.func.sum(uploads.c.size), 0))).scalar_one())


def record(
    connection: sa.Connection, build_id: int, file: Artifact, folded: str, *, now: float, publish: Callable[[], None]
) -> bool:
    """Enter a whole upload, as long as its build runs; False when it does not.

    ``publish`` moves the file to its place. It is called before the transaction ends: a kill between the two leaves
    a file that no row names, and never a row without its file.

    Raises:
        sqlalchemy.exc.IntegrityError: the build has a file of such a name.
    """
    if not runs_still(connection, build_id, hold=True):
        return False
    connection.execute(
        uploads.insert().values(
            build_id=build_id,
            name=file.name,
            folded=folded,
            path=file.path,
            size=file.size,
            sha256=file.sha256,
            finished_at=now,
        )
    )
    publish()
    return True


def accepted(connection: sa.Connection, artifact_id: int) -> Accepted | None:
    """One accepted artifact."""
    a, s = artifacts.c, stage_attempts.c
    query = (
        sa.select(artifacts, s.run_id, s.stage, s.variant, s.ended_at)
        .join(stage_attempts, s.id == a.attempt_id)
        .where(a.id == artifact_id)
    )
    row = connection.execute(query).first()
    if row is None:
        return None
    about = {"run_id": row.run_id, "stage": row.stage, "variant": row.variant, "at": row.ended_at}
    return Accepted(id=row.id, file=artifact_row(row), **about)


def accepted_of_run(connection: sa.Connection, run_id: int) -> Sequence[Accepted]:
    """What a run has accepted, removed or not: of each variant of each stage, what its newest good attempt left."""
    a = artifacts.c
    found = store.artifacts_of(connection, [run_id])
    query = sa.select(a.attempt_id, a.name, a.id).where(a.attempt_id.in_({source.id for source, _ in found}))
    ids = {(row.attempt_id, row.name): row.id for row in connection.execute(query)}
    return [
        Accepted(
            id=ids[source.id, file.name],
            run_id=run_id,
            stage=source.stage,
            variant=source.variant,
            at=source.ended_at,
            file=file,
        )
        for source, file in found
    ]
