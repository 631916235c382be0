"""A command's wrapper that has its boards looked at meanwhile, and says in one line what was seen (Linux).

The sampler is no part of the command: it counts for none of its limits. It is killed when the command has ended, and a
driver that hangs it costs :data:`_BURIAL` seconds then, once: while it is stuck no other is started.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from workers.gpu.usage import Usage, line, summed_up, unpacked
from workers.guard import Guard, Patience
from workers.processes import Process

_BURIAL = 1.0  # seconds for the killed sampler to be gone


class Sampler:
    """The process that looks, and what it wrote: into memory, as no pipe would hold a long command's records."""

    def __init__(self, boards: Sequence[str]) -> None:
        self.boards = list(boards)
        self.began = time.monotonic()
        self.records = os.memfd_create("gpu-usage") if boards else -1
        self._handle = -1

    def start(self) -> None:
        """Never in the way: what cannot be started is done without."""
        if not self.boards:
            return
        from workers.gpu.sampler import MODULE  # noqa: PLC0415 - most commands have no board, and it takes its time

        # -P: where the command stands, a checkout may have a folder of the same name
        argv = [sys.executable, "-P", "-m", MODULE, str(os.getpid()), *self.boards]
        files = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, self.records, 1),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        with contextlib.suppress(OSError):
            pid = os.posix_spawn(sys.executable, argv, os.environ, file_actions=files, setsigmask=[])
            try:
                self._handle = os.pidfd_open(pid)
            except OSError:
                os.kill(pid, signal.SIGKILL)

    def end(self) -> bool:
        """Whether it is gone."""
        if self._handle < 0:
            return True
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        waiting = select.poll()
        waiting.register(self._handle, select.POLLIN)
        return bool(waiting.poll(_BURIAL * 1000))

    def tell(self) -> None:
        if found := self.found():
            with contextlib.suppress(OSError):  # nobody listens any more
                # On a line of its own, whatever the command left unfinished.
                print("\n" + line(found), file=sys.stderr, flush=True)

    def found(self) -> dict[str, Usage]:
        if self.records < 0:
            return {}
        samples = list(unpacked(os.pread(self.records, os.fstat(self.records).st_size, 0)))
        by_board = {name: [one for one in samples if one.board == place] for place, name in enumerate(self.boards)}
        return {name: summed_up(each, self.began) for name, each in by_board.items() if each}


class SampledGuard(Guard):
    """The outer guard of a command."""

    def __init__(self, child: Callable[[], int], patience: Patience, sampler: Sampler) -> None:
        super().__init__(child, None, patience)
        self.sampler = sampler

    def start(self) -> int:
        pid = super().start()
        self.sampler.start()
        return pid

    def kill_the_rest(self, first: Collection[Process] = ()) -> None:
        if not self.sampler.end():  # what hangs in the kernel is not waited for once more
            self.patience = replace(self.patience, killing=_BURIAL)
        super().kill_the_rest(first)
        self.sampler.tell()
