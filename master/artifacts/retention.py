"""What the artifact store no longer needs: artifacts past their time, and uploads that nobody accepted.

Never removed: what a release consists of, what a run that has not ended may still read, and an upload whose build's
outcome is not decided yet. A removed artifact stays listed, without its bytes, so that people can see what there was.
Nor is anything removed that this database does not say a build of its own has left: others may keep files here too.

The row in ``uploads`` goes last. Whatever a kill leaves, the next pass finds by it and completes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from buildbot.db.model import Model

from master.artifacts.names import build_of
from master.artifacts.store import Store, Stored
from master.database.tables import artifacts, release_assets, runs, stage_attempts, uploads
from master.database.uploads import begin_writing
from master.pipeline import State

GRACE_S = 3600.0  #: what nobody accepted, or no row names, is left alone for so long after it or its build was finished
EXPIRED, UNACCEPTED, UNKNOWN = "expired", "never accepted", "in no list"
_LIVE = [state.value for state in State if not state.ended]


@dataclass(frozen=True, kw_only=True)
class Removable:
    """A file that may go."""

    path: str  #: below the artifact folder
    size: int
    why: str


Transaction = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How long artifacts are kept, in seconds from the end of the attempt that left them; by stage where it differs."""

    keep: float
    keep_of: Mapping[str, float]

    def of(self, stage: str) -> float:
        return self.keep_of.get(stage, self.keep)


def removable(connection: sa.Connection, policy: Policy, now: float) -> list[Removable]:
    """What a pass at this time would remove by the database's word; changes nothing."""
    return [*_expired(connection, policy, now).values(), *_left_over(connection), *_unaccepted(connection, now)]


def unknown(connection: sa.Connection, stored: Iterable[Stored], now: float) -> list[Removable]:
    """Of the store's files those that a build has left and no row names: a kill between publishing an upload and
    recording it.

    Only of builds that are over: none of theirs is being recorded. And only what is not older than its build: before
    a database was emptied or restored, others had its builds' numbers.
    """
    builds = Model.builds.c
    query = sa.select(builds.id, builds.started_at).where(builds.complete_at < now - GRACE_S)
    begun = {row.id: row.started_at for row in connection.execute(query)}
    found = []
    for file in stored:
        began_at = begun.get(build_of(file.path))
        if began_at is not None and began_at <= file.changed_at < now - GRACE_S:
            found.append(file)
    named = set(connection.execute(sa.select(uploads.c.path)).scalars())
    named |= set(connection.execute(sa.select(artifacts.c.path).where(artifacts.c.removed_at.is_(None))).scalars())
    return [Removable(path=file.path, size=file.size, why=UNKNOWN) for file in found if file.path not in named]


def remove(transaction: Transaction, policy: Policy, now: float, store: Store) -> list[Removable]:
    """One pass; what it removed. Blocking.

    Args:
        transaction: calls a function with a connection, in a transaction of its own.
    """
    transaction(_mark_expired, policy, now)
    gone: list[Removable] = [*transaction(_left_over), *transaction(_unaccepted, now)]
    for file in gone:
        store.remove(file.path)
        transaction(_forget, file.path)
    for file in transaction(unknown, list(store.stored()), now):
        store.remove(file.path)
        gone.append(file)
    return gone


def _expired(connection: sa.Connection, policy: Policy, now: float, *, hold: bool = False) -> dict[int, Removable]:
    """By the artifact's id. With ``hold`` its run cannot be opened again before the caller's transaction ends."""
    if hold:
        begin_writing(connection)
    shortest = min([policy.keep, *policy.keep_of.values()])
    released = sa.select(release_assets.c.artifact_id).where(release_assets.c.artifact_id == artifacts.c.id)
    query = (
        sa.select(artifacts.c.id, artifacts.c.path, artifacts.c.size, stage_attempts.c.stage, stage_attempts.c.ended_at)
        .join(stage_attempts, stage_attempts.c.id == artifacts.c.attempt_id)
        .join(runs, runs.c.id == stage_attempts.c.run_id)
        .where(artifacts.c.removed_at.is_(None), stage_attempts.c.ended_at < now - shortest)
        .where(runs.c.ended_at.is_not(None), ~sa.exists(released))
    )
    if hold:
        query = query.with_for_update(of=runs)
    due = {row.id: row for row in connection.execute(query) if row.ended_at < now - policy.of(row.stage)}
    live = sa.select(artifacts.c.id, artifacts.c.path).where(artifacts.c.removed_at.is_(None))
    shared = sa.select(artifacts.c.path).where(artifacts.c.removed_at.is_(None)).group_by(artifacts.c.path)
    several = connection.execute(live.where(artifacts.c.path.in_(shared.having(sa.func.count() > 1))))
    needed = {row.path for row in several if row.id not in due}  # by another artifact, which is the same file
    return {
        row.id: Removable(path=row.path, size=row.size, why=EXPIRED) for row in due.values() if row.path not in needed
    }


def _mark_expired(connection: sa.Connection, policy: Policy, now: float) -> None:
    for artifact_id in _expired(connection, policy, now, hold=True):
        connection.execute(artifacts.update().where(artifacts.c.id == artifact_id).values(removed_at=now))


def _left_over(connection: sa.Connection) -> list[Removable]:
    """Marked, and not known to be gone."""
    marked, kept = artifacts, artifacts.alias()
    live = sa.select(kept.c.id).where(kept.c.path == uploads.c.path, kept.c.removed_at.is_(None))
    query = sa.select(uploads.c.path, uploads.c.size).join(marked, marked.c.path == uploads.c.path).distinct()
    rows = connection.execute(query.where(marked.c.removed_at.is_not(None), ~sa.exists(live)))
    return [Removable(path=row.path, size=row.size, why=EXPIRED) for row in rows]


def _unaccepted(connection: sa.Connection, now: float) -> list[Removable]:
    builds = Model.builds
    accepted = sa.select(artifacts.c.id).where(artifacts.c.path == uploads.c.path)
    running = sa.select(builds.c.id).where(builds.c.id == uploads.c.build_id, builds.c.complete_at.is_(None))
    undecided = (
        sa.select(stage_attempts.c.id)
        .join(builds, builds.c.buildrequestid == stage_attempts.c.request_id)
        .where(builds.c.id == uploads.c.build_id, stage_attempts.c.state.in_(_LIVE))
    )
    query = sa.select(uploads.c.path, uploads.c.size).where(
        uploads.c.finished_at < now - GRACE_S, ~sa.exists(accepted), ~sa.exists(running), ~sa.exists(undecided)
    )
    return [Removable(path=row.path, size=row.size, why=UNACCEPTED) for row in connection.execute(query)]


def _forget(connection: sa.Connection, path: str) -> None:
    connection.execute(uploads.delete().where(uploads.c.path == path))
