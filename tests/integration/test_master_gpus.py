"""GPUs on a real master: each build has a board of its own, sees no other, and gives it back whatever ends it.

Real workers, on whose host there are two boards: a driver that was compiled for the tests tells of them, and computes.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pipelines import Tables, commands, hold, pipeline, workers
from rig import HERE, MakeRig, Rig, Row

pytestmark = pytest.mark.slow

STAGES = ("gpu-a", "gpu-b", "gpu-c")
BOTH = {f"GPU-{'0' * 31}{number}" for number in (0, 1)}


@pytest.fixture
def drivers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Makes a driver, and has the workers of rigs that are made afterwards load it."""
    monkeypatch.syspath_prepend(str(HERE.parent / "unit"))
    fake_cuda = importlib.import_module("fake_cuda")

    def make(**faults: Any) -> Path:
        folder: Path = fake_cuda.cuda(tmp_path / "drivers", **faults)
        monkeypatch.setenv("LD_LIBRARY_PATH", str(folder))
        return folder

    yield make


def tables(*names: str, **gpus: Any) -> Tables:
    found = pipeline(gpus={"probe_interval": "1s", **gpus}, workers=workers(*(names or ("reliable",))))
    for worker in found["workers"].values():
        worker["max_builds"] = 4
    wanted = {"os": "linux", "gpu": {"api": "cuda"}}
    found["stages"] = {
        **{name: commands(name, requires=wanted, infrastructure_retries=0) for name in STAGES},
        "summary": {"needs": list(STAGES)},
    }
    return found


def held(rig: Rig, then: str = "") -> dict[str, str]:
    """Files with which each GPU stage waits for the flag of its name."""
    note = f"# push {len(rig.runs())}\n"
    return {f"ci/{name}.sh": note + hold(rig, name) + then.format(name=name, flags=rig.flags) for name in STAGES}


def started(rig: Rig, then: str = "") -> int:
    """A push whose GPU stages wait; the run's id, once two of them are being built."""
    run_id: int = rig.run(rig.push(held(rig, then)))["id"]
    rig.wait(lambda: len(in_state(rig, run_id, "running")) == 2, "two of the three are being built")
    return run_id


def in_state(rig: Rig, run_id: int, state: str) -> list[str]:
    return [stage for stage, is_in in rig.states(run_id).items() if is_in == state and stage in STAGES]


def board_of(rig: Rig, run_id: int, stage: str) -> str:
    """Of the build that is the newest of the stage, by its property; it has one, and all of it."""
    build = rig.builds(rig.attempt(run_id, stage)["request_id"])[-1]
    query = "select value from build_properties where buildid = ? and name = 'gpus'"
    rig.wait(lambda: rig.rows(query, build["id"]), f"build {build['id']} says which GPU it has")
    (gpu,) = json.loads(rig.rows(query, build["id"])[0]["value"])
    assert (gpu["api"], gpu["memory"]) == ("cuda", None)
    return str(gpu["id"])


def waits_for(rig: Rig, run_id: int, stage: str) -> str:
    rig.wait(lambda: "is held by" in rig.attempt(run_id, stage)["reason"], f"{stage} says why it waits")
    return str(rig.attempt(run_id, stage)["reason"])


def succeeds(rig: Rig, run_id: int, stage: str) -> None:
    rig.flag(stage)
    rig.wait_for_state(run_id, stage, "success")


def fails(rig: Rig, run_id: int, stage: str) -> None:
    (rig.flags / f"{stage}-fails").touch()
    rig.flag(stage)
    rig.wait_for_state(run_id, stage, "failure")


def build_is_stopped(rig: Rig, run_id: int, stage: str) -> None:
    request = rig.attempt(run_id, stage)["request_id"]
    rig.control(f"buildrequests/{request}", "cancel", reason="enough")
    rig.wait_for_state(run_id, stage, "cancelled")


@pytest.mark.parametrize("ends", [succeeds, fails, build_is_stopped])
def test_a_board_has_one_build_and_is_free_again_when_that_ends(
    make_rig: MakeRig, drivers: Callable[..., Path], ends: Callable[[Rig, int, str], None]
) -> None:
    drivers()
    rig = make_rig(tables())
    rig.start()
    run_id = started(rig, "[ ! -e {flags}/{name}-fails ] || exit 1\n")
    first, second = in_state(rig, run_id, "running")
    (third,) = in_state(rig, run_id, "queued")
    one, other = board_of(rig, run_id, first), board_of(rig, run_id, second)
    assert {one, other} == BOTH
    reason = waits_for(rig, run_id, third)
    assert all(f"is held by run {run_id}, {name}" in reason for name in (first, second))

    ends(rig, run_id, first)
    rig.wait_for_state(run_id, third, "running")
    assert board_of(rig, run_id, third) == one
    assert rig.attempt(run_id, second)["state"] == "running", "which nobody has disturbed"
    for name in STAGES:
        rig.flag(name)
    rig.run_ended(run_id)
    assert [rig.attempt(run_id, name)["state"] for name in (second, third)] == ["success"] * 2


