"""What the scheduler does first, what it hears, and what it keeps in mind, on a real database of events and runs."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from buildbot.db.model import Model
from graphs import stage
from settings_sample import read, usable
from stored import A, B, C, Pool, arrives, push
from twisted.internet import defer
from twisted.internet.task import Clock

from master.database import buildbot_rows, store
from master.database.tables import runs
from master.gate import Gate
from master.handover import Handover
from master.pipeline import EventKind
from master.reconcile import Reconciler
from master.repetition import Refused
from master.scheduler import PipelineScheduler
from master.settings import Settings
from master.triggers import Event

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Carrier(Reconciler):
    """Notes which run is carried on, and carries it on for as long as the test wants."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.carried: list[int] = []
        self.under_way: defer.Deferred[None] | None = None
        self.deadlines: dict[int, float] = {}

    async def run(self, run_id: int) -> float | None:
        self.carried.append(run_id)
        self.under_way = defer.Deferred()
        await self.under_way
        return self.deadlines.get(run_id)

    def done(self) -> None:
        """With the run that is carried on just now."""
        assert self.under_way
        under_way, self.under_way = self.under_way, None
        under_way.callback(None)

    def all_done(self) -> None:
        while self.under_way:
            self.done()


class Cancelling(Handover):
    """Notes which requests it was to cancel."""

    cancelled: list[int]

    async def cancel(self, request_id: int, reason: str) -> None:
        self.cancelled.append(request_id)

    async def complete_leftovers(self) -> None:
        pass


class Scheduler(PipelineScheduler):
    reconciler_class = Carrier
    handover_class = Cancelling
    reconciler: Carrier


def configured(scheduler: Scheduler, settings: Settings) -> None:
    scheduler._configure(settings, lambda _stage: "", Gate())


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.advance(1000.0)
    return clock


@pytest.fixture
def scheduler(engine: sa.Engine, database: Callable[..., Any], clock: Clock) -> Scheduler:
    """One that carries runs on, in a master of which there is only what it reads."""
    Model.metadata.create_all(engine)
    settings = usable(read())
    master = SimpleNamespace(
        db=SimpleNamespace(pool=Pool(database)),
        reactor=clock,
        workers=SimpleNamespace(workers={}),
        botmaster=SimpleNamespace(maybeStartBuildsForAllBuilders=lambda: None, brd=SimpleNamespace()),
    )
    made = Scheduler(builderNames=["lint"], settings=settings, unavailable=lambda _: "", gate=Gate())
    made.parent = SimpleNamespace(master=master)
    configured(made, settings)
    made.handover.cancelled = []  # type: ignore[attr-defined]
    made._carrying = True
    return made


def arrived(scheduler: Scheduler, event: Event, key: str) -> defer.Deferred[bool]:
    return defer.ensureDeferred(scheduler.receive(event, key=key, source="webhook"))


def runs_of(database: Callable[..., Any], count: int) -> list[int]:
    """Ids of that many runs, which wait to be looked at."""
    return [arrives(database, push(f"{number + 1:040}"))[0] or 0 for number in range(count)]


def heads(engine: sa.Engine) -> list[str]:
    with engine.begin() as connection:
        return list(connection.execute(sa.select(runs.c.head).order_by(runs.c.id)).scalars())


# -- what comes first


def test_an_event_has_its_run_before_the_runs_that_wait_to_be_looked_at(
    scheduler: Scheduler, database: Callable[..., Any], engine: sa.Engine
) -> None:
    backlog = runs_of(database, 50)
    scheduler._sweep()
    scheduler.reconciler.done()
    arrived(scheduler, push(A), "delivery")
    scheduler.reconciler.done()
    assert heads(engine)[-1] == A, "its run is there while the others still wait"
    assert scheduler.reconciler.carried == [*backlog[:2], len(backlog) + 1], "and it is carried on next"
    scheduler.reconciler.all_done()
    assert sorted(scheduler.reconciler.carried) == sorted({*backlog, len(backlog) + 1}), "each is, once"


