"""A command under limits: watched with everything below it, ended with all of it. See :mod:`workers.limit`."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from workers.errors import CODE, INFRASTRUCTURE
from workers.gpu.sampled import SampledGuard, Sampler
from workers.guard import Guard, Patience, signals_held
from workers.processes import Process, Tree, printable
from workers.sizes import size_text

PROC = Path("/proc")
_SHORTEST, _LONGEST = 0.05, 0.25  # seconds between two looks …
_SHARE = 10.0  # … and at least as many times what a look costs: a tenth of one processor at most
_MARGIN = 1024  # processes of the same user that may come up beside the command
_MOST_NUMBERS = 1 << 22  # Linux numbers no more processes than that
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def run_limited(
    command: Sequence[str], *, memory: int | None = None, processes: int | None = None, gpus: Sequence[str] = ()
) -> int:
    """The command's exit code, or 1 after a limit was hit and a line said so; then a line on the use of these GPUs.

    Here too a process stands above the one that watches (:mod:`workers.guard`): Buildbot ends a command by SIGKILL to
    its process group, and then the inner one, in a session of its own, ends the rest.
    """
    patience, sampler = Patience(), Sampler(gpus)
    with signals_held() as mask:
        watch = Watch(command, memory, processes, mask, patience)

        def watched() -> int:
            code = watch.run()
            if os.getppid() != watch.parent:  # nobody is left above us to tell
                sampler.tell()
            return code

        code = SampledGuard(watched, patience, sampler).run()
    return 128 - code if code < 0 else code


class Watch(Guard):
    """Runs a command within limits."""

    def __init__(
        self, command: Sequence[str], memory: int | None, processes: int | None, mask: set[int], patience: Patience
    ) -> None:
        super().__init__(self.execute, mask, patience)
        self.command = list(command)
        self.memory = memory
        self.processes = processes
        self.most: int | None = None
        self.excess = ""
        self.next_look = 0.0

    def run(self) -> int:
        self.tree = Tree(os.getpid())
        self.most = most_processes(self.processes) if self.processes else None
        code = super().run()
        if self.excess:
            with contextlib.suppress(OSError):  # nobody listens any more
                # On a line of its own, whatever the command left unfinished: progress ends without a newline.
                print(f"\nmlc-ci-worker limit: error: {self.excess}", file=sys.stderr, flush=True)
            return CODE
        return 128 - code if code < 0 else code

    def start(self) -> int:
        pid = super().start()
        with contextlib.suppress(OSError):  # for those who may: root's fork bomb would leave us no time to look
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        return pid

    def execute(self) -> int:
        os.setsid()
        for number in _IGNORED_BY_PYTHON:
            signal.signal(number, signal.SIG_DFL)
        if self.most is not None:
            resource.setrlimit(resource.RLIMIT_NPROC, (self.most, self.most))
        try:
            os.execvp(self.command[0], self.command)  # noqa: S606 - to become it is the point
        except OSError as error:
            print(f"mlc-ci-worker limit: error: {self.command[0]}: {error.strerror}", file=sys.stderr)
            return INFRASTRUCTURE if isinstance(error, FileNotFoundError) else 126

    def look(self) -> float:
        if self.memory is None and self.processes is None:
            return super().look()
        left = self.next_look - time.monotonic()
        if left > 0:
            return left
        began = time.process_time()
        found = self.tree.look()
        exact = False
        if self.processes is not None and (seen := sum(one.threads for one in found)) > self.processes:
            self.excess = too_many(self.processes, seen, found)
        elif self.memory is not None and at_most(found, self.memory) > self.memory:
            exact = True  # the sum is too large by what they share: only now is it worth to ask what that is
            had = {one: memory_of(one) for one in found}
            if sum(had.values()) > self.memory:
                self.excess = too_much(self.memory, had)
        if self.excess:
            self.kill_the_rest(found)
            return 0.0
        pause = max(_SHORTEST, _SHARE * (time.process_time() - began))
        self.next_look = time.monotonic() + (pause if exact else min(pause, _LONGEST))
        return _SHORTEST


def too_many(allowed: int, seen: int, found: Sequence[Process]) -> str:
    """The message, with the commonest name and how many have it."""
    named: Counter[str] = Counter()
    for one in found:
        named[one.name] += one.threads
    name, number = max(named.items(), key=lambda item: item[1])
    return (
        f"process limit: {allowed} processes and threads allowed, {seen} seen;"
        f" most of them: {printable(name)} ({number})"
    )


def too_much(allowed: int, had: dict[Process, int]) -> str:
    """The message, with the biggest process."""
    biggest, size = max(had.items(), key=lambda item: item[1])
    many = "1 process" if len(had) == 1 else f"{len(had)} processes"
    return (
        f"memory limit: {size_text(allowed)} allowed, {size_text(sum(had.values()))} seen in {many};"
        f" the biggest: {_command_line(biggest)} (process {biggest.pid}, {size_text(size)})"
    )


def at_most(found: Sequence[Process], enough: int) -> int:
    """Bytes that they cannot have more of: what is shared counts for each, and so does what is swapped out. That is
    only asked for where it could matter: where all of the host's swap would bring them above ``enough``."""
    resident = sum(one.resident for one in found)
    if resident > enough or resident + _swapped("meminfo", total=True) <= enough:
        return resident
    return resident + sum(_swapped(f"{one.pid}/status") for one in found)


def _swapped(name: str, *, total: bool = False) -> int:
    """Bytes in swap: of one process, or in use on the host."""
    try:
        text = (PROC / name).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    fields = re.findall(r"^(VmSwap|SwapTotal|SwapFree):\s+(\d+) kB$", text, re.MULTILINE)
    found = {field: int(size) for field, size in fields}
    size = found.get("SwapTotal", 0) - found.get("SwapFree", 0) if total else found.get("VmSwap", 0)
    return size * 1024


def memory_of(one: Process) -> int:
    """Bytes in memory and in swap, shared pages divided; where the kernel does not tell us, all that it has."""
    try:
        text = (PROC / str(one.pid) / "smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return one.resident
    found = dict(re.findall(r"^(Pss|SwapPss):\s+(\d+) kB$", text, re.MULTILINE))
    return sum(map(int, found.values())) * 1024


def most_processes(limit: int) -> int | None:
    """What ``RLIMIT_NPROC`` must be so that the user of this process has room for the limit twice, and more.

    It is the user's and not the command's, and so only a net below the watch, for a bomb that is too quick for it.
    ``None`` where it binds nobody (root). What the user has now is asked of the kernel by trying to fork, since
    ``/proc`` shows a container nothing of the same user's processes outside of it.
    """
    limits = resource.getrlimit(resource.RLIMIT_NPROC)
    most = min((limit for limit in limits if limit != resource.RLIM_INFINITY), default=_MOST_NUMBERS)
    try:
        if _can_fork(1, limits[1]):
            return None
        lowest, highest = 1, most
        while lowest + 1 < highest:
            middle = (lowest + highest) // 2
            lowest, highest = (lowest, middle) if _can_fork(middle, limits[1]) else (middle, highest)
    finally:
        resource.setrlimit(resource.RLIMIT_NPROC, limits)
    return min(highest + 2 * limit + _MARGIN, most)


def _can_fork(limit: int, hard: int) -> bool:
    resource.setrlimit(resource.RLIMIT_NPROC, (limit, hard))
    try:
        pid = os.fork()
    except BlockingIOError:
        return False
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    return True


def _command_line(one: Process) -> str:
    try:
        line = Path(f"/proc/{one.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        line = ""
    return printable(line) or printable(one.name)
