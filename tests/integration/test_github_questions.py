"""What is asked of GitHub about pull requests and people, and what its answers make of an event."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from github_double import GitHubDouble

from master.github import questions
from master.github.access import Access
from master.github.failures import GitHubRefused, GitHubUnavailable
from master.pipeline import EventKind
from master.settings_github import GitHubSettings
from master.triggers import Event, Ignored, Rules, classify

A, B = "a" * 40, "b" * 40
THEN, NOW = "2026-01-01T00:00:00Z", "2026-01-01T00:00:09Z"
THEN_S = 1767225600.0
EVENT = Event(kind=EventKind.PULL_REQUEST, ref="refs/pull/7/head", head=A, pull_request=7, message="from git")
RULES = Rules(vouched=frozenset({"MEMBER"}))
MEMBERS = replace(EVENT, association="MEMBER")


def proposed(access: Access, event: Event = MEMBERS, *, with_files: bool = True) -> Event | Ignored:
    return questions.proposed(access, event, THEN_S, RULES, with_files)


def listed(access: Access) -> tuple[str, ...] | None:
    with access.client(questions.READ_PULLS) as client:
        return questions.files(access, client, questions.pull(access, 7))


def polled(access: Access, *, with_files: bool = True) -> Event | Ignored | None:
    return questions.polled(access, EVENT, RULES, with_files)


@pytest.fixture
def access(github: GitHubDouble, tmp_path: Path) -> Access:
    key = tmp_path / "github-app-key"
    key.touch(mode=0o600)
    key.write_text(github.app_key)
    return Access(
        GitHubSettings(repository="acme/sample", access="app", app_id=github.app_id, api=github.url), tmp_path
    )


def test_all_pages_of_files_are_read(access: Access, github: GitHubDouble) -> None:
    names = [f"{index:04}" for index in range(201)]
    github.pull(7, A, files=names)
    assert listed(access) == tuple(names)
    assert [one["query"]["page"] for one in github.requests("GET", "/pulls/7/files")] == ["1", "2", "3"]


@pytest.mark.parametrize("count", [2999, 3000, 3001])
def test_more_files_than_github_lists_are_unknown(count: int, access: Access, github: GitHubDouble) -> None:
    github.pull(7, A, files=[str(index) for index in range(count)])
    found = listed(access)
    assert (len(found) if found else None) == (count if count < 3000 else None)


@pytest.mark.parametrize(
    ("level", "said"), [("admin", "admin"), ("maintain", "write"), ("write", "write"), ("triage", "read")]
)
def test_permissions(level: str, said: str, access: Access, github: GitHubDouble) -> None:
    github.person("ada", level)
    assert questions.permission(access, "ada") == said


def test_the_token_may_only_read(access: Access, github: GitHubDouble) -> None:
    github.pull(7, A)
    questions.permission(access, "ada")
    proposed(access)
    asked = [one["permissions"] for one in github.requests("GET") if one["permissions"]]
    levels = {level for permissions in asked for level in permissions.values()}
    assert levels == {"read"}


@pytest.mark.parametrize(
    ("pull", "expected"),
    [
        ({"head": A, "updated_at": NOW}, ("a.cc",)),
        ({"head": B, "updated_at": NOW}, "moved on"),
        ({"head": B, "updated_at": THEN}, None),
        ({"head": A, "updated_at": NOW, "state": "closed"}, "closed since"),
        ({"head": A, "updated_at": THEN, "state": "closed"}, ("a.cc",)),
    ],
)
def test_a_webhooks_event_is_wanted_while_nothing_newer_is_known(
    pull: dict[str, Any], expected: object, access: Access, github: GitHubDouble
) -> None:
    head = pull.pop("head")
    github.pull(7, head, files=["a.cc"], **pull)
    told = proposed(access)
    if isinstance(expected, str):
        assert isinstance(told, Ignored)
        assert expected in told.reason
    else:
        assert isinstance(told, Event)
        assert told.changed_files == expected


def pages(github: GitHubDouble) -> int:
    return len(github.requests("GET", "/pulls/7/files"))


def test_a_push_to_a_held_pull_request_costs_few_questions(access: Access, github: GitHubDouble) -> None:
    strangers = replace(EVENT, association="NONE")
    for count, known in ((299, 299), (300, None), (2999, None)):
        github.pull(7, A, files=[f"{index:04}" for index in range(count)])
        before = pages(github)
        told = proposed(access, strangers)
        assert isinstance(told, Event)
        assert (len(told.changed_files) if told.changed_files else None) == known
        assert pages(github) - before <= 3
        assert isinstance(told := polled(access), Event)
        assert (len(told.changed_files) if told.changed_files else None) == known
    before = pages(github)
    assert isinstance(told := proposed(access), Event)
    assert told.changed_files
    assert (len(told.changed_files), pages(github) - before) == (2999, 30), "one that runs at once has them all"


def test_files_are_not_asked_for_where_no_stage_depends_on_them(access: Access, github: GitHubDouble) -> None:
    github.pull(7, A, files=["a.cc"])
    assert proposed(access, with_files=False) == MEMBERS
    told = polled(access, with_files=False)
    assert isinstance(told, Event)
    assert (told.author, told.changed_files, pages(github)) == ("stranger", None, 0)


def test_the_pollers_event_becomes_the_webhooks(access: Access, github: GitHubDouble) -> None:
    github.pull(7, A, author="ada", association="MEMBER", fork=False, files=["a.cc"], base_sha=B)
    told = polled(access)
    assert isinstance(told, Event)
    assert (told.base, told.base_ref, told.association, told.author) == (B, "main", "MEMBER", "ada")
    assert (told.message, told.changed_files, told.doubt) == ("pull request 7", ("a.cc",), "")


def test_the_poller_vouches_for_no_fork_as_others_may_have_pushed_there(access: Access, github: GitHubDouble) -> None:
    github.pull(7, A, author="ada", association="MEMBER", fork=True, files=["a.cc"])
    told = polled(access)
    assert isinstance(told, Event)
    assert (told.association, told.doubt) == ("", "who pushed to its fork is not known")
    request = classify(told, RULES)
    assert not isinstance(request, Ignored)
    assert request.context.held


def test_the_poller_waits_until_git_and_github_agree(access: Access, github: GitHubDouble) -> None:
    github.pull(7, B)
    assert polled(access) is None
    github.fail("error", ".*/pulls/7")
    with pytest.raises(GitHubUnavailable):
        polled(access)


def test_a_closed_pull_request_is_no_event_of_the_pollers(access: Access, github: GitHubDouble) -> None:
    github.pull(7, A, state="closed")
    assert isinstance(polled(access), Ignored)


def test_where_github_refuses_to_tell_the_run_will_be_held(access: Access, github: GitHubDouble) -> None:
    github.forget(granted={"metadata": "read"})
    with pytest.raises(GitHubRefused):
        questions.pull(access, 7)
    assert polled(access) == EVENT
