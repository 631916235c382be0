"""What is read from and written to our tables. Every function takes a connection and is one step of a
transaction that its caller opens; every write checks that the row still is what the decision was made about,
and says by its result whether it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from master.database.records import Artifact, AttemptRow, RunRow, artifact_row, attempt_row, run_row
from master.database.tables import artifacts, inbox, journal, runs, stage_attempts
from master.pipeline import EventKind, State
from master.run_model import Create, Slot
from master.triggers import Event, InvalidEvent, RunRequest

_MOST_HEADS = 500  # commits of a branch that an image tag is held against
_ENDED = [state.value for state in State if state.ended]


def receive(connection: sa.Connection, *, key: str, source: str, event: Event, now: float) -> bool:
    """Keep an event until it is looked at. False when this very telling of it is known already."""
    values = {"key": key, "source": source, "received_at": now, "event": event.to_json(), "state": "new"}
    return insert_new(connection, inbox, values, "key") is not None


def unread(connection: sa.Connection) -> list[tuple[int, str, Event | InvalidEvent]]:
    """Events that nobody has looked at, oldest first: inbox id, key, event, or why it cannot be read."""
    text = sa.cast(inbox.c.event, sa.Text).label(
        "event"
    )  # one that is no JSON must not keep the others from being read
    query = sa.select(inbox.c.id, inbox.c.key, text).where(inbox.c.state == "new").order_by(inbox.c.id)
    return [(row.id, row.key, _event(row.event)) for row in connection.execute(query)]


def _event(text: str) -> Event | InvalidEvent:
    try:
        return Event.from_json(json.loads(text))
    except InvalidEvent as error:
        return error
    except ValueError as error:
        return InvalidEvent(f"this version cannot read the event: {error}")


def dismiss(connection: sa.Connection, inbox_id: int, state: str, outcome: str, run_id: int | None = None) -> None:
    """Note what became of an event."""
    connection.execute(inbox.update().where(inbox.c.id == inbox_id).values(state=state, outcome=outcome, run_id=run_id))


def run_of_event(connection: sa.Connection, key: str) -> int | None:
    """The run that an event has; ``None`` while it was not looked at, and for one that asks for none."""
    run_id: int | None = connection.execute(sa.select(inbox.c.run_id).where(inbox.c.key == key)).scalar()
    return run_id


def create_run(
    connection: sa.Connection, inbox_id: int, inbox_key: str, request: RunRequest, *, threads: int, now: float
) -> tuple[int | None, list[int]]:
    """Make the run that an event asks for, superseding what it supersedes, and close its inbox entry.

    Returns the new run's id (``None`` when the event already had its run) and the ids of superseded runs.
    """
    event = request.event
    key = _event_key(connection, inbox_key, request)
    if key is None:
        dismiss(connection, inbox_id, "ignored", "this event already has its run")
        return None, []
    values = {
        "event_key": key,
        "kind": event.kind.value,
        "acts_as": request.context.acts_as.value,
        "ref": event.ref,
        "head": event.head,
        "base": event.base,
        "pull_request": event.pull_request,
        "tag": request.tag,
        "message": event.message,
        "author": event.author,
        "reason": event.reason,
        "trusted": request.context.trusted,
        "publish": request.context.publish,
        "threads": threads,
        "selected": list(event.stages) if event.stages is not None else None,
        "changed_files": list(event.changed_files) if event.changed_files is not None else None,
        "created_at": now,
        "held": request.context.held,
    }
    run_id = int(connection.execute(runs.insert().values(values)).inserted_primary_key[0])  # type: ignore[index]
    superseded = _supersede(connection, request, run_id) if request.supersedes else []
    dismiss(connection, inbox_id, "run", f"run {run_id}", run_id)
    return run_id, superseded


def _event_key(connection: sa.Connection, inbox_key: str, request: RunRequest) -> str | None:
    """The unique key of the event's run; ``None`` when there is one already.

    A ref that comes back to a commit it had before (a forced push, a revert of a revert) is a new event: seen
    when the newest run of the ref is for the commit that the event says it moved away from.
    """
    event = request.event
    if event.kind is EventKind.MANUAL:
        return f"{request.key}#{inbox_key}"
    of_ref = (runs.c.ref == event.ref, runs.c.kind == event.kind.value)
    same = sa.select(sa.func.count()).select_from(runs).where(*of_ref, runs.c.head == event.head)
    count = connection.execute(same).scalar_one()
    if count == 0:
        return request.key
    newest = connection.execute(sa.select(runs.c.head).where(*of_ref).order_by(runs.c.id.desc()).limit(1)).scalar_one()
    if newest != event.head and newest == event.before:
        return f"{request.key}#{count + 1}"
    return None


def _supersede(connection: sa.Connection, request: RunRequest, run_id: int) -> list[int]:
    older = (
        runs.c.ref == request.event.ref,
        runs.c.kind == request.event.kind.value,
        runs.c.id < run_id,
        runs.c.ended_at.is_(None),
        runs.c.cancelled == "",
    )
    found = list(connection.execute(sa.select(runs.c.id).where(*older)).scalars())
    connection.execute(runs.update().where(*older).values(cancelled=f"superseded by run {run_id}"))
    return found


def run(connection: sa.Connection, run_id: int) -> RunRow | None:
    row = connection.execute(sa.select(runs).where(runs.c.id == run_id)).first()
    return run_row(row) if row else None


def newer_heads(connection: sa.Connection, run_id: int) -> list[str]:
    """The other commits that a run's branch has had since, as later runs know them that publish; the newest first."""
    own = connection.execute(sa.select(runs.c.ref, runs.c.head).where(runs.c.id == run_id)).one()
    later = (runs.c.ref == own.ref, runs.c.id > run_id, runs.c.publish, runs.c.head != own.head)
    query = sa.select(runs.c.head).where(*later).order_by(runs.c.id.desc()).limit(_MOST_HEADS)
    return list(dict.fromkeys(connection.execute(query).scalars()))


