"""Which build may start where, and which GPUs it gets: the one place that lets a build start.

Buildbot asks :class:`Gate` (``canStartBuild``) under its distributor's lock, so it answers from memory and never waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from master.boards import Ahead, Refusals
from master.capabilities import Capabilities, GpuWanted
from master.fleet import trust_name
from master.leases import Lease, Leases, Ledger, Seen
from master.pipeline import Requires
from master.routing import Hosts
from master.waiting_line import ahead
from workers.probe.facts import one_line


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """A build request that may start: the run it is for, its builder, and whom it may run on."""

    run_id: int
    builder: str
    stage: str = ""  #: with its variant, for people; empty: as its builder is called
    trusted: bool
    local: bool
    requires: Requires = field(default_factory=Requires)
    priority: int = 0  #: of its request: more goes first
    since: float = 0.0  #: when it began to wait

    @property
    def gpu(self) -> GpuWanted | None:
        return self.requires.gpu

    @property
    def holder(self) -> str:
        """For people, when it has what others wait for."""
        return f"run {self.run_id}, {self.stage or self.builder}"

    @property
    def kind(self) -> tuple[bool, bool, Requires]:
        """Alike for two tickets that the same workers can serve."""
        return self.trusted, self.local, self.requires


class Gate:
    """Lets a build start only when its attempt is planned, unsettled, wanted, and the worker fits.

    The scheduler issues a ticket for each request it stands behind and takes it back when the attempt ends;
    what has no ticket (a Rebuild, a foreign scheduler's request, a request of a cancelled run) never starts.
    """

    def __init__(self) -> None:
        self.tickets: dict[int, Ticket] = {}
        self.trust: Mapping[str, str] = {}
        self.serving: dict[str, Collection[str]] = {}  #: builder -> the workers that it has
        self.hosts = Hosts()
        self.ledger = Ledger()
        self.clock: Callable[[], float] = time.time
        self.worker: Callable[[str], Any] = lambda _: None  #: Buildbot's, by its name; ``None`` when it is not there
        self.changed: Callable[[], None] = lambda: None  #: told when GPUs have become free, or were taken
        self.changes: Callable[[str, float], None] = lambda *_: (
            None
        )  #: told of which GPU that will be, in how many seconds
        self._tell_of: dict[str, set[str]] = {}  # board -> the workers that tell of it, as far as they were looked at
        self._looked_at: dict[str, Capabilities] = {}
        self._passed_over = False  # somebody stood back for who is ahead

    def can_start(self, _builder: Any, worker_for_builder: Any, request: Any) -> bool:
        """Buildbot's ``canStartBuild``. A yes reserves the GPUs that the build needs: nothing is asked after it."""
        ticket, worker = self.tickets.get(request.id), worker_for_builder.worker.workername
        if ticket is None or not self._fits(ticket, {worker: self.trust.get(worker, "")}):
            return False
        return ticket.gpu is None or self._reserve(request.id, ticket.gpu, worker_for_builder.worker)

    def startable(self, builder: str, workers: Iterable[str]) -> set[int]:
        """The requests of a builder that may start on one of these workers."""
        trusts = {name: self.trust.get(name, "") for name in workers}
        asked = {request: ticket for request, ticket in self.tickets.items() if ticket.builder == builder}
        # a long queue asks for few different things, and each is asked of every worker
        kinds = {ticket.kind: ticket for ticket in asked.values()}
        fitting = {kind for kind, ticket in kinds.items() if self._fits(ticket, trusts)}
        return {request for request, ticket in asked.items() if ticket.kind in fitting}

    def _fits(self, ticket: Ticket, trusts: Mapping[str, str]) -> bool:
        if ticket.local:
            return True
        trust = trust_name(ticket.trusted)
        if not ticket.requires.of_probe:
            return trust in trusts.values()
        there = (name for name, of in trusts.items() if of == trust and self._may_have(name, ticket.gpu))
        return any(not self.why_not(ticket.requires, name) for name in there)

    def _may_have(self, worker: str, gpu: GpuWanted | None) -> bool:
        """A first look, that spares a closer one at most workers of a large fleet that is busy."""
        seen = self._seen(worker) if gpu else None
        return gpu is None or (seen is not None and self.ledger.open(worker, seen) >= gpu.count)

    def why_not(self, requires: Requires, worker: str, *, ever: bool = False) -> Sequence[str]:
        """Why this worker cannot serve a stage as its host is now, each to be read after its name. With ``ever``, only
        what will not pass by itself."""
        if requires.gpu is None or ever:
            return self.hosts.refusals(requires, worker, ever=ever)
        seen, now = self._seen(worker), self.clock()
        lent = self.ledger.lent(worker, seen) if seen else ()
        quarantined = self.ledger.quarantined(worker, now)
        if refused := self.hosts.refusals(requires, worker, lent=lent, quarantined=quarantined):
            return refused
        found = self.ledger.preview(worker, requires.gpu, seen, now)
        return found.reasons if isinstance(found, Refusals) else ()

    # -- GPUs

    def held(self) -> Sequence[Lease]:
        """What builds have of GPUs now."""
        return self.ledger.held()

    def _seen(self, worker: str) -> Seen | None:
        host = self.hosts.capabilities(worker)
        if host is None:
            return None
        seen = Seen(host=host, after=self.hosts.taken(worker))
        if self._looked_at.get(worker) is not host:
            self._looked_at[worker] = host
            for board in self.ledger.boards(worker, seen):
                self._tell_of.setdefault(board, set()).add(worker)
        return seen

    def _reserve(self, request: int, gpu: GpuWanted, worker: Any) -> bool:
        name, now = worker.workername, self.clock()
        before = partial(self._ahead, request, worker, now)
        holder = self.tickets[request].holder
        found = self.ledger.reserve(request, name, gpu, self._seen(name), now, before, holder)
        if isinstance(found, Refusals):
            self._passed_over = True
        elif self._passed_over:  # who stood back for this one may find room now
            self._passed_over = False
            self.changed()
        return not isinstance(found, Refusals)

    def _ahead(self, request: int, worker: Any, now: float) -> Iterator[Ahead]:
        """Who may have this host's boards first: also on another worker there, of the other trust."""
        waiting = {request: self.tickets[request]}
        others = self._hostmates(worker.workername)
        names = {worker.workername, *(each.workername for each in others)}
        for there in (worker, *others):
            name = there.workername
            trust = self.trust.get(name, "")
            able = {builder for builder, which in there.workerforbuilders.items() if not which.isBusy()}
            waiting |= {
                number: ticket
                for number, ticket in self.tickets.items()
                if ticket.gpu
                and ticket.builder in able
                and trust_name(ticket.trusted) == trust
                and name in self.serving.get(ticket.builder, ())
                and not self.ledger.has(number)
            }
        return ahead(request, waiting, now, lambda other: self._drained_for(waiting[other]) in names)

    def _hostmates(self, worker: str) -> list[Any]:
        """Other workers that tell of the same boards, and could build now."""
        seen = self._seen(worker)
        boards = self.ledger.boards(worker, seen) if seen else set()
        names = set[str]().union(*(self._tell_of.get(board, ()) for board in boards)) - {worker}
        others = [self.worker(name) for name in sorted(names) if self._seen(name)]
        return [other for other in others if other and other.canStartBuild()]

    def _drained_for(self, ticket: Ticket) -> str:
        """The one worker that is kept free for what has waited too long; empty when none will ever do, or when one
        board that becomes free is enough."""
        if ticket.gpu is None or (ticket.gpu.count == 1 and not self.ledger.shares):
            return ""
        trust, now = trust_name(ticket.trusted), self.clock()
        for name in sorted(self.serving.get(ticket.builder, ())):
            quarantined = self.ledger.quarantined(name, now)
            if self.trust.get(name) == trust and not self.hosts.refusals(
                ticket.requires, name, quarantined=quarantined, ever=True
            ):
                return name
        return ""

    def begin(self, request: int, worker: str) -> Leases:
        """The GPUs of a build that begins."""
        return self.ledger.begin(request, worker)

    def end(self, request: int, leases: Leases, *, good: bool, faulty: Mapping[str, str]) -> None:
        """A build that had these GPUs has ended; ``faulty``: those on which it found a fault, and which."""
        now = self.clock()
        for lease in leases:
            if lease.gpu in faulty:
                until = self.ledger.quarantine(lease.worker, lease.gpu, one_line(str(faulty[lease.gpu])), now)
                self.changes(lease.board, until - now)
        if leases and self.ledger.release(request, now, only=leases, good=good):
            self.changed()

    def sweep(self, live: Collection[int]) -> list[int]:
        """Free the GPUs of requests that are neither being built nor about to be; their ids."""
        if gone := self.ledger.sweep(live, self.clock()):
            self.changed()
        return gone
