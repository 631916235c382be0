"""A row of the outbox at GitHub: said once or twice, it leaves the same there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from github_double import GitHubDouble
from test_github_access import access

from master.database.outbox import COMMENT, STATUS, Row
from master.github.access import GitHubUnavailable
from master.github.comment import MARKER
from master.github.sending import Sender

SHA = "a" * 40


def comment(text: str, remote_id: str = "") -> Row:
    wanted = {"pull": 7, "body": f"{MARKER}\n{text}"}
    return row(kind=COMMENT, key="pull 7", wanted=wanted, remote_id=remote_id)


def row(**changes: Any) -> Row:
    return Row(**{"id": 1, "run_id": 1, "version": 1, "remote_id": "", "failures": 0, "error": "", **changes})


@pytest.fixture(params=["app", "token"])
def sender(request: pytest.FixtureRequest, github: GitHubDouble, tmp_path: Path) -> Sender:
    github.pull(7, SHA)
    github.personal_token("pat", {"statuses": "write", "pull_requests": "write"}, login="the-bot")
    return Sender(access(github, tmp_path, request.param, "pat" if request.param == "token" else ""))


def stranger_says(github: GitHubDouble, tmp_path: Path, text: str) -> None:
    github.personal_token("theirs", {"pull_requests": "write"}, login="stranger")
    with access(github, tmp_path, "token", "theirs").client({"pull_requests": "write"}) as client:
        client.rest.issues.create_comment("acme", "sample", 7, body=text)


def test_there_is_one_comment_whatever_was_noted_of_it(sender: Sender, github: GitHubDouble) -> None:
    number = sender.send(comment("one"))
    assert sender.send(comment("two", number)) == number
    assert sender.send(comment("three")) == number, "the master died before it noted the number"
    assert github.comments(7) == [f"{MARKER}\nthree"]


def test_a_comment_whose_answer_was_lost_is_found_again(sender: Sender, github: GitHubDouble) -> None:
    github.fail("cut", "POST .*/comments", acted=True)
    with pytest.raises(GitHubUnavailable):
        sender.send(comment("one"))
    sender.send(comment("one"))
    assert github.comments(7) == [f"{MARKER}\none"]


def test_one_that_somebody_took_away_is_made_anew(sender: Sender, github: GitHubDouble) -> None:
    assert sender.send(comment("one", "999999")) != "999999"
    assert github.comments(7) == [f"{MARKER}\none"]


def test_a_strangers_marker_is_not_ours(github: GitHubDouble, tmp_path: Path) -> None:
    (tmp_path / "stranger").mkdir()
    (tmp_path / "own").mkdir()
    github.pull(7, SHA)
    for n in range(101):
        stranger_says(github, tmp_path / "stranger", f"{MARKER} {n}")
    sender = Sender(access(github, tmp_path / "own"))
    number = sender.send(comment("one"))
    assert sender.send(comment("two")) == number, "found on the second page"
    assert github.comments(7)[:2] == [f"{MARKER} 0", f"{MARKER} 1"]
    assert github.comments(7)[101:] == [f"{MARKER}\ntwo"]


def test_a_status_says_what_is_wanted(sender: Sender, github: GitHubDouble) -> None:
    wanted = {"sha": SHA, "context": "mlc-ci/x", "state": "success", "description": "d", "target_url": "http://ci/"}
    for _ in range(2):
        assert sender.send(row(kind=STATUS, key="x", wanted=wanted)) == ""
    found = github.statuses(SHA)["mlc-ci/x"]
    assert (found["state"], found["description"], found["target_url"]) == ("success", "d", "http://ci/")
