"""The summary of a run: states, prebuilt against built, and for each failure the log, its line and the command."""

from __future__ import annotations

from typing import Any

from master import summary
from master.database.build_facts import BuildFacts
from master.database.failures import Failure, StepLog
from master.database.records import Artifact, AttemptRow, RunRow
from master.pipeline import EventKind, State

PAGE = "http://ci.example.org/"
ORDER = ("test", "build-linux", "release", "summary")
PREBUILT = {"apache-tvm": "0.27.0.post1", "apache-tvm-ffi": "0.1.15"}
BUILT = {"name": "mlc-sample", "version": "0.2.0", "tvm": {"apache-tvm-ffi": "0.1.15"}}


def run(**changes: Any) -> RunRow:
    values: dict[str, Any] = dict.fromkeys(RunRow.__annotations__, "")
    values |= {
        "id": 12,
        "kind": EventKind.TAG,
        "ref": "refs/tags/v0.2.0",
        "head": "c" * 40,
        "message": "Change it\n\nx",
    }
    return RunRow(**{**values, **changes})


def attempt(build: int, stage: str, state: State = State.SUCCESS, **changes: Any) -> AttemptRow:
    values: dict[str, Any] = dict.fromkeys(AttemptRow.__annotations__, "")
    values |= {"id": build, "stage": stage, "state": state, "number": 1, "build_id": build or None}
    values |= {"started_at": 100.0, "ended_at": 112.0, "worker": "w"}
    return AttemptRow(**{**values, **changes})


def facts(failure: Failure | None = None, **properties: Any) -> BuildFacts:
    return BuildFacts(builder_id=3, number=7, properties=properties, failure=failure)


def text(attempts: list[AttemptRow], builds: dict[int, BuildFacts], files: Any = (), **changes: Any) -> str:
    lines = summary.stage_lines(ORDER, attempts, files, builds)
    return summary.text(run(**changes), lines, summary.verdict(lines, "summary", ["test"]), "summary", PAGE)


FAILED = Failure(
    failure_class="code",
    reason="a.cc:7:3: error: no",
    line=41,
    log=StepLog(step="wheel", step_number=5, results=2, log_id=9, name="stdio", slug="stdio", kind="s"),
)


def test_states_durations_and_files_are_told_in_the_pipelines_order() -> None:
    build = attempt(2, "build-linux")
    file = Artifact(name="x.whl", path="12/x.whl", size=5, sha256="ab")
    said = text([build, attempt(1, "test")], {}, [(build, file)])
    assert said.splitlines()[0] == f"run 12: tag refs/tags/v0.2.0 at {'c' * 12} passed"
    rows = [line for line in said.splitlines() if line.startswith("✓")]
    assert [row.split()[1:4] for row in rows] == [["test", "success", "12"], ["build-linux", "success", "12"]]
    assert "    x.whl  5 bytes  sha256 ab" in said
    assert "Prebuilt against built" not in said and "Next:" not in said


def test_prebuilt_stands_beside_built() -> None:
    builds = {1: facts(prebuilt=PREBUILT, tests={"passed": 14, "skipped": 2}), 2: facts(built=BUILT)}
    build = attempt(2, "build-linux")
    file = Artifact(name="x.whl", path="12/x.whl", size=5, sha256="ab")
    said = text([attempt(1, "test"), build], builds, [(build, file)])
    assert said.partition("Prebuilt against built:\n")[2].splitlines() == [
        "  prebuilt  test: apache-tvm 0.27.0.post1, apache-tvm-ffi 0.1.15; tests: 14 passed, 2 skipped",
        "  built     build-linux: mlc-sample 0.2.0, 5 bytes, with apache-tvm-ffi 0.1.15",
    ]


def test_where_their_tvm_differs_is_said() -> None:
    newer = {**BUILT, "tvm": {"apache-tvm-ffi": "0.1.16"}}
    builds = {1: facts(prebuilt=PREBUILT), 2: facts(built=newer)}
    said = text([attempt(1, "test"), attempt(2, "build-linux")], builds)
    assert "  differs   build-linux: tried with apache-tvm-ffi 0.1.16, and what is published has 0.1.15" in said


