"""What runs on this host, as ``/proc`` tells it, and the end of a whole tree of it (Linux)."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_STOPPED = frozenset("TtZXx")  #: states in which a process does nothing any more, or nothing until it is told to
_LONGEST_NAME = 80  # characters
_STOPPING = 2.0  # seconds to go on stopping what keeps forking, before it is killed as it is


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the host, at the moment at which it was looked at."""

    pid: int
    parent: int
    group: int
    state: str
    threads: int  #: at least 1, as the kernel counts a dead process that nobody has collected
    resident: int  #: bytes in memory, with what it shares with others
    name: str


def process(pid: int) -> Process | None:
    """``None`` for one that is gone."""
    try:
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
        try:
            text = os.read(file, 4096)
        finally:
            os.close(file)
        before, _, after = text.rpartition(b")")  # the name in parentheses may hold anything
        fields = after.split()
        return Process(
            pid=pid,
            parent=int(fields[1]),
            group=int(fields[2]),
            state=fields[0].decode(),
            threads=max(1, int(fields[17])),
            resident=int(fields[21]) * _PAGE,
            name=before.partition(b"(")[2].decode(errors="replace"),
        )
    except (OSError, ValueError, IndexError):
        return None


def pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208 - ten times as quick


def below(root: int, found: Iterable[Process]) -> Iterator[Process]:
    """Those of the processes that descend from ``root``, nearest first."""
    children: dict[int, list[Process]] = {}
    for one in found:
        children.setdefault(one.parent, []).append(one)
    queue = children.get(root, [])[:]
    for one in queue:  # grows while it is read
        yield one
        queue += children.get(one.pid, ())


def descendants(root: int) -> Iterator[int]:
    """Every process below ``root`` that still runs, and its dead children that it has not collected."""
    for one in below(root, filter(None, map(process, pids()))):
        if one.state != "Z" or one.parent == root:
            yield one.pid


def children(of: int) -> list[Process]:
    """Cheap, where the kernel keeps a list of them."""
    try:
        listed = Path(f"/proc/{of}/task/{of}/children").read_text(encoding="ascii").split()
    except OSError:
        return [one for one in filter(None, map(process, pids())) if one.parent == of]
    return list(filter(None, map(process, map(int, listed))))


class Tree:
    """The processes below one, looked at again and again.

    What was not below it once never will be, so most of the host is read once in a while only: a number may have come
    to mean another process.
    """

    _MEMORY = 1.0  # seconds

    def __init__(self, root: int) -> None:
        self.root = root
        self.others: set[int] = set()
        self.until = 0.0

    def look(self) -> list[Process]:
        now = time.monotonic()
        if now >= self.until:
            self.others.clear()
            self.until = now + self._MEMORY
        looked_at = [one for pid in pids() if pid not in self.others and (one := process(pid))]
        found = list(below(self.root, looked_at))
        self.others |= {one.pid for one in looked_at} - {one.pid for one in found}
        return found


def end_tree(root: int, seconds: float, reap: Callable[[], object], first: Collection[Process] = ()) -> None:
    """Kill everything below ``root``, which must be a subreaper: then nothing can leave its tree.

    All are stopped before any is killed: what is stopped neither forks nor starts again what dies beside it. A process
    group is stopped as one, which no fork outruns.

    Args:
        seconds: to go on killing what keeps forking.
        reap: collects dead children.
        first: what was seen of the tree a moment ago; a fork bomb leaves no time to look again first.
    """
    now = time.monotonic()
    _stop(first)
    while time.monotonic() < now + min(_STOPPING, seconds):
        running = [one for one in below(root, filter(None, map(process, pids()))) if one.state not in _STOPPED]
        if not running:
            break
        _stop(running)
        time.sleep(0.001)
    while left := list(descendants(root)):
        for pid in left:
            kill(pid)
        reap()
        if time.monotonic() > now + seconds:
            break
        time.sleep(0.01)


def _stop(processes: Collection[Process]) -> None:
    for group in {one.group for one in processes} - {os.getpgrp(), 0, 1}:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGSTOP)
    for one in processes:
        kill(one.pid, signal.SIGSTOP)


def ancestors(pid: int) -> Iterator[int]:
    while pid > 1 and (one := process(pid)):
        pid = one.parent
        yield pid


def environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it ended, or it is somebody else's
        return []


def kill(pid: int, how: signal.Signals = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, how)


def printable(text: str) -> str:
    """A process's own words, on one short line."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 1] + "…"
