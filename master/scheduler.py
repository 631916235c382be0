"""The durable scheduler: the one Buildbot scheduler of this master, which runs the stage graph.

It hears what happens (events in the inbox, builds that start and end, workers that leave, reconfiguration) and
has :class:`master.reconcile.Reconciler` bring the runs concerned to where they stand, one at a time. Nothing
is remembered here that the tables do not hold; a master killed at any moment picks every run up in
:meth:`PipelineScheduler.activate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from buildbot.schedulers.base import ReconfigurableBaseScheduler
from buildbot.util.twisted import async_to_deferred
from twisted.internet import defer
from twisted.python import log

from master.calls import Calls
from master.chooser import PlannedChooser
from master.database import buildbot_rows, store
from master.fleet import Gate, LiveFleet
from master.handover import Handover
from master.inbox import Inbox
from master.pipeline import Stage
from master.reconcile import Reconciler
from master.repeat import repeat_run
from master.run_model import Slot
from master.settings import Settings
from master.strays import Strays
from master.triggers import Event, Rules

NAME = "pipeline"
_RETRY_S = 5.0  #: pause after something unexpected went wrong, before the same is tried again
_SWEEP_S = 60.0  #: how often every live run is looked at, whatever was heard


class PipelineScheduler(ReconfigurableBaseScheduler):
    """Runs the stage graph.

    Args:
        settings: the whole settings; the pipeline, the workers and the limits are read from them.
        unavailable: why this version has no steps for a stage; empty when it has.
        gate: the gate that the builders ask (``canStartBuild``).
    """

    settings: Settings
    trouble: str = ""  #: why no event may be coming in just now; the poller tells
    inbox: Inbox
    reconciler: Reconciler
    handover: Handover
    reconciler_class: type[Reconciler] = Reconciler
    handover_class: type[Handover] = Handover

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(name=NAME, **kwargs)
        self.gate = Gate()
        self._unread = False  # whether there may be something in the inbox
        self._dirty: dict[int, None] = {}  # run ids, in the order they were heard of
        self._swept: dict[int, None] = {}  # run ids of which nothing was heard; looked at after the others
        self._work: defer.Deferred[None] | None = None
        self._lock = defer.DeferredLock()  # one thing at once: a run carried forward, a wish, a new configuration
        self._consumers: list[Any] = []
        self._calls = Calls()
        self._carrying = False
        self._strays = Strays(self)
        self._fleet: LiveFleet | None = None
        self._began = 0.0  # this life of the master

    def checkConfig(self, *, builderNames: list[str], **_: Any) -> None:
        super().checkConfig(builderNames=builderNames)

    @async_to_deferred
    async def reconfigService(
        self,
        *,
        builderNames: list[str],
        settings: Settings,
        unavailable: Callable[[Stage], str],
        gate: Gate,
    ) -> None:
        """Take the settings over, also while runs are under way: they follow the new pipeline from here on."""
        await super().reconfigService(builderNames=builderNames)
        await self._lock.run(self._configure, settings, unavailable, gate)
        if self._carrying:
            self._call("sweep", 0, self._sweep)

    def _configure(self, settings: Settings, unavailable: Callable[[Stage], str], gate: Gate) -> None:
        database, clock = self.master.db.pool, self.master.reactor.seconds
        self.settings = settings
        project = settings.project
        self._began = self._began or clock()
        gate.tickets.update(self.gate.tickets)
        self.gate = gate
        self.master.botmaster.brd.BuildChooser = partial(PlannedChooser, gate)
        self._fleet = LiveFleet(
            settings.workers, unavailable, self._connected, clock, self._refused, before=self._fleet
        )
        self.inbox = Inbox(database, rules_of(settings), settings.threads, clock)
        self.handover = self.handover_class(
            self.master, scheduler=self.name, repository=project.repository, project=project.name
        )
        self.reconciler = self.reconciler_class(
            database,
            self.handover,
            gate,
            self._fleet,
            settings.pipeline(),
            master_restarts=settings.scheduling.master_restarts,
            clock=clock,
            began=self._began,
        )

    def _connected(self) -> list[str]:
        return [name for name, worker in self.master.workers.workers.items() if worker.conn is not None]

    def _refused(self) -> dict[str, str]:
        workers = self.master.workers.workers.items()
        return {name: why for name, worker in workers if (why := getattr(worker, "refused", ""))}

    # -- life

    @async_to_deferred
    async def activate(self) -> None:
        """Pick up every run where the tables say it stands. Never raises: Buildbot would leave us half active."""
        try:
            await super().activate()
            if self.enabled and not self._carrying:
                await self._start()
        except Exception:
            log.err(None, "the pipeline scheduler could not start; trying again")
            self._call("activate", _RETRY_S, self.activate)

    async def _start(self) -> None:
        for callback, pattern in (
            (self._heard_of_build, ("builds", None, "new")),
            (self._heard_of_build, ("builds", None, "finished")),
            (self._heard_of_request, ("buildrequests", None, None)),
            (self._heard_of_worker, ("workers", None, None)),
        ):
            self._consumers.append(await self.master.mq.startConsuming(callback, pattern))
        self.reconciler.recovering = True
        try:
            await self._lock.run(self._recover)
        except Exception:
            self._stop_listening()
            raise
        finally:
            self.reconciler.recovering = False
        self._carrying = True
        self._sweep()

    @async_to_deferred
    async def _recover(self) -> None:
        for run_id in await self.master.db.pool.do(store.live_runs):
            await self._carry(run_id)
        await self.handover.complete_leftovers()

    @async_to_deferred
    async def deactivate(self) -> None:
        self._carrying = False
        self._calls.call_all_off()
        self._stop_listening()
        if self._work is not None:
            await self._work
        await super().deactivate()

    def _stop_listening(self) -> None:
        while self._consumers:
            self._consumers.pop().stopConsuming()

    # -- what is heard

    def _heard_of_build(self, _key: Any, message: dict[str, Any]) -> None:
        self._look_for_request(message["buildrequestid"])

    def _heard_of_request(self, key: tuple[str, str, str], message: dict[str, Any]) -> None:
        if key[2] in ("complete", "unclaimed", "cancel", "new"):
            self._look_for_request(int(key[1]))

    def _heard_of_worker(self, key: tuple[str, str, str], message: dict[str, Any]) -> None:
        if key[2] == "disconnected":
            self.reconciler.fleet.left(message["name"])
            if self._carrying and message["name"] in self._refused():
                self._call("sweep", 0, self._sweep)  # what waits for it shall say so

    @async_to_deferred
    async def _look_for_request(self, request_id: int) -> None:
        try:
            # behind the lock: a request that we are adding just now gets its row before it is looked for
            attempt = await self._lock.run(self.master.db.pool.do, store.attempt_of_request, request_id)
            if attempt is not None:
                self.look_at(attempt.run_id)
            else:
                await self._strays.turn_away()
        except Exception:
            log.err(None, f"while looking for the run of request {request_id}")

    # -- what is done

    def look_at(self, *run_ids: int) -> None:
        """Carry these runs forward, soon, after reading the inbox; without any, read the inbox."""
        self._dirty.update(dict.fromkeys(run_ids))
        self._unread = self._unread or not run_ids
        self._begin()

    def _begin(self) -> None:
        if self._carrying and self._work is None and self._next():
            self._work = self._work_off()
            self._work.addErrback(lambda why: log.err(why, "while carrying runs forward")).addBoth(self._rest)

    def _rest(self, _result: object) -> None:
        self._work = None
        self._begin()

    def _next(self) -> bool:
        return bool(self._unread or self._dirty or self._swept)

    @async_to_deferred
    async def _work_off(self) -> None:
        while self._carrying and self._next():
            if self._unread:  # asked before every run: an event must not wait for all that there is to do
                self._unread = False
                await self._lock.run(self._read_inbox)
                continue
            run_id = next(iter(self._dirty or self._swept))
            self._dirty.pop(run_id, None)
            self._swept.pop(run_id, None)
            await self._lock.run(self._carry, run_id)

    @async_to_deferred
    async def _read_inbox(self) -> None:
        try:
            self._put_first(await self.inbox.drain())
        except Exception:
            log.err(None, "while reading the inbox; trying again")
            self._call("inbox", _RETRY_S, self.look_at)

    def _put_first(self, run_ids: Iterable[int]) -> None:
        self._dirty = dict.fromkeys(run_ids) | self._dirty

    @async_to_deferred
    async def _carry(self, run_id: int) -> None:
        try:
            deadline = await self.reconciler.run(run_id)
        except Exception:
            log.err(None, f"while carrying run {run_id} forward; trying again")
            deadline = self.master.reactor.seconds() + _RETRY_S
        if deadline is None:
            self._calls.call_off(f"run {run_id}")
        else:
            self._call(f"run {run_id}", max(0.0, deadline - self.master.reactor.seconds()), self.look_at, run_id)

    @async_to_deferred
    async def _sweep(self) -> None:
        """Look at every live run, whatever was heard or missed."""
        try:
            self._swept.update(dict.fromkeys(await self.master.db.pool.do(store.live_runs)))
            self.look_at()
            await self._strays.turn_away()
            await self.handover.complete_leftovers()
            await self.handover.free_forgotten()
            self.master.botmaster.maybeStartBuildsForAllBuilders()
        except Exception:
            log.err(None, "while looking at every live run; trying again")
        if self._carrying:
            self._call("sweep", _SWEEP_S, self._sweep)

    def _call(self, purpose: str, delay: float, function: Callable[..., object], *args: object) -> None:
        self._calls.call(self.master.reactor, purpose, delay, function, *args)

    # -- wishes

    async def receive(self, event: Event, *, key: str, source: str) -> bool:
        """Keep an event and act on it; once this returns, it is safe. False when it was known already.

        Raises:
            InvalidEvent: it is none, and nothing was kept.
        """
        kept = await self.inbox.receive(event, key=key, source=source)
        self.look_at()
        return kept

    async def dispatch(self, event: Event, *, key: str) -> None:
        """Keep a manual event, and take its run as far as it goes now, before all else that there is to do.

        What fails once it is kept is tried again later, and is no failure of the dispatch.

        Raises:
            InvalidEvent: it is none, and nothing was kept.
        """
        await self.inbox.receive(event, key=key, source="manual")
        if not self._carrying:
            return
        try:
            await self._lock.run(self._open, key)
        except Exception:
            log.err(None, f"event {key} is kept, and its run could not be made at once; trying again")
            self._call("inbox", _RETRY_S, self.look_at)

    @async_to_deferred
    async def _open(self, key: str) -> None:
        pool = self.master.db.pool
        for inbox_id, told, event in await pool.do(store.unread):
            if told == key:
                self._put_first(await self.inbox.open(inbox_id, key, event))
        run_id = await pool.do(store.run_of_event, key)
        if run_id is not None:
            self._dirty.pop(run_id, None)
            await self._carry(run_id)
        self._begin()

    async def cancel(self, run_id: int, reason: str) -> bool:
        """End a run that is no longer wanted; False when it has ended."""
        cancelled: bool = await self.master.db.pool.do_with_transaction(store.cancel_run, run_id, reason)
        self.look_at(run_id)
        return cancelled

    async def repeat(self, run_id: int, stage: str = "", *, because: str) -> list[Slot]:
        """Run again what did not end well, or one stage; the new attempts.

        Raises:
            Refused: see :func:`master.repetition.repetition`.
        """
        repeat = async_to_deferred(repeat_run)
        now = self.master.reactor.seconds()
        pool, pipeline = self.master.db.pool, self.reconciler.pipeline
        slots: list[Slot] = await self._lock.run(repeat, pool, pipeline, run_id, stage, because=because, now=now)
        self.look_at(run_id)
        return slots

    async def strays(self) -> list[tuple[int, str]]:
        """Open requests that nobody planned: id, external id."""
        found: list[tuple[int, str]] = await self._lock.run(
            self.master.db.pool.do, buildbot_rows.strays, self.builderNames
        )
        return found


def rules_of(settings: Settings) -> Rules:
    """What the settings say about events."""
    project = settings.project
    return Rules(
        default_branch=project.default_branch,
        tag_pattern=project.tag_pattern,
        pull_requests=project.pull_requests,
        vouched=settings.github.vouched if settings.github else None,
    )
