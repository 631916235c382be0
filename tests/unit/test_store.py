"""What is kept of events and of the runs they ask for, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from stored import FILE, A, B, C, arrives, asked, pull_request, push, run_with

from master.database import store
from master.pipeline import EventKind, State
from master.run_model import Slot
from master.triggers import Event, InvalidEvent

# -- events


def test_an_event_is_kept_once_for_each_telling(database: Callable[..., Any]) -> None:
    assert database(store.receive, key="delivery 1", source="webhook", event=push(A), now=1.0)
    assert not database(store.receive, key="delivery 1", source="webhook", event=push(A), now=2.0)
    assert database(store.receive, key="poll 1", source="poller", event=push(B, A), now=3.0)
    assert [(key, event) for _, key, event in database(store.unread)] == [
        ("delivery 1", push(A)),
        ("poll 1", push(B, A)),
    ]


def test_a_dismissed_event_is_not_read_again(database: Callable[..., Any]) -> None:
    database(store.receive, key="delivery 1", source="webhook", event=push(A), now=1.0)
    [(inbox_id, _, _)] = database(store.unread)
    database(store.dismiss, inbox_id, "ignored", "refs/heads/x is not the default branch")
    assert database(store.unread) == []


def test_an_event_survives_the_inbox_whatever_it_says(database: Callable[..., Any]) -> None:
    event = replace(push(A), message="é\n\u2028 \ud800 \0", changed_files=("ä b", "c\nd"), stages=("x",), threads=3)
    assert database(store.receive, key="1", source="cli", event=event, now=1.0)
    assert database(store.unread)[0][2] == event


def test_a_run_is_what_its_event_asked_for(database: Callable[..., Any]) -> None:
    event = Event(
        kind=EventKind.MANUAL, ref="refs/tags/v1", head=A, stages=("release",), threads=9, publish=True, reason="again"
    )
    run_id, _ = arrives(database, event)
    run = database(store.run, run_id)
    assert run.context == asked(event).context
    assert (run.tag, run.head, run.threads, run.reason, run.ended_at) == ("v1", A, 2, "again", None)
    assert database(store.live_runs) == [run_id]
    assert database(store.run, run_id + 1) is None


def test_titles_that_a_database_refuses_do_not_stop_a_run(database: Callable[..., Any]) -> None:
    run_id, _ = arrives(database, replace(push(A), message="a\0b\ud800c", author="x" * 1000))
    run = database(store.run, run_id)
    assert run.message == "ab?c"
    assert run.author == "x" * 1000


def test_reasons_and_file_names_that_a_database_refuses_do_not_stop_a_run(database: Callable[..., Any]) -> None:
    run_id = run_with(database, slot := Slot("build", "", 1))
    values = {"state": State.SUCCESS, "reason": "log line\0 with \udcff"}
    strange = [replace(FILE, name="n" * 300), replace(FILE, name="\udcff")]
    assert database(store.accept, run_id, slot, values=values, files=strange)
    assert database(store.attempts, [run_id])[0].reason == "log line with ?"
    database(store.note, run_id, "\0", 1.0)
    assert database(store.end_run, run_id, result=State.FAILURE, reason="x\0", now=1.0)


@pytest.mark.parametrize("kind", ["push", "pull request", "tag"])
def test_webhook_and_poller_together_make_one_run(database: Callable[..., Any], kind: str) -> None:
    event = {
        "push": push(A),
        "pull request": pull_request(A),
        "tag": Event(kind=EventKind.TAG, ref="refs/tags/v1", head=A),
    }
    first, _ = arrives(database, event[kind])
    assert first is not None
    assert arrives(database, replace(event[kind], message="as the poller tells it", before=C)) == (None, [])


def test_one_commit_on_two_refs_has_two_runs(database: Callable[..., Any]) -> None:
    tags = [Event(kind=EventKind.TAG, ref=f"refs/tags/{name}", head=A) for name in ("v1-RC", "v1-rc", "v1_rc", "v1%rc")]
    runs = [arrives(database, event)[0] for event in (*tags, push(A))]
    assert None not in runs


def test_a_ref_that_comes_back_to_a_commit_has_a_new_run(database: Callable[..., Any]) -> None:
    back_and_forth = [push(A), push(B, A), push(A, B), push(B, A), push(A, B)]
    runs = [arrives(database, event)[0] for event in back_and_forth]
    assert len({*runs} - {None}) == 5
    assert arrives(database, push(A, B)) == (None, []), "the same again is a second telling"


def test_a_ref_that_comes_back_is_told_apart_from_refs_whose_name_differs_in_case(database: Callable[..., Any]) -> None:
    def tag(name: str, head: str, before: str = "") -> Event:
        return Event(kind=EventKind.TAG, ref=f"refs/tags/{name}", head=head, before=before)

    for event in (tag("v1-RC", A), tag("v1-RC", B, A), tag("v1-RC", A, B), tag("v1-rc", A)):
        assert arrives(database, event)[0] is not None


def test_an_old_telling_that_comes_late_makes_no_run(database: Callable[..., Any]) -> None:
    for event in (push(A), push(B, A), push(C, B)):
        arrives(database, event)
    assert arrives(database, push(B, A)) == (None, [])


def test_each_manual_run_is_one_of_its_own_also_on_a_long_ref(database: Callable[..., Any]) -> None:
    event = Event(kind=EventKind.MANUAL, ref="refs/heads/" + "x" * 244, head="d" * 64)
    assert None not in [arrives(database, event)[0] for _ in range(3)]


# -- supersede and cancel


def test_a_newer_push_to_a_pull_request_supersedes_its_older_runs(database: Callable[..., Any]) -> None:
    first, _ = arrives(database, pull_request(A))
    other, _ = arrives(database, pull_request(A, number=8))
    second, superseded = arrives(database, pull_request(B, A))
    assert superseded == [first]
    assert database(store.run, first).cancelled == f"superseded by run {second}"
    third, superseded = arrives(database, pull_request(A, B))
    assert superseded == [second], "what was superseded before is not told again"
    assert database(store.run, first).cancelled == f"superseded by run {second}"
    assert [database(store.run, run).cancelled for run in (other, third)] == ["", ""]


def test_a_superseded_run_that_has_ended_keeps_its_result(database: Callable[..., Any]) -> None:
    first, _ = arrives(database, pull_request(A))
    assert database(store.end_run, first, result=State.SUCCESS, reason="", now=3.0)
    assert arrives(database, pull_request(B, A))[1] == []
    assert database(store.run, first).cancelled == ""


@pytest.mark.parametrize("kind", [EventKind.PUSH, EventKind.TAG, EventKind.MANUAL])
def test_nothing_else_supersedes(database: Callable[..., Any], kind: EventKind) -> None:
    ref = "refs/tags/v1" if kind is EventKind.TAG else "refs/heads/main"
    for event in (Event(kind=kind, ref=ref, head=A), Event(kind=kind, ref=ref, head=B, before=A)):
        run_id, superseded = arrives(database, event)
        assert (run_id is not None, superseded) == (True, [])


def test_a_run_is_cancelled_once_while_it_lives(database: Callable[..., Any]) -> None:
    run_id = run_with(database)
    assert database(store.cancel_run, run_id, "by hand")
    assert not database(store.cancel_run, run_id, "again")
    assert database(store.run, run_id).context.cancelled == "by hand"
    assert database(store.end_run, run_id, result=State.CANCELLED, reason="by hand", now=4.0)
    database(store.reopen_run, run_id)
    run = database(store.run, run_id)
    assert (run.cancelled, run.ended_at, run.result, run.result_reason) == ("", None, "", "")
    assert not database(store.cancel_run, run_id + 1, "there is none")


READABLE = {"kind": "push", "ref": "refs/heads/main", "head": A}


@pytest.mark.parametrize(
    ("kept", "why"),
    [
        (READABLE | {"kind": "merge_group"}, "merge_group"),
        (READABLE | {"merge_queue": 3}, "merge_queue"),
        (READABLE | {"message": 5}, "message: expected str, found int"),
        (READABLE | {"pull_request": "7"}, "pull_request: expected int, found str"),
        (READABLE | {"threads": "4"}, "threads: expected int | None, found str"),
        (READABLE | {"publish": "no"}, "publish: expected bool | None, found str"),
        (READABLE | {"changed_files": ["a", 5]}, "changed_files: expected texts"),
        (READABLE | {"stages": 5}, "not iterable"),
        ({"kind": "push"}, "head"),
        ([], "kind"),
        (None, "NoneType"),
    ],
)
def test_an_event_that_this_version_cannot_read_does_not_hide_the_others(
    engine: sa.Engine, database: Callable[..., Any], kept: Any, why: str
) -> None:
    assert database(store.receive, key="delivery 1", source="webhook", event=push(A), now=1.0)
    with engine.begin() as connection:
        connection.execute(sa.text("update inbox set event = :kept"), {"kept": json.dumps(kept)})
    assert database(store.receive, key="delivery 2", source="webhook", event=push(B), now=2.0)
    [(_, _, unreadable), (_, _, good)] = database(store.unread)
    assert isinstance(unreadable, InvalidEvent)
    assert why in str(unreadable)
    assert good == push(B)
