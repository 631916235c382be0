"""How a run is brought to where Buildbot's rows say it stands, on a database that holds both theirs and ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from buildbot.db.model import Model
from buildbot.process.results import CANCELLED, RETRY, SUCCESS
from graphs import NOW, pipeline, stage
from stored import A, Pool, arrives, push

from master.database import store
from master.fleet import LiveFleet
from master.gate import Gate, Ticket
from master.handover import Handover
from master.outcome import OVERDUE
from master.pipeline import Pipeline, Requires, State
from master.reconcile import Reconciler
from master.run_model import Create, Slot

BUILD = Slot("build", "", 1)
LIMIT = 100 * 1.1 + 300  #: s, of a stage with a timeout of 100 s and the grace for its worker
OBEYS = 301.0  #: s after which a worker is thrown out that does not stop a build


class Orders(Handover):
    """Notes what is asked of Buildbot."""

    stopping = False  # type: ignore[assignment]

    def __init__(self) -> None:
        self.cancelled: list[int] = []
        self.dropped: list[str] = []
        self.poked: list[str] = []

    def has_builder(self, stage: Any, variant: str) -> bool:
        return True

    async def cancel(self, request_id: int, reason: str) -> None:
        self.cancelled.append(request_id)

    def drop(self, worker: str, why: str) -> None:
        self.dropped.append(worker)

    def poke(self, stage: Any, variant: str) -> None:
        self.poked.append(stage.name)


class Master:
    """A clock, Buildbot's rows, and a reconciler of one run with one queued attempt, whose request is 1."""

    def __init__(self, engine: sa.Engine, database: Callable[..., Any]) -> None:
        self.engine, self.database = engine, database
        self.now, self.gate, self.orders = NOW, Gate(), Orders()
        self.reconciler = self.configured(pipeline(stage("build", timeout=100.0)))
        Model.metadata.create_all(engine)
        with engine.begin() as connection:
            for table, values in (
                (Model.masters, {"name": "m", "name_hash": "m", "active": 1, "last_active": 0}),
                (Model.workers, {"name": "host", "info": {}, "paused": 0, "graceful": 0}),
                (Model.builders, {"name": "build", "name_hash": "x"}),
                (Model.buildsets, {"submitted_at": 0, "complete": 0}),
                (Model.buildrequests, {"buildsetid": 1, "builderid": 1, "complete": 0, "submitted_at": 0}),
            ):
                connection.execute(table.insert().values(id=1, **values))
        self.run_id, _ = arrives(database, push(A))
        database(store.add_attempts, self.run_id, [Create(slot=BUILD)], NOW)
        queued = {"state": State.QUEUED, "waiting_since": NOW, "request_id": 1, "buildset_id": 1}
        database(store.change, self.run_id, BUILD, was=[State.PENDING], values=queued)

    def configured(self, stages: Pipeline, began: float = NOW) -> Reconciler:
        fleet = LiveFleet({}, lambda _stage: "", list, lambda: self.now)
        fleet.unserved = lambda *_: ""  # type: ignore[method-assign]
        return Reconciler(
            Pool(self.database),
            self.orders,
            self.gate,
            fleet,
            stages,
            master_restarts=10,
            clock=lambda: self.now,
            began=began,
        )

    def build(self, results: int | None = None, *, started: float | None = None) -> int:
        began = int(self.now if started is None else started)
        values = {"builderid": 1, "buildrequestid": 1, "masterid": 1, "workerid": 1, "state_string": ""}
        ended = {"results": results, "complete_at": None if results is None else int(self.now)}
        with self.engine.begin() as connection:
            number = connection.execute(sa.select(sa.func.count()).select_from(Model.builds)).scalar_one() + 1
            row = {"number": number, "started_at": began, "locks_duration_s": 0, **values, **ended}
            return int(connection.execute(Model.builds.insert().values(row)).inserted_primary_key[0])  # type: ignore[index]

    def ends(self, build: int, results: int) -> None:
        values = {"results": results, "complete_at": int(self.now)}
        with self.engine.begin() as connection:
            connection.execute(Model.builds.update().where(Model.builds.c.id == build).values(values))

    def request_ends(self, results: int) -> None:
        with self.engine.begin() as connection:
            connection.execute(Model.buildrequests.update().values(complete=1, results=results))

    def carry(self, seconds: float = 0.0) -> Any:
        """Time passes, and the run is carried on; its first attempt."""
        self.now += seconds
        asyncio.run(self.reconciler.run(self.run_id or 0))
        return self.attempts()[0]

    def attempts(self) -> list[Any]:
        found: list[Any] = self.database(store.attempts, [self.run_id])
        return found


@pytest.fixture
def master(engine: sa.Engine, database: Callable[..., Any]) -> Master:
    return Master(engine, database)


# -- builds that were lost


