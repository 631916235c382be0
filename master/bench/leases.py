"""A simulated fleet that lends its GPUs by the real gate: how long a decision takes, and how long builds wait.

Everything around the gate is played: workers, builds, and the order in which Buildbot asks. Time is simulated; what is
measured is the time that the gate takes. Half of the workers serve trusted runs. Of the builders, each of which
builds one at a time on one worker, some want several GPUs.
"""

from __future__ import annotations

import heapq
import itertools
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from master.capabilities import GpuWanted
from master.fleet import least_busy, trust_name
from master.gate import Gate, Ticket
from master.handover import PRIORITY
from master.pipeline import EventKind, Requires
from master.probe_facts import ProbeSaid
from master.routing import Hosts, Known
from master.waiting_line import in_order
from workers.probe.facts import FORMAT

SMALL, LARGE, GPUS = 10, 200, 8
BUILDS = 10  # for each worker
_LOAD = 1.05  # of all boards, were they always filled
BUILD_S = 600.0  # of a build, on average
_COUNTS = (1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 4)  # GPUs that each builder's builds want
KINDS = {EventKind.TAG: 0.05, EventKind.PUSH: 0.45, EventKind.PULL_REQUEST: 0.5}
_BOARD = 80 << 30


@dataclass(kw_only=True)
class Build:
    request: int
    kind: EventKind
    builder: str
    gpus: int
    seconds: float
    came: float
    started: float | None = None

    @property
    def waited(self) -> float:
        return (self.started or 0.0) - self.came


@dataclass(kw_only=True)
class Fleet:
    """What one simulation came to. Seconds, unless said otherwise."""

    workers: int
    builds: Sequence[Build]
    deciding: float  #: in the gate
    out_of_order: int  #: builds that a later one of the same builder and kind has overtaken
    most_held: int  #: boards in use at once

    @property
    def decision(self) -> float:
        """For each build that was started."""
        return self.deciding / len(self.builds)

    def mean_wait(self, kind: EventKind | None = None, gpus: int | None = None) -> float:
        chosen = [b.waited for b in self.builds if kind in (None, b.kind) and gpus in (None, b.gpus)]
        return statistics.fmean(chosen) if chosen else 0.0

    @property
    def longest_wait(self) -> float:
        return max(build.waited for build in self.builds)


@dataclass
class Simulation:
    """``workers`` of ``GPUS`` boards each."""

    workers: int
    seed: int = 1
    builds: int = BUILDS
    now: float = 0.0
    deciding: float = 0.0
    held: int = 0
    most_held: int = 0
    events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random, self.numbers = random.Random(self.seed), itertools.count(1)  # noqa: S311 - repeatable
        self.gate = Gate()
        self.gate.clock = self.gate.hosts.clock = lambda: self.now
        self.gate.changed = self._poked
        self.hosts: Hosts = self.gate.hosts
        names = [f"w{number:03}" for number in range(self.workers)]
        self.gate.trust = {name: trust_name(number % 2 == 0) for number, name in enumerate(names)}
        self.hosts.configure({name: ("linux", frozenset[str]()) for name in names}, float("inf"))
        for name in names:
            self.hosts.note(name, Known(said=probe(name), read_at=0.0))
        self.requires = {
            f"b{number}": Requires(gpu=GpuWanted(api="cuda", count=count)) for number, count in enumerate(_COUNTS)
        }
        self.gate.serving = dict.fromkeys(self.requires, names)
        self.there = [_worker(name, self.requires) for name in names]
        self.gate.worker = {worker.workername: worker for worker in self.there}.get
        self.waiting: dict[int, Build] = {}
        self.done: list[Build] = []
        self._again = False

    def run(self) -> Fleet:
        total = self.builds * self.workers
        mean_gpus = statistics.fmean(_COUNTS)
        pause = BUILD_S * mean_gpus / (self.workers * GPUS * _LOAD)
        at = 0.0
        for number in range(total):
            at += self.random.expovariate(1 / pause)
            self._later(at, lambda number=number: self._comes(number))  # type: ignore[misc]
        while self.events:
            self.now, _, event = heapq.heappop(self.events)
            event()
        return Fleet(
            workers=self.workers,
            builds=self.done,
            deciding=self.deciding,
            out_of_order=overtaken(self.done),
            most_held=self.most_held,
        )

    def _later(self, at: float, event: Callable[[], None]) -> None:
        heapq.heappush(self.events, (at, next(self.numbers), event))

    def _comes(self, number: int) -> None:
        builder = self.random.choice(sorted(self.requires))
        (kind,) = self.random.choices(list(KINDS), list(KINDS.values()))
        seconds = self.random.uniform(0.2, 1.8) * BUILD_S
        request = number + 1
        wanted = self.requires[builder].gpu
        gpus = wanted.count if wanted else 0
        self.waiting[request] = Build(
            request=request, kind=kind, builder=builder, gpus=gpus, seconds=seconds, came=self.now
        )
        self.gate.tickets[request] = Ticket(
            run_id=request,
            builder=builder,
            trusted=kind is not EventKind.PULL_REQUEST,
            local=False,
            requires=self.requires[builder],
            priority=PRIORITY[kind],
            since=self.now,
        )
        self._distribute([builder])

    def _poked(self) -> None:
        self._again = True

    def _distribute(self, builders: Sequence[str]) -> None:
        """As Buildbot does: one builder after the other, each as long as it finds something to start."""
        while True:
            self._again = False
            for builder in builders:
                while self._start_one(builder):
                    pass
            if not self._again:
                return
            builders = sorted(self.requires)

    def _start_one(self, builder: str) -> bool:
        if not any(build.builder == builder for build in self.waiting.values()):
            return False
        free = [
            worker.workerforbuilders[builder] for worker in self.there if not worker.workerforbuilders[builder].isBusy()
        ]
        startable = self._timed(self.gate.startable, builder, {each.worker.workername for each in free})
        for request in in_order(self.gate.tickets, startable):
            left = list(free)
            while left:
                chosen = least_busy(None, left, None)
                left.remove(chosen)
                if self._timed(self.gate.can_start, None, chosen, SimpleNamespace(id=request)):
                    self._begins(request, chosen)
                    return True
        return False

    def _timed(self, decide: Callable[..., Any], *arguments: Any) -> Any:
        began = time.perf_counter()  # the processor's time costs more to ask for than a decision
        try:
            return decide(*arguments)
        finally:
            self.deciding += time.perf_counter() - began

    def _begins(self, request: int, there: Any) -> None:
        build = self.waiting.pop(request)
        build.started = self.now
        del self.gate.tickets[request]
        there.build = request
        leases = self.gate.begin(request, there.worker.workername)
        self.held += len(leases)
        self.most_held = max(self.most_held, len({lease.board for lease in self.gate.held()}))
        self.done.append(build)
        self._later(self.now + build.seconds, lambda: self._ends(request, there, leases))

    def _ends(self, request: int, there: Any, leases: Any) -> None:
        there.build = None
        self.held -= len(leases)
        self.gate.end(request, leases, good=True, faulty={})
        self._distribute(sorted(self.requires))


