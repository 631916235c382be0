"""What GitHub is to show in the end: a row for each status and each comment, with the newest wanted version only.

A row is written in the transaction that reads the run, and sent later, as often as it takes. As in
:mod:`master.database.store`, every function is one step of its caller's transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from master.database import store
from master.database.tables import outbox, runs

STATUS, COMMENT = "status", "comment"
_SOON_S = 5.0  #: a new version is tried this soon, whatever became of the one before
_NOT_SENT = outbox.c.version > outbox.c.sent


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of ``outbox``."""

    id: int
    kind: str
    key: str
    run_id: int
    wanted: Mapping[str, Any]
    version: int
    remote_id: str
    failures: int
    error: str


def want(
    connection: sa.Connection,
    kind: str,
    key: str,
    run_id: int,
    wanted: Mapping[str, Any],
    now: float,
    *,
    make: bool = True,
) -> bool:
    """Say what GitHub is to show; whether that is new. An older run than the one that said it last is not heard.

    Without ``make``, a row that is not there is not made.
    """
    known = connection.execute(
        sa.select(outbox.c.id, outbox.c.run_id, outbox.c.wanted, outbox.c.not_before)
        .where(outbox.c.key == key)
        .with_for_update()
    ).first()
    if known is None and not make:
        return False
    if known is None:
        values = {"kind": kind, "key": key, "run_id": run_id, "wanted": dict(wanted), "version": 1}
        connection.execute(outbox.insert().values(values))
        return True
    if known.run_id > run_id or (known.run_id == run_id and known.wanted == wanted):
        return False
    values = {"run_id": run_id}
    if known.wanted != wanted:
        soon = min(known.not_before, now + _SOON_S)
        values |= {"wanted": dict(wanted), "version": outbox.c.version + 1, "not_before": soon}
    connection.execute(outbox.update().where(outbox.c.id == known.id).values(values))
    return bool(known.wanted != wanted)


def next_row(connection: sa.Connection, kinds: list[str], now: float) -> Row | None:
    """The oldest row of these kinds whose newest version was not sent and may be tried now."""
    query = sa.select(outbox).where(_NOT_SENT, outbox.c.not_before <= now, outbox.c.kind.in_(kinds))
    found = connection.execute(query.order_by(outbox.c.id).limit(1)).first()
    return None if found is None else Row(**{name: getattr(found, name) for name in Row.__dataclass_fields__})


def next_time(connection: sa.Connection) -> float | None:
    """When the first row that was not sent may be tried; ``None`` when all were sent."""
    time: float | None = connection.execute(sa.select(sa.func.min(outbox.c.not_before)).where(_NOT_SENT)).scalar()
    return time


def sent(connection: sa.Connection, row: Row, remote_id: str) -> None:
    """Note that GitHub has accepted the row as it was read. A newer version of it is still to be sent."""
    values = {"sent": row.version, "remote_id": remote_id, "failures": 0, "not_before": 0.0, "error": ""}
    connection.execute(outbox.update().where(outbox.c.id == row.id).values(values))


def failed(connection: sa.Connection, row: Row, error: str, not_before: float, now: float, *, note: bool) -> None:
    """Note that the row could not be sent, once in the run's journal too if wanted. It is tried again from
    ``not_before`` on."""
    values = {"failures": row.failures + 1, "not_before": not_before, "error": error}
    connection.execute(outbox.update().where(outbox.c.id == row.id).values(values))
    exists = connection.execute(sa.select(runs.c.id).where(runs.c.id == row.run_id)).first()
    if note and exists and error not in {line for _, line in store.notes(connection, row.run_id)}:
        store.note(connection, row.run_id, error, now)


def unfinished(connection: sa.Connection, since: float) -> list[int]:
    """Runs whose rows may be behind, oldest first: those that live, those that ended ``since``, and those that are
    still told as pending."""
    pending = sa.select(outbox.c.run_id).where(
        outbox.c.kind == STATUS, sa.cast(outbox.c.wanted, sa.Text).like('%"pending"%')
    )
    behind = sa.or_(runs.c.ended_at.is_(None), runs.c.ended_at >= since, runs.c.id.in_(pending))
    return list(connection.execute(sa.select(runs.c.id).where(behind).order_by(runs.c.id)).scalars())


def backlog(connection: sa.Connection) -> dict[str, tuple[int, int]]:
    """By kind: how many rows wait to be sent, and how many of these GitHub has refused or could not take so far."""
    failing = sa.func.sum(sa.case((outbox.c.error != "", 1), else_=0))
    query = sa.select(outbox.c.kind, sa.func.count(), failing).where(_NOT_SENT).group_by(outbox.c.kind)
    return {kind: (waiting, int(errors)) for kind, waiting, errors in connection.execute(query)}
