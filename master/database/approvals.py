"""The approval of a stranger's commit: which run it lets go on, and when it lets none.

Every function takes a connection and is one step of a transaction that its caller opens.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from master.database import store
from master.database.records import RunRow, run_row
from master.database.tables import runs
from master.pipeline import EventKind


def approve_run(connection: sa.Connection, run_id: int, head: str, by: str, now: float) -> str:
    """Let a held run go on if it is for this commit; empty, else why not."""
    done = connection.execute(
        runs.update()
        .where(
            runs.c.id == run_id,
            runs.c.head == head,
            runs.c.held != "",
            runs.c.cancelled == "",
            runs.c.ended_at.is_(None),
        )
        .values(held="", approved=by)
    )
    if done.rowcount == 1:
        store.note(connection, run_id, f"approved by {by}: commit {head}", now)
        return ""
    run = store.run(connection, run_id)
    if run is None:
        return f"there is no run {run_id}"
    return _refusal(run, head)


def _refusal(run: RunRow, head: str) -> str:
    """Why a run is not approved: the first of these that is so."""
    if run.head != head:
        return f"run {run.id} is for commit {run.head[:12]}, and not for {head[:12]}"
    if run.approved:
        return f"run {run.id} was approved by {run.approved} before"
    if not run.held:
        return f"run {run.id} waits for nobody's approval"
    return f"run {run.id} was {run.cancelled}" if run.cancelled else f"run {run.id} has ended"


def runs_of_pull(connection: sa.Connection, pull: int) -> Sequence[RunRow]:
    """The runs that a pull request's own events made, newest first."""
    query = sa.select(runs).where(runs.c.pull_request == pull, runs.c.kind == EventKind.PULL_REQUEST.value)
    return [run_row(row) for row in connection.execute(query.order_by(runs.c.id.desc()))]


def note_once(connection: sa.Connection, run_id: int, text: str, now: float) -> None:
    """Write a line of the run's journal that strangers can cause, however often they do."""
    if text not in (known for _, known in store.notes(connection, run_id)):
        store.note(connection, run_id, text, now)
