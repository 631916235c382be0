"""The worker's probe, on start and then on a timer, in a process of its own: the worker never waits for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet import reactor as running_reactor
from twisted.internet.protocol import ProcessProtocol
from twisted.python import log
from twisted.python.failure import Failure

from workers.probe.facts import PERIOD

DEADLINE = 240.0  #: seconds after which one is killed: longer than all that it waits for itself
_KEPT = 4096  # bytes of its complaints


class ProbeTimer(Service):
    """Args:
    command: what writes the file; default: ``mlc-ci-worker probe --worker FOLDER``.
    """

    def __init__(
        self, folder: Path, command: Sequence[str] = (), period: float = PERIOD, deadline: float = DEADLINE
    ) -> None:
        ours = (sys.executable, "-P", "-m", "workers.cli", "probe", "--worker", str(folder))
        self.command = list(command or ours)
        self.period = period
        self.deadline = deadline
        self.reactor: Any = running_reactor
        self._later: Any = None
        self._process: Any = None
        self._complaint = ""

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._start()

    def stopService(self) -> None:
        super().stopService()  # type: ignore[no-untyped-call]
        if self._later and self._later.active():
            self._later.cancel()
        self._kill()

    def _start(self) -> None:
        folder = Path(sys.executable).anchor
        self._later = self.reactor.callLater(self.deadline, self._kill)
        self._process = self.reactor.spawnProcess(_Ended(self._ended), self.command[0], self.command, None, folder)

    def _kill(self) -> None:
        if self._process and self._process.pid:
            self._process.signalProcess("KILL")

    def _ended(self, complaint: str) -> None:
        self._process = None
        if self._later.active():
            self._later.cancel()
        if complaint != self._complaint and self.running:
            log.msg(f"the probe of this host {complaint or 'works again'}")
        self._complaint = complaint
        if self.running:
            self._later = self.reactor.callLater(self.period, self._start)


class _Ended(ProcessProtocol):
    def __init__(self, ended: Callable[[str], None]) -> None:
        self.ended = ended
        self.said = b""

    def errReceived(self, data: bytes) -> None:
        self.said = (self.said + data)[-_KEPT:]

    def processEnded(self, reason: Failure) -> None:
        value: Any = reason.value
        if not value.exitCode and value.signal is None:
            self.ended("")
            return
        how = f"was killed by signal {value.signal}" if value.signal else f"ended with exit code {value.exitCode}"
        self.ended(f"{how}: {self.said.decode(errors='replace').strip()}")
