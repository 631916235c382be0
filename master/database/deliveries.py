"""What GitHub has delivered, and what is asked of our tables when it is acted upon.

Every function takes a connection and is one step of a transaction that its caller opens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from master.database import store
from master.database.tables import deliveries, inbox
from master.triggers import InvalidEvent

_LONGEST_SUBJECT = 255  #: what the table holds


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One row that is still to be acted upon. Times are seconds since the epoch."""

    delivery: str
    name: str
    received_at: float
    payload: Any
    failures: int


def keep(
    connection: sa.Connection, *, delivery: str, name: str, payload: Mapping[str, Any], now: float, digest: str = ""
) -> bool:
    """Keep a delivery; False when it is known already, by its number or by the ``digest`` of its body."""
    values = {"delivery": delivery, "name": name, "received_at": now, "payload": payload, "state": "new"}
    return store.insert_new(connection, deliveries, values | {"digest": digest or None}) is not None


def waiting(connection: sa.Connection) -> list[tuple[int, str, float]]:
    """What is to be acted upon: row, subject (empty before it was looked at), not before when.

    In the order it came, pushes first: they ask GitHub nothing, and shall not wait for all that does.
    """
    columns = (deliveries.c.id, deliveries.c.subject, deliveries.c.not_before)
    query = sa.select(*columns).where(deliveries.c.state == "new")
    query = query.order_by(sa.case((deliveries.c.name == "push", 0), else_=1), deliveries.c.id)
    return [(row.id, row.subject, row.not_before) for row in connection.execute(query)]


def read(connection: sa.Connection, row_id: int) -> Delivery:
    """One that is to be acted upon.

    Raises:
        InvalidEvent: its payload is no JSON (any more).
    """
    payload = sa.cast(deliveries.c.payload, sa.Text).label("payload")
    columns = (deliveries.c.delivery, deliveries.c.name, deliveries.c.received_at, deliveries.c.failures, payload)
    row = connection.execute(sa.select(*columns).where(deliveries.c.id == row_id)).one()
    try:
        told = json.loads(row.payload or "null")
    except ValueError as error:
        raise InvalidEvent(f"the payload that was kept cannot be read: {error}") from None
    return Delivery(
        delivery=row.delivery, name=row.name, received_at=row.received_at, payload=told, failures=row.failures
    )


def close(
    connection: sa.Connection, row_id: int, *, state: str, outcome: str, subject: str = "", happened_at: float = 0.0
) -> None:
    """Note what became of a delivery. ``happened_at`` is of those whose age decides about others of their subject."""
    values = {"state": state, "outcome": outcome, "subject": subject[:_LONGEST_SUBJECT], "happened_at": happened_at}
    connection.execute(
        deliveries.update().where(deliveries.c.id == row_id).values(**values, payload=sa.null(), not_before=0.0)
    )


def put_off(connection: sa.Connection, row_id: int, *, until: float, why: str, subject: str, failures: int) -> None:
    """Leave a delivery for later."""
    values = {"not_before": until, "outcome": why, "subject": subject[:_LONGEST_SUBJECT], "failures": failures}
    connection.execute(deliveries.update().where(deliveries.c.id == row_id).values(values))


def newer(connection: sa.Connection, subject: str, happened_at: float) -> str:
    """A delivery about the same that took effect and happened later, whenever it came; empty when there is none."""
    query = sa.select(deliveries.c.delivery).where(
        deliveries.c.subject == subject, deliveries.c.happened_at > happened_at
    )
    return str(connection.execute(query.limit(1)).scalar() or "")


def prune(connection: sa.Connection, before: float) -> int:
    """Forget what was acted upon and came before then; how many."""
    old = (deliveries.c.received_at < before, deliveries.c.state != "new")
    return connection.execute(deliveries.delete().where(*old)).rowcount


def unread_of_pull(connection: sa.Connection, number: int) -> bool:
    """Whether the inbox holds an event of this pull request that has not become a run so far."""
    unread = (event for _, _, event in store.unread(connection))
    return any(getattr(event, "pull_request", 0) == number for event in unread)


def received(connection: sa.Connection, key: str) -> bool:
    """Whether the inbox has an entry of this key, whatever became of it."""
    return connection.execute(sa.select(inbox.c.id).where(inbox.c.key == key)).first() is not None


def read_by_now(connection: sa.Connection, key: str) -> bool:
    """Whether the inbox's entry of this key has become a run, or not become one."""
    state = connection.execute(sa.select(inbox.c.state).where(inbox.c.key == key)).scalar()
    return state != "new"
