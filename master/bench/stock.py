"""A stock Buildbot master and worker, and a build that moves one file from the worker in four ways, each timed.

Everything of Buildbot's is as it comes: its database settings, its steps, its block sizes, its worker. The timed
steps add a clock around the stock ones, and a look at how late the master's event loop is meanwhile (every other build
waits as long), and at the CPU time and the memory that it takes. In two more steps of every round the
master's pages are read meanwhile, which slows stock steps down: one only waits, and one moves the file our way.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from buildbot.plugins import schedulers, steps, util, worker
from twisted.internet import defer, threads
from twisted.internet.task import LoopingCall

from master.artifacts import announced
from master.artifacts.names import build_folder
from master.artifacts.tokens import KEY, Grant, sign

MEASURED = "measured.jsonl"  #: in the master's folder, a line for each step
NAME, PASSWORD = "stock", "stock"
OURS, BARE, FILE, MULTIPLE = "ours", "bare PUT", "FileUpload", "MultipleFileUpload"
CONTENDERS = (OURS, BARE, FILE, MULTIPLE)
IDLE, READ = "idle", "ours, read meanwhile"
WATCH = "watch"  #: in the master's folder, while pages are to be read
PAGES = ("/", "/api/v2/builds/1/steps")  #: what is read of the master meanwhile: its page, and what it shows of a build
_TICK_S = 0.02
_IDLE_S = 3


class _Timed:
    """A stock step that notes how long it took, and the worst delay of the master's event loop."""

    what = ""
    watched = False

    @defer.inlineCallbacks
    def run(self) -> Generator[Any, Any, int]:
        step: Any = self
        basedir = Path(step.master.basedir)
        yield threads.deferToThread(_clear, basedir)
        watched = {"master": os.getpid(), "artifacts": announced.pid(basedir)}
        before = {name: _restart_peak(pid) for name, pid in watched.items()}
        cpu = _cpu()
        if self.watched:
            (basedir / WATCH).touch()
        worst, last = 0.0, time.monotonic()

        def tick() -> None:
            nonlocal worst, last
            now = time.monotonic()
            worst, last = max(worst, now - last - _TICK_S), now

        ticking = LoopingCall(tick)
        ticking.start(_TICK_S, now=False)
        began = time.monotonic()
        try:
            result: int = yield super().run()  # type: ignore[misc]
        finally:
            ticking.stop()
            (basedir / WATCH).unlink(missing_ok=True)
        tick()
        seconds = time.monotonic() - began
        memory = {name: [before[name], _memory(pid, "VmHWM")] for name, pid in watched.items()}
        line = {"what": self.what, "result": result, "began": began, "seconds": seconds, "cpu": _cpu() - cpu}
        with (basedir / MEASURED).open("a") as file:
            file.write(json.dumps({**line, "lag": worst, "memory": memory}) + "\n")
        return result


def _cpu() -> float:
    """Seconds that the processes of the measurement have had, with those that they have started and waited for."""
    parent = os.getppid()
    ticks = 0
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def _restart_peak(pid: int) -> int:
    """Bytes in memory now, from which the peak counts again."""
    with contextlib.suppress(PermissionError):  # then it is the peak of the process's life
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    return _memory(pid, "VmRSS")


def _memory(pid: int, what: str) -> int:
    """Bytes."""
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith(what))
    return int(line.split()[1]) * 1024


def _clear(basedir: Path) -> None:
    """Remove what was moved before, and have the disk idle: it is not what is compared."""
    for place in (*basedir.glob("file-*"), *basedir.parent.glob("bare/bare-*")):
        place.unlink()
    for place in (*basedir.glob("multiple-*"), basedir / "artifacts" / "1"):
        shutil.rmtree(place, ignore_errors=True)
    os.sync()


class _File(_Timed, steps.FileUpload):
    what = FILE


class _Multiple(_Timed, steps.MultipleFileUpload):
    what = MULTIPLE


class _Bare(_Timed, steps.ShellCommand):
    what = BARE


class _Idle(_Timed, steps.ShellCommand):
    what = IDLE
    watched = True


class _Ours(_Timed, steps.ShellCommand):
    what = OURS
    command: Any

    def run(self) -> Any:
        basedir, build = Path(self.master.basedir), self.build.buildid
        folder = build_folder(1, "bench", "", 1, build)
        grant = Grant(build_id=build, run_id=1, folder=folder, budget=1 << 50)
        self.initialStdin = sign((basedir / "secrets" / KEY).read_text().strip(), grant) + "\n"
        url = f"--url={announced.url(basedir)}/builds/{build}"
        self.command = [sys.executable, "-P", "-m", "workers.cli", "upload", url, *self.command]
        return super().run()


class _Read(_Ours):
    what = READ
    watched = True


def configuration(port: int, www: int, size: int, rounds: int, bare_url: str) -> dict[str, Any]:
    """The configuration of the stock master: one build, once, at its start."""
    wanted: list[Any] = [
        steps.ShellCommand(
            command=[sys.executable, "-c", _MAKE, str(size), str(rounds)], haltOnFailure=True, name="make"
        )
    ]
    for number in range(rounds):
        wanted += _round(number, bare_url)
    return {
        "title": "stock",
        "buildbotURL": f"http://127.0.0.1:{www}/",
        "www": {"port": f"tcp:{www}:interface=127.0.0.1"},
        "buildbotNetUsageData": None,
        "db": {"db_url": "sqlite:///state.sqlite"},
        "protocols": {"pb": {"port": f"tcp:{port}:interface=127.0.0.1"}},
        "workers": [worker.Worker(NAME, PASSWORD)],
        "builders": [util.BuilderConfig(name="move", workernames=[NAME], factory=util.BuildFactory(wanted))],
        "schedulers": [schedulers.Periodic(name="once", builderNames=["move"], periodicBuildTimer=10**9)],
    }


def _round(number: int, bare_url: str) -> Sequence[Any]:
    """Each way once; every round begins with another one, so that none always comes after the same."""
    source = f"big-{number}.bin"
    bare = [sys.executable, "-P", "-m", "master.bench.bare", "put", f"{bare_url}/bare-{number}.bin", source]
    every = [
        _Ours(command=[f"--glob={source}"], name=f"ours-{number}", logEnviron=False),
        _Bare(command=bare, name=f"bare-{number}", logEnviron=False),
        _File(workersrc=source, masterdest=f"file-{number}.bin", name=f"file-{number}"),
        _Multiple(workersrcs=[source], masterdest=f"multiple-{number}", name=f"multiple-{number}"),
    ]
    turn = number % len(every)
    idle = _Idle(command=["sleep", str(_IDLE_S)], name=f"idle-{number}", logEnviron=False)
    read = _Read(command=[f"--glob=read-{source}"], name=f"read-{number}", logEnviron=False)
    return [*every[turn:], *every[:turn], idle, read]


#: Bytes that no one compresses; one file, under a name for each round.
_MAKE = """\
import os, sys
size, rounds = int(sys.argv[1]), int(sys.argv[2])
with open("big-0.bin", "wb") as file:
    while size:
        size -= file.write(os.urandom(min(size, 1 << 20)))
for number in range(rounds):
    if number:
        os.link("big-0.bin", f"big-{number}.bin")
    os.link("big-0.bin", f"read-big-{number}.bin")
"""


def from_environment() -> dict[str, Any]:
    """For the stock master's ``master.cfg``."""
    found = json.loads(os.environ["MLC_BENCH_STOCK"])
    return configuration(found["port"], found["www"], found["size"], found["rounds"], found["bare"])
