"""Which workers serve which stage, who may start what, and since when nobody was there."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from graphs import document

from master.fleet import ConfiguredFleet, LiveFleet, eligible, least_busy, refusal, unserved
from master.gate import Gate, Ticket
from master.pipeline import Requires, Stage
from master.run_model import NOT_USED


@dataclass(frozen=True)
class Worker:
    trust: str = "trusted"
    os: str = "linux"
    provides: frozenset[str] = field(default_factory=frozenset)


FLEET = {
    "one": Worker(provides=frozenset({"python", "cargo"})),
    "two": Worker(trust="untrusted", provides=frozenset({"python"})),
    "win": Worker(os="windows", provides=frozenset({"msvc"})),
}


@pytest.mark.parametrize(
    ("requires", "worker", "reason"),
    [
        (Requires(), Worker(), ""),
        (Requires(os="linux", tools=frozenset({"cargo"})), FLEET["one"], ""),
        (Requires(os="windows"), FLEET["one"], "is linux, not windows"),
        (Requires(tools=frozenset({"msvc", "conda", "python"})), FLEET["one"], "has no conda, msvc"),
        (Requires(local=True), FLEET["one"], "the stage runs in the master"),
    ],
)
def test_a_worker_is_refused_with_a_reason(requires: Requires, worker: Worker, reason: str) -> None:
    assert refusal(requires, worker) == reason


def test_trust_divides_the_fleet() -> None:
    test = document()["test"]
    assert eligible(test, FLEET) == ["one", "two"]
    assert eligible(test, FLEET, trusted=True) == ["one"]
    assert eligible(test, FLEET, trusted=False) == ["two"]
    assert eligible(document()["summary"], FLEET) == []


def test_an_unserved_stage_says_what_each_worker_lacks() -> None:
    build, windows = document()["build-linux"], document()["build-windows"]
    assert unserved(build, FLEET, trusted=True) == ""
    assert unserved(build, FLEET, trusted=False) == (
        "no untrusted worker that can serve it is configured (two has no cargo)"
    )
    assert unserved(windows, {}, trusted=True) == "no trusted worker that can serve it is configured"
    assert unserved(document()["summary"], {}, trusted=False) == "", "the master serves it"
    many = {f"w{n}": Worker() for n in range(9)}
    assert unserved(windows, many, trusted=True).endswith("w2 is linux, not windows; and 6 more)")


def available(_stage: Stage) -> str:
    return ""


def test_a_stage_without_steps_is_served_by_nobody() -> None:
    fleet = ConfiguredFleet(FLEET, lambda s: "no steps for docker yet" if s.name == "docker" else "")
    assert fleet.unserved(document()["docker"], "", trusted=True) == "no steps for docker yet"
    assert fleet.unserved(document()["test"], "", trusted=True) == ""
    assert fleet.last_connected(document()["test"], "", trusted=True) == float("inf")


def test_the_live_fleet_knows_since_when_nobody_was_there() -> None:
    clock = SimpleNamespace(now=1000.0)
    there = {"one"}
    fleet = LiveFleet(FLEET, available, lambda: there, lambda: clock.now)

    def seen(trusted: bool, name: str = "test") -> float:
        return fleet.last_connected(document()[name], "", trusted=trusted)

    assert seen(trusted=True) == 1000.0
    clock.now = 1100.0
    assert seen(trusted=True) == 1100.0, "it is there"
    assert seen(trusted=False) == 1000.0, "patience begins with the master"
    there.clear()
    fleet.left("one")
    clock.now = 1200.0
    assert seen(trusted=True) == 1100.0
    there.add("two")
    assert (seen(trusted=False), seen(trusted=True)) == (1200.0, 1100.0), "another trust is no help"
    assert seen(trusted=True, name="summary") == 1200.0
    assert seen(trusted=False, name="build-windows") == 1000.0, "nobody can serve it"


def test_new_settings_go_on_missing_whom_the_old_ones_missed() -> None:
    clock = SimpleNamespace(now=1000.0)
    there = {"win"}
    old = LiveFleet(FLEET, available, lambda: there, lambda: clock.now)
    clock.now = 1100.0
    old.left("one")
    clock.now = 1200.0
    changed = {**FLEET, "two": Worker(trust="untrusted", provides=frozenset({"python", "cargo"}))}

    def seen(fleet: LiveFleet, trusted: bool, name: str = "test") -> float:
        return fleet.last_connected(document()[name], "", trusted=trusted)

    same = LiveFleet(FLEET, available, lambda: there, lambda: clock.now, before=old)
    other = LiveFleet(changed, available, lambda: there, lambda: clock.now, before=same)
    there.clear()
    clock.now = 1300.0
    assert (seen(same, trusted=True), seen(same, trusted=False)) == (1100.0, 1000.0)
    assert seen(same, trusted=True, name="build-windows") == 1200.0, "it was there"
    assert (seen(other, trusted=True), seen(other, trusted=False)) == (1100.0, 1200.0), "a new one has its time to come"


def test_the_live_fleet_says_which_worker_was_refused_while_no_other_is_there() -> None:
    there: set[str] = set()
    refused = {"one": "versions do not fit: it has mlc-ci 9", "two": "versions do not fit: it has mlc-ci 8"}
    fleet = LiveFleet(FLEET, available, lambda: there, lambda: 0.0, lambda: refused)

    def said(trusted: bool, name: str = "test") -> str:
        return fleet.turned_away(document()[name], "", trusted=trusted)

    assert said(trusted=True) == f"{NOT_USED}one is not used, as versions do not fit: it has mlc-ci 9"
    assert "two is not used" in said(trusted=False), "another trust has its own"
    assert said(trusted=True, name="summary") == ""
    there.add("two")
    assert said(trusted=False) == ""
    refused.clear()
    assert said(trusted=True) == ""


# -- the gate


def starts(gate: Gate, request: int, worker: str) -> bool:
    for_builder = SimpleNamespace(worker=SimpleNamespace(workername=worker))
    return gate.can_start(None, for_builder, SimpleNamespace(id=request))


@pytest.mark.parametrize("trusted", [True, False])
def test_a_build_starts_on_a_worker_of_its_runs_trust(trusted: bool) -> None:
    gate = Gate()
    gate.trust = {name: worker.trust for name, worker in FLEET.items()}
    gate.tickets[5] = Ticket(run_id=1, builder="test", trusted=trusted, local=False)
    assert starts(gate, 5, "one") is trusted
    assert starts(gate, 5, "two") is not trusted
    assert not starts(gate, 5, "a worker that the settings do not name")
    assert not starts(gate, 6, "one"), "a Rebuild, or a foreign scheduler's request"
    del gate.tickets[5]
    assert not starts(gate, 5, "one" if trusted else "two"), "its attempt has ended"


def test_a_local_stage_starts_in_the_master() -> None:
    gate = Gate()
    gate.tickets[5] = Ticket(run_id=1, builder="summary", trusted=False, local=True)
    assert starts(gate, 5, "local")


def test_what_may_start_on_free_workers_is_what_the_gate_lets_start_on_one_of_them() -> None:
    gate = Gate()
    gate.trust = {name: worker.trust for name, worker in FLEET.items()}
    for request, (builder, trusted) in enumerate([("test", True), ("test", False), ("build", True), ("build", False)]):
        gate.tickets[request] = Ticket(run_id=1, builder=builder, trusted=trusted, local=False)
    gate.tickets[4] = Ticket(run_id=1, builder="summary", trusted=False, local=True)
    assert gate.startable("test", ["one", "win"]) == {0}
    assert gate.startable("test", ["two"]) == {1}
    assert gate.startable("build", ["one", "two"]) == {2, 3}
    assert gate.startable("summary", ["in the master"]) == {4}
    assert gate.startable("test", []) == gate.startable("test", ["a worker that the settings do not name"]) == set()


def candidate(name: str, *busy: bool) -> Any:
    builders = {n: SimpleNamespace(isBusy=lambda b=b: b) for n, b in enumerate(busy)}
    return SimpleNamespace(worker=SimpleNamespace(workername=name, workerforbuilders=builders))


def test_the_least_busy_worker_comes_first_then_the_first_by_name() -> None:
    workers = [
        candidate("c", False),
        candidate("b", False, False),
        candidate("a", True, False),
        candidate("0", True, True),
    ]
    assert least_busy(None, workers, None) is workers[1]
    assert least_busy(None, [], None) is None
