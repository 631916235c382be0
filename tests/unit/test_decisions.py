"""What happens next in a run: the document's graph under every event and every outcome, and each rule by itself."""

from __future__ import annotations

from itertools import product

import pytest
from fates import finish
from graphs import GATES, MANUAL, PULL_REQUEST, PUSH, TAG, StubFleet, context, document, pipeline, stage
from simulation import Simulation

from master.decisions import BACKOFF_S
from master.pipeline import State
from master.run_model import Create, End, Slot

GOOD, BAD = (State.SUCCESS, State.WARNINGS), (State.FAILURE, State.INFRASTRUCTURE, State.CANCELLED)
RUNS = {
    "push": (context(PUSH), ("test", "docker", "build-linux", "build-windows", "summary")),
    "pull request": (context(PULL_REQUEST), ("test", "build-linux", "build-windows", "summary")),
    "tag": (context(TAG), ("test", "docker", "build-linux", "build-windows", "release", "summary")),
    "manual, default branch": (context(PUSH, MANUAL), ("test", "build-linux", "build-windows", "summary")),
    "manual, default branch, publishing": (
        context(PUSH, MANUAL, publish=True),
        ("test", "docker", "build-linux", "build-windows", "summary"),
    ),
    "manual, tag": (context(TAG, MANUAL), ("test", "build-linux", "build-windows", "summary")),
    "manual, tag, publishing": (
        context(TAG, MANUAL, publish=True),
        ("test", "docker", "build-linux", "build-windows", "release", "summary"),
    ),
    "manual, any ref": (context(PULL_REQUEST, MANUAL), ("test", "build-linux", "build-windows", "summary")),
}


@pytest.mark.parametrize("event", RUNS)
def test_the_documents_graph_under_every_outcome_of_every_stage(event: str) -> None:
    context_, wanted = RUNS[event]
    every = ("test", *GATES)
    ends = [() if name not in wanted else (*GOOD, *BAD) if name == "test" else (State.SUCCESS, *BAD) for name in every]
    for fates in product(*(end or (State.SKIPPED,) for end in ends)):
        asked = dict(zip(every, fates, strict=True))
        run = finish(Simulation(document(), context_), asked)

        expected = dict(asked)
        builds = [expected["build-linux"], expected["build-windows"]]
        if "release" in wanted and not all(build in GOOD for build in builds):
            expected["release"] = State.BLOCKED
        expected["summary"] = State.SUCCESS
        assert run.states() == expected
        assert run.broken == {}
        never = [name for name in expected if expected[name] in (State.SKIPPED, State.BLOCKED)]
        assert [slot.stage for slot in run.order] == [name for name in document().names() if name not in never]
        assert run.ended is not None
        assert run.ended.result is result_of(expected)
        assert all(bool(a.reason) for a in run.attempts.values() if not a.state.executed)


def result_of(states: dict[str, State]) -> State:
    """The table's column "if it fails": test only warns, any other fails the pipeline."""
    gates = {state for name, state in states.items() if name != "test"}
    for bad in (State.FAILURE, State.INFRASTRUCTURE):
        if bad in gates:
            return bad
    if State.BLOCKED in gates:
        return State.FAILURE
    if State.CANCELLED in gates:
        return State.CANCELLED
    return State.SUCCESS if {*states.values()} <= {State.SUCCESS, State.SKIPPED} else State.WARNINGS


def test_what_starts_when() -> None:
    run = Simulation(document(), context(TAG))
    for ready in (["test"], ["build-linux", "build-windows", "docker"], ["release"], ["summary"]):
        run.carry()
        assert sorted(slot.stage for slot in run.queued()) == ready
        for slot in run.queued():
            run.end(slot, State.SUCCESS)
    run.carry()
    assert run.ended == End(result=State.SUCCESS, reason="")


def test_one_platform_still_building_holds_the_release_back() -> None:
    run = Simulation(document(), context(TAG))
    run.carry()
    run.end(Slot("test", "", 1), State.WARNINGS)
    run.carry()
    run.end(Slot("build-linux", "", 1), State.SUCCESS)
    run.carry()
    assert run.state("release") is State.PENDING
    run.end(Slot("build-windows", "", 1), State.FAILURE, "link error")
    run.carry()
    assert run.reason("release") == "needs build-windows, which failed (link error)"
    assert run.state("summary") is State.PENDING, "docker has not ended"


