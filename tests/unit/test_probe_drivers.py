"""Drivers that hang, crash, lie or have nothing: the probe ends in time, says what it was, and leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_drivers
import pytest

from workers.probe.asking import NoAnswer, ask, how_it_ended
from workers.probe.facts import CUDA, VULKAN, Problem, Process
from workers.probe.part import Found, hear
from workers.processes import environment, pids

_LONG = 60.0  # seconds that none of these tests takes
MODULES = {VULKAN: "workers.probe.vulkan", CUDA: "workers.probe.nvidia"}


def heard(part: str, folder: Path, seconds: float = _LONG) -> Found:
    """What the probe says of the driver in a folder; and that no process of it is left."""
    more = {"LD_LIBRARY_PATH": str(folder), "MLC_CI_TEST_MARK": str(folder)}
    found = hear(part, MODULES[part], seconds, more)
    assert [pid for pid in pids() if f"MLC_CI_TEST_MARK={folder}".encode() in environment(pid)] == []
    return found


def problem(found: Found) -> str:
    assert (found.gpus, found.absent) == ((), ())
    (only,) = found.problems
    return only.what


@pytest.mark.parametrize("where", ["create", "enumerate"])
def test_a_vulkan_driver_that_hangs_costs_the_time_limit(where: str, tmp_path: Path) -> None:
    folder = fake_drivers.vulkan(tmp_path, **{where: 'puts("to hang"); fflush(stdout); for (;;) pause();'})
    assert problem(heard(VULKAN, folder, 5.0)) == "hangs: no answer in 5 s; its last words: to hang"


def test_one_that_ignores_sigterm_and_forks_is_ended_too(tmp_path: Path) -> None:
    deaf = "signal(SIGTERM, SIG_IGN); signal(SIGHUP, SIG_IGN); signal(SIGINT, SIG_IGN); fork(); for (;;) pause();"
    assert problem(heard(VULKAN, fake_drivers.vulkan(tmp_path, create=deaf), 2.0)) == "hangs: no answer in 2 s"


def test_one_that_crashes_is_a_problem_with_its_last_words(tmp_path: Path) -> None:
    folder = fake_drivers.vulkan(tmp_path, create='fputs("no such chip\\n", stderr); abort();')
    assert problem(heard(VULKAN, folder)) == "crashed: SIGABRT: no such chip"


def test_one_that_ends_the_process_is_a_problem(tmp_path: Path) -> None:
    assert problem(heard(VULKAN, fake_drivers.vulkan(tmp_path, create="_exit(3);"))) == "ended with exit code 3"
    folder = fake_drivers.vulkan(tmp_path, create='puts("{}"); fflush(stdout); _exit(0);')
    assert problem(heard(VULKAN, folder)).startswith("answered what cannot be read")


def test_what_a_driver_prints_is_not_taken_for_the_answer(tmp_path: Path) -> None:
    """The negative control of all above: the same library, well-behaved, is heard."""
    folder = fake_drivers.vulkan(tmp_path, create='puts("hello {}"); fflush(stdout); return 0;')
    found = heard(VULKAN, folder)
    assert [each.why for each in found.absent] == ["a Vulkan driver, but no device"]
    assert found.problems == ()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"v": fake_drivers.V1_0}, "knows Vulkan 1.0 only"),
        ({"create": "return -1;"}, "vkCreateInstance: VK_ERROR_OUT_OF_HOST_MEMORY"),
        ({"create": "return -77;"}, "vkCreateInstance: result -77"),
        ({"enumerate": "return -3;"}, "vkEnumeratePhysicalDevices: VK_ERROR_INITIALIZATION_FAILED"),
    ],
)
def test_what_vulkan_refuses_is_named(how: dict[str, str], said: str, tmp_path: Path) -> None:
    assert said in problem(heard(VULKAN, fake_drivers.vulkan(tmp_path, **how)))


def test_what_is_not_there_is_absent_and_no_problem(tmp_path: Path) -> None:
    found = heard(VULKAN, fake_drivers.vulkan(tmp_path, create="return -9;"))
    assert [each.why for each in found.absent] == ["a Vulkan loader, but no driver that works"]
    assert heard(CUDA, fake_drivers.nvml(tmp_path, count=0)).absent[0].why == "an NVIDIA driver, but no board"


def test_a_library_that_is_none_is_no_loader(tmp_path: Path) -> None:
    (tmp_path / "libvulkan.so.1").write_text("not ELF", encoding="ascii")
    assert heard(VULKAN, tmp_path).absent[0].why == "no Vulkan loader"


def test_a_hanging_nvml_costs_the_time_limit(tmp_path: Path) -> None:
    folder = fake_drivers.nvml(tmp_path, init="for (;;) pause()")
    assert problem(heard(CUDA, folder, 2.0)) == "hangs: no answer in 2 s"


def test_a_driver_that_does_not_start_is_a_problem(tmp_path: Path) -> None:
    folder = fake_drivers.nvml(tmp_path, init="return 18")
    assert "NVML does not start" in problem(heard(CUDA, folder))


def test_a_board_may_say_next_to_nothing(tmp_path: Path) -> None:
    """Nearly every query is unsupported here: the facts are absent, the board is not."""
    found = heard(CUDA, fake_drivers.nvml(tmp_path, uuid="a-"))
    (gpu,) = found.gpus
    assert (gpu.id, gpu.name, gpu.vendor, found.problems) == ("GPU-a-0", "Test Board", "nvidia", ())
    assert gpu.cuda
    assert (gpu.cuda.driver, gpu.cuda.memory_free, gpu.cuda.mig, gpu.cuda.processes) == ("999.1", None, None, None)


def test_a_board_says_all_it_can(tmp_path: Path) -> None:
    more = r"""
    int nvmlSystemGetCudaDriverVersion_v2(int *to) { *to = 12080; return 0; }
    int nvmlDeviceGetMemoryInfo(H h, unsigned long long *m) { m[0] = 100; m[1] = 70; m[2] = 30; return 0; }
    int nvmlDeviceGetCudaComputeCapability(H h, int *a, int *b) { *a = 8; *b = 6; return 0; }
    int nvmlDeviceGetMigMode(H h, u *now, u *next) { *now = 1; *next = 1; return 0; }
    int nvmlDeviceGetMaxMigDeviceCount(H h, u *count) { *count = 7; return 0; }
    int nvmlDeviceGetMigDeviceHandleByIndex(H h, u i, H *to) { *to = h; return i < 2 ? 0 : 6; }
    int nvmlDeviceGetRemappedRows(H h, u *a, u *b, u *c, u *d) { *a = 1; *b = 2; *c = 1; *d = 0; return 0; }
    int nvmlDeviceGetTotalEccErrors(H h, u t, u c, unsigned long long *to) { *to = 5; return 0; }
    """
    (gpu,) = heard(CUDA, fake_drivers.nvml(tmp_path, more=more)).gpus
    assert gpu.cuda
    assert (gpu.cuda.cuda, gpu.cuda.compute) == ("12.8", "8.6")
    assert (gpu.cuda.memory_total, gpu.cuda.memory_free) == (100, 70)
    assert (gpu.cuda.mig, gpu.cuda.mig_slices) == (True, 2)
    assert (gpu.cuda.remapped_rows, gpu.cuda.remap_pending, gpu.cuda.remap_failed) == (2, True, False)
    assert gpu.cuda.ecc_uncorrected == 5


_OLD = """
    int nvmlDeviceGetComputeRunningProcesses_v2(H h, u *count, void *to) {
      struct { u pid; unsigned long long memory; u a, b; } *list = to;
      if (!to) { *count = 1; return 7; }
      *count = 2;
      list[0].pid = 7; list[0].memory = 10;
      list[1].pid = 8; list[1].memory = -1;
      return 0;
    }
