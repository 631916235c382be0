"""The mirror ends as the master ended, whatever came in between; its workflow holds the same script and no weakness."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "mirror.yml"
SCRIPT = ROOT / "ci" / "mirror.py"
SHA = "6dcb09b5b57875f334f61aebed695e2e4193db5e"
CANARY = "canary-4711-token"


def status(context: str, state: str, description: str = "", **more: Any) -> dict[str, Any]:
    said = {"id": 1, "context": context, "state": state, "description": description, "target_url": None}
    return {**said, "updated_at": "2026-01-02T03:04:05Z", **more}


class Answer(Exception):
    """What GitHub answers instead of statuses; with status 0 it says nothing at all."""

    def __init__(self, code: int, body: str = "{}", **headers: str) -> None:
        super().__init__(code)
        self.code, self.body, self.headers = code, body, headers


Said = list[dict[str, Any]] | Answer


class Api:
    """GitHub's combined status of one commit: each look gets the next of ``answers``, the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[Said] = [[]]
        self.asked: list[tuple[float, str, dict[str, str]]] = []

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append((time.monotonic(), handler.path, {k.lower(): v for k, v in handler.headers.items()}))
        url = urlsplit(handler.path)
        assert url.path == f"/repos/acme/engine/commits/{SHA}/status", handler.path
        page = int(parse_qs(url.query)["page"][0])
        said = self.answers[0]
        body, code, headers = b"{}", 200, {}
        if isinstance(said, Answer):
            if not said.code:
                handler.close_connection = True
                self._next()
                return
            body, code, headers = said.body.encode(), said.code, said.headers
        else:
            body = json.dumps({"state": "pending", "statuses": said[(page - 1) * 100 : page * 100]}).encode()
            headers = {"ETag": f'"{hash(body)}"'}
            if handler.headers.get("If-None-Match") == headers["ETag"]:
                code, body = 304, b""
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
        if isinstance(said, Answer) or len(said) < page * 100:
            self._next()

    def _next(self) -> None:
        if len(self.answers) > 1:
            self.answers.pop(0)


class Mirrored:
    def __init__(self, done: subprocess.CompletedProcess[str], page: Path) -> None:
        self.code, self.out = done.returncode, done.stdout
        self.page = page.read_text() if page.exists() else ""
        assert not done.stderr, done.stderr
        assert CANARY not in self.out + self.page


Mirror = Callable[..., Mirrored]


@pytest.fixture
def api() -> Iterator[Api]:
    api = Api()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            api.answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield api
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def mirror(api: Api, tmp_path: Path) -> Mirror:
    def run(*answers: Said, context: str = "mlc-ci/test", seconds: float = 20, **environment: str) -> Mirrored:
        api.answers = list(answers)
        page = tmp_path / "summary"
        told = {
            "PATH": os.environ["PATH"],
            "GITHUB_API_URL": api.url,  # type: ignore[attr-defined]
            "GITHUB_REPOSITORY": "acme/engine",
            "GITHUB_TOKEN": CANARY,
            "GITHUB_STEP_SUMMARY": str(page),
            "MIRROR_CONTEXT": context,
            "MIRROR_SHA": SHA,
            "MIRROR_TIMEOUT_MINUTES": str(seconds / 60),
            "MIRROR_PAUSE_SECONDS": "0.02",
            **environment,
        }
        command = [sys.executable, "-I", str(SCRIPT)]
        return Mirrored(
            subprocess.run(command, env=told, capture_output=True, text=True, timeout=60, check=False), page
        )

    return run


@pytest.mark.parametrize(
    ("state", "description", "code"),
    [
        ("success", "42 passed", 0),
        ("success", "warnings: 2 of 42 failed, the pipeline goes on", 0),
        ("success", "skipped: not for pull requests", 0),
        ("failure", "error: undefined symbol", 1),
        ("error", "superseded by a newer commit of the pull request", 1),
        ("error", "cancelled by ann", 1),
        ("error", "infrastructure failure: the worker was lost", 1),
    ],
)
def test_it_ends_as_the_master_ended_and_says_what_the_master_said(
    mirror: Mirror, state: str, description: str, code: int
) -> None:
    url = "https://ci.example.org/#/pipelines/7"
    pending = status("mlc-ci/test", "pending", "waits for a worker")
    done = mirror([], [pending], [pending], [status("mlc-ci/test", state, description, target_url=url)])
    assert done.code == code
    assert "not reported yet" in done.out
    assert "waits for a worker" in done.out
    last = done.out.splitlines()[-1]
    assert f"{state}: {description} {url}" in last
    assert last.startswith("::error::") == bool(code)
    assert description in done.page
    assert f'<a href="{url}">' in done.page


