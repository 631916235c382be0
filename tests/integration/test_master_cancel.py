"""Runs that are no longer wanted: superseded by a newer push, or cancelled by somebody."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pipelines import WELL, hold
from rig import Pushed, Rig

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("master cancel")]

CANCELLED = {"test": "success", "build-a": "cancelled", "build-b": "success", "release": "skipped"}


@pytest.fixture
def number(request: pytest.FixtureRequest) -> Iterator[int]:
    """A pull request that no other test of this module has."""
    yield 100 + sorted(item.nodeid for item in request.session.items).index(request.node.nodeid)


def _held(rig: Rig, number: int, stage: str = "build-a") -> tuple[Pushed, int]:
    """A pull request one of whose stages is being built and would not end by itself."""
    pushed = rig.pull_request(number, {f"ci/{stage}.sh": hold(rig, f"never-{number}")})
    run_id = rig.run(pushed)["id"]
    rig.wait_for_state(run_id, stage, "running")
    return pushed, run_id


def test_a_newer_push_to_the_pull_request_stops_the_older_build(rig: Rig, number: int) -> None:
    _, older = _held(rig, number)
    rig.wait_for_state(older, "build-b", "success")
    newer = rig.ended(rig.pull_request(number, {"ci/build-a.sh": ""}, again=True))
    run = rig.run_ended(older)
    assert (run["result"], run["cancelled"]) == ("cancelled", f"superseded by run {newer['id']}")
    assert rig.states(older)["build-a"] == "cancelled"
    assert rig.states(older)["build-b"] == "success", "what it had already done stays"
    assert rig.states(older)["summary"] == "success", "a cancelled run still says what happened"
    (build,) = rig.builds(rig.attempt(older, "build-a")["request_id"])
    assert build["results"] == 6
    assert rig.states(newer["id"]) == WELL["pull_request"]
    said = rig.summary(older)
    assert f"this run was superseded by run {newer['id']}" in said


def test_a_superseded_run_does_not_start_what_it_had_not_started(rig: Rig, number: int) -> None:
    _, older = _held(rig, number, "test")
    rig.ended(rig.pull_request(number, {"ci/test.sh": ""}, again=True))
    rig.run_ended(older)
    heads = {line[3] for line in rig.effects() if line[1] in ("build-a", "build-b")}
    head = rig.rows("select head from runs where id = ?", older)[0]["head"]
    assert rig.states(older)["build-a"] == "cancelled"
    assert rig.attempt(older, "build-a")["request_id"] is None
    assert head not in heads


def test_another_pull_request_is_left_alone(rig: Rig, number: int) -> None:
    _, run_id = _held(rig, number)
    rig.ended(rig.pull_request(number + 500))
    assert rig.attempt(run_id, "build-a")["state"] == "running"
    rig.flag(f"never-{number}")
    assert rig.run_ended(run_id)["result"] == "success"


def test_a_newer_push_to_main_leaves_the_older_run(rig: Rig, number: int) -> None:
    older = rig.push({"ci/build-a.sh": hold(rig, f"main-{number}")})
    older_id = rig.run(older)["id"]
    rig.wait_for_state(older_id, "build-a", "running")
    newer = rig.ended(rig.push({"ci/build-a.sh": ""}))
    assert rig.attempt(older_id, "build-a")["state"] == "running"
    rig.flag(f"main-{number}")
    assert rig.run_ended(older_id)["result"] == newer["result"] == "success"


def test_a_newer_tag_leaves_the_older_run(rig: Rig, number: int) -> None:
    pull, pull_id = _held(rig, number)  # a commit that holds its builds, so that main has none
    older = rig.tag("v3.0", revision=pull.head)
    older_id = rig.run(older)["id"]
    rig.wait_for_state(older_id, "build-a", "running")
    newer = rig.ended(rig.tag("v3.1"))
    assert rig.attempt(older_id, "build-a")["state"] == "running"
    rig.flag(f"never-{number}")
    assert rig.run_ended(older_id)["result"] == newer["result"] == "success"
    assert rig.run_ended(pull_id)["result"] == "success"


def test_cancelling_a_run(rig: Rig, number: int) -> None:
    _, run_id = _held(rig, number)
    rig.wait_for_state(run_id, "build-b", "success")
    assert rig.order(f"runs/{run_id}/cancel").status_code == 200
    run = rig.run_ended(run_id)
    assert (run["result"], run["cancelled"]) == ("cancelled", "cancelled by admin")
    states = rig.states(run_id)
    assert states == {**CANCELLED, "summary": "success"}
    assert rig.attempt(run_id, "build-a")["reason"] == "cancelled by admin"


def test_cancelling_a_run_that_has_ended_is_refused(rig: Rig, number: int) -> None:
    run = rig.ended(rig.pull_request(number))
    answer = rig.order(f"runs/{run['id']}/cancel")
    assert (answer.status_code, answer.json()["error"]) == (409, f"run {run['id']} has ended")


def test_stopping_one_build_on_buildbots_page(rig: Rig, number: int) -> None:
    """The stage is cancelled, what needs it blocked, and the run goes on to its summary."""
    _, run_id = _held(rig, number)
    build = rig.attempt(run_id, "build-a")["build_id"]
    assert rig.control(f"builds/{build}", "stop", reason="enough").status_code == 200
    run = rig.run_ended(run_id)
    assert rig.states(run_id)["build-a"] == "cancelled"
    assert (run["result"], run["cancelled"]) == ("cancelled", "")


def test_the_command_of_a_cancelled_build_is_gone(rig: Rig, number: int) -> None:
    _, run_id = _held(rig, number)
    rig.order(f"runs/{run_id}/cancel")
    rig.run_ended(run_id)
    rig.wait(lambda: not [line for line in rig.left() if "effect.sh" in line], "the stopped build's command ended")
