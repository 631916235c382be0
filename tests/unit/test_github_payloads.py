"""What GitHub's webhooks tell, also when they tell nonsense."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from settings_sample import read, usable

from master.github.commands import Approve, Cancel, Retry
from master.github.payloads import Closed, Dispatched, Meaning, Meaningless, Ordered, Proposed, Pushed, meaning
from master.pipeline import EventKind
from master.triggers import Event, Ignored, InvalidEvent, Rules, RunRequest, classify, from_ref

PUSH, PULL_REQUEST, TAG = EventKind.PUSH, EventKind.PULL_REQUEST, EventKind.TAG
A, B, GONE = "a" * 40, "b" * 40, "0" * 40
NOW, NOW_S = "2026-01-01T00:00:00Z", 1767225600.0
SETTINGS = usable(read('[github]\nrepository = "o/r"\napprove_label = "ci-ok"\n'))

GITHUB_PUSH: dict[str, Any] = {
    "ref": "refs/heads/main",
    "before": B,
    "after": A,
    "created": False,
    "deleted": False,
    "forced": False,
    "head_commit": {"id": A, "message": "Fix it\n", "author": {"name": "Ada", "email": "ada@example.org"}},
    "commits": [
        {"id": B, "added": ["new.cc"], "modified": ["b.cc"], "removed": []},
        {"id": A, "added": [], "modified": ["b.cc"], "removed": ["a.cc"]},
    ],
}
GITHUB_PULL_REQUEST: dict[str, Any] = {
    "action": "synchronize",
    "number": 7,
    "before": B,
    "pull_request": {
        "title": "Add a kernel",
        "head": {"sha": A, "ref": "kernel", "repo": {"full_name": "o/r", "owner": {"login": "o"}}},
        "base": {"sha": B, "ref": "main", "repo": {"full_name": "o/r", "owner": {"login": "o"}}},
        "user": {"login": "ada"},
        "author_association": "MEMBER",
        "updated_at": NOW,
    },
    "label": {"name": "ci-ok"},
    "sender": {"login": "grace"},
}
GITHUB_COMMENT: dict[str, Any] = {
    "action": "created",
    "issue": {"number": 7, "pull_request": {"url": "https://api.github.com/repos/o/r/pulls/7"}},
    "comment": {"body": "/ci retry build", "user": {"login": "grace"}, "created_at": NOW},
    "sender": {"login": "grace"},
}
GITHUB_DISPATCH: dict[str, Any] = {
    "action": "mlc-ci",
    "branch": "main",
    "client_payload": {"ref": "v1.0", "stages": ["lint"], "publish": True, "threads": 3, "reason": "nightly"},
    "sender": {"login": "grace"},
}


def run(event: Event) -> RunRequest:
    request = classify(event, Rules())
    assert isinstance(request, RunRequest), request
    return request


def github(name: str, base: dict[str, Any], **changes: Any) -> Meaning:
    return meaning(name, {**copy.deepcopy(base), **changes}, SETTINGS)


def pushed(**changes: Any) -> Event:
    wanted = github("push", GITHUB_PUSH, **changes)
    assert isinstance(wanted, Pushed), wanted
    return wanted.event


def proposed(**changes: Any) -> Proposed:
    wanted = github("pull_request", GITHUB_PULL_REQUEST, **changes)
    assert isinstance(wanted, Proposed), wanted
    return wanted


# -- pushes and tags


def test_every_telling_of_an_event_has_the_same_key() -> None:
    polled = from_ref("refs/heads/main", A, before=B)
    assert run(polled).key == run(pushed()).key
    assert run(replace(polled, head=B)).key != run(polled).key


def test_a_push_is_one_event_at_its_newest_commit() -> None:
    assert pushed() == Event(
        kind=PUSH,
        ref="refs/heads/main",
        head=A,
        before=B,
        message="Fix it",
        author="Ada",
        changed_files=("a.cc", "b.cc", "new.cc"),
    )


def test_a_push_without_commits_is_one_event_all_the_same() -> None:
    assert (pushed(commits=[]).head, pushed(commits=[], head_commit=None).head) == (A, A)


def test_an_annotated_tag_is_its_commit_not_its_tag_object() -> None:
    event = pushed(ref="refs/tags/v1", after=B, before=GONE, created=True)
    assert (event.kind, event.head, event.before, event.changed_files) == (TAG, A, "", None)


def test_a_tag_of_something_else_than_a_commit_starts_nothing() -> None:
    assert github("push", GITHUB_PUSH, ref="refs/tags/v1", head_commit=None) == Meaningless(
        reason="refs/tags/v1 points at no commit"
    )


@pytest.mark.parametrize("ref", ["refs/heads/main", "refs/tags/v1"])
def test_a_deleted_ref_starts_nothing(ref: str) -> None:
    event = pushed(ref=ref, after=GONE, head_commit=None, deleted=True, commits=[])
    assert classify(event, Rules()) == Ignored(f"{ref} was deleted")


MANY = [{"added": [], "modified": ["a"], "removed": []}] * 20
HUGE = [{"added": [str(n) for n in range(3000)], "modified": [], "removed": []}]


@pytest.mark.parametrize(
    "change", [{"forced": True}, {"created": True}, {"commits": []}, {"commits": MANY}, {"commits": HUGE}]
)
def test_files_are_unknown_when_the_payload_may_not_list_them_all(change: dict[str, Any]) -> None:
    assert pushed(**change).changed_files is None


# -- pull requests


@pytest.mark.parametrize("action", ["opened", "reopened", "synchronize"])
def test_a_pull_requests_base_and_head_are_pinned(action: str) -> None:
    wanted = proposed(action=action)
    event = wanted.event
    assert (event.ref, event.head, event.base, event.base_ref) == ("refs/pull/7/head", A, B, "main")
    assert (event.pull_request, event.before, event.message, event.author) == (7, B, "Add a kernel", "ada")
    assert (event.association, wanted.at, wanted.reopened) == ("MEMBER", NOW_S, action == "reopened")
    assert run(event).context.acts_as is PULL_REQUEST


@pytest.mark.parametrize("action", ["edited", "unlabeled", "", "$(touch x)"])
def test_other_actions_of_a_pull_request_start_nothing(action: str) -> None:
    assert isinstance(github("pull_request", GITHUB_PULL_REQUEST, action=action), Meaningless)


def test_a_closed_pull_request_is_noticed() -> None:
    assert github("pull_request", GITHUB_PULL_REQUEST, action="closed") == Closed(number=7, at=NOW_S)


def test_the_label_of_the_settings_approves_the_head_of_the_payload() -> None:
    wanted = github("pull_request", GITHUB_PULL_REQUEST, action="labeled")
    assert wanted == Ordered(command=Approve(pull=7, sha="", at=NOW_S, by="grace"), head=A)
    other = github("pull_request", GITHUB_PULL_REQUEST, action="labeled", label={"name": "bug"})
    assert isinstance(other, Meaningless)
    without = usable(read('[github]\nrepository = "o/r"\n'))
    for name in ("ci-ok", ""):
        payload = {**GITHUB_PULL_REQUEST, "action": "labeled", "label": {"name": name}}
        assert isinstance(meaning("pull_request", payload, without), Meaningless), "none does if none is named"


def test_a_pull_request_to_another_base_starts_nothing() -> None:
    pull = {**GITHUB_PULL_REQUEST["pull_request"], "base": {"sha": B, "ref": "release"}}
    event = proposed(pull_request=pull).event
    assert classify(event, Rules()) == Ignored("the pull request is for release, not for main")


@pytest.mark.parametrize("number", [True, "7", 7.0, None])
def test_a_pull_requests_number_is_a_number(number: object) -> None:
    with pytest.raises(InvalidEvent, match="number: expected int"):
        proposed(number=number)


@pytest.mark.parametrize("number", [0, -1, 2**31])
def test_a_pull_requests_number_is_one_that_there_can_be(number: int) -> None:
    with pytest.raises(InvalidEvent, match="is no pull request number"):
        proposed(number=number)


@pytest.mark.parametrize("at", ["", "yesterday", "9999-99-99T00:00:00Z", "2026-01-01", None])
def test_a_pull_request_says_when_it_changed(at: object) -> None:
    with pytest.raises(InvalidEvent, match="updated_at"):
        proposed(pull_request={**GITHUB_PULL_REQUEST["pull_request"], "updated_at": at})


def test_a_deleted_account_has_no_name() -> None:
    assert proposed(pull_request={**GITHUB_PULL_REQUEST["pull_request"], "user": None}).event.author == ""


# -- comments


def test_a_comment_orders() -> None:
    retry = Retry(pull=7, by="grace", at=NOW_S, stage="build")
    assert github("issue_comment", GITHUB_COMMENT) == Ordered(command=retry)
    comment = {**GITHUB_COMMENT["comment"], "body": "/ci cancel\r\nIt hangs."}
    assert github("issue_comment", GITHUB_COMMENT, comment=comment) == Ordered(
        command=Cancel(pull=7, by="grace", at=NOW_S)
    )


@pytest.mark.parametrize(
    "change",
    [
        {"action": "edited"},
        {"action": "deleted"},
        {"issue": {"number": 7}},
        {"comment": {**GITHUB_COMMENT["comment"], "body": "> /ci retry"}},
        {"comment": {**GITHUB_COMMENT["comment"], "body": "Nice! /ci retry"}},
        {"comment": {**GITHUB_COMMENT["comment"], "body": None}},
    ],
)
def test_other_comments_order_nothing(change: dict[str, Any]) -> None:
    assert isinstance(github("issue_comment", GITHUB_COMMENT, **change), Meaningless)


def test_an_order_that_is_not_understood_is_refused() -> None:
    with pytest.raises(InvalidEvent, match="/ci ok"):
        github("issue_comment", GITHUB_COMMENT, comment={**GITHUB_COMMENT["comment"], "body": "/ci deploy"})


# -- dispatches


def test_a_dispatch_is_a_manual_run() -> None:
    assert github("repository_dispatch", GITHUB_DISPATCH) == Dispatched(
        ref="v1.0", by="grace", stages=("lint",), threads=3, publish=True, reason="nightly"
    )
    plain = Dispatched(ref="main", by="grace", stages=None, threads=None, publish=False, reason="")
    for nothing in ({}, None):
        assert github("repository_dispatch", GITHUB_DISPATCH, client_payload=nothing) == plain


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"stage": ["lint"]}, "client_payload: nothing is called 'stage'"),
        ({"stages": ["nowhere"]}, "no stage is called 'nowhere'; there are lint"),
        ({"stages": "lint"}, "expected a list"),
        ({"stages": [7]}, "expected a list"),
        ({"publish": "yes"}, "expected true or false"),
        ({"threads": -1}, "must be 0 to 1024"),
        ({"threads": True}, "must be 0 to 1024"),
        ({"ref": 7}, "are texts"),
        ([], "client_payload"),
    ],
)
def test_a_dispatch_that_is_wrong_is_refused(wish: object, said: str) -> None:
    with pytest.raises(InvalidEvent, match=said):
        github("repository_dispatch", GITHUB_DISPATCH, client_payload=wish)


def test_a_dispatch_of_another_type_is_not_for_us() -> None:
    assert isinstance(github("repository_dispatch", GITHUB_DISPATCH, action="deploy"), Meaningless)


# -- everything else


@pytest.mark.parametrize("name", ["ping", "workflow_run", "projects_v2_item", ""])
def test_other_events_start_nothing(name: str) -> None:
    assert isinstance(meaning(name, {}, SETTINGS), Meaningless)


@pytest.mark.parametrize("payload", [None, [], "push", 7])
def test_a_payload_is_an_object(payload: Any) -> None:
    with pytest.raises(InvalidEvent, match="no JSON object"):
        meaning("push", payload, SETTINGS)


texts = st.text(max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts | st.sampled_from((A, GONE)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
KINDS = (
    ("push", GITHUB_PUSH),
    ("pull_request", GITHUB_PULL_REQUEST),
    ("issue_comment", GITHUB_COMMENT),
    ("repository_dispatch", GITHUB_DISPATCH),
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, inner in items for place in ((*path, key), *_places(inner, (*path, key)))]


@settings(deadline=None, max_examples=400)
@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_a_mutilated_payload_has_a_meaning_or_is_invalid(data: st.DataObject, kind: tuple[str, dict[str, Any]]) -> None:
    payload = copy.deepcopy(kind[1])
    for _ in range(data.draw(st.integers(1, 3))):
        *path, last = data.draw(st.sampled_from(_places(payload)))
        holder: Any = payload
        for key in path:
            holder = holder[key]
        if data.draw(st.booleans()):
            holder[last] = data.draw(json_values)
        else:
            del holder[last]
        if not payload:
            break
    try:
        wanted = meaning(kind[0], payload, SETTINGS)
        assert isinstance(wanted.subject, str)
        if isinstance(wanted, Pushed | Proposed):
            classify(Event.from_json(json.loads(json.dumps(wanted.event.to_json()))), Rules())
    except InvalidEvent as error:
        assert str(error).isprintable()