def runs_of_commit(connection: sa.Connection, head: str) -> list[RunRow]:
    """All runs of one commit, whatever they were made for, oldest first."""
    return [run_row(row) for row in connection.execute(sa.select(runs).where(runs.c.head == head).order_by(runs.c.id))]


def live_runs(connection: sa.Connection) -> list[int]:
    """Ids of the runs that have not ended, oldest first."""
    return list(connection.execute(sa.select(runs.c.id).where(runs.c.ended_at.is_(None)).order_by(runs.c.id)).scalars())


def attempts(connection: sa.Connection, run_ids: Iterable[int]) -> list[AttemptRow]:
    """All attempts of these runs, in the order they were made."""
    query = sa.select(stage_attempts).where(stage_attempts.c.run_id.in_(list(run_ids))).order_by(stage_attempts.c.id)
    return [attempt_row(row) for row in connection.execute(query)]


def attempt(connection: sa.Connection, attempt_id: int) -> AttemptRow | None:
    row = connection.execute(sa.select(stage_attempts).where(stage_attempts.c.id == attempt_id)).first()
    return attempt_row(row) if row else None


def attempt_of_request(connection: sa.Connection, request_id: int) -> AttemptRow | None:
    row = connection.execute(sa.select(stage_attempts).where(stage_attempts.c.request_id == request_id)).first()
    return attempt_row(row) if row else None


def add_attempts(connection: sa.Connection, run_id: int, created: Sequence[Create], now: float) -> int:
    """Record attempts, pending; those that are there already stay as they are. Returns how many are new."""
    added = 0
    for create in created:
        values = {
            "run_id": run_id,
            "stage": create.slot.stage,
            "variant": create.slot.variant,
            "number": create.slot.number,
            "state": State.PENDING.value,
            "reason": create.reason,
            "created_at": now,
            "not_before": create.not_before,
        }
        added += insert_new(connection, stage_attempts, values, "run_id", "stage", "variant", "number") is not None
    return added


def change(
    connection: sa.Connection, run_id: int, slot: Slot, *, was: Iterable[State], values: Mapping[str, Any]
) -> bool:
    """Change an attempt that is in one of the states ``was``; False when it no longer is."""
    result = connection.execute(
        stage_attempts.update()
        .where(
            stage_attempts.c.run_id == run_id,
            stage_attempts.c.stage == slot.stage,
            stage_attempts.c.variant == slot.variant,
            stage_attempts.c.number == slot.number,
            stage_attempts.c.state.in_([state.value for state in was]),
        )
        .values({k: v.value if isinstance(v, State) else v for k, v in values.items()})
    )
    return result.rowcount == 1


