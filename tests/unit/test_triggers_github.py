"""What GitHub's webhooks tell, also when they tell nonsense."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from master.pipeline import EventKind
from master.triggers import Event, Ignored, InvalidEvent, Rules, RunRequest, classify, from_github, from_ref

PUSH, PULL_REQUEST, TAG = EventKind.PUSH, EventKind.PULL_REQUEST, EventKind.TAG
A, B, GONE = "a" * 40, "b" * 40, "0" * 40

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
        "head": {"sha": A, "ref": "kernel"},
        "base": {"sha": B, "ref": "main"},
        "user": {"login": "ada"},
    },
}


def run(event: Event) -> RunRequest:
    request = classify(event, Rules())
    assert isinstance(request, RunRequest), request
    return request


def test_every_telling_of_an_event_has_the_same_key() -> None:
    polled = from_ref("refs/heads/main", A, before=B)
    hooked = from_github("push", GITHUB_PUSH)
    assert isinstance(hooked, Event)
    assert run(polled).key == run(hooked).key
    assert run(replace(polled, head=B)).key != run(polled).key


def github(name: str, base: dict[str, Any], **changes: Any) -> Event | Ignored:
    return from_github(name, {**copy.deepcopy(base), **changes})


def test_a_push_is_one_event_at_its_newest_commit() -> None:
    event = github("push", GITHUB_PUSH)
    assert event == Event(
        kind=PUSH,
        ref="refs/heads/main",
        head=A,
        before=B,
        message="Fix it",
        author="Ada",
        changed_files=("a.cc", "b.cc", "new.cc"),
    )


def test_an_annotated_tag_is_its_commit_not_its_tag_object() -> None:
    event = github("push", GITHUB_PUSH, ref="refs/tags/v1", after=B, before=GONE, created=True)
    assert isinstance(event, Event)
    assert (event.kind, event.head, event.before, event.changed_files) == (TAG, A, "", None)


def test_a_deleted_ref_starts_nothing() -> None:
    event = github("push", GITHUB_PUSH, after=GONE, head_commit=None, deleted=True, commits=[])
    assert isinstance(event, Event)
    assert classify(event, Rules()) == Ignored("refs/heads/main was deleted")


MANY = [{"added": [], "modified": ["a"], "removed": []}] * 20
HUGE = [{"added": [str(n) for n in range(3000)], "modified": [], "removed": []}]


@pytest.mark.parametrize(
    "change", [{"forced": True}, {"created": True}, {"commits": []}, {"commits": MANY}, {"commits": HUGE}]
)
def test_files_are_unknown_when_the_payload_may_not_list_them_all(change: dict[str, Any]) -> None:
    event = github("push", GITHUB_PUSH, **change)
    assert isinstance(event, Event)
    assert event.changed_files is None


@pytest.mark.parametrize("action", ["opened", "reopened", "synchronize"])
def test_a_pull_requests_base_and_head_are_pinned(action: str) -> None:
    event = github("pull_request", GITHUB_PULL_REQUEST, action=action)
    assert isinstance(event, Event)
    assert (event.ref, event.head, event.base, event.base_ref) == ("refs/pull/7/head", A, B, "main")
    assert (event.pull_request, event.before, event.message, event.author) == (7, B, "Add a kernel", "ada")
    assert run(event).context.acts_as is PULL_REQUEST


@pytest.mark.parametrize("action", ["closed", "edited", "labeled", "", "$(touch x)"])
def test_other_actions_of_a_pull_request_start_nothing(action: str) -> None:
    event = github("pull_request", GITHUB_PULL_REQUEST, action=action)
    assert isinstance(event, Ignored)


def test_a_pull_request_to_another_base_starts_nothing() -> None:
    pull = {**GITHUB_PULL_REQUEST["pull_request"], "base": {"sha": B, "ref": "release"}}
    event = github("pull_request", GITHUB_PULL_REQUEST, pull_request=pull)
    assert isinstance(event, Event)
    assert classify(event, Rules()) == Ignored("the pull request is for release, not for main")


@pytest.mark.parametrize("name", ["ping", "workflow_run", "", "issue_comment"])
def test_other_events_start_nothing(name: str) -> None:
    assert isinstance(from_github(name, {}), Ignored)


@pytest.mark.parametrize("number", [True, "7", 7.0, None])
def test_a_pull_requests_number_is_a_number(number: object) -> None:
    with pytest.raises(InvalidEvent, match="number: expected int"):
        github("pull_request", GITHUB_PULL_REQUEST, number=number)


def test_a_deleted_account_has_no_name() -> None:
    pull = {**GITHUB_PULL_REQUEST["pull_request"], "user": None}
    event = github("pull_request", GITHUB_PULL_REQUEST, pull_request=pull)
    assert isinstance(event, Event)
    assert event.author == ""


@pytest.mark.parametrize("payload", [None, [], "push", 7])
def test_a_payload_is_an_object(payload: Any) -> None:
    with pytest.raises(InvalidEvent, match="no JSON object"):
        from_github("push", payload)


texts = st.text(max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts | st.sampled_from((A, GONE)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, inner in items for place in ((*path, key), *_places(inner, (*path, key)))]


@settings(deadline=None, max_examples=400)
@given(data=st.data(), kind=st.sampled_from((("push", GITHUB_PUSH), ("pull_request", GITHUB_PULL_REQUEST))))
def test_a_mutilated_payload_is_a_run_ignored_or_invalid(data: st.DataObject, kind: tuple[str, dict[str, Any]]) -> None:
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
        event = from_github(kind[0], payload)
        if isinstance(event, Event):
            classify(Event.from_json(json.loads(json.dumps(event.to_json()))), Rules())
    except InvalidEvent as error:
        assert str(error).isprintable()
