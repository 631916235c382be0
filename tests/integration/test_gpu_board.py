"""Shares of one real NVIDIA board, and one whose memory somebody else holds: needs such a board, and no toolkit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pipelines import Tables, commands, hold, pipeline, workers
from rig import MakeRig, Rig

from workers.gpu.check import look
from workers.probe.facts import CUDA

BOARDS = look(CUDA, 60).gpus
GIB = 1 << 30
STAGES = ("gpu-a", "gpu-b", "gpu-c")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(len(BOARDS) != 1, reason="needs one NVIDIA board")]

HOLDER = """\
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
def made(result): assert result == 0, f"CUDA error {result}"
made(cuda.cuInit(0))
device, context, memory = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
made(cuda.cuDeviceGet(ctypes.byref(device), 0))
made(cuda.cuCtxCreate_v2(ctypes.byref(context), 0, device))
made(cuda.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(int(sys.argv[1]))))
print("holds", sys.argv[1], flush=True)
sys.stdin.read()
"""


def tables(share: float, *, shares: bool) -> Tables:
    """Three stages that want ``share`` GiB each, and one worker that would build all of them at once."""
    found = pipeline(gpus={"probe_interval": "1s", "shares": shares}, workers=workers("reliable"))
    found["workers"]["reliable"]["max_builds"] = 4
    wanted = {"os": "linux", "gpu": {"api": "cuda", "min_vram_gib": share}}
    found["stages"] = {
        **{name: commands(name, requires=wanted, infrastructure_retries=0) for name in STAGES},
        "summary": {"needs": list(STAGES)},
    }
    return found


def total() -> float:
    """GiB of the board."""
    (board,) = look(CUDA, 60).gpus
    assert board.cuda is not None and board.cuda.memory_total is not None
    return board.cuda.memory_total / GIB


@contextmanager
def holding(folder: Path, size: float) -> Iterator[int]:
    """Somebody else who holds ``size`` GiB of the board; its pid."""
    (folder / "holder.py").write_text(HOLDER, encoding="ascii")
    command = [sys.executable, str(folder / "holder.py"), str(int(size * GIB))]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline().startswith("holds")
        yield holder.pid
    finally:
        holder.communicate()


def probe_again(rig: Rig) -> None:
    worker = rig.site.folder / "workers" / "reliable"
    subprocess.run([sys.executable, "-m", "workers.cli", "probe", "--worker", str(worker)], check=True)


def in_state(rig: Rig, run_id: int, state: str) -> list[str]:
    return [stage for stage, is_in in rig.states(run_id).items() if is_in == state and stage in STAGES]


def held(rig: Rig, more: dict[str, str] | None = None) -> dict[str, Any]:
    return {f"ci/{name}.sh": (more or {}).get(name, "") + hold(rig, name) for name in STAGES}


def test_two_shares_run_side_by_side_and_a_third_waits(make_rig: MakeRig, tmp_path: Path) -> None:
    """Each build really holds most of its share while the other does."""
    share = round(total() * 0.4, 1)
    rig = make_rig(tables(share, shares=True))
    (tmp_path / "holder.py").write_text(HOLDER, encoding="ascii")
    fills = f"sleep 600 | {sys.executable} {tmp_path}/holder.py {int((share - 2) * GIB)} &\n"
    rig.start()
    run_id = rig.run(rig.push(held(rig, dict.fromkeys(STAGES, fills))))["id"]
    rig.wait(lambda: len(in_state(rig, run_id, "running")) == 2, "two are being built", seconds=120)
    (third,) = in_state(rig, run_id, "queued")
    rig.wait(lambda: "is held by run " in rig.attempt(run_id, third)["reason"], "the third says why it waits")
    print(third, "waits:", rig.attempt(run_id, third)["reason"])
    first = in_state(rig, run_id, "running")[0]
    rig.flag(first)
    rig.wait_for_state(run_id, third, "running")
    for name in STAGES:
        rig.flag(name)
    for name in STAGES:
        rig.wait_for_state(run_id, name, "success")


def test_without_shares_a_board_is_one_builds_alone(make_rig: MakeRig) -> None:
    """The negative control."""
    rig = make_rig(tables(1, shares=False))
    rig.start()
    run_id = rig.run(rig.push(held(rig)))["id"]
    rig.wait(lambda: in_state(rig, run_id, "running"), "one is being built", seconds=120)
    waiting = in_state(rig, run_id, "queued")
    for stage in waiting:
        rig.wait(lambda stage=stage: "is held by run " in rig.attempt(run_id, stage)["reason"], f"{stage} waits for it")
    assert len(in_state(rig, run_id, "running")) == 1
    for name in STAGES:
        rig.flag(name)
    for name in STAGES:
        rig.wait_for_state(run_id, name, "success")


def test_a_board_whose_memory_somebody_holds_gets_no_build_until_it_is_free(make_rig: MakeRig, tmp_path: Path) -> None:
    rig = make_rig(tables(round(total() * 0.5, 1), shares=False))
    for name in STAGES:
        rig.flag(name)
    with holding(tmp_path, total() * 0.7) as pid:
        rig.start()
        run_id = rig.run(rig.push(held(rig)))["id"]
        rig.wait(lambda: "GiB" in rig.attempt(run_id, "gpu-a")["reason"], "the stage says why it waits")
        print("with", pid, "holding memory, gpu-a waits:", rig.attempt(run_id, "gpu-a")["reason"])
        assert in_state(rig, run_id, "running") == []
    probe_again(rig)
    for name in STAGES:
        rig.wait_for_state(run_id, name, "success")
