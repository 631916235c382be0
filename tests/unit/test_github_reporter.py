"""What of a run gets into the outbox, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from buildbot.db.model import Model
from stored import A, arrives, pull_request, push

from master.database import store
from master.database.tables import outbox, runs
from master.github.reporter import Reporter
from master.pipeline import Pipeline, Stage, State

Database = Callable[..., Any]
REPORTER = Reporter(
    pipeline=Pipeline(stages=(Stage(name="build", uses="commands"),)),
    page="https://ci.example/",
    statuses=True,
    comment=True,
)


@pytest.fixture(autouse=True)
def buildbots(engine: sa.Engine) -> None:
    """Buildbot's own tables, which a summary reads."""
    Model.metadata.create_all(engine)


def kept(database: Database) -> dict[str, Any]:
    rows = database(lambda connection: list(connection.execute(sa.select(outbox.c.key, outbox.c.wanted))))
    return {row.key: row.wanted for row in rows}


def change(database: Database, run_id: int, **values: Any) -> None:
    database(lambda connection: connection.execute(runs.update().where(runs.c.id == run_id).values(values)))


def test_all_statuses_are_wanted_once_the_run_is_there(database: Database) -> None:
    run_id, _ = arrives(database, push(A))
    assert database(REPORTER.report, run_id, 1.0)
    found = kept(database)
    assert set(found) == {f"{A} mlc-ci/build", f"{A} mlc-ci/summary"}
    assert {(wanted["sha"], wanted["state"]) for wanted in found.values()} == {(A, "pending")}
    assert not database(REPORTER.report, run_id, 2.0), "nothing new"
    assert not database(REPORTER.report, 999, 2.0)


def test_the_settings_may_leave_either_out(database: Database) -> None:
    run_id, _ = arrives(database, pull_request(A))
    change(database, run_id or 0, held="waits")
    silent = replace(REPORTER, statuses=False, comment=False)
    assert not database(silent.report, run_id, 1.0)
    assert database(replace(silent, comment=True).report, run_id, 1.0)
    assert set(kept(database)) == {"pull 7"}
    assert database(replace(silent, statuses=True).report, run_id, 1.0)


def test_a_manual_run_of_chosen_stages_tells_nothing(database: Database) -> None:
    run_id, _ = arrives(database, push(A))
    change(database, run_id or 0, selected=["build"])
    assert not database(REPORTER.report, run_id, 1.0)
    assert kept(database) == {}


def test_a_pull_request_has_a_comment_when_its_run_is_held_and_when_it_ends(database: Database) -> None:
    run_id, _ = arrives(database, pull_request(A))
    assert run_id
    database(REPORTER.report, run_id, 1.0)
    assert "pull 7" not in kept(database)
    change(database, run_id, held="waits for a maintainer to approve it")
    database(REPORTER.report, run_id, 2.0)
    assert "/ci ok" in kept(database)["pull 7"]["body"]
    change(database, run_id, held="", approved="ann")
    assert database(store.end_run, run_id, result=State.SUCCESS, reason="", now=3.0)
    database(REPORTER.report, run_id, 3.0)
    assert "passed" in kept(database)["pull 7"]["body"]


@pytest.mark.parametrize("why", ["superseded by run 9", "the pull request was closed"])
def test_a_run_that_is_cancelled_makes_no_comment(database: Database, why: str) -> None:
    run_id, _ = arrives(database, pull_request(A))
    assert run_id
    assert database(store.cancel_run, run_id, why)
    assert database(store.end_run, run_id, result=State.CANCELLED, reason=why, now=3.0)
    database(REPORTER.report, run_id, 3.0)
    assert "pull 7" not in kept(database)
    assert kept(database)[f"{A} mlc-ci/summary"]["state"] == "error"


def test_a_cancelled_run_changes_the_comment_that_is_there(database: Database) -> None:
    run_id, _ = arrives(database, pull_request(A))
    assert run_id
    change(database, run_id, held="waits")
    database(REPORTER.report, run_id, 1.0)
    assert database(store.cancel_run, run_id, "by ann")
    assert database(store.end_run, run_id, result=State.CANCELLED, reason="by ann", now=3.0)
    database(REPORTER.report, run_id, 3.0)
    assert "`cancelled: by ann`" in kept(database)["pull 7"]["body"]