@pytest.mark.parametrize(
    ("event", "stage_", "reason"),
    [
        ("pull request", "docker", "runs for push, tag, and this is a pull request"),
        ("pull request", "release", "runs for tag, and this is a pull request"),
        ("push", "release", "runs for tag, and this is a push"),
        ("manual, default branch", "docker", "this run publishes nothing"),
        ("manual, any ref", "docker", "runs for push, tag, and this is a manual run on a ref that is treated as a"),
        ("manual, tag", "release", "this run publishes nothing"),
    ],
)
def test_a_skipped_stage_says_why(event: str, stage_: str, reason: str) -> None:
    run = Simulation(document(), RUNS[event][0])
    run.carry()
    assert run.state(stage_) is State.SKIPPED
    assert run.reason(stage_).startswith(reason)


def test_skipped_needs_block_a_release_and_settings_may_shorten_them() -> None:
    fleet = StubFleet(reasons={"build-windows": "no trusted worker is configured"})
    skipping = {"no_worker": "skip"}
    run = finish(Simulation(document(build_windows=skipping), context(TAG), fleet))
    assert run.state("release") is State.BLOCKED
    assert run.reason("release") == "needs build-windows, which was skipped (no trusted worker is configured)"
    short = document(build_windows=skipping, release={"needs": ("build-linux",)})
    run = finish(Simulation(short, context(TAG), fleet))
    assert run.state("release") is State.SUCCESS
    assert run.ended == End(result=State.SUCCESS, reason="")


@pytest.mark.parametrize("fate", [*BAD, State.SKIPPED, State.BLOCKED])
def test_a_stage_that_may_fail_satisfies_whatever_ended_it(fate: State) -> None:
    needed = stage("gate", when=frozenset({TAG}))
    soft = stage("soft", *(("gate",) if fate is State.BLOCKED else ()), continue_on_error=True)
    if fate is State.SKIPPED:
        soft = stage("soft", continue_on_error=True, when=frozenset({TAG}))
    run = finish(Simulation(pipeline(needed, soft, stage("after", "soft")), context(PUSH)), {"soft": fate})
    assert run.state("soft") is fate
    assert run.state("after") is State.SUCCESS
    assert run.ended is not None
    assert run.ended.result is (State.SUCCESS if fate is State.SKIPPED else State.WARNINGS)


# -- variants


def test_a_need_is_satisfied_by_all_its_variants_together() -> None:
    graph = pipeline(stage("build", variants=("cpu", "cuda")), stage("ship", "build"))
    run = Simulation(graph, context(PUSH))
    run.carry()
    assert [str(slot) for slot in run.queued()] == ["build/cpu/1", "build/cuda/1"]
    run.end(Slot("build", "cpu", 1), State.SUCCESS)
    run.carry()
    assert run.state("ship") is State.PENDING
    run.end(Slot("build", "cuda", 1), State.FAILURE, "no nvcc")
    run.carry()
    assert run.reason("ship") == "needs build (cuda), which failed (no nvcc)"


def test_only_the_variant_that_met_an_infrastructure_failure_is_repeated() -> None:
    run = Simulation(pipeline(stage("build", variants=("cpu", "cuda"))), context(PUSH))
    run.carry()
    run.end(Slot("build", "cpu", 1), State.SUCCESS)
    run.end(Slot("build", "cuda", 1), State.INFRASTRUCTURE, "disk full")
    run.carry()
    assert sorted(map(str, run.attempts)) == ["build/cpu/1", "build/cuda/1", "build/cuda/2"]


# -- infrastructure failures


