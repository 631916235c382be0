"""What GitHub is to show in the end: a row for each status and each comment, with the newest wanted version only.

A row is written in the transaction that reads the run, and sent later, as often as it takes. As in
:mod:`master.database.store`, every function is one step of its caller's transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from master.database import store
from master.database.tables import outbox, runs

STATUS, COMMENT = "status", "comment"
_SOON_S = 5.0  #: a new version is tried this soon, whatever became of one before that was not sent
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
    """Say what GitHub is to show; whether that is new. Of comments an older run than the one that said it last is not
    heard; whose word a status is, the caller has found out.

    Without ``make``, a row that is not there is not made.
    """
    known = connection.execute(
        sa.select(outbox.c.id, outbox.c.run_id, outbox.c.wanted, outbox.c.not_before, _NOT_SENT.label("waits"))
        .where(outbox.c.key == key)
        .with_for_update()
    ).first()
    if known is None and not make:
        return False
    if known is None:
        values = {"kind": kind, "key": key, "run_id": run_id, "wanted": dict(wanted), "version": 1, "not_before": now}
        connection.execute(outbox.insert().values(values))
        return True
    if (kind == COMMENT and known.run_id > run_id) or (known.run_id == run_id and known.wanted == wanted):
        return False
    values = {"run_id": run_id}
    if known.wanted != wanted:
        turn = min(known.not_before, now + _SOON_S) if known.waits else now  # what waits keeps its place
        values |= {"wanted": dict(wanted), "version": outbox.c.version + 1, "not_before": turn}
    connection.execute(outbox.update().where(outbox.c.id == known.id).values(values))
    return bool(known.wanted != wanted)


def next_row(connection: sa.Connection, kinds: Sequence[str], now: float, context: str = "") -> Row | None:
    """The row of these kinds that has waited longest, of those whose newest version was not sent and may be tried now.

    Rows of runs that are held come after all others: everybody can make as many of these as they like. Among those
    that came together, the status of this context is the first.
    """
    query = (
        sa.select(outbox)
        .outerjoin(runs, runs.c.id == outbox.c.run_id)
        .where(_NOT_SENT, outbox.c.not_before <= now, outbox.c.kind.in_(kinds))
        .order_by(
            sa.case((runs.c.held != "", 1), else_=0),
            outbox.c.not_before,
            sa.case((outbox.c.key.endswith(f" {context}", autoescape=True), 0), else_=1),
            outbox.c.id,
        )
    )
    found = connection.execute(query.limit(1)).first()
    return None if found is None else Row(**{name: getattr(found, name) for name in Row.__dataclass_fields__})


def next_time(connection: sa.Connection, kinds: Sequence[str]) -> float | None:
    """When the first row of these kinds that was not sent may be tried; ``None`` when all were sent."""
    query = sa.select(sa.func.min(outbox.c.not_before)).where(_NOT_SENT, outbox.c.kind.in_(kinds))
    time: float | None = connection.execute(query).scalar()
    return time


def sent(connection: sa.Connection, row: Row, remote_id: str) -> None:
    """Note that GitHub has accepted the row as it was read. A newer version of it is still to be sent."""
    values = {"sent": row.version, "remote_id": remote_id, "failures": 0, "error": ""}
    connection.execute(outbox.update().where(outbox.c.id == row.id).values(values))


def failed(connection: sa.Connection, row: Row, error: str, not_before: float, now: float, *, note: bool) -> None:
    """Note that the row could not be sent, once in the run's journal too if wanted. It is tried again from
    ``not_before`` on; a newer version of it, which GitHub has not seen, is not put off."""
    values = {"failures": row.failures + 1, "not_before": not_before, "error": error}
    connection.execute(outbox.update().where(outbox.c.id == row.id, outbox.c.version == row.version).values(values))
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


def prune(connection: sa.Connection, before: float) -> int:
    """Forget what was sent of runs that ended before then; how many rows."""
    ended = sa.select(runs.c.id).where(runs.c.ended_at < before)
    return connection.execute(outbox.delete().where(~_NOT_SENT, outbox.c.run_id.in_(ended))).rowcount
