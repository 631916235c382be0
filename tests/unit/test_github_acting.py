"""How deliveries are acted on: which goes first, what waits how long, and what never holds up another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from settings_sample import read, usable
from stored import A, B, C, Pool, asked

from master.database import deliveries, store
from master.database.tables import deliveries as table
from master.database.tables import inbox
from master.github.deliveries import Deliveries
from master.github.effects import Effects
from master.github.failures import GitHubUnavailable
from master.scheduler import NAME
from master.triggers import Event

Database = Callable[..., Any]
REPOSITORY = {"full_name": "acme/sample", "owner": {"login": "acme"}}
SETTINGS = usable(read('[github]\nrepository = "acme/sample"\naccess = "token"\n'))


class World:
    """One master with its deliveries: a clock, a scheduler that keeps events, and GitHub as ``answer`` has it."""

    def __init__(self, database: Database, *, active: bool = True) -> None:
        self.database = database
        self.now = 0.0
        self.asked = 0
        self.active = active
        self.received: list[str] = []
        self.dies = False
        made = SimpleNamespace(
            db=SimpleNamespace(pool=Pool(database)),
            reactor=SimpleNamespace(seconds=lambda: self.now),
            scheduler_manager=SimpleNamespace(namedServices={NAME: self}),
            basedir="",
        )

        class Acting(Deliveries):
            master = made

        self.service = Acting()
        self.service.running = 1
        self.service.settings = SETTINGS
        self.service.effects = Effects(made, SETTINGS, None)
        self.service.effects.access = object()  # type: ignore[assignment]
        self.service.effects._ask = self._ask  # type: ignore[method-assign,assignment]

    def isActive(self) -> bool:
        return self.active

    async def receive(self, event: Event, *, key: str, source: str) -> bool:
        self.received.append(key.removeprefix("github:"))
        kept: bool = self.database(store.receive, key=key, source=source, event=event, now=self.now)
        if self.dies:
            raise KeyboardInterrupt
        return kept

    async def approve(self, *_: Any) -> None:
        pass

    async def _ask(self, _question: Any, *arguments: Any) -> Any:
        self.asked += 1
        return self.answer(*arguments)

    def answer(self, event: Any, *_: Any) -> Any:
        return event

    def keep(self, number: str, name: str, payload: Any) -> None:
        self.database(deliveries.keep, delivery=number, name=name, payload=payload, now=self.now)

    def act(self) -> float:
        return asyncio.run(self.service._pass())

    def states(self) -> dict[str, str]:
        found = self.database(lambda c: list(c.execute(sa.select(table.c.delivery, table.c.state))))
        return {row.delivery: row.state for row in found}


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


def push(ref: str = "refs/heads/main") -> Any:
    return {"ref": ref, "after": A, "before": B, "head_commit": None, "commits": []}


def opened(number: int = 7) -> Any:
    pull = {
        "updated_at": "2026-01-01T00:00:00Z",
        "head": {"sha": A, "repo": REPOSITORY},
        "base": {"sha": C, "ref": "main", "repo": REPOSITORY},
        "author_association": "MEMBER",
        "user": {"login": "ann"},
        "title": "t",
    }
    return {"action": "opened", "number": number, "pull_request": pull, "sender": {"login": "ann"}}


@pytest.mark.parametrize("limit", [3600.0, 7.0, None])
def test_a_pull_request_waits_five_minutes_for_github_however_long_a_limit_lasts(
    world: World, limit: float | None
) -> None:
    def limited(*_: Any) -> Any:
        raise GitHubUnavailable("GitHub limits how often it is asked (403)", limit)

    world.answer = limited  # type: ignore[method-assign]
    world.keep("one", "pull_request", opened())
    while not world.received:
        assert world.now <= 300
        world.now += max(world.act(), 0.001)
    assert world.now >= 300, "it did wait"


@pytest.mark.parametrize("odd", ["\ud800", "\0"])
def test_a_subject_that_no_database_takes_is_noted_all_the_same(world: World, odd: str) -> None:
    world.keep("bad", "push", push(f"refs/heads/{odd}"))
    world.keep("good", "push", push())
    world.act()
    assert world.states()["good"] == "done"
    assert world.states()["bad"] != "new"


def test_a_delivery_whose_end_cannot_be_noted_holds_up_no_other(
    world: World, engine: sa.Engine, logged_errors: Callable[[], int]
) -> None:
    if engine.dialect.name != "sqlite":
        pytest.skip("the trigger is SQLite's")
    world.keep("bad", "push", push("refs/heads/other"))
    world.keep("good", "push", push())
    with engine.begin() as connection:
        when = "before update on deliveries when old.delivery = 'bad'"
        connection.execute(sa.text(f"create trigger t {when} begin select raise(abort, 'x'); end"))
    assert world.act() == 5.0, "it is tried again"
    assert world.states() == {"bad": "new", "good": "done"}
    assert logged_errors() == 1
    with engine.begin() as connection:
        connection.execute(sa.text("drop trigger t"))
    world.act()
    assert world.states()["bad"] == "ignored"


@pytest.fixture
def logged_errors(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    found: list[Any] = []
    monkeypatch.setattr("master.github.deliveries.log.err", lambda *what: found.append(what))
    return lambda: len(found)


def test_github_is_asked_once_for_a_pull_request_whose_run_is_still_to_be_made(
    world: World, database: Database
) -> None:
    assert SETTINGS.project.poll_interval, "the poller may have told of it first"
    world.keep("one", "pull_request", opened())
    for _ in range(4):
        world.act()
        world.now += 1.1
    assert world.states() == {"one": "new"}
    [(inbox_id, key, event)] = database(store.unread)
    database(store.create_run, inbox_id, key, asked(event), threads=1, now=2.0)
    world.act()
    assert world.states() == {"one": "done"}
    assert (world.asked, world.received) == (1, ["one"])


def test_pushes_go_before_all_that_asks_github(world: World) -> None:
    world.keep("pull 7", "pull_request", opened(7))
    world.keep("pull 8", "pull_request", opened(8))
    world.keep("push", "push", push())
    world.act()
    assert world.received == ["push", "pull 7", "pull 8"]


def test_a_push_that_comes_in_meanwhile_waits_for_one_pull_request_at_most(world: World) -> None:
    for number in range(1, 6):
        world.keep(f"pull {number}", "pull_request", opened(number))

    def meanwhile(event: Any, *_: Any) -> Any:
        if world.asked == 2:
            world.keep("push", "push", push())
            world.service.look()  # as the hook's keep does
        return event

    world.answer = meanwhile  # type: ignore[method-assign]
    world.service._work = SimpleNamespace()  # type: ignore[assignment] # it is being worked off, here by hand
    while "new" in world.states().values() and len(world.received) < 6:
        world.service._again = False
        world.act()
    assert world.received == ["pull 1", "pull 2", "push", "pull 3", "pull 4", "pull 5"]


def test_of_two_masters_the_active_one_acts_and_each_delivery_once(database: Database) -> None:
    first, second = World(database), World(database, active=False)
    second.keep("one", "push", push())
    assert second.act() == 1.0
    first.dies = True
    with pytest.raises(KeyboardInterrupt):  # between the event and the note of it
        first.act()
    assert first.states() == {"one": "new"}
    second.active = True
    second.act()
    second.act()
    assert second.states() == {"one": "done"}
    assert (first.received, second.received) == (["one"], ["one"])
    assert database(lambda c: c.execute(sa.select(sa.func.count()).select_from(inbox)).scalar()) == 1


def test_a_delivery_is_tried_for_a_day_from_when_it_is_first_tried(world: World) -> None:
    world.keep("one", "pull_request", {**opened(), "action": "closed"})
    event = Event.from_json({"kind": "pull_request", "ref": "refs/pull/7/head", "head": A, "pull_request": 7})
    world.database(store.receive, key="another", source="poller", event=event, now=1.0)  # is never read
    world.now = 3 * 86400.0  # the master was away
    world.act()
    assert world.states() == {"one": "new"}
    world.now += 86300
    world.act()
    assert world.states() == {"one": "new"}
    world.now += 200
    world.act()
    assert world.states() == {"one": "refused"}
