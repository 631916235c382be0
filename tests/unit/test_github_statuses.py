"""Every state of a run and of its stages, as GitHub has words for it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from master.check import LONGEST_BUILDER
from master.database.records import AttemptRow, RunRow
from master.github import statuses
from master.github.statuses import DESCRIPTION, Status, has_a_say, wanted
from master.github.wording import one_line, shortened
from master.pipeline import Pipeline, Stage, State

PAGE = "https://ci.example/"
PIPELINE = Pipeline(
    stages=(
        Stage(name="test", uses="test", variants=("cpu", "cuda")),
        Stage(name="build", uses="commands", needs=("test",)),
        Stage(name="report", uses="summary", needs=("build",), always=True),
    )
)
TERMINAL = [state for state in State if state.ended]
LIVE = [state for state in State if not state.ended]
EXPECTED = {
    State.SUCCESS: ("success", "passed: why"),
    State.SKIPPED: ("success", "skipped: why"),
    State.WARNINGS: ("success", "warnings: why"),
    State.FAILURE: ("failure", "failed: why"),
    State.BLOCKED: ("failure", "blocked: why"),
    State.INFRASTRUCTURE: ("error", "not the code's fault: why"),
    State.CANCELLED: ("error", "cancelled: why"),
}
WORST_FIRST = [State.FAILURE, State.INFRASTRUCTURE, State.BLOCKED, State.CANCELLED, State.WARNINGS, State.SUCCESS]
WORST_FIRST.append(State.SKIPPED)


@pytest.fixture
def run() -> RunRow:
    values: dict[str, Any] = dict.fromkeys(RunRow.__annotations__, "")
    return RunRow(**{**values, "id": 7, "head": "a" * 40, "ended_at": None, "selected": None})


@pytest.fixture
def row() -> AttemptRow:
    values: dict[str, Any] = dict.fromkeys(AttemptRow.__annotations__, "")
    return AttemptRow(**{**values, "id": 1, "run_id": 7, "stage": "build", "number": 1, "state": State.PENDING})


def told(run: RunRow, *attempts: AttemptRow, pipeline: Pipeline = PIPELINE) -> dict[str, Status]:
    found = wanted(run, attempts, pipeline, PAGE)
    assert len({status.context for status in found}) == len(found), "a context twice"
    assert all(len(status.description) <= DESCRIPTION and status.description for status in found)
    assert {status.target_url for status in found} == {f"{PAGE}#/pipelines/{run.id}"}
    return {status.context: status for status in found}


def ended(run: RunRow, result: State, reason: str = "why") -> RunRow:
    return replace(run, ended_at=9.0, result=result.value, result_reason=reason)


def test_everything_is_pending_from_the_moment_the_run_is(run: RunRow) -> None:
    found = told(run)
    assert list(found) == ["mlc-ci/test", "mlc-ci/build", "mlc-ci/summary"]
    assert {status.state for status in found.values()} == {"pending"}


@pytest.mark.parametrize("state", State)
def test_each_state_of_a_stage(run: RunRow, row: AttemptRow, state: State) -> None:
    status = told(run, replace(row, state=state, reason="why"))["mlc-ci/build"]
    if state in LIVE:
        assert status.state == "pending"
        assert status.description == ("running" if state is State.RUNNING else "why")
    else:
        assert (status.state, status.description) == EXPECTED[state]


@pytest.mark.parametrize("result", TERMINAL)
def test_each_result_of_a_run(run: RunRow, row: AttemptRow, result: State) -> None:
    found = told(ended(run, result), replace(row, state=State.SUCCESS))
    assert (found["mlc-ci/summary"].state, found["mlc-ci/summary"].description) == EXPECTED[result]
    assert list(found) == ["mlc-ci/build", "mlc-ci/summary"], "a stage that came after the run ended is not told of"


@pytest.mark.parametrize(("one", "other"), list(itertools.product(State, State)))
def test_variants_are_told_as_the_worst_of_them(run: RunRow, row: AttemptRow, one: State, other: State) -> None:
    rows = [
        replace(row, stage="test", variant=variant, state=state, reason=f"of {variant}")
        for variant, state in (("cpu", one), ("cuda", other))
    ]
    status = told(run, *rows)["mlc-ci/test"]
    if one in LIVE or other in LIVE:
        assert status.state == "pending"
        return
    assert status.state == EXPECTED[min(one, other, key=WORST_FIRST.index)][0]
    worst = status.description.split(":")[0]
    assert [f"{v}: of {v}" in status.description for v, s in (("cpu", one), ("cuda", other))] == [
        EXPECTED[s][1].startswith(worst + ":") for s in (one, other)
    ]


def test_an_attempt_that_is_repeated_is_pending_again(run: RunRow, row: AttemptRow) -> None:
    failed = replace(row, state=State.INFRASTRUCTURE, reason="disk full")
    again = replace(row, number=2, state=State.PENDING, reason="repeats attempt 1, which failed (disk full)")
    status = told(run, again, failed)["mlc-ci/build"]
    assert (status.state, status.description) == ("pending", again.reason)
    assert told(run, failed)["mlc-ci/build"].state == "error"


def test_a_held_run_says_everywhere_how_to_approve_it(run: RunRow, row: AttemptRow) -> None:
    held = "waits for a maintainer to approve it (/ci ok aaaaaaaaaaaa): ann is NONE here"
    found = told(replace(run, held=held), row)
    assert {(status.state, status.description) for status in found.values()} == {("pending", held)}


def test_a_superseded_run_comes_to_an_end_everywhere(run: RunRow, row: AttemptRow) -> None:
    over = replace(run, cancelled="superseded by run 12")
    assert {status.state for status in told(over, row).values()} == {"pending"}
    assert told(over)["mlc-ci/summary"].description == "being cancelled: superseded by run 12"
    gone = ended(over, State.CANCELLED, "superseded by run 12")
    found = told(gone, replace(row, state=State.CANCELLED, reason="superseded by run 12"))
    assert {status.state for status in found.values()} == {"error"}
    assert {status.description for status in found.values()} == {"cancelled: superseded by run 12"}


def test_the_stage_called_summary_and_the_one_that_is_it_have_no_status_of_their_own(run: RunRow) -> None:
    stages = (Stage(name="summary", uses="commands"), Stage(name="report", uses="summary"))
    assert list(told(run, pipeline=Pipeline(stages=stages))) == ["mlc-ci/summary"]


def test_a_stage_that_was_removed_from_the_settings_still_ends(run: RunRow, row: AttemptRow) -> None:
    gone = replace(row, stage="old", state=State.CANCELLED, reason="the stage was removed from the settings")
    assert told(run, gone)["mlc-ci/old"].state == "error"


def test_a_run_of_chosen_stages_does_not_speak_for_its_commit(run: RunRow) -> None:
    assert has_a_say(run)
    assert not has_a_say(replace(run, selected=["test"]))


def test_what_builds_say_is_fit_for_a_description(run: RunRow, row: AttemptRow) -> None:
    hostile = "a\nb\x1b[31m\u202ec\x00d\u2028e\t f \U0001f600 g"
    said = told(run, replace(row, state=State.FAILURE, reason=hostile))["mlc-ci/build"].description
    assert said == "failed: a b [31m c d e f \ufffd g"
    long = told(run, replace(row, state=State.FAILURE, reason="word " * 100))["mlc-ci/build"].description
    assert long.endswith("word…")
    assert (
        len(told(run, replace(row, state=State.FAILURE, reason="x" * 500))["mlc-ci/build"].description) == DESCRIPTION
    )


@pytest.mark.parametrize("limit", [10, 50, 140])
@pytest.mark.parametrize("text", ["", "short", "x" * 300, "ab " * 100, "a" * 139 + " b", "one, two; three"])
def test_a_cut_never_exceeds_the_limit_and_loses_little(text: str, limit: int) -> None:
    cut = shortened(text, limit)
    assert len(cut) <= limit
    assert (cut == text) is (len(text) <= limit)
    assert len(text) <= limit or len(cut) >= limit - 32


def test_one_line_is_one_line() -> None:
    everything = "".join(map(chr, range(0x3000)))
    assert one_line(everything).isprintable()
    assert one_line("é 中") == "é 中"


def test_the_longest_stage_has_a_context_that_github_takes() -> None:
    assert len(statuses.PREFIX) + LONGEST_BUILDER <= 255