def test_the_newest_status_of_the_context_wins_and_others_do_not_count(mirror: Mirror) -> None:
    older = status("mlc-ci/test", "failure", "first try", id=7)
    newer = status("mlc-ci/test", "success", "second try", id=8)
    other = status("mlc-ci/test-gpu", "failure", id=99)
    assert mirror([older, other, newer]).code == 0
    assert mirror([newer, other, older]).code == 0
    assert mirror([{**newer, "id": 6}, older]).code == 1


def test_a_status_beyond_the_first_hundred_is_found(mirror: Mirror) -> None:
    crowd = [status(f"other/{number}", "failure", id=number) for number in range(100)]
    assert mirror([*crowd, status("mlc-ci/test", "success")]).code == 0


def test_a_status_from_before_the_push_is_of_another_event(mirror: Mirror) -> None:
    old = status("mlc-ci/release", "success", "skipped: no tag", updated_at="2026-01-02T03:04:05Z")
    new = status("mlc-ci/release", "failure", "a wheel is missing", updated_at="2026-01-02T03:09:00Z", id=2)
    pushed = "1767323046"  # a second after the old one
    assert mirror([old], [new], context="mlc-ci/release", MIRROR_SINCE=pushed).code == 1
    assert mirror([old], [new], context="mlc-ci/release", MIRROR_SINCE="1767323045").code == 0
    assert mirror([old], [new], context="mlc-ci/release").code == 0
    assert "no mlc-ci status of this event" in mirror([old], seconds=0.2, MIRROR_SINCE=pushed).out


def test_an_error_is_believed_when_a_second_look_finds_it(mirror: Mirror, api: Api) -> None:
    lost = status("mlc-ci/test", "error", "not the code's fault: the worker was lost", id=1)
    again = status("mlc-ci/test", "pending", "running", id=2)
    done = mirror([lost], [again], [status("mlc-ci/test", "success", "passed", id=3)])
    assert (done.code, len(api.asked)) == (0, 3), "the master was about to repeat the stage"
    api.asked.clear()
    assert mirror([lost]).code == 1
    assert len(api.asked) == 2
    api.asked.clear()
    other = {**lost, "id": 4}
    assert mirror([lost], [other], [again], [status("mlc-ci/test", "success", id=5)]).code == 0, "another one is new"
    last = mirror([lost], seconds=0.001, MIRROR_PAUSE_SECONDS="5")
    assert (last.code, "the worker was lost" in last.out) == (1, True), "no time is left"
    api.asked.clear()
    assert mirror([status("mlc-ci/test", "failure")]).code == 1
    assert len(api.asked) == 1, "nothing repeats a failure of the code"


def test_an_error_from_before_a_pull_request_was_reopened_has_time_to_become_something_else(
    mirror: Mirror, api: Api
) -> None:
    closed = status("mlc-ci/test", "error", "cancelled: the pull request was closed", updated_at="2026-01-02T03:04:05Z")
    again = status("mlc-ci/test", "pending", "running", id=2, updated_at="2026-01-02T03:09:00Z")
    passed = status("mlc-ci/test", "success", "passed", id=3, updated_at="2026-01-02T03:19:00Z")
    reopened = "2026-01-02T03:08:00Z"
    looks: list[Said] = [[closed]] * 5 + [[again], [passed]]
    assert mirror(*looks).code == 1
    assert mirror(*looks, MIRROR_REOPENED="2026-01-02T03:04:05Z").code == 1, "it came after that"
    assert mirror(*looks, MIRROR_REOPENED=reopened).code == 0
    api.asked.clear()
    assert mirror([closed], MIRROR_REOPENED=reopened).code == 1, "the master does not run it again"
    assert len(api.asked) == 10
    assert mirror([{**passed, "updated_at": "2026-01-02T03:04:05Z"}], MIRROR_REOPENED=reopened).code == 0


