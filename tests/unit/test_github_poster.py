"""What the poster sends, when, and what it does not: with a clock and threads of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from buildbot.db.model import Model
from settings_sample import read, usable
from stored import A, B, Pool, arrives, pull_request, push
from twisted.internet.task import Clock
from twisted.python import log
from twisted.python.failure import Failure

from master.database import outbox
from master.database.outbox import COMMENT, STATUS, Row
from master.database.tables import outbox as table
from master.database.tables import runs
from master.github import poster as module
from master.github.failures import AccessRefused, GitHubRefused, GitHubUnavailable
from master.github.poster import Poster
from master.scheduler import NAME
from master.settings import Settings

Database = Callable[..., Any]
SUMMARY = f"{A} mlc-ci/summary"
LINT = f"{A} mlc-ci/lint"


class Threads:
    """A pool that does what it is given at once, or with ``hold`` when it is told to."""

    def __init__(self) -> None:
        self.hold = False
        self.held: list[Callable[[], None]] = []

    def callInThreadWithCallback(self, told: Any, function: Any, *args: Any, **kwargs: Any) -> None:
        def work() -> None:
            try:
                found = function(*args, **kwargs)
            except Exception:
                told(False, Failure())
            else:
                told(True, found)

        self.held.append(work)
        if not self.hold:
            self.let_go()

    def let_go(self) -> None:
        while self.held:
            self.held.pop(0)()


class GitHub:
    """In the place of the sender: takes note, and answers what the test has put into ``answers``, by a row's key."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []  # key, the state of a status
        self.answers: dict[str, Callable[[], Any]] = {}

    def send(self, row: Row) -> str:
        self.seen.append((row.key, row.wanted.get("state")))
        return str(self.answers.get(row.key, str)())

    @property
    def keys(self) -> list[str]:
        return [key for key, _ in self.seen]


class Here(Poster):
    """A poster without a parent: one that a test has put together."""

    master: Any = None


class World:
    """Posters with their schedulers, one database, one GitHub."""

    def __init__(self, database: Database, github: GitHub) -> None:
        self.database, self.github = database, github
        self.clock, self.threads = Clock(), Threads()
        self.clock.advance(1000.0)
        self.clock.getThreadPool = lambda: self.threads  # type: ignore[attr-defined]
        self.clock.callFromThread = lambda call, *args: call(*args)  # type: ignore[attr-defined]
        self.posters: list[Here] = []

    def poster(self, settings: Settings, *, active: bool = True) -> Here:
        poster = Here(**options(settings))
        scheduler = SimpleNamespace(active=active, carried=[])
        poster.master = SimpleNamespace(
            db=SimpleNamespace(pool=Pool(self.database)),
            reactor=self.clock,
            scheduler_manager=SimpleNamespace(namedServices={NAME: scheduler}),
        )
        self.posters.append(poster)
        poster.reconfigService(**options(settings))
        return poster

    def scheduler(self, poster: Here) -> Any:
        return poster.master.scheduler_manager.namedServices[NAME]

    def pass_time(self, seconds: float, step: float = 1.0) -> None:
        for _ in range(round(seconds / step)):
            self.clock.advance(step)


def options(settings: Settings) -> dict[str, Any]:
    return {"settings": settings, "access": None, "page": "https://ci.example/"}


def settings(**own: bool) -> Settings:
    more = "\n".join(f"{name} = {str(value).lower()}" for name, value in own.items())
    github = f'[github]\nrepository = "acme/sample"\naccess = "token"\nwebhook = false\n{more}'
    return usable(read(github))


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """SQLite's alone: what differs between databases is the outbox's, and tested there."""
    return f"sqlite:///{tmp_path}/state.sqlite"


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch) -> GitHub:
    github = GitHub()
    monkeypatch.setattr(module, "Sender", lambda access: github)
    return github


@pytest.fixture
def world(engine: sa.Engine, database: Database, github: GitHub) -> Iterator[World]:
    Model.metadata.create_all(engine)  # which a comment reads
    world = World(database, github)
    yield world
    for poster in world.posters:
        poster.stopService()


@pytest.fixture
def errors() -> Iterator[list[Any]]:
    """What is logged as an error."""
    found: list[Any] = []

    def observe(event: dict[str, Any]) -> None:
        if event["isError"]:
            found.append(event)

    log.addObserver(observe)
    yield found
    log.removeObserver(observe)


def kept(world: World, key: str) -> Any:
    return world.database(lambda connection: connection.execute(sa.select(table).where(table.c.key == key)).one())


def held_pull(world: World) -> int:
    run_id, _ = arrives(world.database, pull_request(A))
    world.database(lambda connection: connection.execute(runs.update().values(held="waits")))
    return run_id or 0


def test_a_run_is_told_when_it_is_there_and_when_the_scheduler_carries_it_on(world: World, github: GitHub) -> None:
    arrives(world.database, push(A))
    poster = world.poster(settings())
    world.pass_time(1)
    assert github.keys == [SUMMARY, LINT], "the one that a branch rule requires is the first"
    other, _ = arrives(world.database, push(B, A))
    world.scheduler(poster).carried[0](other)
    assert github.keys[2:] == [f"{B} mlc-ci/summary", f"{B} mlc-ci/lint"], "at once"
    world.pass_time(120)
    assert len(github.seen) == 4, "and nothing twice"