def test_an_event_that_the_poller_has_kept_has_its_run_as_soon(
    scheduler: Scheduler, database: Callable[..., Any], engine: sa.Engine
) -> None:
    runs_of(database, 5)
    scheduler._sweep()
    database(store.receive, key="poll", source="poller", event=push(A), now=1.0)
    scheduler.look_at()
    scheduler.reconciler.done()
    assert heads(engine)[-1] == A


def test_what_was_heard_of_a_run_comes_before_the_regular_look_at_all_of_them(
    scheduler: Scheduler, database: Callable[..., Any]
) -> None:
    ids = runs_of(database, 5)
    scheduler._sweep()
    scheduler.look_at(ids[4])
    scheduler.reconciler.all_done()
    assert scheduler.reconciler.carried == [ids[0], ids[4], ids[1], ids[2], ids[3]]


def test_an_inbox_that_cannot_be_read_keeps_no_run_waiting_and_is_read_again(
    scheduler: Scheduler, database: Callable[..., Any], engine: sa.Engine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, _ = arrives(database, push(B))
    assert run_id
    with monkeypatch.context() as patched:
        patched.setattr(store, "unread", broken)
        arrived(scheduler, push(A, B), "delivery")
        scheduler.look_at(run_id)
        scheduler.reconciler.all_done()
        assert scheduler.reconciler.carried == [run_id]
    clock.advance(6)
    scheduler.reconciler.all_done()
    assert heads(engine) == [B, A]


# -- manual dispatch


def forced(ref: str = "refs/heads/main") -> Event:
    return Event(kind=EventKind.MANUAL, ref=ref, head=C)


def test_a_manual_run_is_there_before_the_others_are_done(
    scheduler: Scheduler, database: Callable[..., Any], engine: sa.Engine
) -> None:
    runs_of(database, 5)
    scheduler._sweep()
    answered = defer.ensureDeferred(scheduler.dispatch(forced(), key="manual:1"))
    scheduler.reconciler.done()  # with the one that was under way
    assert heads(engine)[-1] == C
    assert scheduler.reconciler.carried == [1, 6]
    assert not answered.called
    scheduler.reconciler.done()
    assert answered.called, "it waits for its own run, and for no other"
    scheduler.reconciler.all_done()
    assert heads(engine).count(C) == 1


def test_a_manual_run_that_cannot_be_made_at_once_is_accepted_all_the_same_and_made_later(
    scheduler: Scheduler, engine: sa.Engine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(store, "unread", broken)
        answered = defer.ensureDeferred(scheduler.dispatch(forced(), key="manual:1"))
        assert answered.called
    assert heads(engine) == []
    clock.advance(6)
    assert heads(engine) == [C]


def test_a_manual_event_that_is_none_is_refused(scheduler: Scheduler) -> None:
    refused = defer.ensureDeferred(scheduler.dispatch(forced("--upload-pack=x"), key="manual:1"))
    found: list[object] = []
    refused.addErrback(lambda why: found.append(why.type.__name__))
    assert found == ["InvalidEvent"]


# -- new settings


def test_the_patience_for_absent_workers_does_not_begin_again_with_new_settings(
    scheduler: Scheduler, clock: Clock
) -> None:
    lint = stage("lint")
    clock.advance(100)
    scheduler.reconciler.fleet.left("here")
    configured(scheduler, usable(read()))
    clock.advance(100)
    fleet = scheduler.reconciler.fleet
    assert fleet.last_connected(lint, "", trusted=True) == 1100.0
    assert fleet.last_connected(lint, "", trusted=False) == 1000.0, "patience begins with the master"
    more = read('[workers.fresh]\ntrust = "untrusted"\nprovides = ["python"]')
    configured(scheduler, usable(more))
    clock.advance(100)
    fleet = scheduler.reconciler.fleet
    assert fleet.last_connected(lint, "", trusted=False) == 1200.0, "a new worker has its time to come"


# -- what is kept in mind


def test_nothing_stays_of_runs_that_need_no_further_look(
    scheduler: Scheduler, database: Callable[..., Any], clock: Clock
) -> None:
    ids = runs_of(database, 3)
    scheduler.reconciler.deadlines = {run: clock.seconds() + 10 + run for run in ids}
    scheduler.look_at(*ids)
    scheduler.reconciler.all_done()
    assert len(scheduler._calls) == 3
    scheduler.reconciler.deadlines = {}
    clock.advance(11)  # the first run's time has come
    assert len(scheduler._calls) == 2, "a call that was made is none that is to come"
    scheduler.reconciler.all_done()
    scheduler.look_at(ids[1])
    scheduler.reconciler.all_done()
    assert len(scheduler._calls) == 1, "what has no deadline any more is not looked at"
    assert len([call for call in clock.getDelayedCalls() if call.active()]) == 1


# -- requests of nobody's


@pytest.fixture
def strays(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """What Buildbot's rows say of requests that nobody planned."""
    found: list[tuple[int, str]] = []
    monkeypatch.setattr(buildbot_rows, "strays", lambda _connection, _builders: list(found))
    return found


class Wishes:
    """In the place of :meth:`PipelineScheduler.repeat`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.heard: list[int] = []
        self.fails = 0
        self.waits: defer.Deferred[None] | None = None
        scheduler.repeat = self.repeat  # type: ignore[method-assign]

    async def repeat(self, run_id: int, stage: str = "", *, because: str) -> list[Any]:
        if self.waits:
            await self.waits
        if self.fails:
            self.fails -= 1
            raise OSError("the database is away")
        self.heard.append(run_id)
        return []


def test_a_rebuild_whose_wish_could_not_be_written_is_not_lost(
    scheduler: Scheduler, strays: list[tuple[int, str]]
) -> None:
    wishes, cancelled = Wishes(scheduler), scheduler.handover.cancelled  # type: ignore[attr-defined]
    strays += [(7, "3/lint/default/1"), (8, "4/lint/default/1")]
    wishes.fails = 1
    defer.ensureDeferred(scheduler._strays.turn_away())
    assert (wishes.heard, cancelled) == ([4], [8]), "the request is all that is left of it, and the other goes on"
    defer.ensureDeferred(scheduler._strays.turn_away())
    assert (sorted(wishes.heard), sorted({*cancelled})) == ([3, 4], [7, 8])


def test_a_rebuild_that_is_heard_of_twice_meanwhile_is_one_wish(
    scheduler: Scheduler, strays: list[tuple[int, str]]
) -> None:
    wishes = Wishes(scheduler)
    strays.append((7, "3/lint/default/1"))
    wishes.waits = defer.Deferred()
    both = [defer.ensureDeferred(scheduler._strays.turn_away()) for _ in range(2)]
    waits, wishes.waits = wishes.waits, None
    waits.callback(None)
    assert [done.called for done in both] == [True, True]
    assert wishes.heard == [3]


def test_a_refused_rebuild_is_turned_away_and_nothing_stays_of_those_that_are_gone(
    scheduler: Scheduler, strays: list[tuple[int, str]]
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise Refused("it runs")

    scheduler.repeat = refuse  # type: ignore[method-assign, assignment]
    strays.append((7, "3/lint/default/1"))
    defer.ensureDeferred(scheduler._strays.turn_away())
    assert scheduler.handover.cancelled == [7]  # type: ignore[attr-defined]
    assert len(scheduler._strays) == 1
    strays.clear()
    defer.ensureDeferred(scheduler._strays.turn_away())
    assert len(scheduler._strays) == 0


def broken(*_: object) -> Any:
    raise OSError("the database is away")


def test_the_end_of_a_quarantine_is_not_slept_through(scheduler: Scheduler, clock: Clock) -> None:
    """Nothing else would have it looked at before the next sweep."""
    asked: list[float] = []
    scheduler.master.botmaster.maybeStartBuildsForAllBuilders = lambda: asked.append(clock.seconds())
    began = clock.seconds()
    scheduler.gate.changes("GPU-a", 7.0)
    scheduler.gate.changes("GPU-b", 3.0)
    clock.advance(2.9)
    assert asked == []
    clock.advance(0.1)
    clock.advance(4.0)
    assert [at - began for at in asked] == pytest.approx([3.0, 7.0])
