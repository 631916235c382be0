"""What we read of Buildbot's own tables, each as one query: requests with their builds, buildsets by their
external id, requests that nobody planned."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from buildbot.db.model import Model
from buildbot.process.results import RETRY

from master.database.records import attempt_row
from master.database.tables import stage_attempts
from master.outcome import BuildFacts, RequestFacts
from master.pipeline import State


def requests(connection: sa.Connection, request_ids: Iterable[int]) -> dict[int, RequestFacts]:
    """These build requests, with their builds oldest first."""
    r, b, w = Model.buildrequests, Model.builds, Model.workers
    query = (
        sa.select(
            r.c.id.label("request"),
            r.c.complete,
            r.c.results.label("request_results"),
            b.c.id,
            b.c.results,
            b.c.started_at,
            b.c.complete_at,
            b.c.state_string,
            w.c.name.label("worker"),
        )
        .select_from(r.outerjoin(b, b.c.buildrequestid == r.c.id).outerjoin(w, w.c.id == b.c.workerid))
        .where(r.c.id.in_(list(request_ids)))
        .order_by(r.c.id, b.c.id)
    )
    rows: dict[int, list[Any]] = {}
    for row in connection.execute(query):
        rows.setdefault(row.request, []).append(row)
    return {
        request: RequestFacts(
            id=request,
            complete=bool(found[0].complete),
            results=-1 if found[0].request_results is None else found[0].request_results,
            builds=tuple(_build(row) for row in found if row.id is not None),
        )
        for request, found in rows.items()
    }


def _build(row: Any) -> BuildFacts:
    return BuildFacts(
        id=row.id,
        results=row.results if row.complete_at is not None else None,
        started_at=row.started_at,
        complete_at=row.complete_at,
        worker=row.worker or "",
        state_string=row.state_string or "",
    )


def find_buildset(connection: sa.Connection, external_id: str) -> tuple[int, int] | None:
    """Buildset and request that were added for an attempt, if any: the oldest, as a Rebuild copies the string.

    The index for it is ours (migration 0004).
    """
    s, r = Model.buildsets, Model.buildrequests
    row = connection.execute(
        sa.select(s.c.id, r.c.id)
        .join(r, r.c.buildsetid == s.c.id)
        .where(s.c.external_idstring == external_id, s.c.rebuilt_buildid.is_(None))
        .order_by(s.c.id)
        .limit(1)
    ).first()
    return (row[0], row[1]) if row else None


def properties(connection: sa.Connection, build_id: int) -> dict[str, Any]:
    """A build's properties by name, without their sources."""
    p = Model.build_properties
    query = sa.select(p.c.name, p.c.value).where(p.c.buildid == build_id)
    return {row.name: json.loads(row.value) for row in connection.execute(query)}


def strays(connection: sa.Connection, builders: Iterable[str]) -> list[tuple[int, str]]:
    """Open requests of these builders that no attempt made (Rebuild, a foreign scheduler): id, external id.

    A request whose attempt does not know its id yet, because a crash or an error came between, is none: it is
    adopted when its run is carried on.
    """
    s, r, b = Model.buildsets, Model.buildrequests, Model.builders
    known = sa.select(stage_attempts.c.id).where(stage_attempts.c.request_id == r.c.id)
    expecting = stage_attempts.c.request_id.is_(None) & (stage_attempts.c.state == State.QUEUED.value)
    awaited = {attempt_row(row).external_id for row in connection.execute(sa.select(stage_attempts).where(expecting))}
    query = (
        sa.select(r.c.id, s.c.external_idstring, s.c.rebuilt_buildid)
        .join(s, s.c.id == r.c.buildsetid)
        .join(b, b.c.id == r.c.builderid)
        .where(r.c.complete == 0, b.c.name.in_(list(builders)), ~sa.exists(known))
        .order_by(r.c.id)
    )
    return [
        (row.id, row.external_idstring or "")
        for row in connection.execute(query)
        if row.rebuilt_buildid is not None or row.external_idstring not in awaited
    ]


def claimed_without_build(connection: sa.Connection, master_id: int, before: float) -> list[int]:
    """Open requests that this master has claimed before then, and has no build of."""
    r, c, b = Model.buildrequests, Model.buildrequest_claims, Model.builds
    begun = sa.select(b.c.id).where(b.c.buildrequestid == r.c.id, b.c.complete_at.is_(None))
    query = (
        sa.select(r.c.id)
        .join(c, c.c.brid == r.c.id)
        .where(r.c.complete == 0, c.c.masterid == master_id, c.c.claimed_at < before, ~sa.exists(begun))
        .order_by(r.c.id)
    )
    return list(connection.execute(query).scalars())


def open_requests_of_ended_attempts(connection: sa.Connection) -> list[tuple[int, int | None, str]]:
    """Requests still open although their attempt has ended: request, its finished build's result, state."""
    r, b = Model.buildrequests, Model.builds
    ended = [state.value for state in State if state.ended]
    finished = (
        sa.select(sa.func.min(b.c.results))
        .where(b.c.buildrequestid == r.c.id, b.c.complete_at.is_not(None), b.c.id == stage_attempts.c.build_id)
        .where(b.c.results != RETRY)  # that of a build that was lost, which no request can end with
        .scalar_subquery()
    )
    query = (
        sa.select(r.c.id, finished, stage_attempts.c.state)
        .join(stage_attempts, stage_attempts.c.request_id == r.c.id)
        .where(r.c.complete == 0, stage_attempts.c.state.in_(ended))
    )
    return [(row[0], row[1], row[2]) for row in connection.execute(query)]
