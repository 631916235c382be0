"""Nothing that a worker started outlives it, however it dies (Linux; no root, no cgroups).

Stock Buildbot leaves the processes of a killed worker running beside the retry of their build. Here three processes
stand in a row::

    outer  ->  inner  ->  worker  ->  commands, their children, their daemons

*outer* and *inner* are child subreapers: what loses its parent below them becomes their child, even after a double
fork and ``setsid``, so each sees everything below it in ``/proc``. When the worker dies, *inner* kills the rest and
starts it again. When *inner* dies, the kernel kills the worker (``PR_SET_PDEATHSIG``), and *outer* kills the rest.
When *outer* dies, *inner* is told by a signal and ends everything. Only if both die within one instant is there
nobody left to act, and the next start sweeps the folder's leftovers by :data:`MARKER` in their environment.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

MARKER = "MLC_CI_WORKER_DIR"  #: every process of a worker has this in its environment

#: Exit codes of the worker after which it is not started again: it was told to end, or it is set up wrongly.
FINAL = (0, 2)

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_POLL = 1.0  # seconds; only a safety net, SIGCHLD is what wakes us
_SHORTEST, _LONGEST = 1.0, 30.0  # seconds before the worker is started again
_STEADY = 60.0  # seconds after which a death counts as the first


@dataclass(frozen=True, kw_only=True)
class Limits:
    grace: float = 10.0  #: seconds between asking the worker to stop and killing it
    killing: float = 10.0  #: seconds to go on killing what keeps forking


def run_supervised(worker: Callable[[], int], limits: Limits = Limits()) -> int:
    """Runs the worker in a process of its own, below *inner*, below this one. Returns its exit code."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, *_STOPPING})
    try:
        inner = _Supervisor(worker, mask, limits, signal.SIGKILL)
        return _Supervisor(inner.run, mask, limits, signal.SIGTERM).run()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class _Supervisor:
    def __init__(self, child: Callable[[], int], mask: set[int], limits: Limits, on_our_death: signal.Signals) -> None:
        self.child = child
        self.mask = mask
        self.limits = limits
        self.on_our_death = on_our_death
        self.parent = os.getppid()
        self.pid = 0
        self.kill_at = 0.0
        self.stopping = False

    def run(self) -> int:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self.parent = os.getppid()
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

    def start(self) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        us = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            _prctl(_PR_SET_PDEATHSIG, self.on_our_death)
            if os.getppid() != us:  # it died before the line above
                os._exit(1)
            if self.on_our_death is signal.SIGKILL:  # the worker itself
                signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
            else:
                os.setsid()  # Ctrl-C is for outer, which passes it on once
            code = self.child()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def wait(self) -> int:
        """Until the child is dead; its exit code, negative for a signal."""
        while True:
            status = self.reap()
            if status is not None:
                return os.waitstatus_to_exitcode(status)
            if self.stopping and time.monotonic() >= self.kill_at:
                _kill(self.pid)
            self.listen(_POLL)

    def reap(self) -> int | None:
        found = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return found
            if not pid:
                return found
            if pid == self.pid:
                found = status

    def listen(self, seconds: float) -> None:
        """Waits for a signal; one that ends us is passed on to the child."""
        received = signal.sigtimedwait({signal.SIGCHLD, *_STOPPING}, max(0.0, seconds))
        if received is None or received.si_signo == signal.SIGCHLD:
            return
        now = time.monotonic()
        orphaned = os.getppid() != self.parent
        if not self.stopping:
            self.stopping = True
            self.kill_at = now + self.limits.grace
            if not orphaned:
                _kill(self.pid, signal.SIGTERM)
        if orphaned:  # outer was killed: nobody waits for a clean end
            self.kill_at = now

    def pause(self, seconds: float) -> bool:
        """Waits; False when told to end meanwhile."""
        until = time.monotonic() + seconds
        while not self.stopping and (left := until - time.monotonic()) > 0:
            self.listen(left)
            self.reap()
        return not self.stopping

    def kill_the_rest(self) -> None:
        """Everything below us. Again and again, because what forks meanwhile is below us too."""
        until = time.monotonic() + self.limits.killing
        while (pids := list(descendants(os.getpid()))) and time.monotonic() < until:
            for pid in pids:
                _kill(pid)
            self.reap()
            time.sleep(0.01)


def sweep(folder: str, seconds: float = 10.0) -> list[int]:
    """Kills what an earlier life of the worker of this folder left running; gives the process numbers."""
    wanted = f"{MARKER}={folder}".encode()
    spared = {os.getpid(), *_ancestors(os.getpid())}
    swept: dict[int, None] = {}
    until = time.monotonic() + seconds
    while pids := [pid for pid in _processes() if pid not in spared and wanted in _environment(pid)]:
        for pid in pids:
            swept[pid] = None
            _kill(pid)
        if time.monotonic() > until:
            break
        time.sleep(0.01)
    return list(swept)


def descendants(root: int) -> Iterator[int]:
    """Every process below ``root`` that still runs, nearest first."""
    children: dict[int, list[int]] = {}
    for pid in _processes():
        if stat := _stat(pid):
            parent, state = stat
            if state != "Z" or parent == root:
                children.setdefault(parent, []).append(pid)
    queue = children.get(root, [])
    while queue:
        pid = queue.pop(0)
        yield pid
        queue += children.get(pid, [])


def _processes() -> list[int]:
    return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdecimal()]


def _stat(pid: int) -> tuple[int, str] | None:
    """The parent of a process and its state."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        state, parent = text.rpartition(")")[2].split()[:2]  # the name in parentheses may hold anything
    except (OSError, ValueError):
        return None
    return int(parent), state


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 1 and (stat := _stat(pid)):
        pid = stat[0]
        yield pid


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it ended, or it is somebody else's
        return []


def _kill(pid: int, how: signal.Signals = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, how)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _described(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"