def test_a_master_that_does_not_report_is_told_apart_from_one_that_still_works(mirror: Mirror) -> None:
    silent = mirror([], seconds=0.3)
    assert silent.code == 2
    assert "the master has not reported in 0.005 minutes: no mlc-ci status" in silent.out
    assert "dispatch this workflow" in silent.page
    busy = mirror([status("mlc-ci/test", "pending", "held: ann must approve it")], seconds=0.3)
    assert busy.code == 2
    assert "has not ended within 0.005 minutes; the master says: held: ann must approve it" in busy.out
    elsewhere = mirror([status("mlc-ci/docker", "pending")], seconds=0.3)
    assert "the master has not reported mlc-ci/test in 0.005 minutes, only mlc-ci/docker" in elsewhere.out


def test_a_stage_that_the_master_does_not_have_is_not_waited_for(mirror: Mirror, api: Api) -> None:
    over = [status("mlc-ci/build", "success"), status("mlc-ci/summary", "success")]
    done = mirror(over)
    assert done.code == 2
    assert "the master's run is over and has no mlc-ci/test, only mlc-ci/build, mlc-ci/summary" in done.out
    assert len(api.asked) == 3
    late = mirror(over, [*over, status("mlc-ci/test", "failure")])
    assert late.code == 1, "a status may arrive after the summary's"


@pytest.mark.parametrize(
    "trouble",
    [
        Answer(500),
        Answer(502, "<html>"),
        Answer(408),
        Answer(0),
        Answer(200, "no JSON"),
        Answer(200, '{"statuses": null}'),
        Answer(200, '{"statuses": [null]}'),
        Answer(200, "[]"),
        Answer(429, Retry_After="0"),
        Answer(403, '{"message": "You have exceeded a secondary rate limit"}', Retry_After="1"),
    ],
)
def test_what_passes_is_tried_again(mirror: Mirror, trouble: Answer) -> None:
    done = mirror(trouble, trouble, [status("mlc-ci/test", "success")], MIRROR_PAUSE_SECONDS="0.1")
    assert done.code == 0, done.out


def test_trouble_to_the_end_is_named(mirror: Mirror) -> None:
    done = mirror(Answer(503), seconds=0.3)
    assert done.code == 2
    assert "GitHub gave no answer about mlc-ci/test by the end of 0.005 minutes: GitHub answered 503" in done.out
    gone = mirror([], seconds=0.3, GITHUB_API_URL="http://127.0.0.1:9")
    assert gone.code == 2
    assert "could not be asked" in gone.out


