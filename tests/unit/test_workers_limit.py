"""A command that cannot take its worker along: real processes, really ended.

What misbehaves here is bounded by itself as well, so that a limit that does not hold fails a test and nothing else.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workers.cli import main
from workers.processes import descendants, environment, pids, process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the watch is Linux's")

ROOT = Path(__file__).parents[2]
MIB = 1 << 20

#: Takes as many MiB as it is told, in as many processes; ``shared``: all have the same memory.
HOG = """
    import os, sys, time
    size, children, how = int(sys.argv[1]) << 20, int(sys.argv[2]), sys.argv[3]

    def take():
        taken = bytearray(size)
        taken[::4096] = b"x" * len(range(0, size, 4096))
        return taken

    taken = take() if how == "shared" else None
    for _ in range(children):
        if not os.fork():
            if how == "daemon":
                os.setsid()
                os.fork() and os._exit(0)
            taken = taken or take()
            break
    else:
        print("started", flush=True)
    time.sleep(float(sys.argv[4]))
"""
#: At most 1023 processes.
BOMB = 'bomb() { if [ "$1" -gt 0 ]; then bomb $(($1 - 1)) & bomb $(($1 - 1)) & fi; exec sleep 60; }; bomb 9'


class Limited:
    """Commands under limits, and what they leave: found by their environment, whoever their parent is by now."""

    def __init__(self, folder: Path) -> None:
        self.mark = f"TEST_LIMIT={folder}"
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), "TEST_LIMIT": str(folder)}
        self.hog = folder / "hog.py"
        self.hog.write_text(textwrap.dedent(HOG), encoding="utf-8")
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *options: str, command: list[str]) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "workers.cli", "limit", *options, "--", *command]
        pipe = subprocess.PIPE
        self.started.append(
            subprocess.Popen(
                argv, env=self.environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True, process_group=0
            )
        )
        return self.started[-1]

    def run(self, *options: str, command: list[str], given: str = "") -> subprocess.CompletedProcess[str]:
        """Until its end, when nothing of it may be left."""
        running = self.start(*options, command=command)
        output, errors = running.communicate(given, timeout=60)
        assert self.left() == []
        return subprocess.CompletedProcess(running.args, running.returncode, output, errors)

    def hogs(self, size: int, children: int = 0, how: str = "each", seconds: float = 60) -> list[str]:
        return [sys.executable, "-S", str(self.hog), str(size), str(children), how, str(seconds)]

    def left(self) -> list[int]:
        mark = self.mark.encode()
        return [pid for pid in pids() if mark in environment(pid) and (one := process(pid)) and one.state != "Z"]


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Limited]:
    made = Limited(tmp_path)
    yield made
    for running in made.started:
        running.kill()
        running.communicate()
    for pid in made.left():
        os.kill(pid, signal.SIGKILL)


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not so within {seconds} s"
        time.sleep(0.01)


# --- a command that keeps within them ---------------------------------------------------------------------------------


def test_its_input_its_output_and_its_exit_code_are_its_own(limited: Limited) -> None:
    done = limited.run(
        "--memory=100000000", "--processes=50", command=["sh", "-c", "cat; echo 2 >&2; exit 7"], given="1"
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "1", "2\n")


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM])
def test_a_signal_that_kills_it_is_its_exit_code_as_in_a_shell(number: signal.Signals, limited: Limited) -> None:
    done = limited.run("--memory=100000000", command=["sh", "-c", f"kill -{number.value} $$"])
    assert (done.returncode, done.stderr) == (128 + number, "")


def test_pipes_break_for_it_as_for_any_command(limited: Limited) -> None:
    done = limited.run("--processes=50", command=["bash", "-c", "yes | head -n 1; echo ${PIPESTATUS[0]}"])
    assert done.stdout.split() == ["y", str(128 + signal.SIGPIPE)]


def test_a_program_that_is_not_there_is_the_workers_fault(limited: Limited) -> None:
    done = limited.run("--memory=100000000", command=["no-such-program"])
    assert (done.returncode, done.stderr) == (
        75,
        "mlc-ci-worker limit: error: the worker has no program no-such-program\n",
    )


def test_what_it_leaves_running_is_ended_with_it(limited: Limited) -> None:
    done = limited.run("--processes=50", command=["sh", "-c", "setsid sh -c 'setsid sleep 60 & sleep 60' & echo done"])
    assert (done.returncode, done.stdout) == (0, "done\n")


@pytest.mark.parametrize("wrong", [["--memory=0"], ["--memory=1G"], ["--processes=-1"], ["--processes=1.5"]])
def test_a_limit_that_is_none_is_told(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["limit", *wrong, "--", "true"])
    assert ended.value.code == 2
    assert "is no whole number above zero" in capsys.readouterr().err


def test_no_command_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["limit", "--memory=1000", "--"]) == 2
    assert "no command was given" in capsys.readouterr().err


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "children", "how"), [(300, 0, "shared"), (50, 6, "each"), (300, 1, "daemon")])
def test_a_memory_hog_is_ended_and_the_last_line_says_why(size: int, children: int, how: str, limited: Limited) -> None:
    done = limited.run(f"--memory={200 * MIB}", command=limited.hogs(size, children, how))
    assert done.returncode == 1
    said = re.fullmatch(
        r"mlc-ci-worker limit: error: memory limit: 200 MiB allowed, ([\d.]+) MiB seen in \d+ process(es)?;"
        r" the biggest: .+ \(process \d+, ([\d.]+) MiB\)",
        done.stderr.splitlines()[-1],
    )
    assert said, done.stderr
    assert float(said[1]) >= 200
    assert float(said[1]) >= float(said[3])


@pytest.mark.parametrize(("size", "children", "how"), [(100, 0, "shared"), (20, 6, "each"), (100, 1, "daemon")])
def test_less_than_the_limit_is_let_be(size: int, children: int, how: str, limited: Limited) -> None:
    done = limited.run(f"--memory={200 * MIB}", command=limited.hogs(size, children, how, seconds=1))
    assert (done.returncode, done.stderr) == (0, "")


def test_memory_that_processes_share_counts_once(limited: Limited) -> None:
    """Six workers forked from one that holds 120 MiB: 720 MiB to who adds up what each has resident."""
    command = limited.hogs(120, 6, "shared", seconds=2)
    running = limited.start(f"--memory={200 * MIB}", command=command)
    most = 0
    while running.poll() is None:
        below = filter(None, map(process, descendants(running.pid)))
        most = max(most, sum(one.resident for one in below if "python" in one.name))
        time.sleep(0.02)
    assert running.returncode == 0, running.communicate()
    assert most > 400 * MIB, "it is not what this test takes it for"


def test_reserved_address_space_is_no_memory(limited: Limited) -> None:
    """As CUDA and sanitizers do it."""
    reserve = "import mmap, time; m = mmap.mmap(-1, 1 << 40, flags=mmap.MAP_PRIVATE | 0x4000); time.sleep(0.5)"
    done = limited.run(f"--memory={100 * MIB}", command=[sys.executable, "-S", "-c", reserve])
    assert (done.returncode, done.stderr) == (0, "")


# --- processes --------------------------------------------------------------------------------------------------------

BOMBED = (
    r"mlc-ci-worker limit: error: process limit: 60 processes and threads allowed, (\d+) seen;"
    r" most of them: \S+ \(\d+\)"
)


def test_a_fork_bomb_is_ended_and_the_last_line_says_why(limited: Limited) -> None:
    done = limited.run("--processes=60", command=["sh", "-c", BOMB])
    assert done.returncode == 1
    said = re.fullmatch(BOMBED, done.stderr.splitlines()[-1])
    assert said, done.stderr
    assert int(said[1]) > 60


def test_threads_count(limited: Limited) -> None:
    threads = (
        "import threading, time\n"
        "for _ in range(100): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "time.sleep(60)"
    )
    done = limited.run("--processes=60", command=[sys.executable, "-c", threads])
    assert re.fullmatch(BOMBED, done.stderr.splitlines()[-1]), done.stderr
    allowed = threads.replace("100", "50").replace("time.sleep(60)", "time.sleep(1)")
    assert limited.run("--processes=60", command=[sys.executable, "-c", allowed]).returncode == 0


#: A real fork bomb, as a user whom the kernel holds to 2000 processes whatever we do.
AS_USER = """
    import os, resource, sys
    from workers.watch import most_processes, run_limited

    uid = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_NPROC, (2000, 2000))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    print("net", most_processes(60), flush=True)
    sys.exit(run_limited(["bash", "-c", sys.argv[2]], processes=60))