def test_each_variant_is_held_against_all_that_is_published() -> None:
    """The first variant's difference is told, though the last one fits; and what fits either baseline is none."""
    newer = {**BUILT, "tvm": {"apache-tvm-ffi": "0.1.16"}}
    other = {**BUILT, "tvm": {"apache-tvm-ffi": "0.1.14"}}
    builds = {1: facts(prebuilt=PREBUILT), 2: facts(prebuilt={"apache-tvm-ffi": "0.1.14"})}
    builds |= {3: facts(built=newer), 4: facts(built=other), 5: facts(built=BUILT)}
    attempts = [attempt(1, "test", variant="cpu"), attempt(2, "test", variant="cuda")]
    attempts += [attempt(number, "build-linux", variant=name) for number, name in ((3, "a"), (4, "b"), (5, "c"))]
    assert [line for line in text(attempts, builds).splitlines() if line.startswith("  differs")] == [
        "  differs   build-linux (a): tried with apache-tvm-ffi 0.1.16, and what is published has 0.1.14, 0.1.15"
    ]


def test_a_baseline_that_failed_is_told_as_such() -> None:
    builds = {1: facts(prebuilt={}), 2: facts(built={**BUILT, "tvm": {}})}
    said = text([attempt(1, "test", State.WARNINGS), attempt(2, "build-linux")], builds)
    assert "prebuilt  test: nothing was installed; tests: no test was run (warnings)" in said
    assert "with no TVM installed beside it" in said


def test_a_failure_says_which_log_which_line_and_what_does_it_again() -> None:
    said = text([attempt(2, "build-linux", State.FAILURE, reason="a.cc:7:3: error: no")], {2: facts(FAILED)})
    assert said.partition("Next:\n")[2].splitlines() == [
        "- build-linux: a.cc:7:3: error: no",
        f"    log: {PAGE}#/builders/3/builds/7/steps/5/logs/stdio (step wheel, line 42)",
        "    again on this machine: mlc-ci reproduce 12 build-linux",
        "- mlc-ci retry 12 runs again what did not end well, and keeps what did",
    ]


def test_a_failed_variant_is_named_in_the_command() -> None:
    failed = attempt(2, "build-linux", State.INFRASTRUCTURE, variant="cuda", reason="disk full")
    said = text([failed], {2: facts(FAILED)})
    assert "- build-linux (cuda): not the code's fault (disk full)" in said
    assert "mlc-ci reproduce 12 build-linux --variant cuda\n" in said


def test_warnings_point_to_their_build_and_are_told() -> None:
    warned = attempt(2, "build-linux", State.WARNINGS)
    said = text([warned], {2: facts(cache_warnings=["ccache is not on this worker"])})
    assert "    warning: ccache is not on this worker" in said
    assert f"    build: {PAGE}#/builders/3/builds/7" in said
    assert "reproduce" not in said


def test_a_stage_that_never_ran_has_no_log() -> None:
    failed = attempt(0, "build-linux", State.INFRASTRUCTURE, reason="no worker", started_at=None, ended_at=None)
    said = text([failed], {})
    assert "- build-linux: not the code's fault (no worker); put it right and run it again\n- mlc-ci retry" in said
    assert "log:" not in said


def test_a_superseded_run_asks_for_nothing() -> None:
    said = text([attempt(2, "build-linux", State.FAILURE)], {}, cancelled="superseded by run 13")
    assert said.partition("Next:\n")[2] == "- nothing: this run was superseded by run 13\n"


def test_what_a_build_used_of_its_gpus_is_told() -> None:
    use = {"total": 80 << 30, "peak_memory": 12 << 30, "mean": 45.2, "peak": 99, "seconds": 3.0, "points": []}
    lines = text([attempt(1, "test")], {1: facts(gpu_usage={"GPU-a": use})}).splitlines()
    assert "    GPU-a: 12.0 of 80.0 GiB at most, busy 45 % of the time, 99 % at most" in lines
    assert "GPU" not in text([attempt(1, "test")], {1: facts()})