def accept(
    connection: sa.Connection, run_id: int, slot: Slot, *, values: Mapping[str, Any], files: Sequence[Artifact]
) -> bool:
    """Settle an attempt with a build's outcome, and make its artifacts visible, in one.

    False when it was settled before: an outcome is accepted once.
    """
    if not change(connection, run_id, slot, was=(s for s in State if not s.ended), values=values):
        return False
    row = connection.execute(
        sa.select(stage_attempts.c.id).where(
            stage_attempts.c.run_id == run_id,
            stage_attempts.c.stage == slot.stage,
            stage_attempts.c.variant == slot.variant,
            stage_attempts.c.number == slot.number,
        )
    ).one()
    for file in files:
        connection.execute(
            artifacts.insert().values(
                attempt_id=row.id, name=file.name, path=file.path, size=file.size, sha256=file.sha256
            )
        )
    return True


def artifacts_of(connection: sa.Connection, run_ids: Iterable[int]) -> list[tuple[AttemptRow, Artifact]]:
    """Artifacts of these runs with the attempts they come from: of each variant, those of its newest good attempt."""
    newest: dict[tuple[int, str, str], AttemptRow] = {}
    for source in attempts(connection, run_ids):
        key = (source.run_id, *source.slot.key)
        if source.state.good and (key not in newest or newest[key].number < source.number):
            newest[key] = source
    sources = {source.id: source for source in newest.values()}
    query = sa.select(artifacts).where(artifacts.c.attempt_id.in_(sources))
    found = [(sources[row.attempt_id], artifact_row(row)) for row in connection.execute(query)]
    return sorted(found, key=lambda pair: (pair[0].run_id, pair[0].slot, pair[1].name))


def cancel_run(connection: sa.Connection, run_id: int, reason: str) -> bool:
    """Note that a run is no longer wanted; False when it has ended or was cancelled before."""
    result = connection.execute(
        runs.update()
        .where(runs.c.id == run_id, runs.c.ended_at.is_(None), runs.c.cancelled == "")
        .values(cancelled=reason)
    )
    return result.rowcount == 1


def reopen_run(connection: sa.Connection, run_id: int) -> None:
    """Make a run live again, wanted, because new attempts were added to it."""
    connection.execute(
        runs.update().where(runs.c.id == run_id).values(ended_at=None, result="", result_reason="", cancelled="")
    )


def end_run(connection: sa.Connection, run_id: int, *, result: State, reason: str, now: float) -> bool:
    """Close a run all of whose attempts have ended; False when one has not, or it is closed already."""
    live = sa.select(stage_attempts.c.id).where(
        stage_attempts.c.run_id == run_id, stage_attempts.c.state.not_in(_ENDED)
    )
    done = connection.execute(
        runs.update()
        .where(runs.c.id == run_id, runs.c.ended_at.is_(None), ~sa.exists(live))
        .values(ended_at=now, result=result.value, result_reason=reason)
    )
    return done.rowcount == 1


def note(connection: sa.Connection, run_id: int, text: str, now: float) -> None:
    """Write a line of the run's journal: what happened to it that no stage's state tells."""
    connection.execute(journal.insert().values(run_id=run_id, at=now, text=text))


def notes(connection: sa.Connection, run_id: int) -> list[tuple[float, str]]:
    """The run's journal, oldest first."""
    query = sa.select(journal.c.at, journal.c.text).where(journal.c.run_id == run_id).order_by(journal.c.id)
    return [(row.at, row.text) for row in connection.execute(query)]


def insert_new(connection: sa.Connection, table: sa.Table, values: Mapping[str, Any], *unique: str) -> int | None:
    """Insert a row unless its unique columns (none named: any) are taken; the new row's id, or ``None``."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table).values(**values).on_conflict_do_nothing(index_elements=unique or None)
    return connection.execute(statement.returning(table.c.id)).scalar()
