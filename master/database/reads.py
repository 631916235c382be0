"""What the page reads, in a number of queries that does not grow with the number of runs.

Nothing is written here; what the scheduler reads and writes is in :mod:`master.database.store`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from buildbot.db.model import Model
from buildbot.process.results import SKIPPED, SUCCESS

from master.database import failures, store
from master.database.records import Artifact, AttemptRow, RunRow, artifact_row, run_row
from master.database.tables import artifacts, runs, stage_attempts
from master.pipeline import State
from steps.junit import RESULTS
from steps.usage import GPU_USAGE

# everything but the changed files, which nothing on the page shows and which can be thousands
_RUN = [c for c in runs.c if c.name != "changed_files"] + [sa.null().label("changed_files")]


@dataclass(frozen=True, kw_only=True)
class BuildPlace:
    """Where a build is found on Buildbot's own pages, and what it says of itself."""

    builder_id: int
    number: int
    doing: str


@dataclass(frozen=True, kw_only=True)
class PlacedAttempt:
    """An attempt with its build; ``build`` is ``None`` before it has one, and once the janitor took it."""

    row: AttemptRow
    build: BuildPlace | None


@dataclass(frozen=True, kw_only=True)
class LogPlace:
    """The log of a step that did not go well, or has not ended."""

    step: str
    step_number: int
    log: str
    slug: str


@dataclass(frozen=True, kw_only=True)
class RunsPage:
    """Runs, newest first, with the attempts of all of them; ``more`` when older ones were left out."""

    runs: Sequence[RunRow]
    attempts: Sequence[PlacedAttempt]
    more: bool


@dataclass(frozen=True, kw_only=True)
class WholeRun:
    """A run with everything that is known of it."""

    run: RunRow
    attempts: Sequence[PlacedAttempt]
    artifacts: Mapping[int, Sequence[Artifact]]  #: by attempt
    logs: Mapping[int, Sequence[LogPlace]]  #: by build
    tests: Mapping[int, Mapping[str, Any]]  #: by build: what :func:`steps.junit.for_the_page` kept
    failures: Mapping[int, str]  #: by build: the class that a failed one gave its failure
    used: Mapping[int, Mapping[str, Any]]  #: by build: of each board that it was lent, :class:`workers.gpu.usage.Usage`
    journal: Sequence[tuple[float, str]]
    images: Mapping[int, Sequence[Mapping[str, Any]]] = field(
        default_factory=dict
    )  #: by build: what it has published (:class:`steps.docker.PublishImages`)


def runs_page(connection: sa.Connection, *, limit: int, before: int | None = None) -> RunsPage:
    """The newest runs, or those older than ``before``: two queries."""
    query = sa.select(*_RUN).order_by(runs.c.id.desc()).limit(limit + 1)
    if before is not None:
        query = query.where(runs.c.id < before)
    found = [run_row(row) for row in connection.execute(query)]
    shown = found[:limit]
    return RunsPage(runs=shown, attempts=_attempts(connection, [run.id for run in shown]), more=len(found) > len(shown))


def whole_run(connection: sa.Connection, run_id: int) -> WholeRun | None:
    """Everything about one run: nine queries."""
    row = connection.execute(sa.select(*_RUN).where(runs.c.id == run_id)).first()
    if row is None:
        return None
    attempts = _attempts(connection, [run_id])
    builds = [a.row.build_id for a in attempts if a.row.build_id is not None]
    return WholeRun(
        run=run_row(row),
        attempts=attempts,
        artifacts=_artifacts(connection, run_id),
        logs=_logs(connection, builds),
        tests=_tests(connection, builds),
        failures=failures.classes(connection, builds),
        used=_used(connection, builds),
        journal=store.notes(connection, run_id),
        images=_images(connection, builds),
    )


def _images(connection: sa.Connection, build_ids: Sequence[int]) -> dict[int, Sequence[Mapping[str, Any]]]:
    p = Model.build_properties.c
    query = sa.select(p.buildid, p.value).where(p.buildid.in_(build_ids), p.name == "images")
    return {row.buildid: json.loads(row.value) for row in connection.execute(query)} if build_ids else {}


def artifact(connection: sa.Connection, run_id: int, attempt_id: int, name: str) -> tuple[int, Artifact] | None:
    """One accepted file of this run, by the attempt that left it; and its row's id."""
    a = artifacts.c
    query = (
        sa.select(artifacts)
        .join(stage_attempts, stage_attempts.c.id == a.attempt_id)
        .where(stage_attempts.c.run_id == run_id, a.attempt_id == attempt_id, a.name == name)
    )
    row = connection.execute(query).first()
    return (row.id, artifact_row(row)) if row else None


