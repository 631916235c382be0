"""Running it again: which attempts that means, and when it is refused."""

from __future__ import annotations

import pytest
from fates import finish
from graphs import MANUAL, PULL_REQUEST, PUSH, TAG, context, document, pipeline, stage
from simulation import Simulation

from master.pipeline import EventKind, State
from master.repetition import Refused, repetition
from master.run_model import Slot


def again(run: Simulation, name: str = "") -> list[str]:
    """What running it again means, shortly: the stages whose next attempt it makes."""
    created = repetition(run.pipeline, run.context, list(run.attempts.values()), name)
    newest = {key: attempt.slot.number for key, attempt in run.latest.items()}
    assert all(create.slot.number == newest[create.slot.key] + 1 for create in created)
    assert all(create.not_before == 0.0 and create.reason for create in created)
    return [create.slot.stage + (f"-{create.slot.variant}" if create.slot.variant else "") for create in created]


def refused(run: Simulation, name: str = "") -> str:
    with pytest.raises(Refused) as error:
        again(run, name)
    return str(error.value)


@pytest.mark.parametrize("fate", [State.FAILURE, State.INFRASTRUCTURE, State.CANCELLED])
def test_what_did_not_end_well_is_repeated_with_what_it_blocked_and_the_summary(fate: State) -> None:
    run = finish(Simulation(document(), context(TAG)), {"build-windows": fate})
    assert again(run) == ["build-windows", "release", "summary"]


def test_what_succeeded_is_kept_and_the_release_waits_for_the_repetition() -> None:
    run = finish(Simulation(document(), context(TAG)), {"build-windows": State.FAILURE})
    run.repeat(repetition(run.pipeline, run.context, list(run.attempts.values())))
    run.carry()
    assert run.queued() == [Slot("build-windows", "", 2)]
    assert run.state("release") is State.PENDING
    finish(run)
    assert run.broken == {}
    assert run.state("release") is State.SUCCESS
    assert run.latest["build-linux", ""].slot.number == 1
    assert run.ended is not None
    assert run.ended.result is State.SUCCESS


def test_a_cancelled_run_takes_up_what_was_cancelled() -> None:
    run = Simulation(document(), context(PUSH))
    run.carry()
    run.end(Slot("test", "", 1), State.SUCCESS)
    run.cancel("by hand")
    run.carry()
    finish(run)
    assert again(run) == ["build-linux", "build-windows", "docker", "summary"]


def test_only_the_variants_that_failed_are_repeated() -> None:
    run = Simulation(
        pipeline(stage("build", variants=("cpu", "cuda")), stage("all", "build", always=True)), context(PUSH)
    )
    run.carry()
    run.end(Slot("build", "cpu", 1), State.SUCCESS)
    run.end(Slot("build", "cuda", 1), State.FAILURE, "no nvcc")
    finish(run)
    assert again(run) == ["all", "build-cuda"]


def test_a_named_stage_is_repeated_also_when_it_ended_well() -> None:
    run = finish(Simulation(document(), context(PULL_REQUEST)))
    assert again(run, "build-linux") == ["build-linux", "summary"]
    assert again(run, "summary") == ["summary"]


def test_a_stage_that_may_fail_is_repeated_when_it_did() -> None:
    run = finish(Simulation(document(), context(PUSH)))
    run.write(Slot("test", "", 1), state=State.WARNINGS, reason="2 tests failed")
    assert again(run) == ["summary", "test"], "that docker has published is no reason against it"


def test_a_warning_of_the_baseline_does_not_keep_a_failed_build_from_being_repeated() -> None:
    run = finish(Simulation(document(), context(PUSH)), {"build-linux": State.FAILURE})
    run.write(Slot("test", "", 1), state=State.WARNINGS, reason="2 tests failed")
    assert again(run) == ["build-linux", "summary", "test"]


def test_a_run_that_ended_well_has_nothing_to_repeat() -> None:
    run = finish(Simulation(document(), context(PUSH)))
    assert refused(run) == "every stage ended well; name a stage to run it again"