"""


def test_processes_with_what_they_hold(tmp_path: Path) -> None:
    """As a driver before 510 says it; memory is not told of each process everywhere."""
    (gpu,) = heard(CUDA, fake_drivers.nvml(tmp_path, more=_OLD)).gpus
    assert gpu.cuda
    assert gpu.cuda.processes == (Process(pid=7, memory=10), Process(pid=8, memory=None))


@pytest.mark.skipif(sys.platform != "linux", reason="another process's environment is read on Linux only")
def test_what_a_build_left_running_is_told_apart_from_somebody_elses(tmp_path: Path) -> None:
    environments: list[dict[str, str]] = [{"MLC_CI_WORKER_DIR": "/w"}, {"NOT_MLC_CI_WORKER_DIR": "/w"}]
    sleepers = [subprocess.Popen(["/bin/sleep", "600"], env=each) for each in environments]
    try:
        both = _OLD
        for number, sleeper in zip(("7", "8"), sleepers, strict=True):
            both = both.replace(f".pid = {number};", f".pid = {sleeper.pid};")
        (gpu,) = heard(CUDA, fake_drivers.nvml(tmp_path, more=both)).gpus
    finally:
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait()
    assert gpu.cuda
    ours, theirs = sleepers
    assert gpu.cuda.processes == (
        Process(pid=ours.pid, memory=10, ours=True),
        Process(pid=theirs.pid, memory=None, ours=False),
    )


def test_a_board_that_fell_off_the_bus_does_not_hide_the_others(tmp_path: Path) -> None:
    found = heard(CUDA, fake_drivers.nvml(tmp_path, count=3, handle="index == 1 ? 15 : 0", uuid="a-"))
    assert [gpu.id for gpu in found.gpus] == ["GPU-a-0", "GPU-a-2"]
    said = "board 1: GPU is lost", "board 1: it does not say its uuid"
    assert found.problems == tuple(Problem(part=CUDA, what=what) for what in said)


def test_more_boards_than_are_written_are_said(tmp_path: Path) -> None:
    found = heard(CUDA, fake_drivers.nvml(tmp_path, count=30))
    assert len(found.gpus) == 24
    assert found.problems[0].what == "30 boards, of which 24 are shown"


def test_a_process_that_waits_in_the_kernel_is_not_joined_by_another(tmp_path: Path) -> None:
    """What a hanging driver leaves cannot be killed: one more at each turn of the timer would pile up.

    ``vfork`` puts its parent into that state for as long as the child lives.
    """
    program = "int main(int n, char **v) { if (!vfork()) { pause(); _exit(0); } return 0; }"
    (tmp_path / "stuck.c").write_text("#include <unistd.h>\n" + program, encoding="ascii")
    subprocess.run(["gcc", "-w", "-o", tmp_path / "stuck", tmp_path / "stuck.c"], check=True)
    module = f"workers.probe.none_{os.getpid()}"
    assert "No module named" in problem(hear("cuda", module, _LONG))  # the negative control
    stuck = subprocess.Popen([tmp_path / "stuck", module], start_new_session=True)
    try:
        until = time.monotonic() + _LONG
        said = ""
        while "in the kernel" not in said and time.monotonic() < until:
            said = problem(hear("cuda", module, _LONG))
        assert said == f"hangs: process {stuck.pid}, which asked before, still waits in the kernel for the driver"
    finally:
        os.killpg(stuck.pid, signal.SIGKILL)
        stuck.wait()


def python(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_an_answer_is_all_that_was_said(tmp_path: Path) -> None:
    answer = ask(python("import sys; print('a' * 300000); print('b', file=sys.stderr); sys.exit(4)"), _LONG)
    assert (answer.code, len(answer.out), answer.err, answer.last_words) == (4, 300001, "b\n", "b")
    assert how_it_ended(answer) == "ended with exit code 4: b"


def test_a_program_that_is_none_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(NoAnswer, match="does not start: No such file"):
        ask([str(tmp_path / "none")], _LONG)


def test_a_flood_ends_at_the_bound() -> None:
    answer = ask(python("import os\nwhile True: os.write(1, b'x' * 65536)"), _LONG)
    assert answer.code != 0  # nobody listened any more
    assert len(answer.out) == 1 << 20


def test_what_stays_behind_with_the_output_open_is_killed(tmp_path: Path) -> None:
    """It does not hold up the answer."""
    text = "import os, sys, time\nif os.fork(): print('done')\nelse: time.sleep(3600)"
    started = time.monotonic()
    assert ask(python(text), _LONG).out == "done\n"
    assert time.monotonic() - started < _LONG
