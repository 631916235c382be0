"""What a build used of the board that it was lent, on a real master: a driver compiled for the test, and a real board
under a real load where the machine has one."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from pipelines import Tables, commands, pipeline, workers
from rig import HERE, MakeRig, Rig

from workers.gpu.check import look
from workers.probe.facts import CUDA

pytestmark = pytest.mark.slow

BOARDS = look(CUDA, 60).gpus
GIB = 1 << 30

#: Holds memory and keeps the board busy, for some seconds; needs the driver alone.
LOAD = """\
import ctypes, sys, time
PTX = b'''
.version 6.0
.target sm_50
.address_size 64
.visible .entry spin(.param .u64 cycles)
{
  .reg .pred %p;
  .reg .b64 %r<4>;
  ld.param.u64 %r0, [cycles];
  mov.u64 %r1, %clock64;
again:
  mov.u64 %r2, %clock64;
  sub.s64 %r3, %r2, %r1;
  setp.lt.u64 %p, %r3, %r0;
  @%p bra again;
  ret;
}
'''
cuda = ctypes.CDLL("libcuda.so.1")
def made(result): assert result == 0, f"CUDA error {result}"
made(cuda.cuInit(0))
device, context, memory, module, spin = ctypes.c_int(), *(ctypes.c_void_p() for _ in range(4))
made(cuda.cuDeviceGet(ctypes.byref(device), 0))
made(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
made(cuda.cuCtxSetCurrent(context))
made(cuda.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(int(sys.argv[1]))))
made(cuda.cuModuleLoadData(ctypes.byref(module), PTX))
made(cuda.cuModuleGetFunction(ctypes.byref(spin), module, b"spin"))
cycles = ctypes.c_uint64(100_000_000)
arguments = (ctypes.c_void_p * 1)(ctypes.cast(ctypes.byref(cycles), ctypes.c_void_p))
until = time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    made(cuda.cuLaunchKernel(spin, 64, 1, 1, 64, 1, 1, 0, None, arguments, None))
    made(cuda.cuCtxSynchronize())
print("done")
"""


def tables(**more: Any) -> Tables:
    """A stage on a board, and one without."""
    found = pipeline(gpus={"probe_interval": "1s"}, workers=workers("reliable"))
    found["stages"] = {
        "gpu": commands("gpu", requires={"os": "linux", "gpu": {"api": "cuda"}}, infrastructure_retries=0, **more),
        "plain": commands("plain", requires={"os": "linux"}),
        "summary": {"needs": ["gpu", "plain"]},
    }
    return found


def ended(rig: Rig, files: dict[str, str]) -> int:
    rig.start()
    run_id: int = rig.run(rig.push(files))["id"]
    for stage in ("gpu", "plain"):
        rig.wait(lambda stage=stage: rig.attempt(run_id, stage)["ended_at"], f"{stage} has ended", seconds=180)
    return run_id


def used(rig: Rig, run_id: int, stage: str) -> list[dict[str, Any]]:
    """As the page is told."""
    page = httpx.get(f"{rig.site.url}plugins/mlc_ci/api/runs/{run_id}", timeout=30, trust_env=False).json()
    (told,) = [each for each in page["stages"] if each["name"] == stage]
    found: list[dict[str, Any]] = told["history"][0]["used"]
    return found


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a driver that was compiled for the test: 9 GiB of its 80 are taken in the end, and it is busy at 45 %."""
    monkeypatch.syspath_prepend(str(HERE.parent / "unit"))
    fake_cuda, fake_drivers = importlib.import_module("fake_cuda"), importlib.import_module("fake_drivers")
    folder = fake_cuda.cuda(tmp_path / "drivers", boards=1)
    fake_drivers.nvml(folder, more=fake_drivers.use())
    monkeypatch.setenv("LD_LIBRARY_PATH", str(folder))
    return str(fake_drivers.BOARD)


@pytest.mark.skipif(bool(BOARDS), reason="the machine's own driver would be asked")
@pytest.mark.parametrize("code", [0, 1])
def test_a_build_tells_what_it_used_over_all_its_commands(make_rig: MakeRig, board: str, code: int) -> None:
    rig = make_rig(tables())
    run_id = ended(rig, {"ci/gpu.sh": f"sleep 3\nexit {code}\n"})
    assert rig.attempt(run_id, "gpu")["state"] == ("failure" if code else "success")
    (use,) = used(rig, run_id, "gpu")
    assert (use["gpu"], use["total"], use["mean"], use["peak"]) == (board, 80 * GIB, 45.0, 45)
    assert 2 * GIB <= use["peak_memory"] <= 9 * GIB
    assert use["points"][-1][0] > 2 and len(use["points"]) <= 120
    assert used(rig, run_id, "plain") == []
    rig.wait(lambda: rig.attempt(run_id, "summary")["ended_at"], "the summary was written")
    said = rig.summary(run_id)
    assert f"{board}: " in said and "busy 45 % of the time, 45 % at most" in said


@pytest.mark.skipif(len(BOARDS) != 1, reason="needs one NVIDIA board")
def test_a_real_board_under_a_real_load(make_rig: MakeRig, tmp_path: Path) -> None:
    load = tmp_path / "load.py"
    load.write_text(LOAD, encoding="ascii")
    rig = make_rig(tables())
    run_id = ended(rig, {"ci/gpu.sh": f"sleep 4\n{sys.executable} {load} {6 * GIB} 8\nsleep 4\n"})
    assert rig.attempt(run_id, "gpu")["state"] == "success"
    (use,) = used(rig, run_id, "gpu")
    print(json.dumps(use))
    assert 6 * GIB <= use["peak_memory"] < 9 * GIB
    assert use["peak"] >= 90
    assert 20 < use["mean"] < 80, "it was busy for half of the time"
    assert used(rig, run_id, "plain") == []
