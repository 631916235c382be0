"""Nothing that a worker started outlives it, however it dies (Linux; no root, no cgroups).

Stock Buildbot leaves the processes of a killed worker running beside the retry of their build. Here three processes
stand in a row::

    outer  ->  inner  ->  worker  ->  commands, their children, their daemons

The first two are guards (:mod:`workers.guard`). When the worker dies, *inner* kills the rest and starts it again; when
*inner* dies, so does *outer*. Should both die at once, the next start sweeps the folder's leftovers by :data:`MARKER`
in their environment.

Nothing outlives its build either. A command's own guards see to that; a process that killed those, to go on behind a
build's back (a GPU's memory in its hands), falls to *inner*, as nothing leaves a subreaper's tree, and is ended there.
By its place in the tree alone: whatever else has the same user or the same environment is nobody's business here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection

from workers.guard import Guard, Patience, signals_held
from workers.processes import ancestors, children, descendants, environment, kill, pids, printable

MARKER = "MLC_CI_WORKER_DIR"  #: every process of a worker has this in its environment

#: Exit codes of the worker after which it is not started again: it was told to end, or it is set up wrongly.
FINAL = (0, 2)

_SHORTEST, _LONGEST = 1.0, 30.0  # seconds before the worker is started again
_STEADY = 60.0  # seconds after which a death counts as the first
_AGAIN = 0.05  # seconds: what a killed process had started falls to us next
_PATIENCE = Patience()


def run_supervised(worker: Callable[[], int], patience: Patience = _PATIENCE) -> int:
    """Runs the worker in a process of its own, below *inner*, below this one. Returns its exit code."""
    with signals_held() as mask:
        inner = _Supervisor(worker, mask, patience)
        return _Supervisor(inner.run, None, patience).run()


class _Supervisor(Guard):
    """Starts its child again when it dies."""

    strays: Collection[int] = ()  #: that were killed a moment ago

    def run(self) -> int:
        self.adopt()
        delay = _SHORTEST
        while True:
            started = time.monotonic()
            self.pid = self.start()
            code = self.wait()
            self.kill_the_rest()
            if self.stopping:
                return 0
            if code in FINAL:
                return code
            if time.monotonic() - started > _STEADY:
                delay = _SHORTEST
            print(f"mlc-ci-worker: the worker ended ({_described(code)}); it starts again in {delay:g} s", flush=True)
            if not self.pause(delay):
                return 0
            delay = min(delay * 2, _LONGEST)

    def look(self) -> float:
        """End what has lost all of its own above it: only the worker is a child of ours."""
        strays = {one.pid: one.name for one in children(os.getpid()) if one.pid != self.pid and one.state != "Z"}
        for pid in strays.keys() - set(self.strays):
            print(f"mlc-ci-worker: process {pid} ({printable(strays[pid])}) has outlived its build: killed", flush=True)
        self.strays = set(strays)
        for each in [below for pid in strays for below in (pid, *descendants(pid))]:
            kill(each)
        return _AGAIN if strays else super().look()

    def pause(self, seconds: float) -> bool:
        """Waits; False when told to end meanwhile."""
        until = time.monotonic() + seconds
        while not self.stopping and (left := until - time.monotonic()) > 0:
            self.listen(left)
            self.reap()
        return not self.stopping


def sweep(folder: str, seconds: float = 10.0) -> list[int]:
    """Kills what an earlier life of the worker of this folder left running; gives the process numbers."""
    wanted = f"{MARKER}={folder}".encode()
    spared = {os.getpid(), *ancestors(os.getpid())}
    swept: dict[int, None] = {}
    until = time.monotonic() + seconds
    while found := [pid for pid in pids() if pid not in spared and wanted in environment(pid)]:
        for pid in found:
            swept[pid] = None
            kill(pid)
        if time.monotonic() > until:
            break
        time.sleep(0.01)
    return list(swept)


def _described(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"
