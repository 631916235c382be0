"""A held run is let go on for exactly the commit that somebody approves, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from stored import TOLD, A, B, arrives, pull_request

from master.database import store
from master.database.approvals import approve_run, note_once, runs_of_pull
from master.pipeline import State
from master.triggers import Event, Rules, classify

Database = Callable[..., Any]
VOUCHED = Rules(vouched=frozenset({"MEMBER"}))


def held(database: Database, event: Event) -> int:
    """A stranger's run."""
    database(store.receive, key=f"delivery {next(TOLD)}", source="webhook", event=event, now=1.0)
    [(inbox_id, key, _)] = database(store.unread)
    run_id, _ = database(store.create_run, inbox_id, key, classify(event, VOUCHED), threads=2, now=2.0)
    return int(run_id)


def journal(database: Database, run_id: int) -> list[str]:
    return [text for _, text in database(store.notes, run_id)]


def test_the_run_of_the_commit_goes_on_and_the_journal_says_by_whom(database: Database) -> None:
    run_id = held(database, pull_request(A))
    said = "waits for a maintainer to approve it (/ci ok aaaaaaaaaaaa): GitHub has not said who its author is"
    assert database(store.run, run_id).held == said
    assert database(approve_run, run_id, A, "ann", 5.0) == ""
    run = database(store.run, run_id)
    assert (run.held, run.approved) == ("", "ann")
    assert journal(database, run_id) == [f"approved by ann: commit {A}"]


def test_approved_twice_it_is_approved_once(database: Database) -> None:
    run_id = held(database, pull_request(A))
    database(approve_run, run_id, A, "ann", 5.0)
    assert database(approve_run, run_id, A, "bob", 6.0) == f"run {run_id} was approved by ann before"
    assert database(store.run, run_id).approved == "ann"
    assert len(journal(database, run_id)) == 1


@pytest.mark.parametrize("head", [B, A[:12], A.upper(), "", "%"])
def test_another_commit_is_not_approved_by_it(database: Database, head: str) -> None:
    run_id = held(database, pull_request(A))
    assert f"is for commit {A[:12]}, and not for" in database(approve_run, run_id, head, "ann", 5.0)
    assert database(store.run, run_id).held
    assert journal(database, run_id) == []


def test_a_new_push_is_held_again_and_approving_the_old_commit_lets_neither_go_on(database: Database) -> None:
    first = held(database, pull_request(A))
    assert database(approve_run, first, A, "ann", 5.0) == ""
    second = held(database, pull_request(B, A))
    assert database(store.run, second).held
    third = held(database, pull_request(A, B))
    assert database(store.run, third).held, "also the commit that was approved: in a run that is over"
    assert database(approve_run, second, B, "ann", 6.0) == f"run {second} was superseded by run {third}"
    assert database(store.run, second).held


def test_what_is_cancelled_or_has_ended_or_is_not_held_is_not_approved(database: Database) -> None:
    run_id = held(database, pull_request(A))
    database(store.cancel_run, run_id, "cancelled by ann")
    assert database(approve_run, run_id, A, "ann", 5.0) == f"run {run_id} was cancelled by ann"
    database(store.end_run, run_id, result=State.CANCELLED, reason="", now=6.0)
    assert "was cancelled" in database(approve_run, run_id, A, "ann", 5.0)
    database(store.reopen_run, run_id)
    assert database(store.run, run_id).held, "run again, it waits again"
    database(store.end_run, run_id, result=State.SUCCESS, reason="", now=7.0)
    assert database(approve_run, run_id, A, "ann", 5.0) == f"run {run_id} has ended"
    free, _ = arrives(database, pull_request(B, number=8))
    assert database(approve_run, free, B, "ann", 5.0) == f"run {free} waits for nobody's approval"
    assert database(approve_run, 99, B, "ann", 5.0) == "there is no run 99"


def test_a_pull_requests_runs_are_its_own_events(database: Database) -> None:
    ids = [held(database, pull_request(A)), held(database, pull_request(B, A))]
    held(database, pull_request(A, number=8))
    assert [run.id for run in database(runs_of_pull, 7)] == ids[::-1]


def test_what_strangers_can_cause_is_noted_once(database: Database) -> None:
    run_id = held(database, pull_request(A))
    for _ in range(3):
        database(note_once, run_id, "x asks", 5.0)
    database(note_once, run_id, "y asks", 6.0)
    assert journal(database, run_id) == ["x asks", "y asks"]
