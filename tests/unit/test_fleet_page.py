"""The workers as the API tells them, and what ``mlc-ci worker list`` and ``mlc-ci plan --master`` make of that."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
from recorded import said
from settings_sample import read, usable
from stored import LIVE, run_with

from master.capabilities import GIB, GpuWanted
from master.database import reads, store
from master.database.probes import Row
from master.leases import Lease, Ledger
from master.pipeline import Requires, State
from master.plan import PlannedStage, live_workers, waiting
from master.probe_facts import Unreadable
from master.routing import Hosts, Known
from master.run_model import Slot
from master.settings import Settings
from master.show_fleet import lines, queued
from master.web.fleet_page import workers_page

BOARD = said("h100").gpus[0].id
SMALL = said("geforce-windows").gpus[0].id


class Held(Ledger):
    """With these leases."""

    def __init__(self, *leases: Lease, quarantined: dict[str, str] | None = None) -> None:
        super().__init__()
        self.leases, self.why = list(leases), quarantined or {}

    def held(self) -> list[Lease]:
        return self.leases

    def quarantined(self, worker: str, now: float) -> dict[str, str]:
        return self.why if worker == "here" else {}


def lease(gpu: str = BOARD, **more: Any) -> Lease:
    return Lease(request=7, worker="here", gpu=gpu, api="cuda", since=900.0, **more)


def settings() -> Settings:
    return usable(read())


def told(*kinds: str, ledger: Ledger | None = None, before: dict[str, Row] | None = None) -> list[dict[str, Any]]:
    """Of the workers ``here`` and ``there``, the first kinds of hosts; they are connected."""
    hosts = Hosts(lambda: 1000.0)
    workers = settings().workers
    hosts.configure({name: (worker.os, worker.provides) for name, worker in workers.items()}, 1e9)
    there = dict(zip(sorted(workers), kinds, strict=False))
    for name, kind in there.items():
        hosts.note(name, Known(said=said(kind), read_at=820.0))
    page = workers_page(workers, set(there), hosts, before or {}, ledger or Ledger(), {7: (3, "test-cuda")}, 1000.0)
    found: list[dict[str, Any]] = json.loads(json.dumps(page))["workers"]
    return found


def seen(worker: dict[str, Any]) -> list[str]:
    return [" ".join(line.split()) for line in lines({"name": worker["name"], "probe": worker}, 1000.0)][1:]


def test_who_has_what() -> None:
    here, there = told("h100", "hanging-driver")
    assert (here["trust"], here["connected"], here["unknown"]) == ("trusted", True, "")
    assert seen(here) == [
        "here, probed 3m ago",
        f"gpu {BOARD} NVIDIA H100 80GB HBM3: cuda 13.0, compute 9.0, 79.2 of 79.6 GiB free",
        "tools cmake 4.4.3, gcc 13.3.0, git 2.43.0, ninja 1.13.2, nvcc 13.0, python 3.12.3",
    ]
    assert seen(there)[-2:] == [
        "problem cuda: hangs: no answer in 30 s",
        "problem vulkan: hangs: no answer in 30 s",
    ]


def test_who_holds_what_since_when() -> None:
    [here, there] = told("h100", "h100", ledger=Held(lease(memory=8 * GIB), quarantined={BOARD: "XID 79"}))
    assert seen(here)[2:4] == ["quarantined: XID 79", "8.0 GiB held by run 3, test-cuda for 1m40s"]
    assert there["leases"] == [] and there["quarantined"] == {}
    [gone, _] = told("no-driver", ledger=Held(lease()))
    assert f"gpu {BOARD}, which it no longer has, held by run 3, test-cuda for 1m40s" in seen(gone)


def test_one_that_is_not_there_is_shown_as_it_was() -> None:
    row = Row(worker="there", probed_at=1.0, read_at=400.0, said=said("radeon"))
    there = told("h100", before={"there": row})[1]
    assert not there["connected"]
    assert seen(there)[0] == "there, probed 10m ago: has not said yet what it has"
    assert "AMD Radeon" in seen(there)[1]
    row = Row(worker="there", probed_at=0.0, read_at=400.0, said=Unreadable(reason="says nothing"))
    assert len(seen(told("h100", before={"there": row})[1])) == 1
    assert seen(told("h100")[1]) == ["there: has not said yet what it has"]


def planned(requires: Requires, *workers: str) -> PlannedStage:
    return PlannedStage(
        stage="gpu", variant="", what="run", reason="", workers=workers, requires=requires,
        environment={}, secrets=(), permissions={}, artifacts=(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("requires", "kinds", "said"),
    [
        (Requires(gpu=GpuWanted(api="cuda")), ("h100", "no-driver"), "on here"),
        (Requires(gpu=GpuWanted(api="cuda")), ("no-driver", "h100"), "on there"),
        (Requires(), ("no-driver", "h100"), "on here or there"),
        (Requires(gpu=GpuWanted(api="cuda")), ("no-driver",), "waits: here has no cuda: no NVIDIA driver"),
        (Requires(gpu=GpuWanted(api="cuda")), (), "waits: here, there not connected"),
        (
            Requires(versions=("cmake>=3.26",)),
            ("lavapipe", "no-driver"),
            "waits: here cmake 3.25.1 is older than 3.26; there cmake 3.25.1 is older than 3.26",
        ),
    ],
)
def test_the_plan_asks_the_hosts_that_are_there(requires: Requires, kinds: tuple[str, ...], said: str) -> None:
    assert waiting(planned(requires, "here", "there"), live_workers(told(*kinds))) == said


def test_what_our_builds_use_is_not_held_against_a_board_in_the_plan() -> None:
    stage = planned(Requires(gpu=GpuWanted(api="cuda", min_vram_gib=7)), "here")
    assert waiting(stage, live_workers(told("geforce-windows"))) == "waits: here has 6.1 of 7 GiB free"
    assert waiting(stage, live_workers(told("geforce-windows", ledger=Held(lease(SMALL))))) == "on here"


def test_what_waits_and_whose_a_lease_is(database: Callable[..., Any]) -> None:
    run_id = run_with(database, Slot("a", "", 1), Slot("b", "cuda", 1), Slot("c", "", 1))

    def change(slot: Slot, **values: Any) -> None:
        assert database(store.change, run_id, slot, was=LIVE, values=values)

    change(Slot("a", "", 1), state=State.QUEUED, waiting_since=20.0)
    change(Slot("b", "cuda", 1), state=State.QUEUED, waiting_since=10.0, reason="waiting: w has no cuda", request_id=7)
    assert [asdict(each) for each in database(reads.queue, 9)] == [
        {"run": run_id, "stage": "b", "variant": "cuda", "since": 10.0, "reason": "waiting: w has no cuda"},
        {"run": run_id, "stage": "a", "variant": "", "since": 20.0, "reason": ""},
    ]
    assert len(database(reads.queue, 1)) == 1
    assert database(reads.holders, [7, 8]) == {7: (run_id, "b (cuda)")}
    assert database(reads.holders, []) == {}


def test_the_list_ends_with_what_waits() -> None:
    waiting = {"run": 3, "stage": "gpu", "variant": "cuda", "since": 940.0, "reason": "waiting: w has no cuda"}
    assert queued({**waiting, "reason": ""}, 1000.0) == "run 3, gpu (cuda), for 1m: waits for its turn"
    assert queued(waiting, 1000.0) == "run 3, gpu (cuda), for 1m: waiting: w has no cuda"
