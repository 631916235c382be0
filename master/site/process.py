"""One process of a site: started, watched, ended by its pid."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from master.site.owners import Owner

_STOP_S = 30.0
_PR_SET_PDEATHSIG = 1


@dataclass
class Process:
    """One process of the site. Its output goes to ``log``; ``own_log`` is one that it writes itself."""

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str]
    owner: Owner | None = None
    own_log: Path | None = None
    running: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start it in a process group of its own, so that a Ctrl-C reaches only whoever stops it in order."""
        who = self.owner.popen_arguments if self.owner else {}
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                self.command,
                cwd=self.log.parent,  # twistd imports from where it stands: nothing there may look like a package
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 (one thread; and after the change of user, which would undo it)
                **who,
            )

    @property
    def pid(self) -> int | None:
        return self.running.pid if self.running else None

    @property
    def exit_code(self) -> int | None:
        """``None`` while it runs."""
        return self.running.poll() if self.running else 0

    def stop(self, sign: int = signal.SIGTERM) -> None:
        """End it and wait; a process that does not end in time is killed."""
        if self.running is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.running.send_signal(sign)
        try:
            self.running.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.running.kill()
            self.running.wait()
        self.running = None

    def last_words(self) -> str:
        """The end of its logs."""
        said: list[str] = []
        for log in (self.log, self.own_log):
            with contextlib.suppress(OSError):
                said += log.read_text(errors="replace").splitlines()[-20:] if log else []
        return "\n".join(said)


def _end_with_parent() -> None:
    """Linux, in the child: be ended when whoever started us dies, however it dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
