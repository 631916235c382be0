"""Rows of our tables as typed records, and what the decisions read of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from master.pipeline import EventKind, State
from master.run_model import Attempt, RunContext, Slot


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """One row of ``runs``. Times are seconds since the epoch."""

    id: int
    event_key: str
    kind: EventKind
    acts_as: EventKind
    ref: str
    head: str
    base: str
    pull_request: int
    tag: str
    message: str
    author: str
    reason: str
    trusted: bool
    publish: bool
    threads: int
    selected: list[str] | None
    changed_files: list[str] | None
    created_at: float
    ended_at: float | None
    result: str
    result_reason: str
    cancelled: str
    held: str
    approved: str

    @property
    def context(self) -> RunContext:
        return RunContext(
            kind=self.kind,
            acts_as=self.acts_as,
            trusted=self.trusted,
            publish=self.publish,
            selected=None if self.selected is None else frozenset(self.selected),
            changed_files=None if self.changed_files is None else tuple(self.changed_files),
            cancelled=self.cancelled,
            held=self.held,
        )


@dataclass(frozen=True, kw_only=True)
class AttemptRow:
    """One row of ``stage_attempts``."""

    id: int
    run_id: int
    stage: str
    variant: str
    number: int
    state: State
    reason: str
    retryable: bool
    created_at: float
    not_before: float
    waiting_since: float
    started_at: float | None
    ended_at: float | None
    buildset_id: int | None
    request_id: int | None
    build_id: int | None
    worker: str
    withdrawn: str
    lost_with_worker: int
    lost_with_master: int
    counted_build: int

    @property
    def slot(self) -> Slot:
        return Slot(self.stage, self.variant, self.number)

    @property
    def external_id(self) -> str:
        """The buildset's ``external_idstring``: how a buildset that a crash orphaned is found again."""
        return f"{self.run_id}/{self.slot}"

    @property
    def facts(self) -> Attempt:
        return Attempt(
            slot=self.slot,
            state=self.state,
            reason=self.reason,
            retryable=self.retryable,
            not_before=self.not_before,
            waiting_since=self.waiting_since,
            withdrawn=bool(self.withdrawn),
        )


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A file that an accepted attempt left; ``path`` is below the artifact folder. Of one that was ``removed``, by
    retention, only this is left."""

    name: str
    path: str
    size: int
    sha256: str
    removed: bool = False


def artifact_row(row: sa.Row[Any]) -> Artifact:
    """Of a query that has the table's columns, among others."""
    removed = row.removed_at is not None
    return Artifact(name=row.name, path=row.path, size=row.size, sha256=row.sha256, removed=removed)


def run_row(row: sa.Row[Any]) -> RunRow:
    fields = dict(row._mapping)
    fields.update(kind=EventKind(fields["kind"]), acts_as=EventKind(fields["acts_as"]))
    return RunRow(**fields)


def attempt_row(row: sa.Row[Any]) -> AttemptRow:
    fields = dict(row._mapping)
    fields["state"] = State(fields["state"])
    return AttemptRow(**fields)