@pytest.mark.parametrize(("began", "counts"), [(10.0, (2, 0)), (-10.0, (0, 2))])
def test_lost_builds_are_counted_also_when_the_next_one_has_ended_before_they_were_seen(
    master: Master, began: float, counts: tuple[int, int]
) -> None:
    """Those that an earlier life of the master began were lost with it."""
    master.reconciler = master.configured(master.reconciler.pipeline, began=NOW + began)
    for _ in range(2):
        master.build(RETRY, started=NOW)
    master.now += 20
    master.build(SUCCESS)
    attempt = master.carry()
    assert attempt.state is State.SUCCESS
    assert (attempt.lost_with_master, attempt.lost_with_worker) == counts


def test_a_build_that_ended_well_counts_however_many_were_lost_before_it(master: Master) -> None:
    for _ in range(5):
        master.build(RETRY)
    master.build(SUCCESS)
    assert master.carry().state is State.SUCCESS


def test_lost_builds_without_one_that_ended_are_counted_as_before(master: Master) -> None:
    master.build(RETRY)
    attempt = master.carry()
    assert (attempt.state, attempt.lost_with_worker) == (State.QUEUED, 1)
    for _ in range(2):
        master.build(RETRY)
    assert master.carry().reason == "its worker was lost 3 times while building"


# -- the gate's tickets


def test_a_ticket_says_what_the_settings_say_now(master: Master) -> None:
    master.carry()
    ticket = Ticket(run_id=1, builder="build", stage="build", trusted=True, local=False, priority=20, since=NOW)
    assert master.gate.tickets == {1: ticket}
    assert master.orders.poked == ["build"]
    master.reconciler = master.configured(pipeline(stage("build", requires=Requires(local=True))))
    master.carry()
    local = Requires(local=True)
    assert master.gate.tickets == {1: replace(ticket, local=True, requires=local)}
    assert master.orders.poked == ["build"] * 2, "Buildbot asks the gate again"
    master.carry()
    assert master.orders.poked == ["build"] * 2, "nothing has changed"


# -- builds that do not end


def test_a_build_that_its_worker_does_not_end_in_time_is_taken_back_and_repeated(master: Master) -> None:
    build = master.build()
    attempt = master.carry(LIMIT - 1)
    assert (attempt.state, attempt.withdrawn, master.orders.cancelled) == (State.RUNNING, "", [])
    attempt = master.carry(2)
    assert attempt.withdrawn.startswith(OVERDUE)
    assert master.orders.cancelled == [1]
    master.ends(build, CANCELLED)
    attempt = master.carry()
    assert (attempt.state, attempt.reason) == (State.INFRASTRUCTURE, attempt.withdrawn)
    assert [a.state for a in master.attempts()] == [State.INFRASTRUCTURE, State.PENDING]


def test_a_build_that_began_after_others_were_lost_has_the_whole_time(master: Master) -> None:
    master.build(RETRY)
    master.carry(LIMIT - 1)
    master.build()
    assert master.carry(LIMIT - 1).withdrawn == ""
    assert master.carry(3).withdrawn.startswith(OVERDUE)


@pytest.mark.parametrize("why", ["overdue", "cancelled"])
def test_a_worker_that_does_not_stop_a_build_is_thrown_out(master: Master, why: str) -> None:
    build = master.build()
    if why == "overdue":
        master.carry(LIMIT + 1)
    else:
        master.carry()
        master.database(store.cancel_run, master.run_id, "by hand")
        master.carry()
    assert (master.orders.cancelled, master.orders.dropped) == ([1], [])
    master.carry(OBEYS - 2)
    assert master.orders.dropped == []
    master.carry(2)
    assert master.orders.dropped == ["host"]
    master.carry(10)
    assert master.orders.dropped == ["host"], "it has as long again"
    master.carry(OBEYS)
    assert master.orders.dropped == ["host", "host"]
    master.ends(build, RETRY)
    master.carry()
    assert master.orders.cancelled == [1, 1], "its request is queued again, and taken back again"
    master.request_ends(CANCELLED)
    attempt = master.carry()
    assert attempt.state is (State.INFRASTRUCTURE if why == "overdue" else State.CANCELLED)
    assert attempt.reason == attempt.withdrawn


def test_a_worker_that_stops_a_build_in_time_is_not_thrown_out(master: Master) -> None:
    build = master.build()
    master.carry()
    master.database(store.cancel_run, master.run_id, "by hand")
    master.carry()
    master.ends(build, CANCELLED)
    assert master.carry(OBEYS).state is State.CANCELLED
    assert master.orders.dropped == []
    assert not master.reconciler._withdrawn, "nothing stays of what has ended"


def test_a_withdrawal_that_could_not_be_told_is_told_again(master: Master, monkeypatch: pytest.MonkeyPatch) -> None:
    master.build()
    master.carry()
    master.database(store.cancel_run, master.run_id, "by hand")

    async def fails(*_: object) -> None:
        raise OSError("the database is away")

    with monkeypatch.context() as patched:
        patched.setattr(master.orders, "cancel", fails)
        with pytest.raises(OSError, match="away"):
            master.carry()
    master.carry()
    assert master.orders.cancelled == [1]
