"""What is kept of attempts, their artifacts and the end of a run, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa
from stored import FILE, LIVE, A, B, arrives, push, run_with

from master.database import store
from master.pipeline import State
from master.run_model import Create, Slot

# -- attempts


def test_an_attempt_is_added_once_and_stays_as_it_is(database: Callable[..., Any]) -> None:
    run_id = run_with(database, slot := Slot("build", "cpu", 1))
    assert database(store.change, run_id, slot, was=[State.PENDING], values={"state": State.QUEUED})
    both = [Create(slot=slot, reason="new"), Create(slot=Slot("build", "cpu", 2), not_before=9.5, reason="repeats")]
    assert database(store.add_attempts, run_id, both, 5.0) == 1
    assert database(store.add_attempts, run_id, both, 6.0) == 0
    first, second = database(store.attempts, [run_id])
    assert (first.state, first.reason, first.retryable) == (State.QUEUED, "", True)
    assert (second.state, second.reason, second.not_before, second.created_at) == (State.PENDING, "repeats", 9.5, 5.0)
    assert second.facts.slot == Slot("build", "cpu", 2)
    assert second.external_id == f"{run_id}/build/cpu/2"


def test_two_runs_have_attempts_of_their_own(database: Callable[..., Any]) -> None:
    first, slot = run_with(database, Slot("build", "", 1)), Slot("build", "", 1)
    second, _ = arrives(database, push(B, A))
    assert database(store.add_attempts, second, [Create(slot=slot)], 1.0) == 1
    database(store.change, first, slot, was=LIVE, values={"state": State.RUNNING})
    assert [a.state for a in database(store.attempts, [first, second])] == [State.RUNNING, State.PENDING]
    assert database(store.attempts, []) == []


def test_an_attempt_is_changed_only_from_the_state_that_was_seen(database: Callable[..., Any]) -> None:
    run_id = run_with(database, slot := Slot("build", "", 1))
    assert not database(store.change, run_id, slot, was=[State.QUEUED], values={"state": State.RUNNING})
    assert not database(store.change, run_id, Slot("build", "", 2), was=LIVE, values={"state": State.RUNNING})
    assert database(store.change, run_id, slot, was=LIVE, values={"state": State.RUNNING, "request_id": 5})
    assert database(store.attempt_of_request, 5).slot == slot
    assert database(store.attempt_of_request, 6) is None


def test_an_outcome_is_accepted_once(database: Callable[..., Any]) -> None:
    run_id = run_with(database, slot := Slot("build", "", 1))
    assert database(store.accept, run_id, slot, values={"state": State.SUCCESS, "ended_at": 9.0}, files=[FILE])
    assert not database(store.accept, run_id, slot, values={"state": State.FAILURE}, files=[replace(FILE, name="y")])
    assert database(store.attempts, [run_id])[0].state is State.SUCCESS
    assert [file for _, file in database(store.artifacts_of, [run_id])] == [FILE]


def test_of_two_outcomes_at_the_same_time_one_is_accepted(engine: sa.Engine, database: Callable[..., Any]) -> None:
    slots = [Slot("build", str(number), 1) for number in range(5)]
    run_id = run_with(database, *slots)
    start = Barrier(2)

    def accept(slot: Slot, name: str) -> bool:
        with engine.begin() as connection:
            start.wait(10)
            values = {"state": State.SUCCESS, "worker": name}
            return store.accept(connection, run_id, slot, values=values, files=[replace(FILE, name=name)])

    with ThreadPoolExecutor(2) as threads:
        for slot in slots:
            both = [threads.submit(accept, slot, name) for name in ("one", "two")]
            assert sorted(future.result(20) for future in both) == [False, True]
    found = database(store.artifacts_of, [run_id])
    assert [attempt.slot for attempt, _ in found] == slots
    assert all(attempt.worker == file.name for attempt, file in found)


def test_an_outcome_whose_artifacts_cannot_be_kept_is_not_accepted(database: Callable[..., Any]) -> None:
    run_id = run_with(database, slot := Slot("build", "", 1))
    with pytest.raises(sa.exc.IntegrityError):
        database(store.accept, run_id, slot, values={"state": State.SUCCESS}, files=[FILE, FILE])
    assert database(store.attempts, [run_id])[0].state is State.PENDING


# -- artifacts


def test_artifacts_are_those_of_each_variants_newest_good_attempt(database: Callable[..., Any]) -> None:
    ends = {
        Slot("build", "cpu", 1): State.SUCCESS,
        Slot("build", "cpu", 2): State.WARNINGS,
        Slot("build", "cpu", 3): State.FAILURE,
        Slot("build", "cuda", 1): State.FAILURE,
        Slot("build", "vulkan", 1): State.SUCCESS,
    }
    run_id = run_with(database, *ends, Slot("build", "none", 1))
    for slot, state in ends.items():
        files = [replace(FILE, name=f"{slot.variant}{slot.number}-{letter}") for letter in "ba"]
        assert database(store.accept, run_id, slot, values={"state": state}, files=files)
    found = [(str(attempt.slot), file.name) for attempt, file in database(store.artifacts_of, [run_id])]
    assert found == [
        ("build/cpu/2", "cpu2-a"),
        ("build/cpu/2", "cpu2-b"),
        ("build/vulkan/1", "vulkan1-a"),
        ("build/vulkan/1", "vulkan1-b"),
    ]
    assert database(store.artifacts_of, []) == []


def test_a_newer_good_attempt_without_artifacts_hides_those_of_the_older(database: Callable[..., Any]) -> None:
    first, second = Slot("build", "", 1), Slot("build", "", 2)
    run_id = run_with(database, first, second)
    database(store.accept, run_id, first, values={"state": State.SUCCESS}, files=[FILE])
    assert len(database(store.artifacts_of, [run_id])) == 1
    database(store.accept, run_id, second, values={"state": State.SUCCESS}, files=[])
    assert database(store.artifacts_of, [run_id]) == []


# -- the end of a run


@pytest.mark.parametrize("state", LIVE)
def test_a_run_does_not_end_while_something_lives(database: Callable[..., Any], state: State) -> None:
    run_id = run_with(database, slot := Slot("build", "", 1), done := Slot("test", "", 1))
    database(store.accept, run_id, done, values={"state": State.SUCCESS}, files=[])
    database(store.change, run_id, slot, was=LIVE, values={"state": state})
    assert not database(store.end_run, run_id, result=State.SUCCESS, reason="", now=9.0)
    assert database(store.live_runs) == [run_id]
    database(store.accept, run_id, slot, values={"state": State.FAILURE}, files=[])
    assert database(store.end_run, run_id, result=State.FAILURE, reason="build failed", now=9.0)
    assert not database(store.end_run, run_id, result=State.SUCCESS, reason="", now=10.0)
    run = database(store.run, run_id)
    assert (run.result, run.result_reason, run.ended_at) == ("failure", "build failed", 9.0)
    assert database(store.live_runs) == []


def test_a_run_does_not_wait_for_another_runs_attempts(database: Callable[..., Any]) -> None:
    run_with(database, Slot("build", "", 1))
    other, _ = arrives(database, push(B, A))
    assert database(store.end_run, other, result=State.SUCCESS, reason="", now=9.0)


def test_the_journal_is_told_in_order(database: Callable[..., Any]) -> None:
    run_id = run_with(database)
    for at, text in ((5.0, "first"), (5.0, "second"), (1.0, "third")):
        database(store.note, run_id, text, at)
    assert database(store.notes, run_id) == [(5.0, "first"), (5.0, "second"), (1.0, "third")]
