"""What the page is told of runs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from master.database.reads import BuildPlace, LogPlace, PlacedAttempt, RunsPage, WholeRun
from master.database.records import Artifact, AttemptRow, RunRow
from master.pipeline import EventKind, Pipeline, Stage, State
from master.web import views

PIPELINE = Pipeline(
    stages=(
        Stage(name="test", uses="test", variants=("vulkan", "cpu")),
        Stage(name="build", uses="commands", needs=("test",)),
        Stage(name="release", uses="release", needs=("build",), publishes=True),
    )
)


def run(run_id: int = 7, **changes: Any) -> RunRow:
    fields: dict[str, Any] = {
        "id": run_id,
        "event_key": "k",
        "kind": EventKind.PUSH,
        "acts_as": EventKind.PUSH,
        "ref": "refs/heads/main",
        "head": "a" * 40,
        "base": "",
        "pull_request": 0,
        "tag": "",
        "message": "Title\n\nBody",
        "author": "Ann",
        "reason": "",
        "trusted": True,
        "publish": True,
        "threads": 4,
        "selected": None,
        "changed_files": None,
        "created_at": 100.0,
        "ended_at": None,
        "result": "",
        "result_reason": "",
        "cancelled": "",
        "held": "",
        "approved": "",
    }
    return RunRow(**{**fields, **changes})


def attempt(
    stage: str,
    variant: str = "",
    number: int = 1,
    state: State = State.SUCCESS,
    *,
    build: BuildPlace | None = None,
    **changes: Any,
) -> PlacedAttempt:
    fields: dict[str, Any] = {
        "id": number,
        "run_id": 7,
        "reason": "",
        "retryable": True,
        "created_at": 101.0,
        "not_before": 0.0,
        "waiting_since": 0.0,
        "started_at": None,
        "ended_at": None,
        "buildset_id": None,
        "request_id": None,
        "build_id": None,
        "worker": "",
        "withdrawn": "",
        "lost_with_worker": 0,
        "lost_with_master": 0,
        "counted_build": 0,
    }
    row = AttemptRow(**{**fields, "stage": stage, "variant": variant, "number": number, "state": state, **changes})
    return PlacedAttempt(row=row, build=build)


def listed(*attempts: PlacedAttempt, **changes: Any) -> views.Json:
    page = RunsPage(runs=[run(**changes)], attempts=attempts, more=False)
    answer: views.Json = views.runs_page(page, PIPELINE, default_branch="main")["runs"][0]
    return answer


def whole(*attempts: PlacedAttempt, may_control: bool = False, **parts: Any) -> views.Json:
    known: dict[str, Any] = {"run": run(), "artifacts": {}, "logs": {}, "tests": {}, "failures": {}, "journal": []}
    known |= {"used": {}, **parts}
    return views.run_page(WholeRun(attempts=attempts, **known), PIPELINE, may_control=may_control)


def names(stages: list[views.Json]) -> list[tuple[str, str]]:
    return [(stage["name"], stage["variant"]) for stage in stages]


def test_stages_come_in_the_order_of_the_pipeline_and_removed_ones_last() -> None:
    told = listed(
        attempt("gone"), attempt("release"), attempt("test", "cpu"), attempt("build"), attempt("test", "vulkan")
    )
    assert names(told["stages"]) == [("test", "vulkan"), ("test", "cpu"), ("build", ""), ("release", ""), ("gone", "")]


def test_a_stage_is_told_by_its_newest_attempt() -> None:
    told = listed(
        attempt("build", number=2, state=State.RUNNING, worker="w2"),
        attempt("build", number=1, state=State.INFRASTRUCTURE, reason="worker lost"),
    )
    (stage,) = told["stages"]
    assert (stage["state"], stage["live"], stage["attempts"], stage["worker"]) == ("running", True, 2, "w2")


def test_each_run_of_a_list_has_its_own_attempts() -> None:
    page = RunsPage(
        runs=[run(9), run(8)],
        attempts=[attempt("test", "cpu", run_id=8), attempt("build", run_id=9)],
        more=False,
    )
    told = views.runs_page(page, PIPELINE, default_branch="main")["runs"]
    assert [names(one["stages"]) for one in told] == [[("build", "")], [("test", "cpu")]]


def test_a_list_says_where_the_next_page_begins() -> None:
    def older(*runs: RunRow, more: bool) -> object:
        return views.runs_page(RunsPage(runs=runs, attempts=[], more=more), PIPELINE, default_branch="main")["older"]

    assert older(run(9), run(8), more=True) == 8
    assert older(run(9), run(8), more=False) is None
    assert older(more=False) is None


def test_a_list_shows_the_first_line_of_a_message_and_the_page_all_of_it() -> None:
    assert listed(message="\nFix it\n\nBecause")["title"] == "Fix it"
    assert len(listed(message="x" * 5000)["title"]) == 200
    assert whole()["message"] == "Title\n\nBody"


def test_a_run_lives_until_it_has_ended() -> None:
    assert listed()["live"] is True
    ended = listed(ended_at=200.0, result="failure", result_reason="build failed")
    assert (ended["live"], ended["result"], ended["result_reason"]) == (False, "failure", "build failed")


def test_the_page_tells_every_attempt_newest_first_with_needs() -> None:
    told = whole(attempt("build", number=1, state=State.FAILURE), attempt("build", number=2))
    (stage,) = told["stages"]
    assert [one["number"] for one in stage["history"]] == [2, 1]
    assert stage["needs"] == ["test"]


def test_what_a_build_is_doing_is_told_while_it_runs_only() -> None:
    place = BuildPlace(builder_id=3, number=14, doing="compiling")
    (running,) = listed(attempt("build", state=State.RUNNING, build=place))["stages"]
    (ended,) = listed(attempt("build", build=place))["stages"]
    assert running["build"] == {"builderid": 3, "number": 14, "doing": "compiling"}
    assert ended["build"] == {"builderid": 3, "number": 14, "doing": ""}


def test_an_artifact_has_size_hash_and_a_link_that_survives_any_name() -> None:
    files = {5: [Artifact(name="logs/ü&?#.html", path="p", size=12, sha256="ab")]}
    told = whole(attempt("build", id=5), artifacts=files)
    assert told["stages"][0]["history"][0]["artifacts"] == [
        {
            "name": "logs/ü&?#.html",
            "size": 12,
            "sha256": "ab",
            "removed": False,
            "link": "runs/7/artifacts/5/logs/%C3%BC%26%3F%23.html",
        }
    ]


def test_logs_are_told_of_the_attempt_whose_build_is_still_there() -> None:
    logs = {40: [LogPlace(step="build", step_number=2, log="stdio", slug="stdio")]}
    place = BuildPlace(builder_id=3, number=14, doing="")
    there = whole(attempt("build", build_id=40, build=place), logs=logs)
    swept = whole(attempt("build", build_id=40), logs=logs)
    assert there["stages"][0]["history"][0]["logs"] == [
        {"step": "build", "step_number": 2, "name": "stdio", "slug": "stdio"}
    ]
    assert swept["stages"][0]["history"][0]["logs"] == []


def test_who_may_control_is_told_what_would_be_refused_and_others_are_not() -> None:
    attempts = [attempt("build", state=State.FAILURE), attempt("release"), attempt("gone")]
    told = whole(*attempts, may_control=True)
    assert told["repeat_refused"] == "release has already published what this run built"
    refused = {stage["name"]: stage["repeat_refused"] for stage in told["stages"]}
    assert refused["gone"].startswith("there is no stage 'gone'")
    others = whole(*attempts)
    assert others["may_control"] is False
    assert all("repeat_refused" not in stage for stage in others["stages"])


def test_a_failed_stage_may_be_repeated() -> None:
    told = whole(attempt("build", state=State.FAILURE), may_control=True)
    assert (told["repeat_refused"], told["stages"][0]["repeat_refused"]) == ("", "")


@pytest.mark.parametrize("kind", list(EventKind))
def test_everything_is_plain_json(kind: EventKind) -> None:
    told = whole(attempt("build"), run=run(kind=kind, acts_as=kind, selected=["build"]), journal=[(1.5, "note")])
    assert json.loads(json.dumps(told)) == told
    assert told["event"] == kind.value


@pytest.mark.parametrize(
    ("state", "said", "told"),
    [
        (State.SUCCESS, "", ""),
        (State.FAILURE, "code", "code"),
        (State.FAILURE, "", "code"),
        (State.INFRASTRUCTURE, "", "infrastructure"),
        (State.WARNINGS, "", ""),
        (State.WARNINGS, "code", "code"),
    ],
)
def test_a_failure_is_told_with_its_class_whatever_became_of_the_stage(state: State, said: str, told: str) -> None:
    page = whole(attempt("build", state=state, build_id=5), failures={5: said} if said else {})
    assert page["stages"][0]["history"][0]["failure"] == told


def test_a_held_run_says_why_it_waits_and_an_approved_one_by_whom() -> None:
    waiting = run(held="waits for a maintainer to approve it")
    told = views.runs_page(RunsPage(runs=[waiting], attempts=[], more=False), PIPELINE, default_branch="main")["runs"][
        0
    ]
    assert (told["held"], told["approved"]) == ("waits for a maintainer to approve it", "")
    told = views.runs_page(RunsPage(runs=[run(approved="ann")], attempts=[], more=False), PIPELINE, default_branch="m")
    assert (told["runs"][0]["held"], told["runs"][0]["approved"]) == ("", "ann")


def test_an_attempt_tells_what_it_used_of_its_gpus() -> None:
    use = {"total": 80, "peak_memory": 12, "mean": 45.0, "peak": 99, "seconds": 3.0, "points": [[0.2, 45, 1]]}
    build = BuildPlace(builder_id=3, number=14, doing="")
    first = attempt("build", "success", number=1, build=build, build_id=30)
    again = attempt("build", "success", number=2, build=build, build_id=31)
    newest, earlier = whole(first, again, used={31: {"GPU-b": use, "GPU-a": use}})["stages"][0]["history"]
    assert newest["used"] == [{"gpu": "GPU-a", **use}, {"gpu": "GPU-b", **use}]
    assert earlier["used"] == []
