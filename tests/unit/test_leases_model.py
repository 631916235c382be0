"""The ledger under any order of builds, crashes, reconnects and faults: never two holders of a board, never a lease
that nobody has. The mutants show that the model would notice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from test_capabilities import device, host

from master.boards import Refusals, Taken
from master.capabilities import GIB, GpuWanted
from master.leases import LONGEST_QUARANTINE_S, Leases, Ledger, Seen

BOARDS = {  # what each worker tells of; two of them are on one host
    "here-1": ("GPU-a", "GPU-b", "VK-0"),
    "here-2": ("GPU-a", "GPU-b", "VK-0"),
    "there": ("GPU-c", "VK-0"),
}
SITES = {"here-1": "here", "here-2": "here"}
SIZE = 8
MANY = settings(
    max_examples=1500, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
WORKERS, REQUESTS = st.sampled_from(sorted(BOARDS)), st.integers(1, 4)


def real_board(worker: str, gpu: str) -> str:
    return gpu if gpu.startswith("GPU-") else f"{SITES.get(worker, worker)} {gpu}"


class Builds(RuleBasedStateMachine):
    """Requests that are reserved for, are built, end, or get lost; what each has is noted here, independently."""

    ledger_class: type[Ledger] = Ledger

    @initialize(shares=st.booleans())
    def a_master_starts(self, shares: bool) -> None:
        self.shares, self.now = shares, 0.0
        self._restart()

    def _restart(self) -> None:
        self.ledger = self.ledger_class(shares=self.shares, sites=SITES)
        self.reserved: dict[int, Leases] = {}
        self.building: dict[int, Leases] = {}
        self.past: dict[int, Leases] = {}  # of earlier builds of a request
        self.out: dict[str, float] = {}  # board -> until when it is quarantined
        self.taken_memory: dict[str, float] = {}  # worker -> what its probe says that is taken, in GiB

    def _seen(self, worker: str) -> Seen:
        free = SIZE - self.taken_memory.get(worker, 0.0)
        devices = [device(gpu, free=free, total=SIZE, apis={"vulkan": "1.3"}) for gpu in BOARDS[worker]]
        return Seen(host=host(*devices), after=self.now)

    @rule(
        request=REQUESTS,
        worker=WORKERS,
        count=st.integers(1, 2),
        memory=st.sampled_from([0, 1, 3, 6]),
    )
    def ask(self, request: int, worker: str, count: int, memory: int) -> None:
        wanted = GpuWanted(api="vulkan", count=count, min_vram_gib=memory)
        found = self.ledger.reserve(request, worker, wanted, self._seen(worker), self.now)
        if request in self.building:
            assert isinstance(found, Refusals), "its build has begun"
            return
        self.reserved.pop(request, None)
        if isinstance(found, Refusals):
            assert found.reasons
            return
        assert len({lease.gpu for lease in found}) == count
        for lease in found:
            assert self.now >= self.out.get(real_board(worker, lease.gpu), 0.0), "it is quarantined"
        self.reserved[request] = found

    @rule(request=REQUESTS, worker=WORKERS)
    def begin(self, request: int, worker: str) -> None:
        found = self.ledger.begin(request, worker)
        if request in self.reserved and self.reserved[request][0].worker == worker:
            assert found == self.reserved[request]
            self.building[request] = self.reserved.pop(request)
        elif request not in self.building:
            assert found == ()

    @rule(request=REQUESTS, worker=WORKERS, memory=st.sampled_from([0, 1]))
    def is_built(self, request: int, worker: str, memory: int) -> None:
        """All at once, as it mostly is."""
        self.ask(request, worker, 1, memory)
        self.begin(request, worker)

    @rule(request=REQUESTS, worker=WORKERS, memory=st.sampled_from([0, 1]))
    def is_lost_and_built_again(self, request: int, worker: str, memory: int) -> None:
        self.end(request, good=False)
        self.is_built(request, worker, memory)

    @rule(request=REQUESTS, good=st.booleans())
    def end(self, request: int, good: bool) -> None:
        if request in self.building:
            leases = self.past[request] = self.building.pop(request)
            assert self.ledger.release(request, self.now, only=leases, good=good) == leases

    @rule(request=REQUESTS)
    def an_earlier_build_of_it_ends_once_more(self, request: int) -> None:
        if request in self.past:
            assert self.ledger.release(request, self.now, only=self.past[request]) == ()

    @rule(worker=WORKERS)
    def a_worker_is_lost(self, worker: str) -> None:
        for request, leases in list(self.building.items()):
            if leases[0].worker == worker:
                self.end(request, good=False)

    @rule(keep=st.booleans())
    def sweep(self, keep: bool) -> None:
        """``keep``: Buildbot has chosen what is reserved, and begins it just now."""
        gone = self.ledger.sweep({*self.building, *(self.reserved if keep else ())}, self.now)
        assert sorted(gone) == sorted(() if keep else self.reserved)
        if not keep:
            self.reserved = {}

    @rule(worker=WORKERS, number=st.integers(0, 2))
    def a_fault(self, worker: str, number: int) -> None:
        gpu = BOARDS[worker][number % len(BOARDS[worker])]
        until = self.ledger.quarantine(worker, gpu, "fault", self.now)
        assert self.now < until <= self.now + LONGEST_QUARANTINE_S
        self.out[real_board(worker, gpu)] = until

    @rule(seconds=st.sampled_from([1.0, 61.0, 7 * 3600.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(worker=WORKERS, taken=st.sampled_from([0.0, 1.0, 5.0]))
    def a_worker_says_anew_what_is_free(self, worker: str, taken: float) -> None:
        self.taken_memory[worker] = taken

    @rule()
    def the_master_is_killed(self) -> None:
        self._restart()

    @invariant()
    def every_board_has_room_for_who_has_it(self) -> None:
        if not hasattr(self, "ledger"):
            return
        having: dict[str, list[int | None]] = {}
        for leases in (*self.reserved.values(), *self.building.values()):
            for lease in leases:
                having.setdefault(real_board(lease.worker, lease.gpu), []).append(lease.memory)
        for board, sizes in having.items():
            if None in sizes or not self.shares:
                assert len(sizes) == 1, f"{board} has two holders"
            assert sum(size or 0 for size in sizes) <= SIZE * GIB, f"{board} is given out twice"

    @invariant()
    def the_ledger_has_what_builds_have(self) -> None:
        if hasattr(self, "ledger"):
            noted = [lease for leases in (*self.reserved.values(), *self.building.values()) for lease in leases]
            assert sorted(map(str, self.ledger.held())) == sorted(map(str, noted))

    def teardown(self) -> None:
        """Once all have ended, all can be had again."""
        if not hasattr(self, "ledger"):
            return
        for request in list(self.building):
            self.end(request, good=True)
        self.sweep(keep=False)
        self.now += 2 * LONGEST_QUARANTINE_S
        self.taken_memory = {}
        for number, worker in enumerate(("here-1", "there"), 100):
            wanted = GpuWanted(api="vulkan", count=len(BOARDS[worker]))
            found = self.ledger.reserve(number, worker, wanted, self._seen(worker), self.now)
            assert not isinstance(found, Refusals), f"what nobody has cannot be had: {found}"


@pytest.mark.slow
def test_never_two_holders_and_never_a_leak() -> None:
    run_state_machine_as_test(Builds, settings=MANY)


class ForgetsToFree(Ledger):
    def release(self, request: int, now: float, **more: Any) -> Leases:
        boards = {name: replace(board.taken, shares=dict(board.taken.shares)) for name, board in self._boards.items()}
        freed = super().release(request, now, **more)
        for name, taken in boards.items():
            self._boards[name].taken = taken
        return freed


class FreesALaterLease(Ledger):
    def release(self, request: int, now: float, *, only: Leases | None = None, good: bool = False) -> Leases:
        return super().release(request, now, good=good)


class NamesBoardsByWorker(Ledger):
    def _name(self, worker: str, gpu: str) -> str:
        return f"{worker} {gpu}"


class TakesUuidsOfTheBusForTheBoards(Ledger):
    def _name(self, worker: str, gpu: str) -> str:
        return "GPU-" + gpu


class SweepsNothing(Ledger):
    def sweep(self, live: Any, now: float) -> list[int]:
        return []


class SweepsWhatIsBuilt(Ledger):
    def sweep(self, live: Any, now: float) -> list[int]:
        return super().sweep((), now)


class MovesWhatIsBuilt(Ledger):
    def begin(self, request: int, worker: str) -> Leases:
        found = super().begin(request, worker)
        self._begun.clear()
        return found


class BeginsAnywhere(Ledger):
    def begin(self, request: int, worker: str) -> Leases:
        leases = self._held.get(request, ())
        return super().begin(request, leases[0].worker) if leases else ()


class UsesWhatIsQuarantined(Ledger):
    def _unfit(self, worker: str, host: Any, now: float) -> Any:
        return iter(())


class KeepsTheQuarantineForEver(Ledger):
    def quarantine(self, worker: str, gpu: str, reason: str, now: float) -> float:
        super().quarantine(worker, gpu, reason, now)
        return super().quarantine(worker, gpu, reason, now + 1e9) - 1e9


MUTANTS = [
    ForgetsToFree,
    FreesALaterLease,
    NamesBoardsByWorker,
    TakesUuidsOfTheBusForTheBoards,
    SweepsNothing,
    SweepsWhatIsBuilt,
    MovesWhatIsBuilt,
    BeginsAnywhere,
    UsesWhatIsQuarantined,
    KeepsTheQuarantineForEver,
]


def finds(mutant: type[Ledger]) -> bool:
    class Mutated(Builds):
        ledger_class = mutant

    try:
        run_state_machine_as_test(Mutated, settings=settings(MANY, report_multiple_bugs=False, phases=MANY.phases[:3]))
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_model_notices(mutant: type[Ledger]) -> None:
    assert finds(mutant)


@pytest.mark.parametrize(
    "has_room",
    [
        pytest.param(lambda taken, memory: True, id="always room"),
        pytest.param(lambda taken, memory: not taken.shares or memory is not None, id="never full"),
        pytest.param(lambda taken, memory: memory is not None or not taken.shares, id="whole and shared"),
    ],
)
def test_the_model_notices_too_many_on_a_board(has_room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Taken, "has_room", has_room)
    assert finds(Ledger)
