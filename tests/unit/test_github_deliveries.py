"""What is kept of GitHub's deliveries, and how long one that fails is left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from master.database import deliveries, store
from master.database.tables import deliveries as table
from master.github.deliveries import _after, _pause
from master.github.effects import Later, Outcome
from master.github.failures import GitHubRefused, GitHubUnavailable
from master.pipeline import EventKind
from master.repetition import Refused
from master.repository import RepositoryUnreachable
from master.triggers import Event, InvalidEvent

Database = Callable[..., Any]
PAYLOAD = {"ref": "refs/heads/main", "odd": "\ud800\u0000"}


def keep(database: Database, number: str = "one", now: float = 1.0) -> bool:
    return bool(database(deliveries.keep, delivery=number, name="push", payload=PAYLOAD, now=now))


def only(database: Database) -> int:
    ((row_id, _, _),) = database(deliveries.waiting)
    return int(row_id)


def test_a_delivery_is_kept_once(database: Database) -> None:
    assert keep(database)
    assert not keep(database)
    row = database(deliveries.read, only(database))
    assert (row.delivery, row.name, row.payload, row.received_at, row.failures) == ("one", "push", PAYLOAD, 1.0, 0)


def test_a_body_that_can_come_once_only_is_not_kept_again_under_another_number(database: Database) -> None:
    def comes(number: str, digest: str = "") -> bool:
        about = {"delivery": number, "name": "issue_comment", "payload": PAYLOAD, "now": 1.0}
        return bool(database(deliveries.keep, **about, digest=digest))

    assert comes("one", "d" * 64)
    assert not comes("two", "d" * 64)
    assert comes("three", "e" * 64)
    database(deliveries.close, database(deliveries.waiting)[0][0], state="done", outcome="")
    assert not comes("four", "d" * 64), "also when it was acted upon"
    assert comes("five")
    assert comes("six"), "others are told apart by their numbers alone"


def test_what_was_acted_upon_waits_no_more_and_keeps_no_payload(database: Database, engine: sa.Engine) -> None:
    keep(database)
    database(deliveries.close, only(database), state="done", outcome="a run", subject="r" * 300)
    assert database(deliveries.waiting) == []
    with engine.connect() as connection:
        row = connection.execute(sa.select(table)).one()
    assert (row.state, row.outcome, row.payload, len(row.subject)) == ("done", "a run", None, 255)
    assert not keep(database), "its number is known all the same"


def test_deliveries_wait_in_the_order_they_came(database: Database) -> None:
    for number in ("b", "c", "a"):
        keep(database, number)
    ids = [row_id for row_id, _, _ in database(deliveries.waiting)]
    assert [database(deliveries.read, row_id).delivery for row_id in ids] == ["b", "c", "a"]
    database(deliveries.put_off, ids[0], until=9.0, why="away", subject="pull 7", failures=2)
    assert database(deliveries.waiting)[0] == (ids[0], "pull 7", 9.0)
    assert database(deliveries.read, ids[0]).failures == 2


def test_a_payload_that_cannot_be_read_is_an_invalid_event(database: Database, engine: sa.Engine) -> None:
    if engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL keeps nothing in a column of JSON that is none")
    keep(database)
    with engine.begin() as connection:
        connection.execute(sa.text("update deliveries set payload = '{no json'"))
    with pytest.raises(InvalidEvent, match="cannot be read"):
        database(deliveries.read, only(database))


def test_what_is_newer_about_the_same_is_found(database: Database) -> None:
    keep(database)
    closed = {"state": "done", "outcome": "", "subject": "pull 7", "happened_at": 5.0}
    database(deliveries.close, only(database), **closed)
    assert database(deliveries.newer, "pull 7", 4.0) == "one"
    assert database(deliveries.newer, "pull 7", 5.0) == ""
    assert database(deliveries.newer, "pull 8", 4.0) == ""


def test_old_deliveries_are_forgotten_unless_they_still_wait(database: Database) -> None:
    for number, now in (("old", 1.0), ("waits", 2.0), ("new", 50.0)):
        keep(database, number, now)
    ids = [row_id for row_id, _, _ in database(deliveries.waiting)]
    for row_id in (ids[0], ids[2]):
        database(deliveries.close, row_id, state="done", outcome="")
    assert database(deliveries.prune, 10.0) == 1
    assert keep(database, "old")
    assert not keep(database, "new")
    assert not keep(database, "waits")


def test_an_event_of_a_pull_request_is_unread_until_it_has_become_a_run(database: Database) -> None:
    event = Event(kind=EventKind.PULL_REQUEST, ref="refs/pull/7/head", head="a" * 40, pull_request=7)
    database(store.receive, key="github:one", source="github", event=event, now=1.0)
    assert database(deliveries.unread_of_pull, 7)
    assert not database(deliveries.unread_of_pull, 8)
    assert not database(deliveries.read_by_now, "github:one")
    database(store.dismiss, 1, "ignored", "")
    assert not database(deliveries.unread_of_pull, 7)
    assert database(deliveries.read_by_now, "github:one")


@pytest.mark.parametrize("error", [InvalidEvent("x"), Refused("x"), GitHubRefused("x", 403)])
def test_what_will_not_become_right_is_refused(error: Exception) -> None:
    assert _after(error, 1) == Outcome(state="refused", text="x")


def test_what_may_become_right_is_tried_later() -> None:
    limited, gone = _after(GitHubUnavailable("x", 77.0), 1), _after(RepositoryUnreachable("x"), 1)
    assert isinstance(limited, Later)
    assert isinstance(gone, Later)
    assert (limited.pause, limited.counts, gone.pause, gone.counts) == (77.0, True, 0.0, True)
    later = Later("x")
    assert _after(later, 1) is later


def test_pauses_grow_and_end() -> None:
    pauses = [_pause(failures) for failures in range(1, 20)]
    assert pauses[:3] == [5.0, 10.0, 20.0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 600.0
