"""The durable scheduler: the one Buildbot scheduler of this master, which runs the stage graph.

It hears what happens (events in the inbox, builds that start and end, workers that leave, reconfiguration) and
has :class:`master.reconcile.Reconciler` bring the runs concerned to where they stand, one at a time. Nothing
is remembered here that the tables do not hold; a master killed at any moment picks every run up in
:meth:`PipelineScheduler.activate`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from buildbot.schedulers.base import ReconfigurableBaseScheduler
from buildbot.util.twisted import async_to_deferred
from twisted.internet import defer
from twisted.python import log

from master.database import buildbot_rows, store
from master.fleet import Gate, LiveFleet
from master.handover import Handover
from master.inbox import Inbox
from master.pipeline import Stage
from master.reconcile import Reconciler
from master.repeat import repeat_run
from master.repetition import Refused
from master.run_model import Slot
from master.settings import Settings
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
        artifacts: the folder below which builds upload.
    """

    trouble: str = ""  #: why no event may be coming in just now; the poller tells
    inbox: Inbox
    reconciler: Reconciler
    handover: Handover
    reconciler_class: type[Reconciler] = Reconciler
    handover_class: type[Handover] = Handover

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(name=NAME, **kwargs)
        self.gate = Gate()
        self._dirty: dict[int, None] = {}  # run ids, in the order they were heard of
        self._work: defer.Deferred[None] | None = None
        self._again = False
        self._lock = defer.DeferredLock()  # one thing at once: a run carried forward, a wish, a new configuration
        self._consumers: list[Any] = []
        self._calls: dict[str, Any] = {}  # pending reactor calls by what they are for
        self._carrying = False
        self._turned_away: set[int] = set()  # requests of nobody's whose wish was heard

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
        artifacts: Path,
    ) -> None:
        """Take the settings over, also while runs are under way: they follow the new pipeline from here on."""
        await super().reconfigService(builderNames=builderNames)
        await self._lock.run(self._configure, settings, unavailable, gate, artifacts)
        if self._carrying:
            self._call("sweep", 0, self._sweep)

    def _configure(self, settings: Settings, unavailable: Callable[[Stage], str], gate: Gate, artifacts: Path) -> None:
        database, clock = self.master.db.pool, self.master.reactor.seconds
        project = settings.project
        gate.tickets.update(self.gate.tickets)
        self.gate = gate
        self.inbox = Inbox(database, rules_of(settings), settings.threads, clock)
        self.handover = self.handover_class(
            self.master, scheduler=self.name, repository=project.repository, project=project.name
        )
        self.reconciler = self.reconciler_class(
            database,
            self.handover,
            gate,
            LiveFleet(settings.workers, unavailable, self._connected, clock),
            settings.pipeline(),
            artifacts=artifacts,
            master_restarts=settings.scheduling.master_restarts,
            clock=clock,
        )

    def _connected(self) -> list[str]:
        return [name for name, worker in self.master.workers.workers.items() if worker.conn is not None]

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
        for call in self._calls.values():
            if call.active():
                call.cancel()
        self._calls.clear()
        while self._consumers:
            self._consumers.pop().stopConsuming()
        if self._work is not None:
            await self._work
        await super().deactivate()

    # -- what is heard

    def _heard_of_build(self, _key: Any, message: dict[str, Any]) -> None:
        self._look_for_request(message["buildrequestid"])

    def _heard_of_request(self, key: tuple[str, str, str], message: dict[str, Any]) -> None:
        if key[2] in ("complete", "unclaimed", "cancel", "new"):
            self._look_for_request(int(key[1]))

    def _heard_of_worker(self, key: tuple[str, str, str], message: dict[str, Any]) -> None:
        if key[2] == "disconnected":
            self.reconciler.fleet.left(message["name"])

    @async_to_deferred
    async def _look_for_request(self, request_id: int) -> None:
        try:
            # behind the lock: a request that we are adding just now gets its row before it is looked for
            attempt = await self._lock.run(self.master.db.pool.do, store.attempt_of_request, request_id)
            if attempt is not None:
                self.look_at(attempt.run_id)
            else:
                await self.turn_away_strays()
        except Exception:
            log.err(None, f"while looking for the run of request {request_id}")

    # -- what is done

    def look_at(self, *run_ids: int) -> None:
        """Carry these runs forward, soon, after reading the inbox."""
        self._dirty.update(dict.fromkeys(run_ids))
        self._again = True
        if self._carrying and self._work is None:
            self._work = self._work_off()
            self._work.addBoth(self._rest)

    async def idle(self) -> None:
        """Wait until all that was heard of so far is done."""
        while self._work is not None:
            done: defer.Deferred[None] = defer.Deferred()
            self._work.chainDeferred(done)
            await done

    def _rest(self, _result: object) -> None:
        self._work = None
        if self._again and self._carrying:
            self.look_at()

    @async_to_deferred
    async def _work_off(self) -> None:
        while self._again and self._carrying:
            self._again = False
            try:
                self._dirty.update(dict.fromkeys(await self._lock.run(async_to_deferred(self.inbox.drain))))
                while self._dirty and self._carrying:
                    run_id = next(iter(self._dirty))
                    del self._dirty[run_id]
                    await self._lock.run(self._carry, run_id)
            except Exception:
                log.err(None, "while reading the inbox; trying again")
                self._call("inbox", _RETRY_S, self.look_at)

    @async_to_deferred
    async def _carry(self, run_id: int) -> None:
        try:
            deadline = await self.reconciler.run(run_id)
        except Exception:
            log.err(None, f"while carrying run {run_id} forward; trying again")
            deadline = self.master.reactor.seconds() + _RETRY_S
        if deadline is not None:
            self._call(f"run {run_id}", max(0.0, deadline - self.master.reactor.seconds()), self.look_at, run_id)

    @async_to_deferred
    async def _sweep(self) -> None:
        """Look at every live run, whatever was heard or missed."""
        try:
            self.look_at(*await self.master.db.pool.do(store.live_runs))
            await self.turn_away_strays()
            await self.handover.complete_leftovers()
            self.master.botmaster.maybeStartBuildsForAllBuilders()
        except Exception:
            log.err(None, "while looking at every live run; trying again")
        if self._carrying:
            self._call("sweep", _SWEEP_S, self._sweep)

    def _call(self, purpose: str, delay: float, function: Callable[..., object], *args: object) -> None:
        """Call later; a newer call for the same purpose takes the place of the older."""
        pending = self._calls.pop(purpose, None)
        if pending is not None and pending.active():
            pending.cancel()
        self._calls[purpose] = self.master.reactor.callLater(delay, function, *args)

    # -- wishes

    async def receive(self, event: Event, *, key: str, source: str) -> bool:
        """Keep an event and act on it; once this returns, it is safe. False when it was known already.

        Raises:
            InvalidEvent: it is none, and nothing was kept.
        """
        kept = await self.inbox.receive(event, key=key, source=source)
        self.look_at()
        return kept

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

    async def _wished_by_rebuild(self, request_id: int, external_id: str) -> None:
        run_id, _, rest = external_id.partition("/")
        if not run_id.isdigit():
            log.msg(f"request {request_id} belongs to no run and is cancelled")
            return
        try:
            await self.repeat(int(run_id), rest.partition("/")[0], because="Rebuild")
        except Refused as refused:
            log.msg(f"Rebuild of {external_id} refused: {refused}")

    async def turn_away_strays(self) -> None:
        """Deal with requests that nobody planned: a Rebuild is a wish for a new attempt; the request itself goes."""
        found = await self._lock.run(self.master.db.pool.do, buildbot_rows.strays, self.builderNames)
        for request_id, external_id in found:
            if request_id not in self._turned_away:  # its end takes a moment, and it is heard of again meanwhile
                self._turned_away.add(request_id)
                await self._wished_by_rebuild(request_id, external_id)
            # last: the request is all that a crash leaves of a wish that was not written down yet
            await self.handover.cancel(request_id, "only the pipeline starts builds here")


def rules_of(settings: Settings) -> Rules:
    """What the settings say about events."""
    project = settings.project
    return Rules(
        default_branch=project.default_branch,
        tag_pattern=project.tag_pattern,
        pull_requests=project.pull_requests,
    )
