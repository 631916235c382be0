"""Whose pull request runs at once: not only who opened it decides, but also whose the commit is."""

from __future__ import annotations

from typing import Any

import pytest
from stored import A
from test_github_payloads import GITHUB_PULL_REQUEST, proposed

from master.github.vouching import association_of
from master.triggers import Rules, RunRequest, classify

RULES = Rules(vouched=frozenset({"OWNER", "MEMBER", "COLLABORATOR"}))
MEMBER = GITHUB_PULL_REQUEST["pull_request"] | {"user": {"login": "ada"}, "author_association": "MEMBER"}


def from_fork(owner: str) -> dict[str, Any]:
    """A member's pull request whose head is in somebody's fork."""
    return MEMBER | {"head": {"sha": A, "ref": "x", "repo": {"full_name": f"{owner}/r", "owner": {"login": owner}}}}


def held(pull: dict[str, Any], action: str, sender: str) -> str:
    event = proposed(pull_request=pull, action=action, sender={"login": sender}).event
    request = classify(event, RULES)
    assert isinstance(request, RunRequest)
    return request.context.held.partition(": ")[2]


@pytest.mark.parametrize(
    ("pull", "action", "sender", "why"),
    [
        (MEMBER, "opened", "ada", ""),
        (MEMBER, "synchronize", "somebody", ""),  # who may push to the repository itself
        (MEMBER, "reopened", "somebody", ""),
        (from_fork("ada"), "opened", "ada", ""),
        (from_fork("ada"), "synchronize", "ada", ""),
        (from_fork("ada"), "synchronize", "mallory", "mallory pushed to it"),
        (from_fork("ada"), "reopened", "ada", "who pushed to its fork is not known"),
        (from_fork("mallory"), "opened", "ada", "it comes from the fork of mallory"),
        (from_fork("mallory"), "synchronize", "ada", "it comes from the fork of mallory"),
        (from_fork("mallory"), "synchronize", "mallory", "it comes from the fork of mallory"),
    ],
)
def test_an_association_counts_for_what_the_author_or_a_maintainer_has_brought(
    pull: dict[str, Any], action: str, sender: str, why: str
) -> None:
    assert held(pull, action, sender) == why
    stranger = pull | {"author_association": "NONE"}
    assert held(stranger, action, sender) == (why or "ada is NONE here")


@pytest.mark.parametrize("repository", [None, {}, {"full_name": None}, "o/r"])
def test_a_head_whose_repository_is_gone_is_held(repository: object) -> None:
    pull = MEMBER | {"head": {"sha": A, "ref": "x", "repo": repository}}
    for action in ("opened", "synchronize"):
        assert held(pull, action, "ada") == "its head's repository is gone"
    both = pull | {"base": {"sha": A, "ref": "main", "repo": repository}}
    assert held(both, "opened", "ada") == "its head's repository is gone", "two nothings are not the same"


def test_a_deleted_account_is_nobody_else_who_has_none() -> None:
    nobodys = {"sha": A, "ref": "x", "repo": {"full_name": "gone/r", "owner": None}}
    assert held(MEMBER | {"user": None, "head": nobodys}, "opened", "") == "it comes from the fork of somebody"


def test_where_nobody_says_who_pushed_only_the_repository_itself_counts() -> None:
    assert association_of(MEMBER) == ("MEMBER", "")
    assert association_of(from_fork("ada")) == ("", "who pushed to its fork is not known")
