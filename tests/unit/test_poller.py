"""What two looks at a repository's refs make of events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from stored import Pool
from twisted.internet import defer

from master import poller
from master.database import store
from master.pipeline import EventKind
from master.poller import Look, RefPoller, followed, moved
from master.triggers import Event, Rules

A, B, C = ("a" * 40, "b" * 40, "c" * 40)
LOOKED = {"": ""}
RULES = Rules()


def seen(known: dict[str, str], found: dict[str, str], rules: Rules = RULES) -> list[tuple[EventKind, str, str, str]]:
    return [(e.kind, e.ref, e.before, e.head) for e in moved(known, found, rules)]


def test_the_first_look_starts_nothing() -> None:
    assert seen({}, {**LOOKED, "refs/heads/main": A, "refs/tags/v1": A}) == []


def test_the_first_push_to_an_empty_repository_is_one() -> None:
    assert seen(LOOKED, {**LOOKED, "refs/heads/main": A}) == [(EventKind.PUSH, "refs/heads/main", "", A)]


def test_each_kind_of_ref_that_moved() -> None:
    known = {**LOOKED, "refs/heads/main": A, "refs/pull/7/head": A}
    found = {**LOOKED, "refs/heads/main": B, "refs/pull/7/head": B, "refs/tags/v1.0": C}
    assert seen(known, found) == [
        (EventKind.PUSH, "refs/heads/main", A, B),
        (EventKind.PULL_REQUEST, "refs/pull/7/head", A, B),
        (EventKind.TAG, "refs/tags/v1.0", "", C),
    ]


@pytest.mark.parametrize(
    "ref",
    [
        "refs/heads/topic",
        "refs/tags/nightly",
        "refs/pull/7/merge",
        "refs/pull/x/head",
        "refs/pull/0/head",
        "refs/notes/commits",
        "refs/tags/v" + "1" * 300,
        "refs/tags/v1\x7f",
    ],
)
def test_refs_that_ask_for_nothing(ref: str) -> None:
    assert seen(LOOKED, {**LOOKED, ref: A}) == []


def test_an_odd_ref_does_not_stop_the_others() -> None:
    found = {**LOOKED, "refs/tags/v" + "1" * 300: A, "refs/tags/v2": B}
    assert seen(LOOKED, found) == [(EventKind.TAG, "refs/tags/v2", "", B)]


def test_what_vanished_or_stayed_asks_for_nothing() -> None:
    assert seen({**LOOKED, "refs/heads/main": A, "refs/pull/1/head": B}, {**LOOKED, "refs/heads/main": A}) == []


def test_pull_requests_switched_off() -> None:
    assert seen(LOOKED, {**LOOKED, "refs/pull/7/head": A}, Rules(pull_requests=False)) == []


def test_rules_that_become_wider_ask_for_nothing_that_was_there_before() -> None:
    """Else a new tag pattern would release every old tag, and pull requests switched on would all run at once."""
    refs = {**LOOKED, "refs/heads/main": A, "refs/tags/nightly-1": A, "refs/pull/7/head": A}
    kept = {ref: head for ref, head in refs.items() if ref == "" or followed(ref, head)}
    wide = Rules(tag_pattern="*", default_branch="trunk")
    assert seen(kept, {**refs, "refs/tags/nightly-2": B}, wide) == [(EventKind.TAG, "refs/tags/nightly-2", "", B)]
    assert seen(kept, {**refs, "refs/heads/trunk": B}, wide) == [(EventKind.PUSH, "refs/heads/trunk", "", B)]


def test_a_ref_that_no_rules_could_ask_about_is_not_kept() -> None:
    assert not followed("refs/tags/v" + "1" * 300, A)
    assert not followed("refs/notes/commits", A)


@pytest.mark.parametrize("before", ["", B])
def test_a_ref_that_is_put_off_is_found_again(before: str) -> None:
    """GitHub did not say whose pull request it is: the next look asks again."""
    known = {**LOOKED, **({"refs/pull/7/head": before} if before else {})}
    look = Look(found={**LOOKED, "refs/pull/7/head": A})
    look.put_off("refs/pull/7/head", before)
    assert look.found == known
    assert seen(look.found, {**LOOKED, "refs/pull/7/head": A}) == [
        (EventKind.PULL_REQUEST, "refs/pull/7/head", before, A)
    ]


class Refs:
    """A repository whose refs are given."""

    url = "sample.git"

    def __init__(self) -> None:
        self.now: dict[str, str] = {}

    async def refs(self) -> dict[str, str]:
        return dict(self.now)

    async def describe(self, *_: str) -> Any:
        return SimpleNamespace(message="", author="", files=None)


def test_only_pull_requests_wait_for_github(database: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """It may take a minute for each, and a push has all that it needs."""
    known_when_asked: list[set[str]] = []

    def unread() -> set[str]:
        return {event.ref for _, _, event in database(store.unread)}

    def complete(event: Event) -> Event | None:
        known_when_asked.append(unread())
        if event.pull_request == 8:
            raise OSError("GitHub is down")
        return event

    class Poller(RefPoller):
        master = SimpleNamespace(
            db=SimpleNamespace(pool=Pool(database)),
            reactor=SimpleNamespace(seconds=lambda: 1.0),
            scheduler_manager=SimpleNamespace(namedServices={}),
        )

    monkeypatch.setattr(poller, "deferToThread", defer.execute)
    looks = Poller(repository="", rules=RULES, pollInterval=1.0, complete=None)
    refs = Refs()
    looks.repository, looks.rules, looks.complete = refs, RULES, complete  # type: ignore[assignment]
    assert asyncio.run(looks._look()) == []
    push, pulls = "refs/heads/main", ["refs/pull/6/head", "refs/pull/7/head", "refs/pull/8/head"]
    refs.now = dict.fromkeys([*pulls, push], A)
    assert asyncio.run(looks._look()) == ["refs/pull/8/head waits for GitHub: GitHub is down"]
    assert known_when_asked == [{push}, {push, pulls[0]}, {push, pulls[0], pulls[1]}]
    asyncio.run(looks._look())
    assert len(known_when_asked) == 4, "what GitHub did not tell of is asked again, and nothing else"
    assert unread() == {push, pulls[0], pulls[1]}
