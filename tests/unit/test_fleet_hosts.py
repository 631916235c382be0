"""The gate and the fleet ask what a worker's host has: who may start where, what waits and why, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from graphs import context, stage
from recorded import said
from simulation import Simulation

from master.capabilities import GpuWanted
from master.fleet import ConfiguredFleet, LiveFleet, eligible
from master.gate import Gate, Ticket
from master.pipeline import EventKind, Pipeline, Requires, Stage, State
from master.routing import Known
from master.run_model import WAITING

CUDA = Requires(gpu=GpuWanted(api="cuda", min_vram_gib=8))


@dataclass(frozen=True)
class Worker:
    trust: str = "trusted"
    os: str = "linux"
    provides: frozenset[str] = field(default_factory=frozenset)


class Site:
    """Workers named after what their hosts have, all of them there; ``old`` is connected with a version that does not
    fit."""

    def __init__(self, *kinds: str, there: set[str] | None = None) -> None:
        self.now = 1000.0
        self.workers = {kind: Worker() for kind in kinds}
        self.there = set(kinds) if there is None else there
        self.refused: dict[str, str] = {}
        self.gate = Gate()
        self.gate.clock = lambda: self.now
        self.gate.trust = {name: worker.trust for name, worker in self.workers.items()}
        self.gate.hosts.clock = lambda: self.now
        self.gate.hosts.configure({name: (worker.os, worker.provides) for name, worker in self.workers.items()}, 1e9)
        for kind in kinds:
            self.has(kind, kind)
        self.fleet = LiveFleet(
            self.workers,
            lambda _stage: "",
            lambda: self.there,
            lambda: self.now,
            lambda: self.refused,
            why_not=self.gate.why_not,
        )

    def has(self, name: str, kind: str) -> None:
        self.gate.hosts.note(name, Known(said=said(kind), read_at=self.now))

    def why(self, wanted: Stage, variant: str = "") -> str:
        return self.fleet.turned_away(wanted, variant, trusted=True)


def starts(gate: Gate, worker: str, request: int = 5) -> bool:
    chosen = SimpleNamespace(worker=SimpleNamespace(workername=worker, workerforbuilders={}))
    return gate.can_start(None, chosen, SimpleNamespace(id=request))


def test_a_build_starts_only_where_the_host_will_do() -> None:
    site = Site("h100", "no-driver", "mig")
    site.gate.tickets[5] = Ticket(run_id=1, builder="test", trusted=True, local=False, requires=CUDA)
    assert not starts(site.gate, "no-driver")
    assert not starts(site.gate, "mig")
    assert starts(site.gate, "h100")


def test_the_queue_is_asked_by_worker() -> None:
    site = Site("h100", "no-driver")
    tools = Requires(versions=("cmake>=4",))
    for number, requires in ((1, CUDA), (2, tools), (3, Requires())):
        site.gate.tickets[number] = Ticket(run_id=1, builder="b", trusted=True, local=False, requires=requires)
    assert site.gate.startable("b", ["no-driver"]) == {3}
    assert site.gate.startable("b", ["h100", "no-driver"]) == {1, 2, 3}


def test_trust_comes_before_what_a_host_has() -> None:
    site = Site("h100")
    site.gate.trust = {"h100": "untrusted"}
    site.gate.tickets[5] = Ticket(run_id=1, builder="b", trusted=True, local=False, requires=CUDA)
    assert not starts(site.gate, "h100")
    assert site.gate.startable("b", ["h100"]) == set()


def test_the_settings_alone_say_who_may_serve_a_stage_at_all() -> None:
    wanted = stage("gpu", requires=CUDA, variants=("", "win"), variant_requires={"win": Requires(os="windows")})
    site = Site("h100", "no-driver")
    assert eligible(wanted, site.workers) == ["h100", "no-driver"]
    assert eligible(wanted, site.workers, "win") == []
    fleet = ConfiguredFleet(site.workers, lambda _: "")
    assert fleet.unserved(wanted, "", trusted=True) == ""
    assert "h100 is linux, not windows" in fleet.unserved(wanted, "win", trusted=True)


def test_why_it_waits_names_every_worker_that_is_there() -> None:
    wanted = stage("gpu", requires=Requires(gpu=GpuWanted(api="cuda", min_vram_gib=100)))
    site = Site("h100", "no-driver", "radeon", there={"h100", "no-driver"})
    assert site.why(wanted) == WAITING + "h100 has 79.1 of 100 GiB free; no-driver has no cuda: no NVIDIA driver"
    site.refused = {"radeon": "versions do not fit"}
    assert site.why(wanted).endswith("; radeon is not used, as versions do not fit")


def test_one_that_will_do_is_enough_to_wait_for_its_turn() -> None:
    site = Site("h100", "no-driver")
    assert site.why(stage("gpu", requires=CUDA)) == ""
    site.there = {"no-driver"}
    assert site.why(stage("gpu", requires=CUDA)) == WAITING + "no-driver has no cuda: no NVIDIA driver"
    site.there = set()
    assert site.why(stage("gpu", requires=CUDA)) == ""


def test_a_variant_waits_for_what_it_needs_itself() -> None:
    wanted = stage("gpu", variants=("cpu", "cuda"), variant_requires={"cuda": CUDA})
    site = Site("no-driver")
    assert site.why(wanted, "cpu") == ""
    assert site.why(wanted, "cuda") != ""


@pytest.mark.parametrize(("kind", "counts"), [("h100", True), ("no-driver", False), ("hanging-driver", False)])
def test_a_worker_that_can_never_serve_it_does_not_count_as_there(kind: str, counts: bool) -> None:
    site = Site(kind)
    began = site.now
    site.now += 500
    seen = site.fleet.last_connected(stage("gpu", requires=CUDA), "", trusted=True)
    assert seen == (site.now if counts else began)
    assert site.fleet.last_connected(stage("plain"), "", trusted=True) == site.now


def test_a_board_in_use_counts_as_there() -> None:
    """6.1 of its 8 GiB are free just now."""
    site = Site("geforce-windows")
    wanted = stage("gpu", requires=Requires(gpu=GpuWanted(api="cuda", min_vram_gib=7)))
    site.now += 500
    assert site.why(wanted) == WAITING + "geforce-windows has 6.1 of 7 GiB free"
    assert site.fleet.last_connected(wanted, "", trusted=True) == site.now


def test_it_is_missed_since_it_was_there_last_also_under_new_settings() -> None:
    site, wanted = Site("h100"), stage("gpu", requires=CUDA)
    site.now = 2000.0
    assert site.fleet.last_connected(wanted, "", trusted=True) == 2000.0
    site.has("h100", "no-driver")
    site.now = 3000.0
    assert site.fleet.last_connected(wanted, "", trusted=True) == 2000.0
    later = LiveFleet(
        site.workers,
        lambda _stage: "",
        lambda: site.there,
        lambda: site.now,
        before=site.fleet,
        why_not=site.gate.why_not,
    )
    assert later.last_connected(wanted, "", trusted=True) == 2000.0


def run_of(site: Site, **fields: Any) -> Simulation:
    wanted = stage("gpu", requires=CUDA, queue_timeout=600.0, **fields)
    run = Simulation(Pipeline(stages=(wanted,)), context(EventKind.PUSH))
    run.fleet, run.now = site.fleet, site.now  # type: ignore[assignment]
    run.carry_on(None)
    return run


def test_an_attempt_says_why_it_waits_and_forgets_it_when_it_need_not() -> None:
    site = Site("no-driver")
    run = run_of(site)
    [attempt] = run.attempts.values()
    assert (attempt.state, attempt.reason) == (State.QUEUED, WAITING + "no-driver has no cuda: no NVIDIA driver")
    site.has("no-driver", "h100")
    run.carry_on(None)
    [attempt] = run.attempts.values()
    assert (attempt.state, attempt.reason) == (State.QUEUED, "")


def test_a_wait_for_hardware_that_nobody_has_ends() -> None:
    site = Site("no-driver")
    run = run_of(site, infrastructure_retries=0)
    site.now = run.now = site.now + 601.0
    run.carry_on(None)
    [attempt] = run.attempts.values()
    assert (attempt.state, attempt.reason) == (
        State.INFRASTRUCTURE,
        WAITING + "no-driver has no cuda: no NVIDIA driver for 600 s (queue_timeout)",
    )
    site = Site("h100")
    run = run_of(site)
    site.now = run.now = site.now + 601.0
    run.carry_on(None)
    assert [a.state for a in run.attempts.values()] == [State.QUEUED], "the negative control"
