"""GitHub's own description of its API as a judge: Prism, between the master and the double.

Prism refuses what the description does not allow, of the request (422) and of the answer (500). It takes a quarter of a
minute and 280 MB to start: the tests that use it are of the group ``prism``, which has one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from npm import environment, node_modules
from sites import free_port

PROGRAM = "@stoplight/prism-cli/dist/index.js"
DESCRIPTION = "@octokit/openapi/generated/api.github.com.json"


class Prism:
    """One process, in front of ``upstream``."""

    def __init__(self, folder: Path, upstream: str) -> None:
        self._log = folder / "log"
        self._upstream = upstream
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        packages = node_modules()
        command = ["node", str(packages / PROGRAM), "proxy", str(packages / DESCRIPTION), self._upstream]
        command += ["--errors", "--host", "127.0.0.1", "--port", str(self._port)]
        with self._log.open("wb") as log:
            # a session of its own: what is called node here is a script that starts node, and both must end
            self.running = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment(), cwd=self._log.parent, start_new_session=True
            )
        until = time.monotonic() + 180
        while not self._answers():
            assert self.running.poll() is None and time.monotonic() < until, self._log.read_text()[-3000:]
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/meta", trust_env=False, timeout=10).status_code in (200, 401)
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        if self.running:
            os.killpg(self.running.pid, signal.SIGKILL)
            self.running.wait()
            self.running = None

    def refused(self) -> list[str]:
        """Why it refused what it refused, requests and answers."""
        lines = self._log.read_text().splitlines()
        return [line.split("terminated with error: ")[1] for line in lines if "terminated with error: " in line]

    @contextlib.contextmanager
    def refuses(self, *titles: str) -> Iterator[None]:
        """What is refused in between is this, and nothing else."""
        before = len(self.refused())
        yield
        until = time.monotonic() + 10  # its log comes a little after its answers
        while len(self.refused()) < before + len(titles) and time.monotonic() < until:
            time.sleep(0.02)
        told = self.refused()[before:]
        assert [line.split(": ", 1)[1] for line in told] == list(titles)
