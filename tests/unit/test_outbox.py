"""The outbox: the newest version of each row, by the newest run that has a say, until it was sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from stored import A, arrives, pull_request, run_with

from master.database import outbox, store
from master.database.outbox import STATUS, Row
from master.database.tables import outbox as table
from master.pipeline import State

Database = Callable[..., Any]
KINDS = ["status", "comment"]


def want(database: Database, state: str, run_id: int = 1, key: str = "a", now: float = 10.0, **options: Any) -> bool:
    found: bool = database(outbox.want, STATUS, key, run_id, {"state": state}, now, **options)
    return found


def due(database: Database, now: float = 10.0) -> Row | None:
    found: Row | None = database(outbox.next_row, KINDS, now)
    return found


def test_a_row_is_there_until_its_newest_version_was_sent(database: Database) -> None:
    assert want(database, "pending")
    assert not want(database, "pending"), "the same is nothing new"
    first = due(database)
    assert first
    assert (first.wanted, first.version) == ({"state": "pending"}, 1)
    assert want(database, "success"), "while the first is being sent"
    database(outbox.sent, first, "")
    second = due(database)
    assert second
    assert (second.wanted, second.version) == ({"state": "success"}, 2)
    database(outbox.sent, second, "4711")
    assert due(database) is None
    assert database(outbox.next_time) is None
    assert want(database, "pending")
    again = due(database)
    assert again
    assert again.remote_id == "4711"


def test_the_newest_run_has_the_say(database: Database) -> None:
    assert want(database, "pending", run_id=2)
    assert not want(database, "success", run_id=1)
    row = due(database)
    assert row
    assert (row.run_id, row.wanted) == (2, {"state": "pending"})
    assert not want(database, "pending", run_id=3), "the same, from a newer run"
    assert not want(database, "failure", run_id=2), "which is not the newest any more"


def test_a_row_can_be_changed_only_if_it_is_there(database: Database) -> None:
    assert not want(database, "success", make=False)
    assert due(database) is None
    assert want(database, "pending")
    assert want(database, "success", make=False)


def test_the_oldest_comes_first_and_one_that_failed_later(database: Database) -> None:
    run_id = run_with(database)
    for key in ("a", "b"):
        want(database, "pending", run_id, key)
    first = due(database)
    assert first
    assert first.key == "a"
    for _ in range(2):
        database(outbox.failed, first, "GitHub refuses", 500.0, 11.0, note=True)
    second = due(database)
    assert second
    assert second.key == "b"
    assert database(outbox.backlog) == {"status": (2, 1)}
    assert [line for _, line in database(store.notes, run_id)] == ["GitHub refuses"], "said once"
    database(outbox.sent, second, "")
    assert due(database) is None
    assert database(outbox.next_time) == 500.0
    assert want(database, "success", run_id, "a", now=20.0), "a new version is tried soon"
    assert database(outbox.next_time) == 25.0
    tried = due(database, 25.0)
    assert tried
    assert (tried.failures, tried.error) == (1, "GitHub refuses")
    database(outbox.sent, tried, "")
    assert database(outbox.backlog) == {}


def test_kinds_can_be_left_out(database: Database) -> None:
    want(database, "pending")
    assert database(outbox.next_row, ["comment"], 10.0) is None


def test_runs_that_may_be_behind_are_found(database: Database) -> None:
    lives = run_with(database)
    old, recent, told = [arrives(database, pull_request(A, number=number))[0] for number in (1, 2, 3)]
    for run_id, at in ((old, 100.0), (recent, 900.0), (told, 100.0)):
        assert database(store.end_run, run_id, result=State.SUCCESS, reason="", now=at)
    assert database(outbox.unfinished, 500.0) == [lives, recent]
    want(database, "pending", told)
    assert database(outbox.unfinished, 500.0) == [lives, recent, told]
    want(database, "success", told)
    assert database(outbox.unfinished, 500.0) == [lives, recent]


def test_the_error_and_the_failures_end_with_success(database: Database) -> None:
    want(database, "pending")
    row = due(database)
    assert row
    database(outbox.failed, row, "unreachable", 11.0, 10.0, note=False)
    again = due(database, 11.0)
    assert again
    database(outbox.sent, again, "")
    [kept] = database(lambda connection: list(connection.execute(sa.select(table))))
    assert (kept.failures, kept.error, kept.sent) == (0, "", 1)
