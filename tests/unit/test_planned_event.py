"""``mlc-ci plan --payload``: any real payload, told apart into what would run, what would not, and what is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from settings_sample import MINIMAL, read, usable
from test_github_payloads import GITHUB_COMMENT, GITHUB_DISPATCH, GITHUB_PULL_REQUEST, GITHUB_PUSH
from typer.testing import CliRunner

from master.cli import app
from master.pipeline import EventKind
from master.planned_event import NoSuchEvent, planned_event
from master.triggers import Event, Ignored

SETTINGS = usable(read('[github]\nrepository = "o/r"\napprove_label = "ci-ok"\n'))
OURS = {"repository": {"full_name": "O/R"}}


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def write(payload: Any) -> Path:
        (tmp_path / "payload.json").write_text(payload if isinstance(payload, str) else json.dumps(payload))
        return tmp_path / "payload.json"

    return write


@pytest.mark.parametrize(
    ("name", "payload", "kind"),
    [
        ("push", GITHUB_PUSH, EventKind.PUSH),
        ("push", {**GITHUB_PUSH, "ref": "refs/tags/v1"}, EventKind.TAG),
        ("tag", {**GITHUB_PUSH, "ref": "refs/tags/v1"}, EventKind.TAG),
        ("pull_request", GITHUB_PULL_REQUEST, EventKind.PULL_REQUEST),
        ("repository_dispatch", GITHUB_DISPATCH, EventKind.MANUAL),
    ],
)
def test_payloads_that_ask_for_a_run(name: str, payload: Any, kind: EventKind, file: Any) -> None:
    event = planned_event(SETTINGS, name, payload=file({**payload, **OURS}))
    assert isinstance(event, Event)
    assert event.kind is kind


@pytest.mark.parametrize(
    ("name", "payload", "said"),
    [
        ("ping", {}, "a ping"),
        ("workflow_run", {}, "workflow_run events start no run"),
        ("pull_request", {**GITHUB_PULL_REQUEST, "action": "closed"}, "pull request 7 would be cancelled"),
        ("pull_request", {**GITHUB_PULL_REQUEST, "action": "labeled"}, "an order to the run of pull request 7: /ci ok"),
        ("issue_comment", GITHUB_COMMENT, "an order to the run of pull request 7: /ci retry build"),
        (
            "issue_comment",
            {**GITHUB_COMMENT, "comment": {**GITHUB_COMMENT["comment"], "body": "/ci deploy"}},
            "refused: '/ci deploy'",
        ),
        ("push", {**GITHUB_PUSH, "repository": {"full_name": "o/other"}}, "it is about o/other"),
    ],
)
def test_payloads_that_ask_for_none(name: str, payload: Any, said: str, file: Any) -> None:
    told = planned_event(SETTINGS, name, payload=file(payload))
    assert isinstance(told, Ignored)
    assert said in told.reason


@pytest.mark.parametrize(
    ("name", "payload", "said"),
    [
        ("push", "{", "no readable JSON"),
        ("push", {}, "is no push payload: ref: expected str"),
        ("tag", GITHUB_PUSH, "is a push event, and --event says tag"),
        ("manual", GITHUB_DISPATCH, "repository_dispatch"),
    ],
)
def test_payloads_that_are_none(name: str, payload: Any, said: str, file: Any) -> None:
    with pytest.raises(NoSuchEvent, match=said):
        planned_event(SETTINGS, name, payload=file(payload))


def test_without_a_payload_there_are_four_events() -> None:
    with pytest.raises(NoSuchEvent, match="there is no event 'ping'"):
        planned_event(SETTINGS, "ping")


def planned(file: Any, name: str, payload: Any, *more: str) -> Any:
    quickstart = Path(__file__).parents[2] / "ci" / "quickstart.toml"
    arguments = ["plan", "--settings", str(quickstart), "--event", name, "--payload", str(file(payload)), *more]
    return CliRunner().invoke(app, arguments)


def test_the_command_says_what_is_ignored_and_succeeds(file: Any) -> None:
    answer = planned(file, "check_run", {"action": "created"})
    assert answer.exit_code == 0
    assert "nothing would run: check_run events start no run" in answer.stdout
    as_json = json.loads(planned(file, "check_run", {"action": "created"}, "--json").stdout)
    assert (as_json["event"], as_json["stages"]) == (None, [])


def test_the_command_says_whether_a_pull_request_would_be_held(tmp_path: Path) -> None:
    settings, payload = tmp_path / "settings.toml", tmp_path / "payload.json"
    settings.write_text(MINIMAL + '[github]\nrepository = "o/r"\n')
    for association, held in (("MEMBER", False), ("NONE", True)):
        pull = {**GITHUB_PULL_REQUEST["pull_request"], "author_association": association}
        payload.write_text(json.dumps({**GITHUB_PULL_REQUEST, "pull_request": pull}))
        arguments = ["plan", "--settings", str(settings), "--event", "pull_request", "--payload", str(payload)]
        assert bool(json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)["held"]) is held
        assert ("waits for a maintainer" in CliRunner().invoke(app, arguments).stdout) is held
