"""Which event asks for which run, and what is no event at all."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from master.pipeline import EventKind
from master.triggers import (
    Event,
    Ignored,
    InvalidEvent,
    Rules,
    RunRequest,
    classify,
    from_ref,
    threads,
)

PUSH, PULL_REQUEST, TAG, MANUAL = EventKind.PUSH, EventKind.PULL_REQUEST, EventKind.TAG, EventKind.MANUAL
A, B, GONE = "a" * 40, "b" * 40, "0" * 40
MAIN = Event(kind=PUSH, ref="refs/heads/main", head=A)
PULL = Event(kind=PULL_REQUEST, ref="refs/pull/7/head", head=A, base=B, base_ref="main", pull_request=7)


def run(event: Event, rules: Rules = Rules()) -> RunRequest:  # noqa: B008 - frozen
    request = classify(event, rules)
    assert isinstance(request, RunRequest), request
    return request


def ignored(event: Event, rules: Rules = Rules()) -> str:  # noqa: B008 - frozen
    request = classify(event, rules)
    assert isinstance(request, Ignored), request
    return request.reason


# -- which run


@pytest.mark.parametrize(
    ("event", "acts_as", "trusted", "publish"),
    [
        (MAIN, PUSH, True, True),
        (Event(kind=TAG, ref="refs/tags/v1.2", head=A), TAG, True, True),
        (PULL, PULL_REQUEST, False, False),
        (replace(PULL, publish=True), PULL_REQUEST, False, False),
        (replace(MAIN, kind=MANUAL), PUSH, True, False),
        (replace(MAIN, kind=MANUAL, publish=True), PUSH, True, True),
        (replace(MAIN, publish=False), PUSH, True, False),
        (Event(kind=MANUAL, ref="refs/tags/v1.2", head=A, publish=True), TAG, True, True),
        (Event(kind=MANUAL, ref="refs/tags/other", head=A, publish=True), PULL_REQUEST, False, False),
        (Event(kind=MANUAL, ref="refs/heads/other", head=A, publish=True), PULL_REQUEST, False, False),
        (Event(kind=MANUAL, ref="refs/pull/7/head", head=A, publish=True), PULL_REQUEST, False, False),
        (Event(kind=MANUAL, ref="refs/heads/main2", head=A, publish=True), PULL_REQUEST, False, False),
        (Event(kind=MANUAL, ref="refs/remotes/refs/heads/main", head=A), PULL_REQUEST, False, False),
    ],
)
def test_trust_and_publication_belong_to_the_run(
    event: Event, acts_as: EventKind, trusted: bool, publish: bool
) -> None:
    context = run(event).context
    assert (context.acts_as, context.trusted, context.publish) == (acts_as, trusted, publish)
    assert context.kind is event.kind


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (replace(MAIN, head=GONE), "refs/heads/main was deleted"),
        (Event(kind=TAG, ref="refs/tags/v1", head="0" * 64), "refs/tags/v1 was deleted"),
        (replace(MAIN, ref="refs/heads/other"), "refs/heads/other is not the default branch"),
        (replace(MAIN, ref="refs/pull/7/merge"), "refs/pull/7/merge is not the default branch"),
        (Event(kind=TAG, ref="refs/tags/nightly", head=A), "refs/tags/nightly does not match the tag pattern v*"),
        (Event(kind=TAG, ref="refs/tags/V1", head=A), "refs/tags/V1 does not match the tag pattern v*"),
        (Event(kind=TAG, ref="refs/heads/v1", head=A), "refs/heads/v1 does not match the tag pattern v*"),
        (replace(PULL, base_ref="release"), "the pull request is for release, not for main"),
    ],
)
def test_what_starts_no_run_says_why(event: Event, reason: str) -> None:
    assert ignored(event) == reason


def test_the_settings_say_which_branch_tags_and_pull_requests_count() -> None:
    rules = Rules(default_branch="trunk", tag_pattern="release-[0-9]*", pull_requests=False)
    assert run(replace(MAIN, ref="refs/heads/trunk"), rules).context.acts_as is PUSH
    assert run(Event(kind=TAG, ref="refs/tags/release-1", head=A), rules).tag == "release-1"
    assert "not the default branch" in ignored(MAIN, rules)
    assert "does not match" in ignored(Event(kind=TAG, ref="refs/tags/release-x", head=A), rules)
    assert "switched off" in ignored(replace(PULL, base_ref="trunk"), rules)


def test_only_a_tag_that_releases_is_the_runs_tag() -> None:
    assert run(Event(kind=TAG, ref="refs/tags/v1/rc", head=A)).tag == "v1/rc"
    assert run(Event(kind=MANUAL, ref="refs/tags/other", head=A)).tag == ""
    assert run(MAIN).tag == ""


def test_only_pull_requests_supersede() -> None:
    assert run(PULL).supersedes
    assert not any(
        run(e).supersedes for e in (MAIN, replace(PULL, kind=MANUAL), Event(kind=TAG, ref="refs/tags/v1", head=A))
    )


def test_threads_are_the_manual_choice_or_fewer_for_pull_requests() -> None:
    def count(event: Event) -> int:
        return threads(run(event), pull_request=2, other=4)

    manual = Event(kind=MANUAL, ref="refs/heads/x", head=A)
    assert [count(MAIN), count(PULL), count(manual)] == [4, 2, 2]
    assert [count(replace(manual, threads=9)), count(replace(manual, threads=0))] == [9, 2]


# -- what is no event

HOSTILE_REFS = {
    "a newline": "refs/heads/main\n",
    "a newline within": "refs/heads/ma\nin",
    "a shell command": "refs/heads/$(touch x)",
    "a way up": "refs/heads/../../etc/passwd",
    "a way up in a tag": "refs/tags/v1/../../x",
    "a range": "refs/heads/main..evil",
    "a NUL": "refs/heads/main\0",
    "an escape sequence": "refs/heads/\x1b[2Jmain",
    "a DEL": "refs/heads/main\x7f",
    "a space": "refs/heads/main --upload-pack=x",
    "a glob": "refs/heads/*",
    "a refspec": "refs/heads/main:refs/heads/evil",
    "a reflog": "refs/heads/main^{}",
    "an option": "--upload-pack=touch x",
    "a short name": "main",
    "nothing": "",
    "only a prefix": "refs/",
    "half a surrogate pair": "refs/heads/\ud800",
    "10 kB": "refs/tags/v" + "1" * 10_000,
}


@pytest.mark.parametrize("kind", EventKind)
@pytest.mark.parametrize("ref", HOSTILE_REFS.values(), ids=HOSTILE_REFS)
def test_a_hostile_ref_is_no_event_and_the_message_is_short_and_printable(kind: EventKind, ref: str) -> None:
    with pytest.raises(InvalidEvent, match="ref") as error:
        classify(Event(kind=kind, ref=ref, head=A, pull_request=1), Rules(tag_pattern="*"))
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    "ref", ["refs/heads/$(touch${IFS}x)", "refs/heads/;reboot", "refs/heads/'\"`", "refs/heads/ünï"]
)
def test_a_ref_that_git_allows_is_data_whatever_it_looks_like(ref: str) -> None:
    assert run(Event(kind=MANUAL, ref=ref, head=A)).event.ref == ref


@pytest.mark.parametrize("name", ["head", "base", "before"])
@pytest.mark.parametrize("sha", ["main", "a" * 39, "a" * 41, "A" * 40, A + "\n", "-" * 40, "a" * 63, "x" * 10_000])
def test_a_commit_is_named_by_its_whole_sha(name: str, sha: str) -> None:
    with pytest.raises(InvalidEvent, match=f"{name}: .* is no commit SHA"):
        classify(replace(MAIN, **{name: sha}), Rules())  # type: ignore[arg-type]
    assert run(replace(MAIN, **{name: "a" * 64}))  # type: ignore[arg-type]


def test_an_event_without_a_commit_is_none() -> None:
    with pytest.raises(InvalidEvent, match="head: missing"):
        classify(replace(MAIN, head=""), Rules())


@pytest.mark.parametrize("number", [0, -1, 2**31, 10**100])
def test_a_pull_request_has_a_number_that_fits(number: int) -> None:
    with pytest.raises(InvalidEvent, match="pull request number"):
        classify(replace(PULL, pull_request=number), Rules())


@pytest.mark.parametrize("count", [-1, 2**31, 10**100])
def test_a_number_of_threads_fits(count: int) -> None:
    with pytest.raises(InvalidEvent, match="number of threads"):
        classify(replace(MAIN, threads=count), Rules())


# -- as JSON

texts = st.text(max_size=20)
events = st.builds(
    Event,
    kind=st.sampled_from(EventKind),
    ref=texts,
    head=texts,
    base=texts,
    before=texts,
    base_ref=texts,
    pull_request=st.integers(),
    message=texts,
    author=texts,
    changed_files=st.none() | st.lists(texts, max_size=3).map(tuple),
    stages=st.none() | st.lists(texts, max_size=3).map(tuple),
    threads=st.none() | st.integers(),
    publish=st.none() | st.booleans(),
    reason=texts,
)


@settings(deadline=None)
@given(events)
def test_an_event_survives_json(event: Event) -> None:
    assert Event.from_json(json.loads(json.dumps(event.to_json()))) == event


@settings(deadline=None)
@given(events)
def test_any_event_is_a_run_ignored_or_invalid(event: Event) -> None:
    try:
        request = classify(event, Rules())
    except InvalidEvent:
        return
    assert isinstance(request, Ignored) or request.context.trusted == (request.context.acts_as is not PULL_REQUEST)


# -- from a ref that moved


@pytest.mark.parametrize(
    ("ref", "kind", "number"),
    [
        ("refs/heads/main", PUSH, 0),
        ("refs/tags/v1", TAG, 0),
        ("refs/pull/12/head", PULL_REQUEST, 12),
        ("refs/pull/12/merge", PUSH, 0),
        ("refs/pull/0/head", PUSH, 0),
        ("refs/pull/12/head\n", PUSH, 0),
        ("refs/heads/refs/pull/12/head", PUSH, 0),
    ],
)
def test_a_moved_ref_says_what_it_is(ref: str, kind: EventKind, number: int) -> None:
    event = from_ref(ref, A, before=B, message="m", author="a")
    assert (event.kind, event.pull_request, event.before) == (kind, number, B)
