"""The durable scheduler: the one Buildbot scheduler of this master, which runs the stage graph.

It hears what happens (events in the inbox, builds that start and end, workers that leave, reconfiguration) and
has :class:`master.reconcile.Reconciler` bring the runs concerned to where they stand, one at a time. Nothing
is remembered here that the tables do not hold; a master killed at any moment picks every run up in
:meth:`PipelineScheduler.activate`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from buildbot.schedulers.base import ReconfigurableBaseScheduler
from buildbot.util.twisted import async_to_deferred
from twisted.python import log

from master.backlog import RETRY_S, Backlog
from master.chooser import PlannedChooser
from master.database import store
from master.fleet import LiveFleet
from master.gate import Gate
from master.handover import Handover
from master.inbox import Inbox
from master.pipeline import Stage
from master.reconcile import Reconciler
from master.settings import Settings
from master.strays import Strays
from master.triggers import Rules
from master.workers import FleetMember
from workers.git import is_local

NAME = "pipeline"
_SWEEP_S = 60.0  #: how often every live run is looked at, whatever was heard


class PipelineScheduler(Backlog, ReconfigurableBaseScheduler):
    """Runs the stage graph.

    Args:
        settings: the whole settings; the pipeline, the workers and the limits are read from them.
        unavailable: why this version has no steps for a stage; empty when it has.
        gate: the gate that the builders ask (``canStartBuild``).
    """

    settings: Settings
    trouble: str = ""  #: why no event may be coming in just now; the poller tells
    handover: Handover
    reconciler_class: type[Reconciler] = Reconciler
    handover_class: type[Handover] = Handover

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(name=NAME, **kwargs)
        self.gate = Gate()
        self._consumers: list[Any] = []
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
        self._carry_leases_over(gate)
        self.gate = gate
        self.master.botmaster.brd.BuildChooser = partial(PlannedChooser, gate)
        self._fleet = LiveFleet(
            settings.workers,
            unavailable,
            self.available_workers,
            clock,
            self.refused,
            before=self._fleet,
            why_not=gate.why_not,
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

    def _carry_leases_over(self, gate: Gate) -> None:
        """What is leased stays so, under the new settings."""
        ledger = self.gate.ledger
        ledger.shares, ledger.sites = gate.ledger.shares, gate.ledger.sites
        gate.ledger, gate.clock, gate.changed = ledger, self.master.reactor.seconds, self._gpus_changed
        gate.changes = self._gpu_changes
        gate.worker = self._worker_there

    def _worker_there(self, name: str) -> Any:
        worker = self.master.workers.workers.get(name)
        return worker if worker is not None and _available(worker) else None

    def connected_workers(self) -> list[str]:
        """Names of the workers that are attached to this master."""
        return [name for name, worker in self.master.workers.workers.items() if worker.conn is not None]

    def available_workers(self) -> list[str]:
        """Names of those, and of the workers that are started once there is a build for them."""
        return [name for name, worker in self.master.workers.workers.items() if _available(worker)]

    def refused(self) -> dict[str, str]:
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
            self._call("activate", RETRY_S, self.activate)

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

    def capacity_changed(self) -> None:
        """What workers can do has changed: what waits may start now, or waits for another reason."""
        if self._carrying:
            self._call("sweep", 0, self._sweep)

    def _gpus_changed(self) -> None:
        """GPUs have become free, or were taken: who waits for one may start, or waits for another."""
        if self._carrying:
            self._call("gpus", 0, self._look_at_gpus)

    def _gpu_changes(self, board: str, seconds: float) -> None:
        """This one's quarantine will have ended."""
        if self._carrying:
            self._call(f"gpu {board}", seconds, self._look_at_gpus)

    def _look_at_gpus(self) -> None:
        self.master.botmaster.maybeStartBuildsForAllBuilders()
        self.look_at(*{ticket.run_id for ticket in self.gate.tickets.values() if ticket.gpu})

    def _sweep_gpus(self) -> None:
        """Free what is leased to nobody: a request that ended, or was given back, before its build began."""
        live = self.handover.being_built() | self.handover.about_to_be_built()
        if gone := self.gate.sweep(live):
            log.msg(f"GPUs of build requests that are not being built are free again: {gone}")

    def _heard_of_build(self, _key: Any, message: dict[str, Any]) -> None:
        self._look_for_request(message["buildrequestid"])

    def _heard_of_request(self, key: tuple[str, str, str], message: dict[str, Any]) -> None:
        if key[2] in ("complete", "unclaimed"):
            self._sweep_gpus()
        if key[2] in ("complete", "unclaimed", "cancel", "new"):
            self._look_for_request(int(key[1]))

    def _heard_of_worker(self, key: tuple[str, str, str], message: dict[str, Any]) -> None:
        if key[2] == "disconnected":
            self.reconciler.fleet.left(message["name"])
            if self._carrying and message["name"] in self.refused():
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

    @async_to_deferred
    async def _sweep(self) -> None:
        """Look at every live run, whatever was heard or missed."""
        try:
            self._swept.update(dict.fromkeys(await self.master.db.pool.do(store.live_runs)))
            self.look_at()
            await self._strays.turn_away()
            await self.handover.complete_leftovers()
            await self.handover.free_forgotten()
            self._sweep_gpus()
            self.master.botmaster.maybeStartBuildsForAllBuilders()
        except Exception:
            log.err(None, "while looking at every live run; trying again")
        if self._carrying:
            self._call("sweep", _SWEEP_S, self._sweep)


def _available(worker: Any) -> bool:
    available: bool = worker.available if isinstance(worker, FleetMember) else worker.conn is not None
    return available


def rules_of(settings: Settings) -> Rules:
    """What the settings say about events.

    Whoever reaches a repository elsewhere may open pull requests there, and without ``[github]`` nobody is known to
    belong to it. A path of this machine vouches for all who can write to it.
    """
    project = settings.project
    vouched = None if is_local(project.repository) else frozenset[str]()
    return Rules(
        default_branch=project.default_branch,
        tag_pattern=project.tag_pattern,
        pull_requests=project.pull_requests,
        vouched=settings.github.vouched if settings.github else vouched,
        comments=settings.github is not None and settings.github.takes_orders,
    )
