"""One command on this machine, as a worker would run it: within its limits, its output shown, kept and judged."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from steps.classify import Limit, OutputReader, Verdict

NOT_FOUND = 127  #: the shell's exit code for a program that is not there
_BLOCK = 1 << 16
_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
_LONGEST_LINE = 1 << 20  # bytes that are judged; the log has all of it


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run. Times are in seconds, sizes in bytes; ``None`` is no limit."""

    argv: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    stdin: str = ""
    silence_timeout: float | None = None
    timeout: float | None = None  #: of the whole stage, of which …
    time_left: float | None = None  #: … so much is left
    log: int | None = None  #: bytes that the whole stage may say, of which …
    log_left: int | None = None  #: … so many are left


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended: ``verdict`` is ``None`` when it went well. ``exit_code`` is as a shell would tell it."""

    exit_code: int
    verdict: Verdict | None = None


def run(command: Command, *, log: Path, screen: BinaryIO) -> Ended:
    """Runs it, with its whole process group ended however this ends."""
    reader = _Lines()
    with log.open("wb") as file:
        try:
            process = subprocess.Popen(
                command.argv,
                cwd=command.folder,
                env=dict(command.environment),
                stdin=subprocess.PIPE if command.stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            said = f"{command.argv[0]}: {error.strerror}"
            file.write(f"{said}\n".encode())
            reader.feed(f"{said}\n".encode())
            return Ended(exit_code=NOT_FOUND, verdict=reader.verdict(NOT_FOUND))
        with _told_to_end(), _ended(process):
            _give(process, command.stdin)
            limit = _follow(process.stdout, command, [file, screen], reader) if process.stdout else None
            if limit is not None:
                _kill(process)
            code = process.wait()
    if limit is not None:
        value = {Limit.SILENCE: command.silence_timeout, Limit.LOG: command.log}.get(limit, command.timeout)
        return Ended(exit_code=124, verdict=reader.verdict(code, limit, value))
    exit_code = 128 - code if code < 0 else code
    return Ended(exit_code=exit_code, verdict=reader.verdict(exit_code) if exit_code else None)


def _follow(output: IO[bytes], command: Command, sinks: list[BinaryIO], reader: _Lines) -> Limit | None:
    """Passes output on until there is no more; says which limit was hit."""
    said = 0
    ends = None if command.time_left is None else time.monotonic() + command.time_left
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while True:
            left = None if ends is None else max(0.0, ends - time.monotonic())
            waits = [t for t in (left, command.silence_timeout) if t is not None]
            if not selector.select(min(waits, default=None)):
                return Limit.TIME if ends is not None and time.monotonic() >= ends else Limit.SILENCE
            block = os.read(output.fileno(), _BLOCK)
            if not block:
                reader.finish()
                return None
            for sink in sinks:
                sink.write(block)
                sink.flush()
            reader.feed(block)
            said += len(block)
            if command.log_left is not None and said > command.log_left:
                return Limit.LOG
            if ends is not None and time.monotonic() >= ends:
                return Limit.TIME


class _Lines:
    """Bytes as lines, for the classification."""

    def __init__(self) -> None:
        self._reader = OutputReader()
        self._rest = b""

    def feed(self, block: bytes) -> None:
        *lines, rest = (self._rest + block).split(b"\n")
        self._rest = rest[:_LONGEST_LINE]
        for line in lines:
            self._reader.read(line.decode(errors="replace"))

    def finish(self) -> None:
        if self._rest:
            self.feed(b"\n")

    def verdict(self, exit_code: int, limit: Limit | None = None, value: float | None = None) -> Verdict:
        return self._reader.verdict(exit_code, limit, value)


def _give(process: subprocess.Popen[bytes], text: str) -> None:
    """Feeds standard input, beside the reading of the output: either may fill its pipe."""
    pipe = process.stdin
    if pipe is None:
        return

    def feed() -> None:
        with contextlib.suppress(BrokenPipeError), pipe:
            pipe.write(text.encode())

    threading.Thread(target=feed, daemon=True).start()


@contextlib.contextmanager
def _told_to_end() -> Iterator[None]:
    """A terminal that is closed, or somebody who ends us, leaves this as an exception: a stranger's build must not go
    on behind our back. Signals that are ignored (``nohup``) stay so."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    ours = threading.current_thread() is threading.main_thread()
    taken = [number for number in _ENDING if ours and signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """However this is left, nothing of the command's process group runs on."""
    try:
        yield
    finally:
        _kill(process)
        process.wait()
        if process.stdout:
            process.stdout.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
