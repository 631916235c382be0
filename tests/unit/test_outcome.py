"""What Buildbot's rows make of an attempt."""

from __future__ import annotations

import pytest
from buildbot.process.results import CANCELLED, EXCEPTION, FAILURE, RETRY, SKIPPED, SUCCESS, WARNINGS
from graphs import stage

from master.database.records import AttemptRow
from master.outcome import (
    BuildFacts,
    Outcome,
    RequestFacts,
    outcome_of_build,
    outcome_without_build,
    too_often_lost,
)
from master.pipeline import State


def attempt(withdrawn: str = "", with_worker: int = 0, with_master: int = 0) -> AttemptRow:
    return AttemptRow(
        id=1,
        run_id=1,
        stage="build",
        variant="",
        number=1,
        state=State.RUNNING,
        reason="",
        retryable=True,
        created_at=0.0,
        not_before=0.0,
        waiting_since=0.0,
        started_at=None,
        ended_at=None,
        buildset_id=1,
        request_id=1,
        build_id=None,
        worker="",
        withdrawn=withdrawn,
        lost_with_worker=with_worker,
        lost_with_master=with_master,
        counted_build=0,
    )


def build(results: int | None, number: int = 1) -> BuildFacts:
    return BuildFacts(id=number, results=results, started_at=1.0, complete_at=2.0, state_string="failed 'make'")


CODE = {"failure_class": "code", "failure_reason": "2 tests failed"}
OURS = {"failure_class": "infrastructure", "failure_reason": "disk full"}


@pytest.mark.parametrize(
    ("results", "properties", "soft", "state", "reason"),
    [
        (SUCCESS, {}, False, State.SUCCESS, ""),
        (SUCCESS, OURS, False, State.SUCCESS, ""),
        (WARNINGS, {}, False, State.WARNINGS, "failed 'make'"),
        (WARNINGS, CODE, False, State.WARNINGS, "2 tests failed"),
        (WARNINGS, OURS, False, State.INFRASTRUCTURE, "disk full"),
        (FAILURE, {}, False, State.FAILURE, "failed 'make'"),
        (FAILURE, CODE, False, State.FAILURE, "2 tests failed"),
        (FAILURE, OURS, False, State.INFRASTRUCTURE, "disk full"),
        (FAILURE, CODE, True, State.WARNINGS, "2 tests failed"),
        (FAILURE, OURS, True, State.INFRASTRUCTURE, "disk full"),
        (FAILURE, {"failure_class": "nonsense", "failure_reason": None}, False, State.FAILURE, "failed 'make'"),
        (EXCEPTION, {}, False, State.INFRASTRUCTURE, "exception in the build: failed 'make'"),
        (EXCEPTION, OURS, True, State.INFRASTRUCTURE, "disk full"),
        (CANCELLED, {}, False, State.CANCELLED, "stopped on the page"),
        (CANCELLED, OURS, True, State.CANCELLED, "stopped on the page"),
        (SKIPPED, {}, False, State.INFRASTRUCTURE, "Buildbot ended the build as 3"),
        (None, {}, False, State.INFRASTRUCTURE, "Buildbot ended the build as None"),
    ],
)
def test_a_finished_build_ends_its_attempt(
    results: int | None, properties: dict[str, object], soft: bool, state: State, reason: str
) -> None:
    found = outcome_of_build(build(results), properties, stage("build", continue_on_error=soft), attempt())
    assert found == Outcome(state=state, reason=reason, retryable=True)


def test_an_attempt_that_was_taken_back_says_why() -> None:
    found = outcome_of_build(build(CANCELLED), {}, stage("build"), attempt(withdrawn="superseded by run 8"))
    assert found == Outcome(state=State.CANCELLED, reason="superseded by run 8")


def test_an_attempt_that_was_taken_back_too_late_keeps_its_result() -> None:
    assert outcome_of_build(build(SUCCESS), {}, stage("build"), attempt(withdrawn="x")).state is State.SUCCESS


@pytest.mark.parametrize(
    ("complete", "results", "withdrawn", "found"),
    [
        (False, -1, "", None),
        (False, CANCELLED, "x", None),
        (True, CANCELLED, "", Outcome(state=State.CANCELLED, reason="cancelled on the page")),
        (True, CANCELLED, "by hand", Outcome(state=State.CANCELLED, reason="by hand")),
        (
            True,
            SUCCESS,
            "",
            Outcome(state=State.INFRASTRUCTURE, reason="Buildbot completed the request without a build"),
        ),
    ],
)
def test_a_request_without_a_build(complete: bool, results: int, withdrawn: str, found: Outcome | None) -> None:
    request = RequestFacts(id=1, complete=complete, results=results)
    assert outcome_without_build(request, attempt(withdrawn=withdrawn)) == found


@pytest.mark.parametrize("state", [SUCCESS, FAILURE, CANCELLED, EXCEPTION])
def test_the_first_build_that_was_not_lost_decides_whatever_the_request_says(state: int) -> None:
    builds = (build(RETRY, 1), build(RETRY, 2), build(state, 3), build(SUCCESS, 4))
    request = RequestFacts(id=1, complete=False, results=-1, builds=builds)
    assert request.decisive is builds[2]


def test_lost_and_running_builds_decide_nothing() -> None:
    builds = (build(RETRY, 4), build(RETRY, 6), build(None, 7))
    request = RequestFacts(id=1, complete=False, results=-1, builds=builds)
    assert request.decisive is None
    assert request.running is builds[2]
    assert [b.id for b in request.lost_after(4)] == [6], "each lost build is counted once"
    assert request.lost_after(6) == []


@pytest.mark.parametrize(
    ("with_worker", "with_master", "reason"),
    [
        (2, 10, ""),
        (3, 0, "its worker was lost 3 times while building"),
        (0, 11, "the master died 11 times while it was building"),
    ],
)
def test_builds_are_lost_only_so_often(with_worker: int, with_master: int, reason: str) -> None:
    lost = attempt(with_worker=with_worker, with_master=with_master)
    found = too_often_lost(lost, stage("build", infrastructure_retries=2), 10)
    assert found == (Outcome(state=State.INFRASTRUCTURE, reason=reason, retryable=False) if reason else None)
