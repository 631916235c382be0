"""The sample repository of the quickstart: a real git repository, and somebody who pushes to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from master.errors import UserError


class NoSample(UserError):
    """The sample repository could not be made or changed."""


def source() -> Path:
    """The checkout that ``ci/up`` was called in, else the one this package was imported from."""
    return Path(os.environ.get("MLC_CI_SOURCE") or Path(__file__).resolve().parent.parent.parent)


class SampleRepository:
    """The sample project's repository below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def path(self) -> Path:
        return self.folder / "sample.git"

    def create(self) -> bool:
        """Make it unless it is there; whether it is new."""
        return bool(self._play("create", "--if-missing")["created"])

    def push(self, message: str) -> dict[str, Any]:
        """Push a commit to the default branch; ``before`` and ``after``."""
        return self._play("push", "--message", message)

    def pull_request(self, number: int, message: str) -> dict[str, Any]:
        """Open a pull request, as ``refs/pull/NUMBER/head``; ``head`` and ``base``."""
        return self._play("pull-request", str(number), "--message", message)

    def tag(self, name: str) -> dict[str, Any]:
        """Push a tag on the tip of the default branch; ``commit``."""
        return self._play("tag", name)

    def _play(self, command: str, *arguments: str) -> dict[str, Any]:
        script = source() / "tests" / "sample_project" / "repository.py"
        if not script.exists():
            raise NoSample(f"{script} is missing", "start with ci/up from a checkout, or give --settings of your own")
        done = subprocess.run(
            [sys.executable, str(script), command, str(self.folder), *arguments],
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,  # a Ctrl-C is for whoever called
        )
        if done.returncode != 0:
            raise NoSample(f"the sample repository: {done.stderr.strip()}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer
