"""Where a build failed: its class and reason, the step, and the log that tells of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from buildbot.db.model import Model
from buildbot.process.results import EXCEPTION, FAILURE

from master.database import buildbot_rows

_DELETED = "d"  # the type of a log whose text Buildbot's janitor took
_TEXTS = ("s", "t", _DELETED)  # types of logs that are lines of text


@dataclass(frozen=True, kw_only=True)
class StepLog:
    """A step of a build with one of its logs; a step without logs has ``log_id`` 0."""

    step: str
    step_number: int
    results: int | None
    log_id: int = 0
    name: str = ""
    slug: str = ""
    kind: str = ""  #: Buildbot's type of log
    lines: int = 0

    @property
    def deleted(self) -> bool:
        return self.kind == _DELETED

    @property
    def streamed(self) -> bool:
        """Whether each line begins with a letter for its stream."""
        return self.kind == "s"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """How a build failed. What its steps did not say is empty."""

    failure_class: str
    reason: str
    line: int | None  #: of the log, from 0
    log: StepLog | None  #: of the step that failed


def of_build(connection: sa.Connection, build_id: int) -> tuple[Failure | None, list[StepLog]]:
    """How a build failed (``None``: it did not), and the logs of all its steps in their order."""
    logs = _logs(connection, build_id)
    properties = buildbot_rows.properties(connection, build_id)
    failed = _told(logs)
    failure_class, line = str(properties.get("failure_class") or ""), properties.get("failure_line")
    if failed is None and not failure_class:
        return None, logs
    failure = Failure(
        failure_class=failure_class,
        reason=str(properties.get("failure_reason") or ""),
        line=line if isinstance(line, int) and line >= 0 else None,
        log=failed,
    )
    return failure, logs


def classes(connection: sa.Connection, build_ids: Sequence[int]) -> dict[int, str]:
    """*code* or *infrastructure*, for those of the builds whose steps said so."""
    p = Model.build_properties.c
    query = sa.select(p.buildid, p.value).where(p.buildid.in_(build_ids), p.name == "failure_class")
    return {row.buildid: row.value.strip('"') for row in connection.execute(query)} if build_ids else {}


def _told(logs: Sequence[StepLog]) -> StepLog | None:
    """The log of the first step that failed which says most: what its command printed, else any text."""
    bad = [log for log in logs if log.results in (FAILURE, EXCEPTION)]
    of_first = [log for log in bad if log.step_number == bad[0].step_number]
    texts = [log for log in of_first if log.kind in _TEXTS]
    printed = [log for log in texts if log.slug == "stdio"]
    return next(iter(printed or texts[-1:] or of_first), None)


def _logs(connection: sa.Connection, build_id: int) -> list[StepLog]:
    s, g = Model.steps, Model.logs
    query = (
        sa.select(s.c.name.label("step"), s.c.number, s.c.results, g.c.id, g.c.name, g.c.slug, g.c.type, g.c.num_lines)
        .select_from(s.outerjoin(g, g.c.stepid == s.c.id))
        .where(s.c.buildid == build_id)
        .order_by(s.c.number, g.c.id)
    )
    return [
        StepLog(
            step=row.step,
            step_number=row.number,
            results=row.results,
            log_id=row.id or 0,
            name=row.name or "",
            slug=row.slug or "",
            kind=row.type or "",
            lines=row.num_lines or 0,
        )
        for row in connection.execute(query)
    ]