def test_only_the_master_whose_scheduler_is_active_tells(world: World, github: GitHub) -> None:
    arrives(world.database, push(A))
    first, second = world.poster(settings()), world.poster(settings(), active=False)
    for poster in (first, second):
        world.scheduler(poster).carried.append(poster.heard)
    world.pass_time(60)
    assert github.keys == [SUMMARY, LINT]
    world.scheduler(first).active = False
    run_id, _ = arrives(world.database, push(B, A))
    for poster in (first, second):
        poster.heard(run_id or 0)
    world.pass_time(60)
    assert len(github.seen) == 2, "neither is"
    world.scheduler(second).active = True
    world.pass_time(60)
    assert github.keys[2:] == [f"{B} mlc-ci/summary", f"{B} mlc-ci/lint"], "who takes over finds what was left behind"


@pytest.mark.parametrize("odd", [KeyError("id"), AttributeError("get")])
def test_an_answer_that_nobody_foresaw_holds_up_no_other_row(
    world: World, github: GitHub, errors: list[Any], odd: Exception
) -> None:
    arrives(world.database, push(A))

    def answer() -> None:
        raise odd

    github.answers[SUMMARY] = answer
    world.poster(settings())
    world.pass_time(30)
    assert github.keys == [SUMMARY, LINT]
    assert [event["failure"].value for event in errors] == [odd], "somebody is to see it"
    row = kept(world, SUMMARY)
    assert (row.sent, row.failures, type(odd).__name__ in row.error) == (0, 1, True)
    world.pass_time(400, step=5)
    assert github.keys.count(SUMMARY) == 3, "tried again, ever more rarely"
    del github.answers[SUMMARY]
    world.pass_time(1200, step=20)
    assert kept(world, SUMMARY).sent == 1


@pytest.mark.parametrize(
    ("refusal", "others"),
    [
        (GitHubRefused("no such commit", 422), True),
        (AccessRefused("the App lacks statuses: write", 403), False),
        (GitHubUnavailable("GitHub answers 502"), False),
    ],
)
def test_what_holds_up_the_others_is_only_what_concerns_them(
    world: World, github: GitHub, refusal: Exception, others: bool
) -> None:
    arrives(world.database, push(A))

    def answer() -> None:
        raise refusal

    github.answers[SUMMARY] = answer
    world.poster(settings())
    world.pass_time(1, step=0.5)
    assert (LINT in github.keys) == others
    world.pass_time(300)
    assert LINT in github.keys


@pytest.mark.parametrize(
    ("own", "sent"),
    [
        ({}, {"pull 7", SUMMARY, LINT}),
        ({"statuses": False}, {"pull 7"}),
        ({"comment": False}, {SUMMARY, LINT}),
        ({"statuses": False, "comment": False}, set()),
    ],
)
def test_a_kind_that_is_off_is_not_sent_even_if_it_waits(
    world: World, github: GitHub, own: dict[str, bool], sent: set[str]
) -> None:
    run_id = held_pull(world)
    for kind, key in ((STATUS, SUMMARY), (STATUS, LINT), (COMMENT, "pull 7")):
        world.database(outbox.want, kind, key, run_id, {"state": "from before"}, 1.0)
    poster = world.poster(settings(**own))
    world.pass_time(120)
    assert set(github.keys) == sent
    assert world.clock.getDelayedCalls(), "it looks around all the same"
    poster.reconfigService(**options(settings()))
    world.pass_time(120)
    assert set(github.keys) == {"pull 7", SUMMARY, LINT}


def test_what_github_said_of_when_outlives_new_settings(world: World, github: GitHub) -> None:
    arrives(world.database, push(A))

    def limited() -> None:
        raise GitHubUnavailable("GitHub limits how often it is asked", 600.0)

    github.answers[SUMMARY] = limited
    poster = world.poster(settings())
    world.pass_time(5)
    assert github.keys == [SUMMARY]
    poster.reconfigService(**options(settings(comment=False)))
    world.pass_time(590)
    assert github.keys == [SUMMARY]
    github.answers.clear()
    world.pass_time(30)
    assert sorted(github.keys) == sorted([SUMMARY, SUMMARY, LINT])


def test_new_settings_while_something_is_being_sent(world: World, github: GitHub) -> None:
    arrives(world.database, push(A))
    world.threads.hold = True
    poster = world.poster(settings())
    world.pass_time(5)
    assert len(world.threads.held) == 1, "one request at a time"
    poster.reconfigService(**options(settings(comment=False)))
    world.pass_time(60)
    assert len(world.threads.held) == 1, "also with new settings"
    world.threads.hold = False
    world.threads.let_go()
    world.pass_time(5)
    assert github.keys == [SUMMARY, LINT]
    assert (kept(world, SUMMARY).sent, kept(world, LINT).sent) == (1, 1)


def test_a_service_that_ends_while_something_is_sent_notes_nothing_and_the_next_one_sends_it_again(
    world: World, github: GitHub
) -> None:
    arrives(world.database, push(A))
    world.threads.hold = True
    poster = world.poster(settings())
    world.pass_time(1)
    poster.stopService()
    assert poster.heard not in world.scheduler(poster).carried
    world.threads.hold = False
    world.threads.let_go()
    assert github.keys == [SUMMARY]
    assert kept(world, SUMMARY).sent == 0, "the database may be closed by then"
    world.poster(settings())
    world.pass_time(5)
    assert github.keys == [SUMMARY, SUMMARY, LINT]
