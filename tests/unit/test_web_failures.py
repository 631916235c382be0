"""Where a failed build failed, over the API: the log around its first error, within bounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from buildbot.db.model import Model
from buildbot.process.results import EXCEPTION, FAILURE, RETRY, SKIPPED, SUCCESS
from buildbot.www.authz.endpointmatchers import AnyEndpointMatcher
from web_site import Browser, Master

from master.database.tables import stage_attempts
from master.web.excerpt import AFTER, BEFORE

BUILD = 5
COMPILER = [
    "hg++ -c main.cc",
    *[f"o[{n}/40] Building part_{n}.o" for n in range(40)],
    "e\x1b[1mmain.cc:3:1:\x1b[0m \x1b[31merror:\x1b[0m expected ';'",
    "o    here\r",
    *[f"o[{n}/40] Building more_{n}.o" for n in range(39)],
    "hprogram finished with exit code 1",
]
MARKED = 41


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    return Browser(Master(tmp_path, []), [])


def fails(master: Master, *steps: tuple[str, int, dict[str, str]], **properties: Any) -> str:
    """Makes the stage ``test`` of run 1 a build with these steps (name, results, logs by name with their type), and
    says where its failure is told. Logs are numbered from 1."""
    number = 0
    with master.database.engine.begin() as connection:
        connection.execute(stage_attempts.update().where(stage_attempts.c.stage == "test").values(build_id=BUILD))
        for place, (name, results, logs) in enumerate(steps):
            row = {"number": place, "name": name, "buildid": BUILD, "state_string": "", "urls_json": "[]", "hidden": 0}
            step = connection.execute(Model.steps.insert().values(results=results, **row)).inserted_primary_key
            assert step
            for log, kind in logs.items():
                number += 1
                told = {"id": number, "name": log, "slug": log, "stepid": step[0], "complete": 1, "type": kind}
                lines = len(master.data.logs.get(number, ()))
                connection.execute(Model.logs.insert().values(num_lines=lines, **told))
        for name, value in properties.items():
            row = {"buildid": BUILD, "name": name, "value": json.dumps(value), "source": "step"}
            connection.execute(Model.build_properties.insert().values(**row))
        attempt = connection.execute(stage_attempts.select().where(stage_attempts.c.stage == "test")).one()
    return f"runs/1/attempts/{attempt.id}/failure"


def compiler_fails(master: Master, lines: list[str] = COMPILER, kind: str = "s", **more: Any) -> str:
    master.data.logs[2] = lines
    properties = {"failure_class": "code", "failure_reason": "main.cc:3:1: error: …", "failure_line": MARKED, **more}
    steps = [("checkout", SUCCESS, {"stdio": "s"}), ("build", FAILURE, {"stdio": kind}), ("upload", SKIPPED, {})]
    return fails(master, *steps, **properties)


def test_the_log_is_shown_around_the_line_that_says_it(browser: Browser) -> None:
    told = browser.ask(compiler_fails(browser.master)).json
    assert (told["class"], told["reason"]) == ("code", "main.cc:3:1: error: …")
    assert (told["step"], told["step_number"], told["log"], told["line"]) == ("build", 1, "stdio", MARKED + 1)
    assert [line["number"] for line in told["lines"]] == list(range(MARKED + 1 - BEFORE, MARKED + 2 + AFTER))
    assert told["lines"][BEFORE] == {"number": MARKED + 1, "text": "main.cc:3:1: error: expected ';'", "header": False}
    assert told["lines"][BEFORE + 1]["text"] == "    here", "a carriage return hides nothing"
    assert browser.master.data.asked == [(MARKED - BEFORE, BEFORE + 1 + AFTER)]


def test_a_log_without_such_a_line_is_shown_from_its_end(browser: Browser) -> None:
    told = browser.ask(compiler_fails(browser.master, failure_line=None)).json
    assert told["line"] is None
    assert told["lines"][-1] == {"number": len(COMPILER), "text": "program finished with exit code 1", "header": True}
    assert len(told["lines"]) < len(COMPILER)


@pytest.mark.parametrize("line", [len(COMPILER), 10**9, -1, "7"])
def test_a_line_that_the_log_does_not_have_marks_nothing(browser: Browser, line: object) -> None:
    told = browser.ask(compiler_fails(browser.master, failure_line=line)).json
    assert told["line"] is None
    assert told["lines"]


@pytest.mark.parametrize("line", [0, len(COMPILER) - 1])
def test_an_excerpt_ends_where_the_log_does(browser: Browser, line: int) -> None:
    told = browser.ask(compiler_fails(browser.master, failure_line=line)).json
    assert told["line"] in [shown["number"] for shown in told["lines"]]
    assert {shown["number"] for shown in told["lines"]} <= set(range(1, len(COMPILER) + 1))


def test_a_line_of_a_megabyte_is_cut(browser: Browser) -> None:
    lines = [*COMPILER[:MARKED], "e" + "x" * 1_000_000, *COMPILER[MARKED + 1 :]]
    answer = browser.ask(compiler_fails(browser.master, lines))
    assert len(answer.body) < 20_000
    shown = answer.json["lines"][BEFORE]["text"]
    assert shown.startswith("xxx")
    assert shown.endswith("more characters)")


def test_a_log_that_the_janitor_took_is_said_to_be_gone(browser: Browser) -> None:
    told = browser.ask(compiler_fails(browser.master, kind="d")).json
    assert (told["class"], told["step"], told["lines"]) == ("code", "build", [])
    assert "no longer kept" in told["missing"]
    assert browser.master.data.asked == []


def test_a_log_that_goes_while_it_is_asked_for_is_too(browser: Browser) -> None:
    path = compiler_fails(browser.master)
    browser.master.data.logs.clear()
    assert "no longer kept" in browser.ask(path).json["missing"]


def test_a_step_without_output_shows_what_else_it_says_and_no_page_of_html(browser: Browser) -> None:
    browser.master.data.logs |= {1: ["notes"], 2: ["no wheel from build-linux"], 3: ["<html>"]}
    path = fails(browser.master, ("publish", FAILURE, {"notes": "t", "error": "t", "page": "h"}), failure_class="code")
    told = browser.ask(path).json
    assert [line["text"] for line in told["lines"]] == ["no wheel from build-linux"]


def test_an_exception_in_a_step_has_a_log_too(browser: Browser) -> None:
    browser.master.data.logs[1] = ["Traceback", "ValueError: it"]
    told = browser.ask(fails(browser.master, ("build", EXCEPTION, {"err.text": "t", "err.html": "h"}))).json
    assert told["step"] == "build"
    assert [line["text"] for line in told["lines"]] == ["Traceback", "ValueError: it"]


def test_a_build_that_failed_before_its_first_step_has_no_log(browser: Browser) -> None:
    told = browser.ask(fails(browser.master, failure_class="infrastructure", failure_reason="lost")).json
    assert (told["class"], told["step"], told["lines"]) == ("infrastructure", "", [])
    assert told["missing"]


def test_what_did_not_fail_has_no_failure(browser: Browser) -> None:
    path = fails(browser.master, ("build", SUCCESS, {"stdio": "s"}))
    assert browser.ask(path).status == 404
    assert browser.ask(f"runs/1/attempts/{browser.master.attempt_id}/failure").status == 404, "it has no build"


@pytest.mark.parametrize(("lost", "said"), [(1, "its build was lost"), (0, "no step of it failed")])
def test_an_attempt_that_was_lost_with_its_worker_says_that_there_is_no_log(
    browser: Browser, lost: int, said: str
) -> None:
    path = fails(browser.master, ("build", RETRY, {"stdio": "s"}))
    ended = {"state": "infrastructure", "reason": "worker w was lost 3 times", "lost_with_worker": lost}
    with browser.master.database.engine.begin() as connection:
        connection.execute(stage_attempts.update().where(stage_attempts.c.stage == "test").values(**ended))
    told = browser.ask(path).json
    assert (told["class"], told["reason"], told["lines"]) == ("infrastructure", ended["reason"], [])
    assert told["missing"].startswith(said)


def test_an_attempt_is_asked_for_by_its_own_run(browser: Browser) -> None:
    path = compiler_fails(browser.master)
    assert browser.ask(path).status == 200
    assert browser.ask(path.replace("runs/1", "runs/2")).status == 404
    assert browser.ask("runs/1/attempts/999/failure").status == 404
    assert browser.ask("runs/1/attempts/x/failure").status == 404


def test_a_master_that_hides_itself_hides_its_logs(tmp_path: Path) -> None:
    browser = Browser(Master(tmp_path, [AnyEndpointMatcher(role="admins")]), [])
    path = compiler_fails(browser.master)
    assert browser.ask(path).status == 403
    assert browser.ask(path, user="root").status == 200


def test_the_run_itself_tells_the_class(browser: Browser) -> None:
    compiler_fails(browser.master)
    (stage,) = [stage for stage in browser.ask("runs/1").json["stages"] if stage["name"] == "test"]
    assert stage["history"][0]["failure"] == "code"
