"""Stages that wait, are left out, or change while a run is under way: workers, selection, paths, reconfiguration."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fates import finish
from graphs import MANUAL, NOW, PULL_REQUEST, PUSH, TAG, StubFleet, context, document, pipeline, stage
from simulation import Simulation

from master.pipeline import EventKind, Pipeline, Requires, State
from master.run_model import NOT_USED, End, Slot

# -- no worker


def unserved(policy: str, **fields: object) -> Simulation:
    graph = pipeline(stage("build", no_worker=policy, queue_timeout=600.0, **fields), stage("ship", "build"))
    return Simulation(graph, context(PUSH), StubFleet(reasons={"build": "no worker has cargo"}))


@pytest.mark.parametrize(("policy", "state"), [("skip", State.SKIPPED), ("fail", State.INFRASTRUCTURE)])
def test_a_stage_that_nobody_can_serve_is_settled_at_once_by_policy(policy: str, state: State) -> None:
    run = unserved(policy)
    run.carry()
    assert run.state("build") is state
    assert run.reason("build") == "no worker has cargo"
    assert len(run.attempts) == 2, "a missing worker is not worth a repetition"


def test_a_stage_that_nobody_can_serve_waits_says_why_and_gives_up() -> None:
    run = unserved("wait")
    run.carry()
    assert (run.state("build"), run.reason("build")) == (State.PENDING, "no worker has cargo")
    run.now += 599.0
    run.carry()
    assert run.state("build") is State.PENDING
    run.now += 1.0
    run.carry()
    assert run.state("build") is State.INFRASTRUCTURE
    assert run.reason("build") == "no worker has cargo for 600 s (queue_timeout)"
    assert run.state("ship") is State.BLOCKED


def test_a_stage_whose_only_worker_was_refused_says_why_it_waits_and_gives_up_with_it() -> None:
    run = Simulation(pipeline(stage("build", queue_timeout=600.0)), context(PUSH), StubFleet(seen={"build": 0.0}))
    run.carry()
    assert (run.state("build"), run.reason("build")) == (State.QUEUED, "")
    waiting_since = run.attempts[Slot("build", "", 1)].waiting_since
    run.now += 500.0
    run.fleet.refused["build"] = f"{NOT_USED}w is not used, as versions do not fit"
    run.carry()
    assert (run.state("build"), run.reason("build")) == (
        State.QUEUED,
        f"{NOT_USED}w is not used, as versions do not fit",
    )
    assert run.attempts[Slot("build", "", 1)].waiting_since == waiting_since, "its patience did not begin anew"
    run.now += 100.0
    run.carry()
    assert run.state("build") is State.INFRASTRUCTURE
    said = "w is not used, as versions do not fit for 600 s (queue_timeout)"
    assert run.reason("build") == f"{NOT_USED}{said}"


def test_once_a_worker_is_there_the_refusal_is_no_longer_told_and_other_reasons_stay() -> None:
    run = Simulation(pipeline(stage("build")), context(PUSH), StubFleet(refused={"build": f"{NOT_USED}why"}))
    run.carry()
    assert run.reason("build") == f"{NOT_USED}why"
    run.fleet.refused.clear()
    run.carry()
    assert run.reason("build") == ""
    run.write(Slot("build", "", 1), reason="its worker was lost")
    run.carry()
    assert run.reason("build") == "its worker was lost"


def test_a_connected_worker_that_cannot_serve_does_not_keep_a_stage_waiting_for_ever() -> None:
    """The steps of a stage may be missing in this version while workers that fit its ``requires`` are there."""
    run = unserved("wait")
    run.fleet.seen["build"] = float("inf")
    run.carry()
    run.now += 600.0
    run.carry()
    assert run.state("build") is State.INFRASTRUCTURE


def test_a_stage_starts_once_a_worker_is_configured() -> None:
    run = unserved("wait")
    run.carry()
    run.now += 500.0
    run.fleet.reasons.clear()
    run.carry()
    assert (run.state("build"), run.reason("build")) == (State.QUEUED, "")
    assert run.latest["build", ""].waiting_since == run.now, "its patience starts anew"


def test_waiting_for_a_worker_begins_when_the_needs_have_ended() -> None:
    graph = pipeline(stage("first"), stage("build", "first", queue_timeout=600.0))
    run = Simulation(graph, context(PUSH), StubFleet(reasons={"build": "nobody"}))
    run.carry()
    run.now += 10_000.0
    run.carry()
    assert run.state("build") is State.PENDING
    run.end(Slot("first", "", 1), State.SUCCESS)
    run.carry()
    assert run.latest["build", ""].waiting_since == run.now


def test_a_queued_stage_gives_up_when_no_worker_was_connected_for_long() -> None:
    run = Simulation(pipeline(stage("build", queue_timeout=600.0)), context(PUSH))
    run.fleet.seen["build"] = NOW + 100.0
    run.carry()
    run.now = NOW + 699.0
    run.carry()
    assert run.state("build") is State.QUEUED
    run.now = NOW + 700.0
    run.carry()
    assert run.state("build") is State.INFRASTRUCTURE
    assert "no worker that can serve it was connected for 600 s" in run.reason("build")
    assert len(run.attempts) == 1


def test_a_queue_behind_a_connected_worker_has_no_timeout() -> None:
    run = Simulation(pipeline(stage("build", queue_timeout=600.0)), context(PUSH))
    run.carry()
    run.now += 100_000.0
    run.carry()
    assert run.state("build") is State.QUEUED


@pytest.mark.parametrize(("policy", "state"), [("skip", State.SKIPPED), ("fail", State.INFRASTRUCTURE)])
def test_a_queued_stage_whose_workers_were_removed_follows_the_policy(policy: str, state: State) -> None:
    run = unserved(policy)
    run.fleet.reasons.clear()
    run.carry()
    assert run.state("build") is State.QUEUED
    run.fleet.reasons["build"] = "no worker has cargo"
    run.carry()
    assert (run.state("build"), run.reason("build")) == (state, "no worker has cargo")


def test_a_running_stage_is_left_alone_whatever_becomes_of_the_fleet() -> None:
    run = unserved("fail")
    run.fleet.reasons.clear()
    run.carry()
    run.write(Slot("build", "", 1), state=State.RUNNING)
    run.fleet.reasons["build"] = "gone"
    run.now += 1e6
    run.carry()
    assert run.state("build") is State.RUNNING


# -- manual selection


@pytest.mark.parametrize(
    ("selected", "runs"),
    [
        (("build-linux",), {"build-linux"}),
        (("release",), {"build-linux", "build-windows", "release"}),
        (("test", "docker"), {"test", "docker"}),
        ((), set()),
        (("nothing-of-this-name",), set()),
    ],
)
def test_a_manual_run_takes_the_chosen_stages_what_gates_them_and_the_summary(
    selected: tuple[str, ...], runs: set[str]
) -> None:
    run = finish(Simulation(document(), context(TAG, MANUAL, publish=True, selected=frozenset(selected))))
    assert {name for name, state in run.states().items() if state is State.SUCCESS} == {*runs, "summary"}
    assert all(
        a.reason == "not selected for this manual run" for a in run.attempts.values() if a.state is State.SKIPPED
    )


# -- secrets


@pytest.mark.parametrize("acts_as", [PUSH, PULL_REQUEST, TAG])
@pytest.mark.parametrize("kind", [None, MANUAL])
def test_a_stage_with_secrets_runs_in_trusted_runs_only(acts_as: EventKind, kind: EventKind | None) -> None:
    run = finish(Simulation(pipeline(stage("sign", secrets=("key",))), context(acts_as, kind)))
    assert run.state("sign") is (State.SKIPPED if acts_as is PULL_REQUEST else State.SUCCESS)


# -- paths


@pytest.mark.parametrize(
    ("paths", "ignore", "changed", "runs"),
    [
        (("src/",), (), ("src/a/b.cc",), True),
        (("src/",), (), ("docs/a.md",), False),
        (("*.py", "!setup.py"), (), ("setup.py",), False),
        (("*.py", "!setup.py"), (), ("setup.py", "deep/in/a.py"), True),
        ((), ("docs/", "*.md"), ("docs/a.html", "README.md"), False),
        ((), ("docs/", "*.md"), ("docs/a.html", "a.cc"), True),
        (("src/",), ("*.md",), ("src/README.md",), False),
        (("src/",), (), None, True),
        ((), ("*",), None, True),
        (("src/",), (), (), False),
        ((), ("*",), (), True),
        (("src/",), (), ("src/with space\nand newline",), True),
    ],
)
def test_path_filters(
    paths: tuple[str, ...], ignore: tuple[str, ...], changed: tuple[str, ...] | None, runs: bool
) -> None:
    graph = pipeline(stage("build", paths=paths, paths_ignore=ignore))
    run = finish(Simulation(graph, context(PUSH, changed_files=changed)))
    assert (run.state("build") is State.SUCCESS) == runs
    assert runs or "paths" in run.reason("build")


@pytest.mark.parametrize("kind", [None, MANUAL])
def test_path_filters_never_apply_to_tags(kind: EventKind | None) -> None:
    graph = pipeline(stage("build", paths=("src/",), paths_ignore=("*",)))
    run = finish(Simulation(graph, context(TAG, kind, changed_files=("docs/a.md",))))
    assert run.state("build") is State.SUCCESS


# -- reconfiguration while a run is under way


def halfway() -> Simulation:
    run = Simulation(document(), context(PUSH))
    run.carry()
    run.end(Slot("test", "", 1), State.SUCCESS)
    run.carry()
    return run


def without(name: str, **changes: dict[str, object]) -> Pipeline:
    kept = [s for s in document(**changes).stages if s.name != name]
    return pipeline(*(stage(s.name, *(n for n in s.needs if n != name), always=s.always) for s in kept))


def test_a_new_stage_joins_the_run() -> None:
    run = halfway()
    run.reconfigure(pipeline(*document().stages, stage("lint"), stage("docs", "lint", "test")))
    run.carry()
    assert run.state("lint") is State.QUEUED
    assert run.state("docs") is State.PENDING
    finish(run)
    assert run.state("docs") is State.SUCCESS


def test_a_removed_stage_is_taken_back_and_nobody_waits_for_it() -> None:
    run = halfway()
    run.write(Slot("build-windows", "", 1), state=State.RUNNING)
    run.reconfigure(without("build-windows"))
    run.carry()
    removed = run.latest["build-windows", ""]
    assert (removed.withdrawn, removed.reason) == (True, "the stage was removed from the settings")
    for slot in run.live():
        if slot.stage != "build-windows":
            run.end(slot, State.SUCCESS)
    run.carry()
    assert run.state("summary") is State.QUEUED
    run.end(Slot("summary", "", 1), State.SUCCESS)
    run.carry()
    assert run.ended is None, "its build has not stopped yet"
    run.end(Slot("build-windows", "", 1), State.CANCELLED, removed.reason)
    run.carry()
    assert run.ended == End(result=State.SUCCESS, reason="")


def test_a_removed_stage_that_was_not_started_ends_at_once() -> None:
    run = Simulation(document(), context(PUSH))
    run.carry()
    run.reconfigure(without("build-linux"))
    run.carry()
    assert (run.state("build-linux"), run.reason("build-linux")) == (
        State.CANCELLED,
        "the stage was removed from the settings",
    )


def test_a_removed_variant_is_taken_back_and_a_new_one_made() -> None:
    run = Simulation(pipeline(stage("build", variants=("cpu", "cuda"))), context(PUSH))
    run.carry()
    run.reconfigure(pipeline(stage("build", variants=("cpu", "vulkan"))))
    run.carry()
    assert run.latest["build", "cuda"].withdrawn
    assert run.state("build", "vulkan") is State.QUEUED
    assert not run.latest["build", "cpu"].withdrawn


def test_new_needs_hold_back_what_has_not_started_and_leave_what_has() -> None:
    run = halfway()
    test, *_, summary = document().stages
    rewired = (replace(document()["build-linux"], needs=("lint",)), replace(summary, needs=("lint",)))
    run.reconfigure(pipeline(test, stage("lint"), *rewired))
    run.carry()
    assert run.state("build-linux") is State.QUEUED
    assert run.state("summary") is State.PENDING
    run.end(Slot("lint", "", 1), State.FAILURE, "tabs")
    run.carry()
    assert run.state("build-linux") is State.QUEUED
    assert run.state("summary") is State.QUEUED


def test_a_run_without_stages_ends_well() -> None:
    run = Simulation(pipeline(), context(PUSH))
    run.carry()
    assert run.ended == End(result=State.SUCCESS, reason="")


def test_a_run_that_was_cancelled_before_it_began_still_sums_up() -> None:
    summary = stage("summary", always=True, requires=Requires(local=True))
    run = Simulation(pipeline(summary), context(PUSH, cancelled="no longer wanted"))
    finish(run)
    assert run.state("summary") is State.SUCCESS
