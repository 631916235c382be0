"""Installs a wheel, alone, into a throwaway environment: what pip makes of it, not what we think of it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from packaging.tags import sys_tags

from workers.errors import InfrastructureError
from workers.wheel.checks import Finding, shown
from workers.wheel.identity import Identity

_PATIENCE = 600.0  # seconds


def install_findings(path: Path, identity: Identity) -> Iterator[Finding]:
    if not any(tag in identity.tags for tag in sys_tags()):
        reason = f"this machine's Python {sys.version_info[0]}.{sys.version_info[1]} takes none of its tags"
        yield Finding(check="install", file="", reason=reason)
        return
    with tempfile.TemporaryDirectory(prefix="wheel-install-") as folder:
        base = Path(folder)
        made = _run([sys.executable, "-I", "-m", "venv", str(base / "environment")])
        if made.returncode:
            raise InfrastructureError(f"no environment can be made here: {_last(made)}")
        python = next(iter(sorted(base.glob("environment/*/python*"))), base / "environment")
        pip = [str(python), "-I", "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
        done = _run([*pip, "--no-deps", "--no-index", "--no-cache-dir", str(path.resolve())])
        if done.returncode:
            yield Finding(check="install", file="", reason=f"pip refuses it: {shown(_last(done))}")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
        )
    except subprocess.TimeoutExpired as error:
        raise InfrastructureError(f"{command[-1]} is not installed after {_PATIENCE:.0f} seconds") from error
    except OSError as error:
        raise InfrastructureError(f"{command[0]} does not run: {error}") from error


def _last(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["it says nothing"])[0]
