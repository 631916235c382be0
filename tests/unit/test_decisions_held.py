"""A stranger's pull request waits for a maintainer, and for nothing else."""

from __future__ import annotations

from fates import finish
from graphs import PULL_REQUEST, PUSH, STRANGER, TAG, StubFleet, context, document, pipeline, stage
from simulation import Simulation

from master.pipeline import State
from master.repetition import Refused, repetition
from master.run_model import Slot


def held(**fleet: object) -> Simulation:
    run = Simulation(document(), context(PULL_REQUEST, held=STRANGER), StubFleet(**fleet))  # type: ignore[arg-type]
    run.carry()
    return run


def test_everything_waits_and_says_why_and_what_is_skipped_anyway_is_skipped() -> None:
    run = held()
    waiting = {"test", "build-linux", "build-windows", "summary"}
    assert {name for name, state in run.states().items() if state is State.PENDING} == waiting
    assert {run.reason(name) for name in waiting} == {STRANGER}
    assert run.reason("docker") == "runs for push, tag, and this is a pull request"
    assert run.state("release") is State.SKIPPED
    assert (run.order, run.ended) == ([], None)


def test_it_waits_for_ever_and_also_when_no_worker_could_serve_it() -> None:
    run = held(reasons={"build-windows": "no worker has msvc"}, seen={"test": 0.0})
    for _ in range(3):
        run.now += 1e6
        run.carry()
    assert run.state("build-windows") is run.state("test") is State.PENDING
    assert run.reason("build-windows") == STRANGER
    assert (run.order, run.ended, run.broken) == ([], None, {})


def test_a_run_that_has_nothing_to_do_does_not_end_before_it_is_approved_either() -> None:
    run = Simulation(pipeline(stage("docs", paths=("docs/",))), context(PULL_REQUEST, held=STRANGER, changed_files=()))
    run.carry()
    assert (run.state("docs"), run.ended) == (State.SKIPPED, None)
    run.approve()
    run.carry()
    assert run.ended
    assert run.ended.result is State.SUCCESS


def test_once_approved_it_goes_on_as_any_other_and_no_stage_says_that_it_is_held() -> None:
    run = held()
    run.now += 1e6
    run.approve()
    run.carry()
    assert run.queued() == [Slot("test", "", 1)]
    assert run.latest["test", ""].waiting_since == run.now, "its patience begins here"
    assert {run.reason(name) for name in ("test", "build-linux", "summary")} == {""}
    finish(run)
    assert run.broken == {}
    assert run.ended
    assert run.ended.result is State.SUCCESS


def test_a_held_run_that_is_no_longer_wanted_ends_and_starts_nothing_not_even_what_always_runs() -> None:
    """A stranger can cancel a run of theirs, with a second push: nothing of the first may start by it."""
    run = held()
    run.cancel("superseded by run 2")
    run.carry()
    assert run.ended
    assert (run.ended.result, run.ended.reason) == (State.CANCELLED, "superseded by run 2")
    assert (run.state("summary"), run.reason("summary")) == (State.CANCELLED, "superseded by run 2")
    assert run.order == []


def test_one_that_was_approved_and_is_cancelled_runs_what_always_runs() -> None:
    run = held()
    run.approve()
    run.cancel("by hand")
    run.carry()
    assert run.queued() == [Slot("summary", "", 1)]


def test_repeating_releases_nothing() -> None:
    run = held()
    for name in ("", "test", "docker"):
        try:
            repetition(run.pipeline, run.context, list(run.attempts.values()), name)
        except Refused:
            continue
        raise AssertionError("there is nothing to repeat")
    run.cancel("cancelled by ann")
    run.carry()
    assert run.ended
    run.repeat(repetition(run.pipeline, run.context, list(run.attempts.values())))
    run.carry()
    assert run.state("test") is State.PENDING
    assert run.reason("test") == STRANGER
    assert run.order == []


def test_nothing_else_is_held() -> None:
    for kind in (PUSH, TAG, PULL_REQUEST):
        run = Simulation(document(), context(kind))
        run.carry()
        assert run.queued() == [Slot("test", "", 1)]
