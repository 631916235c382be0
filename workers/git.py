"""Running git so that its answer can be judged: fixed language, no prompts, no hooks, and each failure of a kind.

Git has one exit code (128) for nearly everything, so the kind is read from its messages. They are stable under
``LC_ALL=C``; the tests provoke each of them with the git that is installed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path

#: Variables that would point git at another repository, index or configuration than the one meant.
_DIVERTING = re.compile(
    "GIT_(ALTERNATE_OBJECT_DIRECTORIES|CEILING_DIRECTORIES|COMMON_DIR|CONFIG|CONFIG_COUNT|CONFIG_PARAMETERS|DIR"
    "|EXTERNAL_DIFF|GRAFT_FILE|IMPLICIT_WORK_TREE|INDEX_FILE|NAMESPACE|NO_REPLACE_OBJECTS|OBJECT_DIRECTORY|PREFIX"
    "|REPLACE_REF_BASE|SHALLOW_FILE|TEMPLATE_DIR|WORK_TREE)"
)

#: Overrides for whatever the host's own configuration says; they reach submodules too.
_OPTIONS = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.autocrlf": "false",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "gc.autoDetach": "false",  # a detached gc would outlive the build
    "advice.detachedHead": "false",
    "http.lowSpeedLimit": "1000",  # bytes a second, over …
    "http.lowSpeedTime": "60",  # … seconds: a stalled transfer ends instead of hanging
    "protocol.ext.allow": "never",
}

_SSH = "ssh -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=15 -o ServerAliveCountMax=4"
_PROGRESS = re.compile(r"^(remote: )?[A-Z][a-z]+[a-z ]*:\s+\d+(% \(|$|,)")
_PROGRESS_EVERY = 10.0  # seconds: a long fetch is not silent, and does not fill the log either
_USERINFO = re.compile(r"(https?://)[^/@\s]+@", re.IGNORECASE)


class Kind(Enum):
    """What a failed git command says about who is at fault."""

    HOST = "host"  #: disk full, permission: infrastructure, retrying at once is pointless
    NETWORK = "network"  #: infrastructure, worth a retry
    ACCESS = "access"  #: credentials refused: infrastructure
    NOT_FOUND = "not found"  #: the server answers, the repository is not there
    MISSING = "missing commit"
    CONTENT = "content"  #: what is in the repository cannot be checked out
    UNKNOWN = "unknown"


_KINDS: tuple[tuple[Kind, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        (
            Kind.HOST,
            r"no space left on device|disk quota exceeded|read-only file system|input/output error"
            r"|cannot allocate memory|out of memory|too many open files|detected dubious ownership"
            r"|(?<!\()permission denied(?! \()",
        ),
        (
            Kind.ACCESS,
            r"authentication failed|could not read (username|password)|terminal prompts disabled"
            r"|permission denied \(|host key verification failed|returned error: 40[137]",
        ),
        (
            Kind.NOT_FOUND,
            r"does not appear to be a git repository|repository .*not found|repository '.*' does not exist"
            r"|returned error: 4(04|10)|does not exist$|no such file or directory$",
        ),
        (Kind.MISSING, r"not our ref|unadvertised object|couldn't find remote ref"),
        (
            Kind.NETWORK,
            r"could ?n[o']t resolve host|temporary failure in name resolution|name or service not known"
            r"|failed to connect|could ?n[o']t connect|unable to connect|connect to host"
            r"|connection (was |has been )?(refused|reset|timed out|closed|aborted)|operation timed out"
            r"|operation too slow|timed out|network is unreachable|no route to host|remote end hung up"
            r"|unexpected disconnect|early eof|unexpected eof|rpc failed|ssl_|ssl (connect|certificate)|gnutls|tls "
            r"|returned error: (5\d\d|429|408)|empty reply from server|expected 'packfile'"
            r"|could not read from remote repository",
        ),
        (Kind.MISSING, r"did not contain|reference is not a tree"),
        (
            Kind.CONTENT,
            r"no url found for submodule|no submodule mapping found|transport '.*' not allowed|bad config"
            r"|refusing to merge unrelated|invalid path|file name too long|disallowed|suspicious submodule"
            r"|refusing to (create|use) (submodule|git dir)",
        ),
    )
)


def kind_of(output: str) -> Kind:
    """Whose fault a failed git command is, from what it printed (in git's own English)."""
    for kind, pattern in _KINDS:
        if any(pattern.search(line) for line in output.splitlines()):
            return kind
    return Kind.UNKNOWN


class GitFailed(Exception):
    """A git command ended badly. ``output`` is the end of what it printed."""

    def __init__(self, arguments: tuple[str, ...], output: str, *, timed_out: bool = False) -> None:
        self.command = arguments[0]
        self.output = output
        self.kind = Kind.NETWORK if timed_out else kind_of(output)
        super().__init__(f"git {self.command}: {self.complaint}")

    @property
    def complaint(self) -> str:
        """The line that says most: the first ``fatal:`` or ``error:``, else the last one."""
        lines = [line for line in self.output.splitlines() if line.strip()]
        worst = [line for line in lines if line.startswith(("fatal:", "error:"))]
        return (worst or lines[-1:] or ["it ended without a word"])[0]


def redacted(text: str) -> str:
    """The text without user names and passwords of web addresses."""
    return _USERINFO.sub(r"\1***@", text)


def is_local(url: str) -> bool:
    """Whether a repository's URL is a path of this machine."""
    if url.lower().startswith("file://"):
        return True
    if "://" in url:
        return False
    # host:path is ssh, as git reads it, unless a slash comes before the colon.
    return ":" not in url.split("/", 1)[0] or (sys.platform == "win32" and re.match(r"[A-Za-z]:", url) is not None)


class Git:
    """Git in one working folder. ``scratch`` is a folder for a configuration file of its own."""

    def __init__(self, directory: Path, *, local: bool, scratch: Path, timeout: float) -> None:
        self.directory = directory
        self.timeout = timeout
        self.options = {**_OPTIONS, **({"protocol.file.allow": "always"} if local else {})}
        environment = {name: value for name, value in os.environ.items() if not _DIVERTING.fullmatch(name)}
        environment |= {
            "LC_ALL": "C",
            "GIT_TERMINAL_PROMPT": "0",
            # A broken .git must not make git find the repository of a folder above.
            "GIT_CEILING_DIRECTORIES": str(directory.parent),
        }
        environment.setdefault("GIT_SSH_COMMAND", _SSH)
        environment.setdefault("GIT_ASKPASS", "true")
        if local:
            environment["GIT_CONFIG_GLOBAL"] = str(_trusting(scratch, environment))
        self.environment = environment

    def __call__(self, *arguments: str, cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
        """Standard output, stripped. What git says on standard error goes to ours. Raises :class:`GitFailed`."""
        command = ["git"]
        for name, value in self.options.items():
            command += ["-c", f"{name}={value}"]
        command += arguments
        process = subprocess.Popen(
            command,
            cwd=cwd or self.directory,
            env={**self.environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        said: deque[str] = deque(maxlen=200)
        listener = threading.Thread(target=_listen, args=(process.stderr, said), daemon=True)
        listener.start()
        out_of_time = threading.Event()

        def stop() -> None:
            out_of_time.set()
            process.kill()

        alarm = threading.Timer(self.timeout, stop)
        alarm.start()
        try:
            output = process.stdout.read() if process.stdout else ""
            code = process.wait()
        finally:
            alarm.cancel()
        listener.join(5.0)
        if out_of_time.is_set():
            raise GitFailed(arguments, f"fatal: timed out after {self.timeout:g} seconds", timed_out=True)
        if code:
            raise GitFailed(arguments, "\n".join(said) or output[-2000:])
        return output.strip()

    def succeeds(self, *arguments: str) -> bool:
        """For questions that git answers with its exit code."""
        try:
            self(*arguments)
        except GitFailed:
            return False
        return True


def _trusting(scratch: Path, environment: Mapping[str, str]) -> Path:
    """A global configuration that trusts local repositories of other owners, beside all the host's own says.

    ``-c safe.directory`` does not reach the ``upload-pack`` that serves a local path; a global file does.
    """
    home = Path(environment.get("HOME", "~")).expanduser()
    xdg = Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "git" / "config"
    own = environment.get("GIT_CONFIG_GLOBAL")
    paths = [own] if own else [str(xdg), str(home / ".gitconfig")]
    lines = [f'[include]\n\tpath = "{path}"\n' for path in paths]
    file = scratch / "gitconfig"
    file.write_text("".join(lines) + "[safe]\n\tdirectory = *\n", encoding="utf-8")
    return file


def _listen(stream: Iterable[str], said: deque[str]) -> None:
    shown = 0.0
    for raw in stream:  # universal newlines: a progress line ends with a carriage return
        line = redacted(raw.rstrip())
        if _PROGRESS.match(line):
            if time.monotonic() - shown < _PROGRESS_EVERY:
                continue
            shown = time.monotonic()
        elif line:
            said.append(line)
        if line:
            print(line, file=sys.stderr, flush=True)
