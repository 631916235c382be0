"""Whose fault a failed command is, and what to show for it: pure functions over its exit code and its output.

*Infrastructure* failures are repeated by themselves, on the CI's account; *code* failures are the author's. So a rule
here must know the tool that speaks: "Connection refused" in a git or pip message is infrastructure, in a failed unit
test it is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from workers.gpu.usage import MARK
from workers.sizes import size_text

EX_TEMPFAIL = 75  #: how ``mlc-ci-worker`` tools (workers.errors) say that the infrastructure is at fault
_LONGEST = 300  # characters of a line that is shown
_NO_MEMORY = "memory ran out"


class FailureClass(StrEnum):
    CODE = "code"
    INFRASTRUCTURE = "infrastructure"


class Limit(StrEnum):
    """What ended a command that did not end by itself."""

    SILENCE = "silence"  #: no output for too long
    TIME = "time"
    LOG = "log"  #: too much output
    MEMORY = "memory"
    PROCESSES = "process"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    failure_class: FailureClass
    reason: str  #: one line
    first_error: str = ""  #: the first line of the output that says what went wrong
    line: int | None = None  #: its number in the output, from 0

    @property
    def for_memory(self) -> bool:
        """Whether the host is blamed for having had too little of it."""
        return self.failure_class is FailureClass.INFRASTRUCTURE and _NO_MEMORY in self.reason


@dataclass(frozen=True)
class _Rule:
    pattern: re.Pattern[str]
    reason: str


def _rules(*pairs: tuple[str, str]) -> tuple[_Rule, ...]:
    return tuple(_Rule(re.compile(pattern), reason) for pattern, reason in pairs)


_NETWORK = (
    r"([Cc]ould ?n[o']t resolve|[Ff]ailed to connect|[Cc]ould ?n[o']t connect|[Tt]imed out|[Tt]imeout|SSL"
    r"|[Cc]onnection (was )?(refused|reset|timed out|aborted|closed)|[Nn]etwork is unreachable|No route to host"
    r"|remote end hung up|early EOF|returned error: (5\d\d|429)|[Nn]ame resolution|Name or service not known"
    r"|NewConnectionError|Max retries exceeded|RemoteDisconnected|IncompleteRead|ProtocolError)"
)
_CURL = r"(5|6|7|18|28|35|52|55|56)"  #: curl's codes for names, connections and broken transfers; git and cargo use it

#: Symptoms of a sick host or network. The first that is seen counts, whatever else was printed.
INFRASTRUCTURE = _rules(
    (r"No space left on device|ENOSPC|Disk quota exceeded|not enough (free )?disk space", "the disk is full"),
    (r"Read-only file system|Input/output error|Stale file handle|Structure needs cleaning", "the disk is broken"),
    (
        r"Killed signal terminated program|^Killed$|: Killed\b|line \d+: +\d+ Killed\b|Out of memory: Kill"
        r"|virtual memory exhausted|Cannot allocate memory|LLVM ERROR: out of memory",
        _NO_MEMORY,
    ),
    (r"Resource temporarily unavailable|Too many open files|can't start new thread", "a limit of the host was hit"),
    (r"^Upon execvpe? b?['\"]?(?P<what>[^ '\"]+)", "the worker has no program {what}"),
    (r"^(fatal|error): .*" + _NETWORK, "git's network failed"),
    (r"^ssh: (connect to host|Could not resolve)|^kex_exchange_identification", "ssh's network failed"),
    (r"^(ERROR: |pip\._vendor\.|WARNING: Retrying \(Retry\(total=0).*" + _NETWORK, "pip's network failed"),
    (rf"^curl: \({_CURL}\)|^\[{_CURL}\] .*{_NETWORK}", "a download failed"),
    (r"^E: (Failed to fetch|Unable to fetch|Could not get lock)|Temporary failure resolving", "apt failed"),
    (r"CUDA_ERROR_(ECC_UNCORRECTABLE|SYSTEM_NOT_READY)|GPU has fallen off the bus", "the GPU is sick"),
)

#: Lines with which tools say what is wrong with the code. The first that is seen is shown; an empty reason: as it is.
CODE = _rules(
    (r"^mlc-ci-worker \S+: error: (?P<what>.+)", "{what}"),
    (r"^\S[^:]*:\d+(:\d+)?: (fatal )?error:? .+", ""),  # gcc, clang, nvcc's host compiler
    (r"^\S[^:]*\(\d+(,\d+)?\)\s*: (fatal )?error\b.*: .+", ""),  # MSVC, nvcc
    (r"^(\S+ ?: )?(fatal )?error( [A-Z]+\d+)?(\[E\d+\])?: .+", ""),  # rustc, drivers of compilers, git
    (r"^CMake Error\b.*", ""),
    (r"undefined reference to |multiple definition of |cannot find -l|unresolved external symbol", ""),  # linkers
    (r"^E   .+", ""),  # pytest
    (r"^(FAILED|ERROR) \S+.*(::| - ).*", ""),  # pytest's summary
    (r"^ERROR: .+", ""),  # pip
    (r"^(ninja|g?make(\[\d+\])?): (\*\*\* |error|fatal).*", ""),
    (r"^fatal: .+", ""),  # git
    (r"^([A-Za-z_][\w.]*\.)?[A-Z]\w*(Error|Exception)(: .*)?$", ""),  # Python's tracebacks
    (r"^\S*sh: (line )?(\d+: )?.*(not found|No such file|Permission denied|[Ss]yntax error).*", ""),
    (r"^(\S+: )*(Segmentation fault|Aborted|Illegal instruction|Bus error|Floating point exception)\b", ""),
    (r"^thread '.*' panicked", ""),  # Rust
)

#: No rule fits a line without one of these: nearly all lines of a build have none, and looking for them is quick.
_HINTS = (
    *("rror", "RROR", "atal", "FAILED", "E   ", "illed", "E: ", "Retrying", "pip._vendor", "curl: ", "ssh: ", "kex_"),
    *("space left", "ENOSPC", "uota", "disk space", "ead-only", "tale file", "leaning", "emory", "unavailable"),
    *("open files", "new thread", "pon execv", "esolv", "onnect", "imed out", "imeout", "early EOF", "SSL", "No route"),
    *("unreachable", "fallen off", "undefined ref", "multiple def", "cannot find -l", "unresolved ext", "***"),
    *("xception", "sh: ", "egmentation", "bort", "llegal inst", "loating point", "panicked"),
)
#: What a tool of ours says last when it fails: it knows more of the matter than the programs that it called.
_OWN_WORDS = re.compile(r"mlc-ci-worker [a-z-]+: error: (.+)")
_HELD = re.compile(r"mlc-ci-worker limit: error: ((memory|process) limit: .+)")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SIGNALLED = re.compile(r"^process killed by signal (\d+)")
_SIGNALS = {
    2: "SIGINT",
    4: "SIGILL",
    6: "SIGABRT",
    7: "SIGBUS",
    8: "SIGFPE",
    9: "SIGKILL",
    11: "SIGSEGV",
    15: "SIGTERM",
}
_FROM_OUTSIDE = (2, 9, 15)  # no program sends these to itself


@dataclass(frozen=True)
class _Seen:
    """A line that a rule fits."""

    line: str
    number: int
    reason: str


class OutputReader:
    """Reads a command's output line by line; keeps of it a few lines that the verdict needs, however much comes."""

    def __init__(self) -> None:
        self.count = 0
        self.signal: int | None = None
        self.last = ""
        self.symptom: _Seen | None = None
        self.error: _Seen | None = None
        self.limit: Limit | None = None  #: that the worker held the command to
        self.limit_words = ""
        self.own_words = ""  #: the last of a tool of ours

    def read(self, line: str, *, header: bool = False) -> None:
        """One line, without its newline; ``header`` lines are the worker's own words about the command."""
        number, self.count = self.count, self.count + 1
        if header:
            if found := _SIGNALLED.match(line):
                self.signal = int(found[1])
            return
        if "\x1b" in line:
            line = _ANSI.sub("", line)
        line = line.strip()  # pip indents what it passes on
        if not line or line.startswith(MARK):
            return
        self.last = line
        if line.startswith("mlc-ci-worker "):
            if told := _OWN_WORDS.fullmatch(line):
                self.own_words = told[1]
            if held := _HELD.fullmatch(line):
                self.limit_words, self.limit = held[1], Limit(held[2])
        if (self.symptom and self.error) or not any(hint in line for hint in _HINTS):
            return
        self.symptom = self.symptom or _seen(INFRASTRUCTURE, line, number)
        self.error = self.error or _seen(CODE, line, number)

    def verdict(self, exit_code: int | None, limit: Limit | None = None, limit_value: float | None = None) -> Verdict:
        """For a command that failed. ``exit_code`` is None where there is none to be had; ``limit_value`` is in
        seconds or bytes."""
        if limit := limit or self.limit:
            return self._of_limit(limit, limit_value)
        verdict = self._of_end(exit_code)
        return replace(verdict, reason=_short(self.own_words)) if self.own_words else verdict

    def _of_end(self, exit_code: int | None) -> Verdict:
        """For a command that ended by itself."""
        if self.symptom:
            return _verdict(FailureClass.INFRASTRUCTURE, f"{self.symptom.reason}: {self.symptom.line}", self.symptom)
        error = self.error
        if exit_code == EX_TEMPFAIL:
            reason = error.reason if error else "a tool reported a temporary failure (exit code 75)"
            return _verdict(FailureClass.INFRASTRUCTURE, reason, error)
        signal = self.signal
        if signal is None and exit_code is not None and 128 < exit_code < 160:
            signal = exit_code - 128
        if signal in _FROM_OUTSIDE:
            why = f", most likely because {_NO_MEMORY}" if _SIGNALS[signal] == "SIGKILL" else " from outside"
            return _verdict(FailureClass.INFRASTRUCTURE, f"killed by {_SIGNALS[signal]}{why}", error)
        if signal is not None:
            reason = f"crashed ({_SIGNALS.get(signal, f'signal {signal}')})"
            return _verdict(FailureClass.CODE, f"{reason}: {error.line}" if error else reason, error)
        if error:
            return _verdict(FailureClass.CODE, error.reason, error)
        ended = "ended without an exit code" if exit_code is None else f"ended with exit code {exit_code}"
        return _verdict(FailureClass.CODE, f"{ended}; its last line: {self.last}" if self.last else ended, None)

    def _of_limit(self, limit: Limit, value: float | None) -> Verdict:
        number = "the allowed" if value is None else f"{value:g}"
        what = {
            Limit.SILENCE: f"silence timeout: no output for {number} seconds",
            Limit.TIME: f"time limit: not done after {number} seconds",
            Limit.LOG: f"log limit: more than {size_text(int(value or 0))} of output",
        }.get(limit, self.limit_words)
        if limit not in (Limit.SILENCE, Limit.TIME):
            return _verdict(FailureClass.CODE, what, self.error)
        # A tool that could not reach its server hangs as well: then the network is at fault, not the code.
        if self.symptom:
            reason = f"{what} ({self.symptom.reason}: {self.symptom.line})"
            return _verdict(FailureClass.INFRASTRUCTURE, reason, self.symptom)
        return _verdict(FailureClass.CODE, f"{what}; its last line: {self.last}" if self.last else what, self.error)


def classify(
    exit_code: int | None, lines: Iterable[str], *, limit: Limit | None = None, limit_value: float | None = None
) -> Verdict:
    """The verdict over a failed command whose output is at hand."""
    reader = OutputReader()
    for line in lines:
        reader.read(line)
    return reader.verdict(exit_code, limit, limit_value)


def _verdict(failure_class: FailureClass, reason: str, seen: _Seen | None) -> Verdict:
    return Verdict(
        failure_class=failure_class,
        reason=_short(reason),
        first_error=_short(seen.line) if seen else "",
        line=seen.number if seen else None,
    )


def _seen(rules: tuple[_Rule, ...], line: str, number: int) -> _Seen | None:
    for rule in rules:
        if found := rule.pattern.search(line):
            return _Seen(line, number, rule.reason.format(**found.groupdict()) or line)
    return None


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
