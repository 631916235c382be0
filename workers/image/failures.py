"""What docker and buildx say when they fail, and whose fault it is. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from workers.errors import CodeError, InfrastructureError, ToolError

_LONGEST = 280  # characters of a reason
_ENGINE = re.compile(
    r"Cannot connect to the Docker daemon|error during connect|permission denied while trying to connect"
)
_NO_PLUGIN = re.compile(r"unknown command: docker buildx|'buildx' is not a docker command|unknown flag: --progress")
_REFUSED = re.compile(
    r"\b(401|403)\b|unauthorized|authentication required|insufficient_scope|no basic auth credentials|forbidden"
    r"|denied: |access denied",
    re.IGNORECASE,
)
_NETWORK = re.compile(
    r"dial tcp|connection (refused|reset)|no such host|i/o timeout|TLS handshake|unexpected EOF|broken pipe"
    r"|network is unreachable|deadline exceeded|\b(429|5\d\d)\b ?(Too Many|Internal|Bad Gateway|Service|Gateway)"
    r"|toomanyrequests|failed to do request|server misbehaving",
    re.IGNORECASE,
)
_HOST = re.compile(
    r"no space left on device|input/output error|cannot allocate memory|read-only file system", re.IGNORECASE
)
_PROCESS = re.compile(r'process "(?P<what>.*)" did not complete successfully: (?P<how>.+)')
_PLACE = re.compile(r"(?P<file>[^\s:][^:]*):(?P<line>\d+)")
_MARKED = re.compile(r"\s*\d+ \| >>> (.*)")
_OUTPUT = re.compile(r"#\d+ \d+\.\d+ (.*)|\d+\.\d+ (.*)")


def judged(lines: Sequence[str], registry: str = "") -> ToolError:
    """The error that the output of a failed command tells of.

    Args:
        registry: what is refused there is the login's fault, not that of a name in a Dockerfile.
    """
    said = _error(lines)
    if any(map(_ENGINE.search, lines)):
        return InfrastructureError(_short(f"docker's engine is not to be reached: {said}"))
    if any(map(_NO_PLUGIN.search, lines)):
        return InfrastructureError("this worker's docker has no buildx (Debian: apt-get install docker-buildx)")
    where = _where(lines)
    process = _PROCESS.search(said)
    if _HOST.search(said):
        return InfrastructureError(_short(f"{where}{said}"))
    if process:
        if where and "exit code" in process["how"]:  # else it is no RUN, but a generator of SBOMs, or the engine
            last = _last_output(lines)
            return CodeError(_short(f"{where}{process['how']}" + (f"; its last line: {last}" if last else "")))
        return InfrastructureError(_short(f"{where}{said}"))
    if registry and registry in said and _REFUSED.search(said):
        return InfrastructureError(_short(f"unauthorized: {registry} refuses the login: {said}"))
    if _NETWORK.search(said):
        return InfrastructureError(_short(f"{where}{said}"))
    return CodeError(_short(f"{where}{said}"))


def _error(lines: Sequence[str]) -> str:
    """The last error, without what all of them begin with; where there is none, the last line."""
    found = [line for line in lines if line.startswith(("ERROR: ", "Error ", "Error: ", "docker: "))]
    said = (found or [line for line in lines if line.strip()] or ["docker says nothing"])[-1]
    for start in ("ERROR: ", "failed to solve: "):
        said = said.removeprefix(start)
    return said.strip()


def _where(lines: Sequence[str]) -> str:
    """``Dockerfile:3: RUN make: `` where the output shows an instruction."""
    marked = [number for number, line in enumerate(lines) if _MARKED.fullmatch(line)]
    if not marked:
        return ""
    place = next((p for line in reversed(lines[: marked[0]]) if (p := _PLACE.fullmatch(line.strip()))), None)
    instruction = _MARKED.fullmatch(lines[marked[0]])
    told = " ".join(instruction[1].split()) if instruction else ""
    return f"{place[0]}: {told[:120]}: " if place else f"{told[:120]}: "


def _last_output(lines: Sequence[str]) -> str:
    """The last that a failed ``RUN`` has said, as the excerpt before the error shows it."""
    begun = [number for number, line in enumerate(lines) if line.startswith(" > [")]
    if not begun:
        return ""
    excerpt = []
    for line in lines[begun[-1] + 1 :]:
        if line.startswith("------"):
            break
        if (found := _OUTPUT.fullmatch(line)) and (text := (found[1] or found[2] or "").strip()):
            excerpt.append(text)
    return excerpt[-1] if excerpt else ""


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