@pytest.mark.parametrize("killed", ["reliable", "master"])
def test_no_board_stays_with_a_build_that_was_lost(
    make_rig: MakeRig, drivers: Callable[..., Path], killed: str
) -> None:
    drivers()
    found = tables()
    for name in STAGES:
        found["stages"][name]["infrastructure_retries"] = 2
    rig = make_rig(found)
    rig.start()
    run_id = started(rig)
    lost = {name: rig.attempt(run_id, name)["build_id"] for name in in_state(rig, run_id, "running")}
    rig.kill(killed)
    if killed == "master":
        rig.start_master()
    else:
        rig.wait(lambda: not in_state(rig, run_id, "running"), "the builds are lost")
        rig.site.start_worker(killed)

    def built_again() -> list[str]:
        now = in_state(rig, run_id, "running")
        return [name for name in now if rig.attempt(run_id, name)["build_id"] != lost.get(name)]

    rig.wait(lambda: len(built_again()) == 2, "two of them are being built again")
    boards = [board_of(rig, run_id, name) for name in built_again()]
    assert len(set(boards)) == 2
    assert waits_for(rig, run_id, *in_state(rig, run_id, "queued"))
    for name in STAGES:
        rig.flag(name)
    assert rig.run_ended(run_id)["result"] == "success"


def test_a_cancelled_run_gives_all_its_boards_back(make_rig: MakeRig, drivers: Callable[..., Path]) -> None:
    drivers()
    rig = make_rig(tables())
    rig.start()
    run_id = started(rig)
    assert rig.order(f"runs/{run_id}/cancel").status_code == 200
    assert rig.run_ended(run_id)["result"] == "cancelled"
    again = started(rig)
    assert {board_of(rig, again, name) for name in in_state(rig, again, "running")} == BOTH
    for name in STAGES:
        rig.flag(name)
    assert rig.run_ended(again)["result"] == "success"


def test_workers_of_both_trusts_on_one_host_have_no_board_twice(
    make_rig: MakeRig, drivers: Callable[..., Path]
) -> None:
    drivers()
    rig = make_rig(tables("reliable", "stranger"))
    rig.start()
    run_id = started(rig)
    stranger = rig.run(rig.pull_request(1, held(rig)))["id"]
    assert f"is held by run {run_id}, gpu-" in waits_for(rig, stranger, "gpu-a")
    assert not in_state(rig, stranger, "running")
    for name in STAGES:
        rig.flag(name)
    assert rig.run_ended(run_id)["result"] == rig.run_ended(stranger)["result"] == "success"


def test_a_board_that_computes_wrongly_is_put_aside(make_rig: MakeRig, drivers: Callable[..., Path]) -> None:
    drivers(constant="0x9E3779B3u")
    rig = make_rig(tables())
    rig.start()
    run_id: int = rig.run(rig.push())["id"]
    rig.wait(lambda: len(in_state(rig, run_id, "infrastructure")) == 2, "two builds found their boards at fault")
    rig.wait(lambda: "is quarantined" in waiting(rig, run_id)["reason"], "the third is told so")
    assert not rig.effects(), "nothing was run on them"


def waiting(rig: Rig, run_id: int) -> Row:
    (stage,) = in_state(rig, run_id, "queued")
    return rig.attempt(run_id, stage)


def test_without_leases_two_builds_would_have_had_the_same_board(
    make_rig: MakeRig, drivers: Callable[..., Path]
) -> None:
    """The negative control: these tests see it when a ledger gives every board to everybody."""
    drivers()
    rig = make_rig(tables())
    rig.inject(broken="gives every board to everybody")
    rig.start()
    run_id: int = rig.run(rig.push(held(rig)))["id"]
    rig.wait(lambda: len(in_state(rig, run_id, "running")) == 3, "all three are being built, on two boards")
    boards = [board_of(rig, run_id, name) for name in STAGES]
    assert len(set(boards)) < 3
    for name in STAGES:
        rig.flag(name)
    rig.run_ended(run_id)
