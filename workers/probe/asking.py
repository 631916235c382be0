"""One question to a program that may hang or crash: answered within a time limit, or given up and killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_MOST = 1 << 20  # bytes of each of its outputs
_BURIAL = 2.0  # seconds for a killed process to be gone; one that is not hangs in the kernel
_ROOT = Path(sys.executable).anchor  # no file of anybody's build lies there for a tool to obey


class NoAnswer(Exception):
    """It hung, crashed or could not be started; says which. ``said``: what it complained with."""

    def __init__(self, why: str, said: str = "") -> None:
        super().__init__(why)
        self.said = said


@dataclass(frozen=True, kw_only=True)
class Answer:
    code: int  #: negative: the signal that killed it
    out: str
    err: str

    @property
    def last_words(self) -> str:
        """The last line it complained with; empty when it did not."""
        return next((line.strip() for line in reversed((self.err or self.out).splitlines()) if line.strip()), "")


def ask(command: Sequence[str], seconds: float, environment: Mapping[str, str] | None = None) -> Answer:
    """Runs the command in a session of its own; when the time is up all of that is killed, not asked to end.

    Raises :class:`NoAnswer` when it does not start, or neither ends nor closes its output in time.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=_ROOT,
            env={**os.environ, "LC_ALL": "C", **(environment or {})},
            start_new_session=True,
        )
    except OSError as error:
        raise NoAnswer(f"does not start: {error.strerror or error}") from error
    assert process.stdout and process.stderr  # noqa: S101 - for the type checker
    said = [_Listener(process.stdout), _Listener(process.stderr)]
    try:
        process.wait(seconds)
        late = False
    except subprocess.TimeoutExpired:
        late = True
    finally:
        buried = _kill(process)  # what it left running too: that keeps its output open
    out, err = (each.text() for each in said)
    if late:
        last = (err or out).strip().splitlines()[-1:]
        detail = f"; its last words: {last[0].strip()}" if last else ""
        stuck = (
            "" if buried else f"; process {process.pid} did not even end when killed: its driver hangs in the kernel"
        )
        raise NoAnswer(f"hangs: no answer in {seconds:g} s{stuck}{detail}", err)
    return Answer(code=process.returncode, out=out, err=err)


def _kill(process: subprocess.Popen[bytes]) -> bool:
    """Whether it is gone, and collected."""
    if sys.platform == "win32":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    try:
        process.wait(_BURIAL)
    except subprocess.TimeoutExpired:
        return False
    return True


class _Listener:
    """Reads one output in a thread, as a pipe that nobody reads stops its writer."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.pipe = pipe
        self.heard = b""
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self) -> None:
        with self.pipe:
            self.heard = self.pipe.read(_MOST)

    def text(self) -> str:
        self.thread.join(_BURIAL)
        return self.heard.decode(errors="replace")


def signal_name(code: int) -> str:
    try:
        return signal.Signals(code).name
    except ValueError:
        return f"signal {code}"


def how_it_ended(answer: Answer) -> str:
    """``crashed: SIGABRT: …`` or ``ended with exit code 3: …``."""
    how = f"crashed: {signal_name(-answer.code)}" if answer.code < 0 else f"ended with exit code {answer.code}"
    return f"{how}: {answer.last_words}" if answer.last_words else how
