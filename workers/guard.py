"""One child process, and care that nothing below it outlives it (Linux; no root, no cgroups).

A guard is a child subreaper: what loses its parent below it becomes its child, even after a double fork and
``setsid``, so it sees everything below it in ``/proc``. Two of them in a row, *outer* and *inner*, survive the death
of either: when *inner* dies, the kernel kills its child (``PR_SET_PDEATHSIG``), and *outer* kills the rest. When
*outer* dies, *inner* is told by a signal and ends everything. Only if both die within one instant is there nobody
left to act.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from workers.processes import Process, end_tree, kill

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_POLL = 1.0  # seconds; only a safety net, SIGCHLD is what wakes us


@dataclass(frozen=True, kw_only=True)
class Patience:
    grace: float = 10.0  #: seconds between asking the child to stop and killing it
    killing: float = 10.0  #: seconds to go on killing what keeps forking


@contextmanager
def signals_held() -> Iterator[set[int]]:
    """Keeps the signals that a guard waits for; gives the mask that its child is to have."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, *_STOPPING})
    try:
        yield {int(number) for number in mask}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class Guard:
    """Runs ``child`` in a process of its own. To be used within :func:`signals_held`, in one thread.

    Args:
        child: what that process does; its exit code.
        mask: the signals that are blocked in the guarded program, or ``None`` where the child is the inner guard.
    """

    def __init__(self, child: Callable[[], int], mask: set[int] | None, patience: Patience) -> None:
        self.child = child
        self.mask = mask
        self.patience = patience
        self.parent = os.getppid()
        self.pid = 0
        self.status: int | None = None
        self.kill_at = 0.0
        self.stopping = False

    def run(self) -> int:
        """The child's exit code, negative for a signal, once it and everything below it are gone."""
        self.adopt()
        self.pid = self.start()
        code = self.wait()
        self.kill_the_rest()
        return code

    def adopt(self) -> None:
        """Become the parent of whatever loses its own below this process."""
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self.parent = os.getppid()

    def start(self) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        us = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM if self.mask is None else signal.SIGKILL)
            if os.getppid() != us:  # it died before the line above
                os._exit(1)
            if self.mask is None:
                os.setsid()  # Ctrl-C is for outer, which passes it on once
            else:
                signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
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
        self.status = None
        while True:
            if (status := self.reap()) is not None:
                return os.waitstatus_to_exitcode(status)
            if self.stopping and time.monotonic() >= self.kill_at:
                kill(self.pid)
            self.listen(self.look())

    def look(self) -> float:
        """Called again and again while the child runs; when to look again, in seconds. For subclasses."""
        return _POLL

    def reap(self) -> int | None:
        """Collects what is dead; the status of the child, once it is."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return self.status
            if not pid:
                return self.status
            if pid == self.pid:
                self.status = status

    def listen(self, seconds: float) -> None:
        """Waits for a signal; one that ends us is passed on to the child."""
        received = signal.sigtimedwait({signal.SIGCHLD, *_STOPPING}, max(0.0, seconds))
        if received is None or received.si_signo == signal.SIGCHLD:
            return
        now = time.monotonic()
        orphaned = os.getppid() != self.parent
        if not self.stopping:
            self.stopping = True
            self.kill_at = now + self.patience.grace
            if not orphaned:
                kill(self.pid, signal.SIGTERM)
        if orphaned:  # outer was killed: nobody waits for a clean end
            self.kill_at = now

    def kill_the_rest(self, first: Collection[Process] = ()) -> None:
        """Everything below us. Where nothing is, which is the rule, ``/proc`` is not read: that takes longer than many
        a command, and longer the more the host has to do."""
        if first or _has_children():
            end_tree(os.getpid(), self.patience.killing, self.reap, first)


def dies_with_parent() -> None:
    """Be killed by the kernel when the process that started this one ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _has_children() -> bool:
    """Whether there is anything below this process, which is a subreaper: then all of it hangs on a child."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
