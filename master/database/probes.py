"""What each worker said last of its host: one row a worker. Every function is one step of its caller's transaction."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from master.database.tables import worker_probes
from master.probe_facts import ProbeSaid, Unreadable, read


@dataclass(frozen=True, kw_only=True)
class Row:
    """``probed_at`` is by the worker's clock, ``read_at`` by ours."""

    worker: str
    probed_at: float
    read_at: float
    said: ProbeSaid | Unreadable


def keep(connection: sa.Connection, row: Row) -> None:
    """In place of what the worker said before."""
    said = row.said
    values = {
        "probed_at": row.probed_at,
        "read_at": row.read_at,
        "facts": said.model_dump(mode="json") if isinstance(said, ProbeSaid) else None,
        "problem": said.reason if isinstance(said, Unreadable) else "",
    }
    there = connection.execute(
        sa.update(worker_probes).where(worker_probes.c.worker == row.worker).values(values)
    ).rowcount
    if not there:
        connection.execute(sa.insert(worker_probes).values(worker=row.worker, **values))


def every(connection: sa.Connection) -> dict[str, Row]:
    """By the worker's name. A row that another version wrote and this one cannot read tells why."""
    rows = connection.execute(sa.select(worker_probes).order_by(worker_probes.c.worker))
    return {row.worker: _row(row) for row in rows}


def forget_others(connection: sa.Connection, workers: Collection[str]) -> None:
    """Drop what workers said that the settings no longer have."""
    connection.execute(sa.delete(worker_probes).where(worker_probes.c.worker.not_in(sorted(workers))))


def _row(row: sa.Row[tuple[object, ...]]) -> Row:
    said: ProbeSaid | Unreadable = Unreadable(reason=row.problem)
    if row.facts is not None:
        said = read_stored(row.facts)
    return Row(worker=row.worker, probed_at=row.probed_at, read_at=row.read_at, said=said)


def read_stored(facts: object) -> ProbeSaid | Unreadable:
    """Raises nothing."""
    return read(json.dumps(facts, ensure_ascii=False, separators=(",", ":")))