@pytest.mark.parametrize("kind", [PULL_REQUEST, TAG])
def test_a_run_that_was_cancelled_when_all_had_ended_well_is_summed_up_again(kind: EventKind) -> None:
    run = Simulation(document(), context(kind))
    run.carry()
    while (live := run.live()) != [Slot("summary", "", 1)]:
        for slot in live:
            run.end(slot, State.SUCCESS)
        run.carry()
    assert run.queued() == [Slot("summary", "", 1)]
    run.cancel("the pull request was closed")
    finish(run)
    assert run.ended is not None
    assert run.ended.result is State.CANCELLED
    assert again(run) == ["summary"]
    run.repeat(repetition(run.pipeline, run.context, list(run.attempts.values())))
    finish(run)
    assert run.ended.result is State.SUCCESS
    assert refused(run) == "every stage ended well; name a stage to run it again"


def test_what_is_already_public_is_not_repeated() -> None:
    run = finish(Simulation(document(), context(TAG)))
    published = "release has already published what this run built"
    assert refused(run, "release") == published
    assert refused(run, "build-linux") == published
    assert refused(run, "docker") == "docker has already published what this run built"


def test_a_release_that_failed_is_repeated() -> None:
    run = finish(Simulation(document(), context(TAG)), {"release": State.FAILURE})
    assert again(run) == ["release", "summary"]
    assert again(run, "release") == ["release", "summary"]


def test_a_stage_that_has_not_ended_is_not_repeated() -> None:
    run = Simulation(document(), context(PUSH))
    run.carry()
    assert refused(run, "test") == "test has not ended yet"
    assert refused(run, "summary") == "summary has not ended yet"


def test_a_summary_that_has_not_begun_is_not_made_twice() -> None:
    run = Simulation(document(), context(PUSH))
    run.carry()
    run.end(Slot("test", "", 1), State.SUCCESS)
    run.carry()
    run.end(Slot("build-linux", "", 1), State.FAILURE, "does not compile")
    run.carry()
    assert again(run) == ["build-linux"]


def test_a_stage_that_this_run_skips_is_not_repeated() -> None:
    run = finish(Simulation(document(), context(PULL_REQUEST)))
    assert refused(run, "release") == "release is skipped in this run: runs for tag, and this is a pull request"
    manual = finish(Simulation(document(), context(PUSH, MANUAL, selected=frozenset({"test"}))))
    assert refused(manual, "build-linux") == "build-linux is skipped in this run: not selected for this manual run"


def test_an_unknown_stage_is_refused_with_those_that_there_are() -> None:
    run = finish(Simulation(document(), context(PUSH)))
    assert refused(run, "deploy").startswith("there is no stage 'deploy'; there are test, docker, build-linux")


def test_a_superseded_pull_request_stays_ended() -> None:
    run = Simulation(document(), context(PULL_REQUEST))
    run.carry()
    run.cancel("superseded by run 8")
    for slot in run.live():
        run.end(slot, State.CANCELLED, "superseded by run 8")
    finish(run)
    assert refused(run) == "the run was superseded by run 8"


def test_what_a_reconfiguration_removed_is_not_repeated() -> None:
    graph = pipeline(stage("build", variants=("cpu", "cuda")), stage("gone"))
    run = finish(Simulation(graph, context(PUSH)), {"build": State.FAILURE, "gone": State.FAILURE})
    run.reconfigure(pipeline(stage("build", variants=("cpu", "vulkan"))))
    assert again(run) == ["build-cpu"]
    assert "no stage 'gone'" in refused(run, "gone")


def test_a_stage_that_the_ended_run_never_had_says_so() -> None:
    run = finish(Simulation(pipeline(stage("build")), context(PUSH)))
    run.reconfigure(pipeline(stage("build"), stage("lint")))
    assert refused(run, "lint") == "this run has had no lint so far"
