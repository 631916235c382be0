"""The gate lends GPUs: to who is first in line, once, and to nobody for ever."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recorded import said

from master.bench import leases
from master.capabilities import GpuWanted
from master.gate import Gate, Ticket
from master.pipeline import Requires
from master.routing import Known
from master.waiting_line import CLASS_S, DRAIN_S, ahead, in_order, place

TAG, PUSH, PULL = 30, 20, 10


def ticket(builder: str = "a", priority: int = PUSH, since: float = 0.0, count: int = 1, **gpu: Any) -> Ticket:
    requires = Requires(gpu=GpuWanted.model_validate({"api": "cuda", "count": count, **gpu})) if count else Requires()
    return Ticket(
        run_id=1, builder=builder, trusted=True, local=False, requires=requires, priority=priority, since=since
    )


class Site:
    """One worker whose host has two boards, and who waits for them."""

    def __init__(self, waiting: dict[int, Ticket], kind: str = "two-boards", workers: tuple[str, ...] = ("w",)) -> None:
        self.now, self.poked = 10_000.0, 0
        self.gate = Gate()
        self.gate.clock = self.gate.hosts.clock = lambda: self.now
        self.gate.changed = self._poke
        self.gate.trust = dict.fromkeys(workers, "trusted")
        self.gate.hosts.configure(dict.fromkeys(workers, ("linux", frozenset())), 1e9)
        for worker in workers:
            self.gate.hosts.note(worker, Known(said=said(kind), read_at=0.0))
        self.gate.tickets = waiting
        self.gate.serving = {each.builder: workers for each in waiting.values()}
        self.busy: set[str] = set()

    def _poke(self) -> None:
        self.poked += 1

    def asks(self, request: int, worker: str = "w") -> bool:
        builders = {b: SimpleNamespace(isBusy=lambda b=b: b in self.busy) for b in self.gate.serving}
        host = SimpleNamespace(workername=worker, workerforbuilders=builders)
        return self.gate.can_start(None, SimpleNamespace(worker=host), SimpleNamespace(id=request))

    def begins(self, request: int) -> Any:
        del self.gate.tickets[request]
        return self.gate.begin(request, "w")


def test_a_yes_is_a_reservation_and_the_next_is_told_no() -> None:
    site = Site({n: ticket(builder) for n, builder in enumerate("abc")})
    assert [site.asks(n) for n in range(3)] == [True, True, False]
    assert [lease.request for lease in site.gate.held()] == [0, 1]
    del site.gate.tickets[0], site.gate.tickets[1]
    assert "is held by run 1, b" in " ".join(site.gate.why_not(site.gate.tickets[2].requires, "w"))
    assert site.gate.startable("c", ["w"]) == set()


def test_what_buildbot_does_not_start_is_swept_up() -> None:
    site = Site({0: ticket("a"), 1: ticket("b", count=2)})
    assert site.asks(0)
    assert not site.asks(1)
    assert site.gate.sweep(set()) == [0]
    assert site.poked == 1
    del site.gate.tickets[0]
    assert site.asks(1)


@pytest.mark.parametrize("good", [True, False])
def test_the_end_of_a_build_frees_its_boards_and_says_so(good: bool) -> None:
    site = Site({0: ticket(count=2), 1: ticket("b", count=2)})
    assert site.asks(0)
    leases_of_it = site.begins(0)
    assert not site.asks(1)
    site.gate.end(0, leases_of_it, good=good, faulty={})
    assert site.poked
    assert site.asks(1)


def test_a_fault_that_a_build_found_puts_its_board_aside_and_no_other() -> None:
    site = Site({0: ticket(), 1: ticket("b", count=2)})
    assert site.asks(0)
    (lease,) = found = site.begins(0)
    told: list[tuple[str, float]] = []
    site.gate.changes = lambda board, seconds: told.append((board, seconds))
    site.gate.end(0, found, good=False, faulty={lease.gpu: "computes\nwrongly", "GPU-of-another": "x"})
    assert told == [(lease.gpu, 60.0)], "when to look again"
    assert site.gate.ledger.quarantined("w", site.now) == {lease.gpu: "computes wrongly"}
    assert "is quarantined: computes wrongly" in " ".join(site.gate.why_not(site.gate.tickets[1].requires, "w"))
    site.now += 60
    assert site.asks(1)


def test_a_build_without_gpus_asks_for_none() -> None:
    site = Site({0: ticket(count=0)}, "no-driver")
    assert site.asks(0)
    assert site.begins(0) == ()
    site.gate.end(0, (), good=True, faulty={})
    assert site.gate.held() == [] and site.poked == 0


def test_the_more_urgent_goes_first_whoever_is_asked_first() -> None:
    site = Site({0: ticket("a", PULL), 1: ticket("b", PUSH, count=2), 2: ticket("c", TAG)})
    assert not site.asks(0), "both boards are kept: one for the tag, and then there are too few for the push"
    assert site.asks(2)
    assert site.poked == 1, "who stood back is asked again"


def test_who_cannot_start_there_is_not_waited_for() -> None:
    site = Site({0: ticket("a", PULL, count=2), 1: ticket("b", TAG)})
    assert not site.asks(0)
    site.busy = {"b"}
    assert site.asks(0), "its builder is building on that worker"
    site = Site({0: ticket("a", PULL, count=2), 1: ticket("b", TAG, min_vram_gib=500)})
    assert site.asks(0), "no board of the worker will ever do for it"


def test_boards_are_kept_for_one_that_waits_too_long_for_two_on_one_worker_only() -> None:
    waiting = {1: ticket("b", count=2, since=10_000), 2: ticket("c", since=10_001)}
    site = Site(waiting, workers=("w", "x"))
    site.gate.ledger.sites = {"x": "another host"}
    site.gate.tickets[0] = ticket("a", TAG)
    assert site.asks(0)
    site.begins(0)
    assert not site.asks(1), "there is one of two"
    assert site.asks(2), "which others use meanwhile"
    site.gate.ledger.release(2, site.now)
    site.now += DRAIN_S
    assert not site.asks(2), "it is kept now"
    site.gate.hosts.note("x", Known(said=said("h100"), read_at=0.0))
    assert site.asks(2, "x"), "elsewhere nothing is"


# -- the line


def test_a_class_is_worth_an_hour() -> None:
    waiting = {
        1: ticket(priority=PULL, since=0),
        2: ticket(priority=PUSH, since=CLASS_S - 1),
        3: ticket(since=CLASS_S + 1),
    }
    waiting[4] = ticket(priority=TAG, since=2 * CLASS_S - 2)
    assert in_order(waiting, waiting) == [4, 2, 1, 3]


@given(st.lists(st.tuples(st.sampled_from([PULL, PUSH, TAG]), st.floats(0, 1e5)), min_size=2, max_size=30))
def test_nobody_is_overtaken_by_what_comes_two_hours_later(came: list[tuple[int, float]]) -> None:
    waiting = {number: ticket(priority=priority, since=since) for number, (priority, since) in enumerate(came)}
    order = in_order(waiting, waiting)
    for position, first in enumerate(order):
        for other in order[position + 1 :]:
            assert waiting[first].since <= waiting[other].since + 2 * CLASS_S
    assert order == sorted(order, key=lambda number: place(number, waiting[number]))


def test_of_each_builder_the_first_goes_ahead_and_what_wants_no_gpu_never() -> None:
    waiting = {
        1: ticket("a"), 2: ticket("a"), 3: ticket("b", count=2), 4: ticket("c"), 5: ticket("d", count=0), 6: ticket(),
    }  # fmt: skip
    found = list(ahead(6, waiting, 0.0, lambda _: False))
    assert [each.wanted.count for each in found] == [1, 2, 1]
    drained = list(ahead(6, waiting, DRAIN_S, lambda number: number == 3))
    assert [(each.wanted.count, each.drains) for each in drained] == [(1, False), (2, True), (1, False)]


def test_a_pull_request_does_not_take_the_board_of_its_host_from_the_default_branch() -> None:
    """The two are built by workers of different trust, which are on one host."""
    pull = replace(ticket("a", PULL), trusted=False)
    for there in (True, False):
        site = Site({0: ticket("a", PUSH, count=2), 1: pull}, workers=("w", "stranger"))
        site.gate.trust["stranger"] = "untrusted"
        other = SimpleNamespace(
            workername="w", workerforbuilders={"a": SimpleNamespace(isBusy=lambda: False)}, canStartBuild=lambda: True
        )
        site.gate.worker = {"w": other}.get if there else lambda _: None
        site.gate.startable("a", ["w"])  # the other worker was looked at
        assert site.asks(1, "stranger") is not there


# -- whole fleets


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_in_a_fleet_that_has_too_much_to_do_everybody_is_served(seed: int, workers: int) -> None:
    simulation = leases.Simulation(workers, seed, builds=12)
    fleet = simulation.run()
    assert len(fleet.builds) == 12 * workers, "nobody waits for ever"
    assert fleet.out_of_order == 0
    assert simulation.gate.held() == [], "and nothing is left"
    assert fleet.most_held <= workers * leases.GPUS


def test_nobody_who_wants_two_boards_starves_in_a_stream_of_more_urgent_ones() -> None:
    """Two boards that are never free at once by themselves."""

    def waits(drain: bool) -> float:
        site = Site({0: ticket("two", PUSH, count=2, since=10_000)})
        site.gate.serving |= {"one": ("w",), "other": ("w",)}
        running: dict[str, tuple[float, int, Any]] = {}
        number = 1
        while site.now < 10_000 + 20 * CLASS_S:
            if drain and 0 in site.gate.tickets and site.asks(0):
                return site.now - 10_000
            for position, builder in enumerate(("one", "other")):
                if builder in running and running[builder][0] <= site.now:
                    _, request, had = running.pop(builder)
                    site.gate.end(request, had, good=True, faulty={})
                    if 0 in site.gate.tickets and site.asks(0):
                        return site.now - 10_000
                if builder not in running:
                    number += 1
                    site.gate.tickets[number] = ticket(builder, PUSH if drain else TAG, since=site.now)
                    if not drain:  # the mutant: whoever is ahead is not asked about
                        site.gate._ahead = lambda *_: iter(())  # type: ignore[method-assign]
                    site.busy = set(running)
                    if site.asks(number):
                        running[builder] = (site.now + 600 + 300 * position, number, site.begins(number))
                    else:
                        del site.gate.tickets[number]
            site.now += 100
        return float("inf")

    assert waits(drain=True) <= DRAIN_S + 1000
    assert waits(drain=False) == float("inf"), "without the line it would"