@pytest.mark.parametrize("retries", range(5))
def test_infrastructure_failures_are_repeated_with_growing_pauses_until_the_limit(retries: int) -> None:
    graph = pipeline(stage("build", infrastructure_retries=retries), stage("ship", "build"))
    run = Simulation(graph, context(PUSH))
    for number in range(1, retries + 2):
        run.carry()
        assert run.queued() == [Slot("build", "", number)]
        run.end(run.queued()[0], State.INFRASTRUCTURE, "disk full")
        run.carry()
        assert run.state("ship") is (State.PENDING if number <= retries else State.BLOCKED)
        if number <= retries:
            pause = BACKOFF_S[min(number, len(BACKOFF_S)) - 1]
            attempt = run.latest["build", ""]
            assert attempt.not_before == run.now + pause
            assert attempt.reason == f"repeats attempt {number}, which failed for infrastructure (disk full)"
            run.now += pause - 0.1
            run.carry()
            assert run.queued() == []
            run.now += 0.1
    assert run.reason("ship") == "needs build, which failed for infrastructure (disk full)"
    assert run.ended == End(result=State.INFRASTRUCTURE, reason="build failed for infrastructure (disk full)")


@pytest.mark.parametrize("state", [State.FAILURE, State.CANCELLED, State.WARNINGS])
def test_nothing_else_is_repeated_by_itself(state: State) -> None:
    run = finish(Simulation(pipeline(stage("build")), context(PUSH)), {"build": state})
    assert len(run.attempts) == 1


def test_a_failure_that_another_attempt_would_meet_again_is_not_repeated() -> None:
    run = finish(Simulation(pipeline(stage("build")), context(PUSH)), {"build": State.INFRASTRUCTURE})
    assert len(run.attempts) == 1


def test_a_failed_attempt_between_resets_the_count_of_infrastructure_failures() -> None:
    run = Simulation(pipeline(stage("build", infrastructure_retries=1)), context(PUSH))
    fates = (State.INFRASTRUCTURE, State.FAILURE, State.INFRASTRUCTURE, State.INFRASTRUCTURE)
    for number, fate in enumerate(fates, 1):
        run.carry()
        run.now += 3600
        run.carry()
        run.end(Slot("build", "", number), fate, "as told")
        if fate is State.FAILURE:
            run.repeat([Create(slot=Slot("build", "", number + 1))])
    run.carry()
    assert run.ended is not None
    assert len(run.attempts) == 4


# -- always


@pytest.mark.parametrize("fate", BAD)
def test_the_summary_runs_after_every_kind_of_end(fate: State) -> None:
    run = finish(Simulation(document(), context(TAG)), dict.fromkeys(("test", *GATES), fate))
    assert run.state("summary") is State.SUCCESS
    assert run.order[-1].stage == "summary"


def test_a_cancelled_run_stops_what_runs_and_still_sums_up() -> None:
    run = Simulation(document(), context(TAG))
    run.carry()
    run.end(Slot("test", "", 1), State.SUCCESS)
    run.carry()
    run.write(Slot("build-linux", "", 1), state=State.RUNNING)
    run.cancel("superseded by run 8")
    run.carry()
    assert run.reason("release") == "superseded by run 8", "what was not started yet ends at once"
    assert all(run.attempts[slot].withdrawn for slot in run.live()), "Buildbot is told to stop the rest"
    assert run.state("summary") is State.PENDING
    for slot in run.live():
        run.end(slot, State.CANCELLED, run.attempts[slot].reason)
    run.carry()
    assert [slot.stage for slot in run.queued()] == ["summary"]
    run.end(run.queued()[0], State.SUCCESS)
    run.carry()
    assert run.ended == End(result=State.CANCELLED, reason="superseded by run 8")
    assert run.state("test") is State.SUCCESS, "what has ended stays as it is"


def test_a_cancelled_run_repeats_no_infrastructure_failure_but_the_summarys() -> None:
    run = Simulation(document(), context(PUSH))
    run.carry()
    run.cancel()
    run.end(Slot("test", "", 1), State.INFRASTRUCTURE, "disk full")
    run.carry()
    run.end(Slot("summary", "", 1), State.INFRASTRUCTURE, "disk full")
    run.carry()
    run.now += 3600
    run.carry()
    assert run.queued() == [Slot("summary", "", 2)]
    assert run.state("test") is State.INFRASTRUCTURE
