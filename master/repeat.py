"""Running a run, or one of its stages, again: the wish checked against the tables, then written into them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from master.database import store
from master.pipeline import Pipeline
from master.repetition import Refused, repetition
from master.run_model import Create, Slot


async def repeat_run(
    database: Any, pipeline: Pipeline, run_id: int, stage: str, *, because: str, now: float
) -> list[Slot]:
    """Add the attempts that the wish means and make the run live again; what was refused is noted in its journal.

    Nothing else may carry the run forward meanwhile: the caller holds the scheduler's lock.

    Raises:
        Refused: see :func:`master.repetition.repetition`; also for a run that is not there.
    """
    run = await database.do(store.run, run_id)
    if run is None:
        raise Refused(f"there is no run {run_id}")
    attempts = [attempt.facts for attempt in await database.do(store.attempts, [run_id])]
    try:
        created = repetition(pipeline, run.context, attempts, stage)
    except Refused as refused:
        await database.do_with_transaction(store.note, run_id, f"{because}: refused, {refused}", now)
        raise
    await database.do_with_transaction(_again, run_id, created, because, now)
    return [create.slot for create in created]


def _again(connection: sa.Connection, run_id: int, created: Sequence[Create], because: str, now: float) -> None:
    store.add_attempts(connection, run_id, created, now)
    store.reopen_run(connection, run_id)
    store.note(connection, run_id, f"{because}: runs {', '.join(str(create.slot) for create in created)}", now)
