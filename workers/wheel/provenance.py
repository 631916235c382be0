"""What a wheel was built from and with, asked of the host that built it: git, the compilers, the environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.errors import CodeError, InfrastructureError
from workers.git import Git, GitFailed, redacted

_PATIENCE = 120.0  # seconds for one question
_SUBMODULE = re.compile(r"[ +\-U]?([0-9a-f]{40,64}) (.+?)(?: \(.*\))?")
#: what -> the programs asked for it; the first one that is there answers
TOOLS = {
    "compiler": ("c++", "g++", "clang++", "cl"),
    "cuda_compiler": ("nvcc",),
    "rustc": ("rustc",),
    "cargo": ("cargo",),
    "cmake": ("cmake",),
    "ninja": ("ninja",),
}
#: Distributions whose version in the build's environment decides whether the wheel will load.
PINNED = ("apache-tvm-ffi", "apache-tvm", "mlc-ai")
_PINNED_WITH = "mlc-ai-nightly-"  #: and one for each platform: mlc-ai-nightly-cpu, mlc-ai-nightly-cu128 …


@dataclass(frozen=True, kw_only=True)
class Source:
    commit: str
    submodules: dict[str, str]  #: path -> commit
    modified: list[str]  #: tracked files that differ from the commit, such as the stamped pyproject.toml


def read_source(directory: Path) -> Source:
    """Raises :class:`CodeError` where there is no checkout with a commit."""
    with tempfile.TemporaryDirectory(prefix="manifest-") as scratch:
        git = Git(directory.resolve(), local=True, scratch=Path(scratch), timeout=_PATIENCE)
        try:
            commit = git("rev-parse", "--verify", "HEAD^{commit}")
            status = git("submodule", "status", "--recursive")
            changed = git("diff", "--name-only", "-z", "HEAD", "--ignore-submodules=dirty")
        except (GitFailed, OSError) as error:
            raise CodeError(f"{directory} is no checkout that git can read: {error}") from error
    found = [match for line in status.splitlines() if (match := _SUBMODULE.fullmatch(line))]
    modified = sorted(name for name in changed.split("\0") if name)
    return Source(commit=commit, submodules={match[2]: match[1] for match in found}, modified=modified)


def tool_versions() -> dict[str, str | None]:
    """The first line that says each tool's version; None for one that is not there."""
    return {what: next(filter(None, map(_said_version, names)), None) for what, names in TOOLS.items()}


def _said_version(name: str) -> str | None:
    path = shutil.which(name)
    if path is None:
        return None
    done = _ask([path] if name == "cl" else [path, "--version"])
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    # nvcc says its version last, all others first.
    return redacted(lines[-1] if name == "nvcc" else lines[0]) if lines else None


def installed_versions(python: str) -> dict[str, str | None]:
    """The versions of :data:`PINNED` in an environment, and of those nightly packages that are there. Raises
    :class:`CodeError` where it does not answer."""
    program = (
        "import json, re\nfrom importlib import metadata\nfound = {}\nfor one in metadata.distributions():\n"
        "    name = re.sub('[-_.]+', '-', one.metadata['Name'] or '').lower()\n"
        "    found.setdefault(name, one.version)\nprint(json.dumps(found))"
    )
    done = _ask([python, "-I", "-c", program])
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise CodeError(f"{python} does not say what is installed: {done.stderr.strip()[-200:]}") from None
    nightly = {name: found[name] for name in sorted(found) if name.startswith(_PINNED_WITH)}
    return {name: found.get(name) for name in PINNED} | nightly


def auditwheel_result(wheel: Path) -> dict[str, Any]:
    """What ``auditwheel show`` makes of the wheel: ``result`` is its object, or None with a ``reason``."""
    if os.name != "posix" or sys.platform == "darwin":
        return {"result": None, "reason": "auditwheel runs on Linux only"}
    done = _ask([sys.executable, "-m", "auditwheel", "show", "--json", "--allow-pure-python-wheel", str(wheel)])
    try:
        found = json.loads(done.stdout)
    except ValueError:
        words = [line for line in done.stderr.splitlines() if line.strip()] or ["it says nothing"]
        return {"result": None, "reason": words[-1][-300:]}
    return {"result": found, "reason": None}


def _ask(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InfrastructureError(f"{command[0]} does not answer: {error}") from error