def test_github_is_left_alone_for_as_long_as_it_asks(mirror: Mirror, api: Api) -> None:
    mirror(Answer(429, Retry_After="1"), [status("mlc-ci/test", "success")])
    (first, *_), (second, *_) = api.asked
    assert second - first >= 1
    api.asked.clear()
    reset = {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": str(int(time.time()) + 2)}
    mirror(Answer(403, **reset), [status("mlc-ci/test", "success")])
    (first, *_), (second, *_) = api.asked
    assert second - first >= 0.9
    api.asked.clear()
    given_up = mirror(Answer(403, Retry_After="3600"), [status("mlc-ci/test", "success")], seconds=5)
    assert given_up.code == 2, "an hour is longer than there is: ended, and not asked before it is over"
    assert len(api.asked) == 1


def test_a_refusal_is_believed_when_it_is_repeated(mirror: Mirror, api: Api) -> None:
    done = mirror(Answer(404, '{"message": "Not Found"}'))
    assert done.code == 2
    assert f'GitHub answered 404: {{"message": "Not Found"}}. Is {SHA} a commit of acme/engine' in done.out
    assert len(api.asked) == 3
    assert mirror(Answer(403, "{}"), Answer(404), [status("mlc-ci/test", "success")]).code == 0


def test_what_has_not_changed_costs_no_rate_limit(mirror: Mirror, api: Api) -> None:
    pending = [status("mlc-ci/test", "pending")]
    mirror(pending, pending, pending, [status("mlc-ci/test", "success")])
    conditional = [headers.get("if-none-match") for _, _, headers in api.asked]
    assert conditional[0] is None
    assert all(conditional[1:])


@pytest.mark.parametrize(
    "sha", ["", "main", SHA[:-1], SHA + "0", f"{SHA}/../../x", "$(touch x)", f"{SHA}\n::add-path::x"]
)
def test_only_a_whole_sha_is_asked_about(mirror: Mirror, api: Api, sha: str) -> None:
    done = mirror([status("mlc-ci/test", "success")], MIRROR_SHA=sha)
    assert done.code == 2
    assert "is no commit: give all 40 digits" in done.out
    assert not api.asked
    assert not re.search(r"^::add-path", done.out, re.MULTILINE)


def test_what_a_status_says_is_neither_markup_nor_a_command_to_the_runner(mirror: Mirror) -> None:
    hostile = (
        "a <img src=x onerror=alert(1)> `b` [c](javascript:d) | e\n\n::add-path::/tmp\r\n##[add-mask]f \x1b[31m @g"
    )
    done = mirror([status("mlc-ci/test", "failure", hostile, target_url='javascript:alert("1")')])
    assert done.code == 1
    assert not re.search(r"^\s*::add-path|##\[", done.out, re.MULTILINE)
    assert "<img" not in done.page
    assert "\x1b" not in done.out + done.page
    assert "href" not in done.page
    assert "\n" not in done.page.strip(), "a blank line would end the HTML block, and Markdown begin"
    quoted = mirror([status("mlc-ci/test", "failure", target_url='https://x.example/"><script>')])
    assert "<script>" not in quoted.page
    assert 'href="https://x.example/%22%3E%3Cscript%3E"' in quoted.page


# -- the workflow


def test_the_workflow_holds_the_script_word_for_word() -> None:
    sys.path.insert(0, str(ROOT / "ci"))
    try:
        from embed_mirror import embedded
    finally:
        sys.path.pop(0)
    workflow, script = WORKFLOW.read_text(encoding="utf-8"), SCRIPT.read_text(encoding="utf-8")
    assert embedded(workflow, script) == workflow, "run: python3 ci/embed_mirror.py"
    assert embedded(workflow, script + "# more\n") != workflow
    with pytest.raises(ValueError, match="expression"):
        embedded(workflow, script + "# ${{ github.event.pull_request.title }}\n")


def test_the_script_needs_nothing_but_python() -> None:
    imported = re.findall(r"^(?:from|import) (\w+)", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE)
    assert imported
    assert set(imported) <= sys.stdlib_module_names


SCHEMA = ["check-jsonschema", "--builtin-schema", "vendor.github-workflows"]
AUDIT = ["zizmor", "--offline", "--no-progress", "--persona", "auditor", "--format", "json-v1"]


def said_by(command: list[str], workflow: Path) -> tuple[int, str]:
    tool = [str(Path(sys.executable).parent / command[0]), *command[1:]]
    done = subprocess.run([*tool, str(workflow)], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout


def test_schema_and_audit_have_nothing_to_say() -> None:
    assert said_by(SCHEMA, WORKFLOW)[0] == 0
    assert list((ROOT / ".github").rglob("*.y*ml")) == [WORKFLOW]
    code, findings = said_by(AUDIT, WORKFLOW)
    assert (code, json.loads(findings)) == (0, [])


def test_schema_and_audit_find_what_is_wrong_with_another(tmp_path: Path) -> None:
    bad = tmp_path / ".github" / "workflows" / "mirror.yml"
    bad.parent.mkdir(parents=True)
    text = WORKFLOW.read_text(encoding="utf-8")
    bad.write_text(text.replace("    runs-on: ubuntu-24.04\n", ""))
    assert said_by(SCHEMA, bad)[0] != 0
    told = text.replace("  pull_request: ", "  pull_request_target: ").replace(
        "permissions: {}", "permissions: write-all"
    )
    bad.write_text(told.replace("run: |\n", "run: |\n          # ${{ github.event.pull_request.title }}\n"))
    code, findings = said_by(AUDIT, bad)
    assert code != 0
    found = {finding["ident"] for finding in json.loads(findings)}
    assert {"dangerous-triggers", "excessive-permissions", "template-injection"} <= found
