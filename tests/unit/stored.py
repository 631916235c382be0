"""Runs in a database: how the tests of the store get there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from master.database import store
from master.database.records import Artifact
from master.pipeline import EventKind, State
from master.run_model import Create, Slot
from master.triggers import Event, Ignored, Rules, RunRequest, classify

A, B, C = "a" * 40, "b" * 40, "c" * 40
LIVE = [state for state in State if not state.ended]
FILE = Artifact(
    name="x-1.0-py3-none-any.whl", path="1/build/default/1/7/x-1.0-py3-none-any.whl", size=3, sha256="0" * 64
)


def push(head: str, before: str = "", ref: str = "refs/heads/main", **fields: Any) -> Event:
    return Event(kind=EventKind.PUSH, ref=ref, head=head, before=before, **fields)


def pull_request(head: str, before: str = "", number: int = 7) -> Event:
    ref = f"refs/pull/{number}/head"
    return Event(kind=EventKind.PULL_REQUEST, ref=ref, head=head, before=before, base=C, pull_request=number)


def asked(event: Event) -> RunRequest:
    request = classify(event, Rules())
    assert not isinstance(request, Ignored)
    return request


class Pool:
    """Buildbot's pool, without its threads."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    async def do(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.call(function, *args, **kwargs)

    do_with_transaction = do


TOLD = iter(range(10**9))


def arrives(database: Callable[..., Any], event: Event) -> tuple[int | None, list[int]]:
    """One telling of an event, from its arrival to its run."""
    key = f"delivery {next(TOLD)}"
    assert database(store.receive, key=key, source="webhook", event=event, now=1.0)
    [(inbox_id, _, kept)] = database(store.unread)
    assert kept == event
    found: tuple[int | None, list[int]] = database(store.create_run, inbox_id, key, asked(kept), threads=2, now=2.0)
    assert database(store.unread) == []
    return found


def run_with(database: Callable[..., Any], *slots: Slot) -> int:
    run_id, _ = arrives(database, push(A))
    assert run_id is not None
    assert database(store.add_attempts, run_id, [Create(slot=slot) for slot in slots], 3.0) == len(slots)
    return run_id
