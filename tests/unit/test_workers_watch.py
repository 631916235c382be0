"""What the watch says at a limit, and what of a process it counts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from steps.classify import Limit, OutputReader
from workers import watch
from workers.processes import Process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the watch is Linux's")

ROOT = Path(__file__).parents[2]
MIB = 1 << 20


@pytest.mark.parametrize("progress", ["printf 'progress 10%%' >&2", "printf 'a\\rb' >&2", "printf half", "echo whole"])
def test_a_limit_is_read_however_the_commands_last_line_ended(progress: str) -> None:
    command = f"{progress}; for i in 1 2 3 4 5 6 7 8 9; do sleep 60 & done; wait"
    argv = [sys.executable, "-m", "workers.cli", "limit", "--processes=5", "--", "sh", "-c", command]
    done = subprocess.run(
        argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False
    )
    reader = OutputReader()
    for line in done.stdout.splitlines():
        reader.read(line)
    verdict = reader.verdict(done.returncode)
    assert (done.returncode, reader.limit) == (1, Limit.PROCESSES), done.stdout
    assert verdict.reason.startswith("process limit: 5 processes and threads allowed, ")


class Host:
    """A ``/proc`` with one process, as the kernel writes it, and a watch over it."""

    def __init__(self, folder: Path, *, resident: int, swapped: int, in_use: int) -> None:
        (folder / "7").mkdir()
        (folder / "meminfo").write_text(
            f"MemTotal:  100000 kB\nSwapTotal:   4194304 kB\nSwapFree:   {4194304 - in_use * 1024} kB\n"
        )
        (folder / "7" / "status").write_text(
            f"Name:\tx\nVmRSS:\t  {resident * 1024} kB\nVmSwap:\t  {swapped * 1024} kB\n"
        )
        (folder / "7" / "smaps_rollup").write_text(
            f"Rss:    {resident * 1024} kB\nPss:    {resident * 1024} kB\nSwap:  {swapped * 1024} kB\n"
            f"SwapPss:  {swapped * 1024} kB\n"
        )
        self.one = Process(pid=7, parent=1, group=7, state="S", threads=1, resident=resident * MIB, name="x")


@pytest.mark.parametrize(
    ("resident", "swapped", "in_use", "counted"),
    [
        (60, 90, 2000, 150),  # none of the two alone is too much
        (60, 20, 2000, 80),
        (60, 20, 30, 60),  # all the host's swap would not do: nobody is asked
        (120, 90, 2000, 120),  # too much without
        (60, 0, 0, 60),
    ],
)
def test_what_is_swapped_out_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resident: int, swapped: int, in_use: int, counted: int
) -> None:
    host = Host(tmp_path, resident=resident, swapped=swapped, in_use=in_use)
    monkeypatch.setattr(watch, "PROC", tmp_path)
    assert watch.at_most([host.one], 100 * MIB) == counted * MIB
    assert watch.memory_of(host.one) == (resident + swapped) * MIB


def test_a_host_without_swap_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "PROC", tmp_path)
    one = Process(pid=7, parent=1, group=7, state="S", threads=1, resident=5, name="x")
    assert watch.at_most([one], 100) == 5