"""


def as_user(limited: Limited, script: str) -> subprocess.CompletedProcess[str]:
    if os.geteuid() != 0:
        pytest.skip("a user whose processes are this test's alone can only be had by root")
    command = [sys.executable, "-c", textwrap.dedent(AS_USER), "64999", script]
    return subprocess.run(
        command, env=limited.environment, cwd="/", capture_output=True, text=True, timeout=60, check=False
    )


def test_a_fork_bomb_without_end_is_ended_and_the_kernel_holds_it_meanwhile(limited: Limited) -> None:
    done = as_user(limited, "ulimit -u; :(){ :|:& };:; sleep 60")
    assert done.returncode == 1
    assert re.fullmatch(BOMBED, done.stderr.splitlines()[-1]), done.stderr
    _, net, seen = done.stdout.split()[:3]
    assert int(net) <= int(seen) <= int(net) + 5, "it is what the command itself is held to"
    assert 60 * 2 < int(net) < 2000
    assert limited.left() == []


def test_the_same_user_may_do_what_is_allowed(limited: Limited) -> None:
    done = as_user(limited, "for i in {1..50}; do sleep 0.5 & done; wait; echo well")
    assert (done.returncode, done.stdout.split()[-1]) == (0, "well")


# --- who watches the watch --------------------------------------------------------------------------------------------

DAEMONS = "setsid sh -c 'setsid sleep 60 & sleep 60' & sleep 60"


def tree(limited: Limited) -> tuple[subprocess.Popen[str], int]:
    """The outer process and the inner one, once all that is below both runs."""
    running = limited.start("--processes=50", command=["sh", "-c", DAEMONS])
    until(lambda: sum(bool((one := process(pid)) and one.name == "sleep") for pid in limited.left()) == 3)
    inner, *below = descendants(running.pid)
    assert len(below) >= 3
    assert {running.pid, inner, *below} == set(limited.left()), "the mark finds all of it"
    return running, inner


def test_its_process_groups_end_is_the_end_of_all(limited: Limited) -> None:
    """So Buildbot ends a command that takes too long."""
    running, _ = tree(limited)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    until(lambda: not limited.left())


def test_the_inner_process_end_is_the_end_of_all(limited: Limited) -> None:
    running, inner = tree(limited)
    os.kill(inner, signal.SIGKILL)
    assert running.wait(20) == 128 + signal.SIGKILL
    assert limited.left() == []


def test_being_told_to_end_tells_the_command(limited: Limited) -> None:
    running, _ = tree(limited)
    running.terminate()
    assert running.wait(20) == 128 + signal.SIGTERM
    assert limited.left() == []
