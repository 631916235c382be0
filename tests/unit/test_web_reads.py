"""What the page reads of the database, and in how many queries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from buildbot.db.model import Model
from buildbot.process.results import FAILURE, SUCCESS

from master.database import reads
from master.database.tables import artifacts, journal, metadata, runs, stage_attempts

SHA = "a" * 40


@pytest.fixture
def connection() -> Iterator[sa.Connection]:
    engine = sa.create_engine("sqlite://")
    Model.metadata.create_all(engine)
    metadata.create_all(engine)
    with engine.connect() as connection:
        yield connection


def add(connection: sa.Connection, table: sa.Table, **values: Any) -> int:
    return int(connection.execute(table.insert().values(**values)).inserted_primary_key[0])  # type: ignore[index]


def add_run(connection: sa.Connection, number: int) -> int:
    return add(
        connection,
        runs,
        event_key=f"push:{number}",
        kind="push",
        acts_as="push",
        ref="refs/heads/main",
        head=SHA,
        base="",
        pull_request=0,
        tag="",
        message=f"Change {number}",
        author="Ann",
        reason="",
        trusted=True,
        publish=True,
        threads=4,
        changed_files=["f"] * 5000,
        created_at=float(number),
    )


def add_attempt(connection: sa.Connection, run_id: int, number: int = 1, **values: Any) -> int:
    fields = {"stage": "build", "variant": "", "state": "success", "created_at": 1.0, **values}
    return add(connection, stage_attempts, run_id=run_id, number=number, **fields)


def add_build(connection: sa.Connection, number: int, *steps: tuple[str, int | None, int]) -> int:
    """A build with steps (name, results, hidden), a log each."""
    build_id = add(
        connection,
        Model.builds,
        number=number,
        builderid=3,
        buildrequestid=number,
        workerid=1,
        masterid=1,
        started_at=1,
        locks_duration_s=0,
        state_string="compiling",
    )
    for place, (name, results, hidden) in enumerate(steps):
        step = add(
            connection,
            Model.steps,
            number=place,
            name=name,
            buildid=build_id,
            state_string="",
            results=results,
            urls_json="[]",
            hidden=hidden,
        )
        add(connection, Model.logs, name="stdio", slug="stdio", stepid=step, complete=1, num_lines=0, type="s")
    return build_id


def queries(connection: sa.Connection) -> list[str]:
    said: list[str] = []
    sa.event.listen(connection, "before_cursor_execute", lambda *args: said.append(args[2]))
    return said


@pytest.mark.parametrize("count", [1, 20])
def test_a_page_of_runs_takes_two_queries_however_many_there_are(connection: sa.Connection, count: int) -> None:
    for number in range(count):
        add_attempt(connection, add_run(connection, number))
    said = queries(connection)
    page = reads.runs_page(connection, limit=30)
    assert (len(page.runs), len(page.attempts), len(said)) == (count, count, 2)


def test_runs_come_newest_first_and_page_by_page(connection: sa.Connection) -> None:
    ids = [add_run(connection, number) for number in range(5)]
    first = reads.runs_page(connection, limit=2)
    assert ([run.id for run in first.runs], first.more) == ([ids[4], ids[3]], True)
    last = reads.runs_page(connection, limit=3, before=ids[3])
    assert ([run.id for run in last.runs], last.more) == ([ids[2], ids[1], ids[0]], False)


def test_an_empty_database_is_an_empty_page(connection: sa.Connection) -> None:
    page = reads.runs_page(connection, limit=30)
    assert (page.runs, page.attempts, page.more) == ([], [], False)


def test_changed_files_are_not_read(connection: sa.Connection) -> None:
    run_id = add_run(connection, 1)
    whole = reads.whole_run(connection, run_id)
    assert whole is not None
    assert whole.run.changed_files is None
    assert reads.runs_page(connection, limit=1).runs[0].changed_files is None


def test_an_attempt_knows_its_build_until_the_janitor_takes_it(connection: sa.Connection) -> None:
    run_id = add_run(connection, 1)
    build_id = add_build(connection, 14)
    add_attempt(connection, run_id, 1, build_id=build_id)
    add_attempt(connection, run_id, 2, build_id=build_id + 100)
    add_attempt(connection, run_id, 3)
    builds = [attempt.build for attempt in reads.runs_page(connection, limit=1).attempts]
    assert builds == [reads.BuildPlace(builder_id=3, number=14, doing="compiling"), None, None]


def test_a_whole_run_has_artifacts_logs_and_journal_of_its_own_only(connection: sa.Connection) -> None:
    mine, other = add_run(connection, 1), add_run(connection, 2)
    build_id = add_build(connection, 14, ("checkout", SUCCESS, 0), ("build", FAILURE, 0), ("quiet", FAILURE, 1))
    kept = add_attempt(connection, mine, build_id=build_id)
    theirs = add_attempt(connection, other, build_id=add_build(connection, 15, ("build", FAILURE, 0)))
    for attempt_id, name in ((kept, "b.whl"), (kept, "a.txt"), (theirs, "c.whl")):
        add(connection, artifacts, attempt_id=attempt_id, name=name, path=f"{attempt_id}/{name}", size=1, sha256="0")
    add(connection, journal, run_id=mine, at=5.0, text="mine")
    add(connection, journal, run_id=other, at=6.0, text="theirs")
    said = queries(connection)
    whole = reads.whole_run(connection, mine)
    assert whole is not None
    assert len(said) == 9
    assert {attempt: [file.name for file in files] for attempt, files in whole.artifacts.items()} == {
        kept: ["a.txt", "b.whl"]
    }
    assert {build: [place.step for place in places] for build, places in whole.logs.items()} == {build_id: ["build"]}
    assert whole.journal == [(5.0, "mine")]


def test_a_step_that_has_not_ended_shows_its_log(connection: sa.Connection) -> None:
    run_id = add_run(connection, 1)
    build_id = add_build(connection, 14, ("checkout", SUCCESS, 0), ("build", None, 0))
    add_attempt(connection, run_id, build_id=build_id, state="running")
    whole = reads.whole_run(connection, run_id)
    assert whole is not None
    assert [(place.step, place.step_number, place.slug) for place in whole.logs[build_id]] == [("build", 1, "stdio")]


def test_a_run_that_is_not_there_is_none(connection: sa.Connection) -> None:
    assert reads.whole_run(connection, 1) is None


def test_an_artifact_is_found_by_run_attempt_and_name_together(connection: sa.Connection) -> None:
    mine, other = add_run(connection, 1), add_run(connection, 2)
    attempt_id = add_attempt(connection, mine)
    add(connection, artifacts, attempt_id=attempt_id, name="a.whl", path="p/a.whl", size=3, sha256="00")
    found = reads.artifact(connection, mine, attempt_id, "a.whl")
    assert found is not None
    _, file = found
    assert (file.path, file.size, file.sha256, file.removed) == ("p/a.whl", 3, "00", False)
    assert reads.artifact(connection, other, attempt_id, "a.whl") is None
    assert reads.artifact(connection, mine, attempt_id + 1, "a.whl") is None
    assert reads.artifact(connection, mine, attempt_id, "p/a.whl") is None


def test_a_run_has_what_its_builds_used_of_gpus(connection: sa.Connection) -> None:
    run_id = add_run(connection, 1)
    build_id, other = add_build(connection, 14), add_build(connection, 15)
    add_attempt(connection, run_id, build_id=build_id)
    use = {"GPU-a": {"peak_memory": 5}}
    for build, name in ((build_id, "gpu_usage"), (build_id, "gpus"), (other, "gpu_usage")):
        values = {"buildid": build, "name": name, "value": json.dumps(use), "source": "step"}
        connection.execute(Model.build_properties.insert().values(**values))
    whole = reads.whole_run(connection, run_id)
    assert whole is not None and whole.used == {build_id: use}