def _attempts(connection: sa.Connection, run_ids: Sequence[int]) -> list[PlacedAttempt]:
    b = Model.builds
    query = (
        sa.select(
            stage_attempts,
            b.c.builderid.label("builder_id"),
            b.c.number.label("build_number"),
            b.c.state_string.label("doing"),
        )
        .select_from(stage_attempts.outerjoin(b, b.c.id == stage_attempts.c.build_id))
        .where(stage_attempts.c.run_id.in_(run_ids))
        .order_by(stage_attempts.c.id)
    )
    return [_placed(row) for row in connection.execute(query)] if run_ids else []


def _placed(row: sa.Row[Any]) -> PlacedAttempt:
    fields = dict(row._mapping)
    builder_id, number, doing = (fields.pop(name) for name in ("builder_id", "build_number", "doing"))
    build = None if number is None else BuildPlace(builder_id=builder_id, number=number, doing=doing or "")
    return PlacedAttempt(row=AttemptRow(**{**fields, "state": State(fields["state"])}), build=build)


def _artifacts(connection: sa.Connection, run_id: int) -> dict[int, list[Artifact]]:
    a = artifacts.c
    query = (
        sa.select(artifacts)
        .join(stage_attempts, stage_attempts.c.id == a.attempt_id)
        .where(stage_attempts.c.run_id == run_id)
        .order_by(a.name)
    )
    found: dict[int, list[Artifact]] = {}
    for row in connection.execute(query):
        found.setdefault(row.attempt_id, []).append(artifact_row(row))
    return found


def _logs(connection: sa.Connection, build_ids: Iterable[int]) -> dict[int, list[LogPlace]]:
    s, g = Model.steps.c, Model.logs.c
    query = (
        sa.select(s.buildid, s.name.label("step"), s.number, g.name.label("log"), g.slug)
        .join(Model.logs, g.stepid == s.id)
        .where(
            s.buildid.in_(list(build_ids)),
            s.hidden == 0,
            sa.or_(s.results.is_(None), s.results.not_in([SUCCESS, SKIPPED])),
        )
        .order_by(s.buildid, s.number, g.id)
    )
    found: dict[int, list[LogPlace]] = {}
    for row in connection.execute(query):
        place = LogPlace(step=row.step, step_number=row.number, log=row.log, slug=row.slug)
        found.setdefault(row.buildid, []).append(place)
    return found


def _tests(connection: sa.Connection, build_ids: Sequence[int]) -> dict[int, Mapping[str, Any]]:
    d = Model.build_data.c
    query = sa.select(d.buildid, d.value).where(d.buildid.in_(build_ids), d.name == RESULTS)
    return {row.buildid: json.loads(row.value) for row in connection.execute(query)} if build_ids else {}


def _used(connection: sa.Connection, build_ids: Sequence[int]) -> dict[int, Mapping[str, Any]]:
    p = Model.build_properties.c
    query = sa.select(p.buildid, p.value).where(p.buildid.in_(build_ids), p.name == GPU_USAGE)
    return {row.buildid: json.loads(row.value) for row in connection.execute(query)} if build_ids else {}


def holders(connection: sa.Connection, requests: Collection[int]) -> dict[int, tuple[int, str]]:
    """Request -> the run that it is of, and its stage with its variant."""
    columns = (stage_attempts.c.request_id, stage_attempts.c.run_id, stage_attempts.c.stage, stage_attempts.c.variant)
    found = connection.execute(sa.select(*columns).where(stage_attempts.c.request_id.in_(sorted(requests))))
    return {row.request_id: (row.run_id, f"{row.stage} ({row.variant})" if row.variant else row.stage) for row in found}


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """An attempt that was handed to Buildbot and waits for a worker."""

    run: int
    stage: str
    variant: str
    since: float
    reason: str  #: empty: it waits for its turn


def queue(connection: sa.Connection, limit: int) -> list[Waiting]:
    """What waits for a worker, the oldest first."""
    columns = stage_attempts.c
    chosen = (columns.run_id, columns.stage, columns.variant, columns.waiting_since, columns.reason)
    query = sa.select(*chosen).where(columns.state == State.QUEUED).order_by(columns.waiting_since).limit(limit)
    return [
        Waiting(run=row.run_id, stage=row.stage, variant=row.variant, since=row.waiting_since, reason=row.reason)
        for row in connection.execute(query)
    ]
