"""What a command used of its boards: seen beside it, never in its way. The driver is compiled for the test."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fake_drivers
import pytest
from fake_drivers import BOARD
from hypothesis import given
from hypothesis import strategies as st

from steps.classify import OutputReader
from workers.gpu import usage
from workers.gpu.sampler import MODULE
from workers.gpu.usage import MARK, POINTS, Sample, Usage
from workers.processes import environment, pids

ROOT = Path(__file__).parents[2]
GIB = 1 << 30
_SOME = "for _ in 1 2 3; do sleep 0.5; done; "
_UNTIL_LOOKED_AT = "while [ ! -e $MLC_CI_TEST_MARK/looked ]; do sleep 0.05; done; "

linux = pytest.mark.skipif(sys.platform != "linux", reason="commands are watched on Linux only")


class Wrapped:
    """A command in its wrapper, where NVML is the one in a folder."""

    def __init__(self, folder: Path, *options: str, command: str, driver: Path | None = None) -> None:
        self.mark = f"MLC_CI_TEST_MARK={folder}"
        more = {"PYTHONPATH": str(ROOT), "MLC_CI_TEST_MARK": str(folder), "LD_LIBRARY_PATH": str(driver or "")}
        argv = [sys.executable, "-m", "workers.cli", "limit", *options, "--", "sh", "-c", command]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            argv, env={**os.environ, **more}, stdout=pipe, stderr=subprocess.STDOUT, text=True, process_group=0
        )

    def ended(self) -> str:
        """All that it said; and nothing of it is left."""
        said, _ = self.process.communicate(timeout=60)
        assert [pid for pid in pids() if self.mark.encode() in environment(pid)] == []
        return said

    def samplers(self) -> list[int]:
        """Found by what they were started as: the mark is in the environment of all."""
        mine = (pid for pid in pids() if self.mark.encode() in environment(pid))
        return [pid for pid in mine if MODULE.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]


def telling(folder: Path, *, look: int = 4, then: str = "", **more: str) -> Path:
    """A driver whose board tells of its use, and that leaves a file in the folder at that look."""
    memory = f'if (asked == {look}) {{ system("touch {folder}/looked"); {then} }}'
    return fake_drivers.nvml(folder / "driver", more=fake_drivers.use(memory=memory, **more))


def told(said: str) -> dict[str, Usage]:
    """Of the last line, which stands alone."""
    *_, last = said.splitlines()
    return usage.read(last, [BOARD])


@linux
def test_a_command_says_last_what_it_used(tmp_path: Path) -> None:
    command = _UNTIL_LOOKED_AT + "printf half; exit 3"
    wrapped = Wrapped(tmp_path, f"--gpu={BOARD}", "--gpu=GPU-none", command=command, driver=telling(tmp_path))
    said = wrapped.ended()
    assert (wrapped.process.returncode, said.splitlines()[0]) == (3, "half")
    found = told(said)[BOARD]
    assert (found.total, found.mean, found.peak) == (80 * GIB, 45.0, 45)
    assert found.peak_memory == min(9, len(found.points)) * GIB, "as much as at its last look"
    assert [memory for _, _, memory in found.points] == [min(9, n + 1) * 1024 for n in range(len(found.points))]
    assert 0 < found.seconds <= found.points[-1][0] + 1


@linux
def test_of_a_board_that_does_not_tell_how_busy_it_is_the_memory_is_told(tmp_path: Path) -> None:
    driver = telling(tmp_path, busy="3")
    found = told(Wrapped(tmp_path, f"--gpu={BOARD}", command=_UNTIL_LOOKED_AT, driver=driver).ended())[BOARD]
    assert (found.mean, found.peak) == (None, None)
    assert found.peak_memory > 0


@linux
@pytest.mark.parametrize(
    "driver",
    [
        {"init": "for (;;) pause()"},
        {"init": "abort()"},
        {"init": "return 999"},
        {"more": ""},
        {"more": fake_drivers.use(memory="return 15;")},
        {"more": fake_drivers.use(memory="for (;;) pause();")},
        {"more": fake_drivers.use(memory="abort();")},
        None,
    ],
    ids=[
        "hangs",
        "crashes",
        "does not start",
        "old",
        "board is lost",
        "hangs at a board",
        "crashes at a board",
        "none",
    ],
)
def test_nvml_never_changes_what_becomes_of_a_command(driver: dict[str, Any] | None, tmp_path: Path) -> None:
    folder = fake_drivers.nvml(tmp_path / "driver", **driver) if driver else None
    wrapped = Wrapped(tmp_path, f"--gpu={BOARD}", command=_SOME + "echo done; exit 3", driver=folder)
    assert wrapped.ended() == "done\n"
    assert wrapped.process.returncode == 3


@linux
def test_what_was_seen_before_the_driver_hung_is_told(tmp_path: Path) -> None:
    driver = telling(tmp_path, look=3, then="for (;;) pause();")
    said = Wrapped(tmp_path, f"--gpu={BOARD}", command=_UNTIL_LOOKED_AT, driver=driver).ended()
    assert told(said)[BOARD].peak_memory == 2 * GIB


@linux
def test_nothing_is_looked_at_unasked(tmp_path: Path) -> None:
    driver = fake_drivers.nvml(tmp_path / "driver", more=fake_drivers.use())
    wrapped = Wrapped(tmp_path, command="echo started; sleep 1", driver=driver)
    assert wrapped.process.stdout is not None and wrapped.process.stdout.readline() == "started\n"
    assert wrapped.samplers() == []
    assert wrapped.ended() == ""


@linux
def test_the_sampler_counts_for_no_limit_of_the_command(tmp_path: Path) -> None:
    bounds = ("--processes=2", "--memory=20000000")
    command = _UNTIL_LOOKED_AT + "exit 0"
    wrapped = Wrapped(tmp_path, f"--gpu={BOARD}", *bounds, command=command, driver=telling(tmp_path))
    said = wrapped.ended()
    assert (wrapped.process.returncode, told(said)[BOARD].peak) == (0, 45), said


@linux
def test_a_command_whose_process_group_is_killed_tells_too_and_leaves_no_sampler(tmp_path: Path) -> None:
    """So Buildbot ends a command: at a time limit, and when a build is cancelled."""
    command = _UNTIL_LOOKED_AT + "echo looked; sleep 600"
    wrapped = Wrapped(tmp_path, f"--gpu={BOARD}", command=command, driver=telling(tmp_path))
    assert wrapped.process.stdout is not None and wrapped.process.stdout.readline() == "looked\n"
    assert len(wrapped.samplers()) == 1
    os.killpg(wrapped.process.pid, signal.SIGKILL)
    assert told(wrapped.ended())[BOARD].peak_memory >= GIB


# -- the numbers


def sample(at: float, busy: int | None = 0, used: int = 0) -> Sample:
    return Sample(at=at, board=0, busy=busy, used=used, total=80 * GIB)


def test_a_sample_stands_for_the_time_until_the_next() -> None:
    found = usage.summed_up([sample(10.0, 100), sample(13.0, 0, GIB), sample(14.0, 0)], began=8.0)
    assert (found.mean, found.peak, found.seconds, found.peak_memory) == (60.0, 100, 5.0, GIB)
    assert found.points == ((2.0, 100, 0), (5.0, 0, 1024), (6.0, 0, 0))


def test_records_that_were_cut_off_are_left_out() -> None:
    samples = [sample(1.5, 7, GIB), sample(2.5, None)]
    written = b"".join(map(usage.packed, samples))
    assert list(usage.unpacked(written)) == samples
    assert list(usage.unpacked(written[:-1])) == samples[:1]


def test_a_builds_commands_are_joined_in_time() -> None:
    first = usage.summed_up([sample(0.0, 0), sample(1.0, 0, 2 * GIB)], began=0.0)
    second = usage.summed_up([sample(0.0, 90, GIB), sample(1.0, 90), sample(2.0, 90)], began=0.0)
    both = usage.joined(usage.joined(None, first, 0.0), second, 60.0)
    assert (both.peak_memory, both.mean, both.peak, both.seconds) == (2 * GIB, 54.0, 90, 5.0)
    assert [at for at, _, _ in both.points] == [0.0, 1.0, 60.0, 61.0, 62.0]
    assert usage.from_property(json.loads(json.dumps(asdict(both)))) == both


@given(st.lists(st.tuples(st.floats(0, 1e6), st.none() | st.integers(0, 100), st.integers(0, 1 << 20)), max_size=400))
def test_a_series_is_bounded_and_keeps_its_peak_and_its_order(points: list[usage.Point]) -> None:
    found = usage.thinned(points, POINTS)
    assert len(found) == min(len(points), len(found)) <= POINTS
    assert max((m for _, _, m in found), default=0) == max((m for _, _, m in points), default=0)
    assert [at for at, _, _ in found] == sorted(at for at, _, _ in found)


def test_a_day_of_samples_stays_small() -> None:
    times = itertools.accumulate(itertools.repeat(0), lambda at, _: at + usage.pause(at), initial=0.0)
    day = list(itertools.takewhile(lambda at: at < 24 * 3600, times))
    assert len(day) * len(usage.packed(sample(0.0))) < 1 << 20
    line = usage.line({BOARD: usage.summed_up([sample(at, 50, 70 * GIB) for at in day], 0.0)})
    assert len(line) < 2048


GOOD = usage.summed_up([sample(0.0, 50, GIB), sample(1.0, 60, GIB)], 0.0)


def test_a_line_is_read_as_it_was_written() -> None:
    assert usage.read(usage.line({BOARD: GOOD}), [BOARD]) == {BOARD: GOOD}


@pytest.mark.parametrize(
    "change",
    [
        {"total": -1},
        {"peak_memory": "1"},
        {"peak_memory": 1e300},
        {"mean": 101},
        {"peak": True},
        {"seconds": None},
        {"seconds": float("nan")},
        {"points": [[0, 50]]},
        {"points": [[-1, 50, 1]]},
        {"points": 7},
        {"points": [[0, 50, float("inf")]]},
    ],
)
def test_a_build_that_prints_such_a_line_makes_nothing_else_of_it(change: dict[str, Any]) -> None:
    said = MARK + json.dumps({BOARD: {**asdict(GOOD), **change}})
    assert usage.read(said, [BOARD]) == {}


def test_of_boards_that_are_not_its_own_a_build_tells_nothing() -> None:
    assert usage.read(usage.line({"GPU-other": GOOD}), [BOARD]) == {}
    assert usage.read(MARK + "[" * 30_000, [BOARD]) == {}
    assert usage.read(MARK + "null", [BOARD]) == {}
    many = usage.line({BOARD: Usage(**{**asdict(GOOD), "points": tuple((0.0, 1, 1) for _ in range(1000))})})
    assert len(usage.read(many, [BOARD])[BOARD].points) <= POINTS


def test_the_line_is_not_taken_for_the_commands_last_words() -> None:
    reader = OutputReader()
    for line in ("cannot go on", "", usage.line({BOARD: GOOD})):
        reader.read(line)
    assert reader.verdict(1).reason == "ended with exit code 1; its last line: cannot go on"


def test_people_are_told_the_peaks() -> None:
    assert usage.told(BOARD, asdict(GOOD)) == f"{BOARD}: 1.0 of 80.0 GiB at most, busy 55 % of the time, 60 % at most"
    assert usage.told("GPU-a", {**asdict(GOOD), "mean": None}) == "GPU-a: 1.0 of 80.0 GiB at most"