def _worker(name: str, builders: Mapping[str, Any]) -> Any:
    worker = SimpleNamespace(workername=name, workerforbuilders={}, canStartBuild=lambda: True)
    for builder in builders:
        there = SimpleNamespace(worker=worker, build=None)
        there.isBusy = lambda there=there: there.build is not None
        worker.workerforbuilders[builder] = there
    return worker


def overtaken(builds: Sequence[Build]) -> int:
    """In the order in which they were started."""
    last: dict[tuple[str, EventKind], float] = defaultdict(float)
    found = 0
    for build in builds:
        key = build.builder, build.kind
        found += build.came < last[key]
        last[key] = max(last[key], build.came)
    return found


def probe(name: str) -> ProbeSaid:
    """Of a host with eight boards that are all idle."""
    board = {
        "pci": "0", "memory_total": _BOARD, "memory_free": _BOARD, "compute": "9.0", "driver": "580", "cuda": "13.0",
        "mig": False, "mig_slices": 0, "ecc_uncorrected": 0, "retired_pages": None, "retired_pending": None,
        "remapped_rows": 0, "remap_pending": False, "remap_failed": False, "recovery": "none", "processes": (),
    }  # fmt: skip
    gpus = [
        {"id": f"GPU-{name}-{n}", "name": "Board", "vendor": "nvidia", "vulkan": None, "cuda": {"index": n, **board}}
        for n in range(GPUS)
    ]
    host = dict.fromkeys(("memory_total", "memory_available", "disk_total", "disk_free"))
    return ProbeSaid.model_validate(
        {
            "format": FORMAT, "at": 0.0, "took": 0.0, "tools": (), "gpus": tuple(gpus), "absent": (), "problems": (),
            "host": {"system": "linux", "release": "", "kernel": "", "machine": "x86_64", "cores": 8, **host},
        }
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A small fleet and a large one with as much to do for each worker; the ratios are the large one's to the small
    one's, each the median of the rounds."""

    small: Sequence[Fleet]
    large: Sequence[Fleet]

    def _ratio(self, figure: Callable[[Fleet], float]) -> float:
        return statistics.median(figure(b) / figure(a) for a, b in zip(self.small, self.large, strict=True))

    @property
    def workers(self) -> float:
        return self._ratio(lambda fleet: fleet.workers)

    @property
    def decision(self) -> float:
        return self._ratio(lambda fleet: fleet.decision)

    def as_json(self, machine: Mapping[str, Any]) -> dict[str, Any]:
        def told(fleet: Fleet) -> dict[str, Any]:
            return {
                "workers": fleet.workers,
                "builds": len(fleet.builds),
                "decision_ms": round(fleet.decision * 1000, 3),
                "out_of_order": fleet.out_of_order,
                "most_boards_held": fleet.most_held,
                "longest_over_build": round(fleet.longest_wait / BUILD_S, 3),
                "wait_over_build": {kind.value: round(fleet.mean_wait(kind) / BUILD_S, 3) for kind in KINDS},
                "wait_over_build_by_gpus": {
                    count: round(fleet.mean_wait(gpus=count) / BUILD_S, 3) for count in sorted({*_COUNTS})
                },
            }

        return {
            "benchmark": "leases",
            "machine": dict(machine),
            "rounds": [{"small": told(a), "large": told(b)} for a, b in zip(self.small, self.large, strict=True)],
            "workers_ratio": self.workers,
            "decision_ratio": round(self.decision, 2),
        }


def measure(rounds: int, say: Callable[[str], None], *, small: int = SMALL, large: int = LARGE) -> Compared:
    fleets: dict[int, list[Fleet]] = {small: [], large: []}
    for seed in range(1, rounds + 1):
        for workers, found in fleets.items():
            say(f"round {seed}: {workers} workers with {GPUS} GPUs each")
            found.append(Simulation(workers, seed).run())
    return Compared(small=fleets[small], large=fleets[large])
