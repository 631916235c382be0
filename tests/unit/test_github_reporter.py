"""What of a run gets into the outbox, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from buildbot.db.model import Model
from stored import A, B, arrives, pull_request, push

from master.database import store
from master.database.tables import outbox, runs
from master.github.reporter import Reporter
from master.pipeline import EventKind, Pipeline, Stage, State
from master.run_model import Create, Slot
from master.triggers import Event

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


def shown(database: Database, stage: str = "summary") -> tuple[str, str]:
    """What GitHub is to show of the commit, and whose word it is."""
    found = kept(database)[f"{A} mlc-ci/{stage}"]
    return found["state"], found["target_url"].rpartition("/")[2]


def ends(database: Database, run_id: int, build: State, now: float = 3.0, result: State | None = None) -> None:
    """The run ends with this state of its one stage, and is reported."""
    if not database(store.attempts, [run_id]):
        database(store.add_attempts, run_id, [Create(slot=Slot("build", "", 1))], now)
    values = {"state": build, "ended_at": now}
    database(store.change, run_id, Slot("build", "", 1), was=list(State), values=values)
    assert database(store.end_run, run_id, result=result or build, reason="", now=now)
    database(REPORTER.report, run_id, now)


def begins(database: Database, event: Event, **values: Any) -> int:
    run_id, _ = arrives(database, event)
    assert run_id
    if values:
        change(database, run_id, **values)
    database(REPORTER.report, run_id, 2.0)
    return run_id


HELD = {"held": "waits for a maintainer to approve it"}
TAG = Event(kind=EventKind.TAG, ref="refs/tags/v1", head=A)


@pytest.mark.parametrize("event", [push(A), TAG, pull_request(A, number=10)])
@pytest.mark.parametrize("first", [True, False])
def test_a_strangers_pull_request_changes_nothing_that_is_said_of_somebody_elses_commit(
    database: Database, event: Event, first: bool
) -> None:
    theirs = begins(database, pull_request(A, number=11), **HELD) if first else 0
    ours = begins(database, event)
    ends(database, ours, State.FAILURE)
    said = ("failure", str(ours))
    assert shown(database) == shown(database, "build") == said
    theirs = theirs or begins(database, pull_request(A, number=11), **HELD)
    database(REPORTER.report, theirs, 4.0)
    assert shown(database) == shown(database, "build") == said
    database(store.cancel_run, theirs, "the pull request was closed")
    ends(database, theirs, State.SKIPPED, now=5.0, result=State.CANCELLED)
    assert shown(database) == shown(database, "build") == said
    database(store.reopen_run, ours)
    ends(database, ours, State.SUCCESS, now=6.0)
    assert shown(database) == ("success", str(ours)), "and running it again counts"


def test_a_commit_that_only_held_runs_have_says_that_they_wait(database: Database) -> None:
    first = begins(database, pull_request(A, number=10), **HELD)
    assert shown(database) == ("pending", str(first))
    second = begins(database, pull_request(A, number=11), **HELD)
    assert shown(database) == ("pending", str(second))
    change(database, first, held="", approved="ann")
    database(REPORTER.report, first, 3.0)
    assert shown(database) == ("pending", str(first)), "what a maintainer let run speaks, though it is older"
    ends(database, first, State.SUCCESS)
    assert shown(database) == ("success", str(first))


def test_an_approved_pull_request_does_not_speak_for_a_commit_that_was_pushed(database: Database) -> None:
    ours = begins(database, push(A))
    ends(database, ours, State.FAILURE)
    theirs = begins(database, pull_request(A, number=11), approved="ann")
    ends(database, theirs, State.SUCCESS, now=4.0)
    assert shown(database) == ("failure", str(ours))


def test_a_pull_request_that_was_merged_as_it_is_gets_the_pushs_word(database: Database) -> None:
    ends(database, begins(database, pull_request(A)), State.SUCCESS)
    pushed = begins(database, push(A))
    assert shown(database) == ("pending", str(pushed))


def test_a_pull_request_that_comes_back_to_a_commit_speaks_anew(database: Database) -> None:
    ends(database, begins(database, pull_request(A)), State.SUCCESS)
    begins(database, pull_request(B, A))
    again = begins(database, pull_request(A, B), **HELD)
    assert shown(database) == ("pending", str(again))


@pytest.mark.parametrize("events", [[push(A), TAG], [TAG, push(A)]])
def test_a_tags_failed_release_is_never_green_by_the_push_of_its_commit(
    database: Database, events: list[Event]
) -> None:
    runs = {event.kind: begins(database, event) for event in events}
    ends(database, runs[EventKind.TAG], State.FAILURE)
    ends(database, runs[EventKind.PUSH], State.SUCCESS, now=4.0)
    assert shown(database) == ("failure", str(runs[EventKind.TAG]))


def test_a_run_that_was_cancelled_leaves_the_word_to_the_other(database: Database) -> None:
    pushed, tagged = begins(database, push(A)), begins(database, TAG)
    ends(database, pushed, State.SUCCESS)
    assert shown(database) == ("pending", str(tagged))
    database(store.cancel_run, tagged, "by ann")
    database(REPORTER.report, tagged, 4.0)
    assert shown(database) == ("success", str(pushed))


@pytest.mark.parametrize("selected", [None, ["build"]])
def test_a_manual_run_turns_no_failed_commit_green(database: Database, selected: list[str] | None) -> None:
    ours = begins(database, push(A))
    ends(database, ours, State.FAILURE)
    manual = Event(kind=EventKind.MANUAL, ref="refs/heads/main", head=A)
    ends(database, begins(database, manual, selected=selected), State.SUCCESS, now=4.0)
    assert shown(database) == ("failure", str(ours))


def test_the_settings_may_leave_either_out(database: Database) -> None:
    run_id, _ = arrives(database, pull_request(A))
    change(database, run_id or 0, held="waits")
    silent = replace(REPORTER, statuses=False, comment=False)
    assert not database(silent.report, run_id, 1.0)
    assert database(replace(silent, comment=True).report, run_id, 1.0)
    assert set(kept(database)) == {"pull 7"}
    assert database(replace(silent, statuses=True).report, run_id, 1.0)


@pytest.mark.parametrize("selected", [None, ["build"]])
def test_a_manual_run_tells_nothing(database: Database, selected: list[str] | None) -> None:
    run_id, _ = arrives(database, Event(kind=EventKind.MANUAL, ref="refs/heads/main", head=A))
    change(database, run_id or 0, selected=selected)
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
    database(REPORTER.report, run_id, 2.5)
    assert "`approved by ann`" in kept(database)["pull 7"]["body"]
    assert "/ci ok" not in kept(database)["pull 7"]["body"], "it is done"
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
