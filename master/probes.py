"""Asks the workers what their hosts have: when they attach, and again and again; outside of all scheduling.

Buildbot reads a worker's ``info/`` when it attaches and never again. Here it is read anew, one worker at a time and
each with a deadline, so that a worker that hangs costs the others that time once, and nothing else waits for it.
"""

from __future__ import annotations

from typing import Any

from buildbot.util.service import BuildbotService
from buildbot.util.twisted import async_to_deferred
from twisted.internet import defer
from twisted.python import log

from master.calls import Calls
from master.database import probes
from master.database.probes import Row
from master.gate import Gate
from master.probe_facts import ProbeSaid, Unreadable, read
from master.routing import Hosts, Known
from master.scheduler import NAME as SCHEDULER
from master.settings import Settings
from workers.probe.facts import FILE

SERVICE = "probes"
_DEADLINE_S = 10.0  #: for one worker's answer
_SOON_S = 2.0  #: a worker that has just started is asked again this soon: its first probe is under way
_AGAIN_S = 1.0  #: pause between two looks at who is to be asked


class Probes(BuildbotService):
    """Keeps :attr:`hosts` true, and the table ``worker_probes`` for whoever looks when a worker is not there.

    Args:
        settings: whom to ask, and how often.
        gate: asks :attr:`hosts` which worker will do.
    """

    name = SERVICE
    settings: Settings
    hosts: Hosts

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(name=SERVICE, **kwargs)
        self.hosts = Hosts()
        self._calls = Calls()
        self._consumers: list[Any] = []
        self._due: dict[str, float] = {}  # when each worker that is there is asked next
        self._pause: dict[str, float] = {}
        self._text: dict[str, object] = {}  # what it said, as it came
        self._asked: dict[str, float] = {}  # when it was last asked and answered
        self._silent: set[str] = set()
        self._before: dict[str, Row] = {}  # what another life of the master knew
        self._round_now: defer.Deferred[None] | None = None
        self._changed = self._running = False

    def checkConfig(self, *, settings: Settings, gate: Gate) -> None:
        """Nothing more than the settings' own checks."""

    @async_to_deferred
    async def reconfigService(self, *, settings: Settings, gate: Gate) -> None:
        self.settings = settings
        self.hosts.clock = self.master.reactor.seconds
        workers = {name: (worker.os, worker.provides) for name, worker in settings.workers.items()}
        self.hosts.configure(workers, settings.gpus.stale_after)
        gate.hosts = self.hosts
        if not self._running:
            self._running = True
            await self._begin()
        self._tell()

    async def _begin(self) -> None:
        """Take up what was known, and hear of workers."""
        try:
            await self.master.db.pool.do_with_transaction(probes.forget_others, set(self.settings.workers))
            self._before = await self.master.db.pool.do(probes.every)
        except Exception:
            log.err(None, "what workers said before could not be read")
        self._consumers.append(await self.master.mq.startConsuming(self._heard, ("workers", None, None)))
        for name in self.settings.workers:
            if self._connection(name) is not None and not self._contained(name):
                self._attached(name)
        self._calls.call(self.master.reactor, "round", 0, self._round)

    @async_to_deferred
    async def stopService(self) -> None:
        self._running = False
        self._calls.call_all_off()
        while self._consumers:
            self._consumers.pop().stopConsuming()
        if self._round_now is not None:
            self._round_now.cancel()
        await super().stopService()

    # -- workers that come and go

    def _connection(self, name: str) -> Any:
        return getattr(self.master.workers.workers.get(name), "conn", None)

    def _contained(self, name: str) -> bool:
        """Whether what it has is known of its image, and not of the container that just now is it."""
        return self.settings.workers[name].container is not None

    def container_said(self, name: str, said: str | Unreadable) -> None:
        """What the image of a worker has that is a container, or why nothing is known of it."""
        if name in self.settings.workers:
            self._note(name, said)
            self._tell()

    def _heard(self, key: tuple[str, str, str], message: dict[str, Any]) -> None:
        name = message["name"]
        if name not in self.settings.workers or self._contained(name):
            return
        if key[2] == "connected" and self._connection(name) is not None:
            self._attached(name)
        elif key[2] == "disconnected" and self._connection(name) is None:
            known = self.hosts.known(name)
            if known is not None and isinstance(known.said, ProbeSaid):  # it may come back with the very same
                self._before[name] = Row(worker=name, probed_at=known.said.at, read_at=known.read_at, said=known.said)
            for state in (self._due, self._pause, self._text, self._asked):
                state.pop(name, None)
            self.hosts.forget(name)

    def _attached(self, name: str) -> None:
        """What it says of its host came with it."""
        self._due[name], self._pause[name] = self.master.reactor.seconds(), _SOON_S
        self._note(name, self._connection(name).info.get(FILE))
        self._tell()

    # -- asking

    def _round(self) -> None:
        self._round_now = self._ask_those_due()
        self._round_now.addErrback(self._failed).addBoth(self._rest)

    def _failed(self, why: Any) -> None:
        if not why.check(defer.CancelledError):
            log.err(why, "while asking workers what they have; trying again")

    def _rest(self, _result: object) -> None:
        self._round_now = None
        if self._running:
            self._calls.call(self.master.reactor, "round", _AGAIN_S, self._round)

    @async_to_deferred
    async def _ask_those_due(self) -> None:
        now = self.master.reactor.seconds()
        for name in [name for name, due in self._due.items() if due <= now]:
            connection = self._connection(name)
            if connection is not None and name in self.settings.workers:
                await self._ask(name, connection)
        self._tell()

    async def _ask(self, name: str, connection: Any) -> None:
        asked: defer.Deferred[dict[str, Any]] = connection.remoteGetWorkerInfo()
        try:
            info = await asked.addTimeout(_DEADLINE_S, self.master.reactor)
        except Exception as error:
            self._next(name, answered=False)
            if name not in self._silent and connection is self._connection(name):
                self._silent.add(name)
                log.msg(f"worker {name!r} does not say what its host has: {str(error) or type(error).__name__}")
            return
        self._silent.discard(name)
        if connection is self._connection(name):  # else it came back meanwhile, and that was read
            self._note(name, info.get(FILE))
            self._next(name, answered=True)

    def _next(self, name: str, *, answered: bool) -> None:
        interval = self.settings.gpus.probe_interval
        known = self.hosts.known(name)
        if answered and known is not None and isinstance(known.said, ProbeSaid):
            pause = interval
        else:
            pause = min(self._pause.get(name, _SOON_S), interval)
            self._pause[name] = pause * 2
        if name in self._due:
            self._due[name] = self.master.reactor.seconds() + pause

    # -- what they said

    def _note(self, name: str, text: object) -> None:
        now = self.master.reactor.seconds()
        after, self._asked[name] = self._asked.get(name, 0.0), now
        if name in self._text and self._text[name] == text:
            return
        self._text[name] = text
        said = text if isinstance(text, Unreadable) else read(text)
        probed_at = said.at if isinstance(said, ProbeSaid) else 0.0
        before, read_at = self._before.pop(name, None), now
        if before is not None and isinstance(said, ProbeSaid) and before.probed_at == probed_at:
            read_at = min(before.read_at, now)  # the very same: it is as old as it was
        self._changed |= self.hosts.note(name, Known(said=said, read_at=read_at, after=after))
        if isinstance(said, Unreadable) and text is not None:
            log.msg(f"worker {name!r} {said.reason}")
        self._keep(Row(worker=name, probed_at=probed_at, read_at=read_at, said=said))

    @async_to_deferred
    async def _keep(self, row: Row) -> None:
        try:
            await self.master.db.pool.do_with_transaction(probes.keep, row)
        except Exception:
            log.err(None, f"what worker {row.worker!r} said could not be kept")

    def _tell(self) -> None:
        """What waits for a host like one of these may start, or waits for another reason."""
        if not self._changed:
            return
        self._changed = False
        scheduler = self.master.scheduler_manager.namedServices.get(SCHEDULER)
        if scheduler is not None:
            scheduler.capacity_changed()
