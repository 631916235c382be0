"""``mlc-ci-worker download``: what earlier stages of the run have left, whole and with the right hash or not at all.

The token comes on standard input.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import hashlib
import http.client
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from workers import elsewhere
from workers.errors import CodeError, InfrastructureError, of_os_error
from workers.transfer import BLOCK, PATIENCE_S, Interrupted, Progress, Server, patiently, read_token

_TIMES = 3


def wanted(listed: Sequence[Mapping[str, Any]], stage: str, patterns: Sequence[str]) -> list[Mapping[str, Any]]:
    """Those of the run's artifacts that are asked for.

    Raises:
        CodeError: a pattern that fits none, two of one name (of two variants), or a name that is none.
        InfrastructureError: one that retention has removed. The code is not at fault, nor is what it asks for.
    """
    of_stage = [one for one in listed if one["stage"] == stage]
    found: dict[str, Mapping[str, Any]] = {}
    for pattern in patterns:
        fitting = [one for one in of_stage if fnmatch.fnmatchcase(one["name"], pattern)]
        if not fitting:
            there = ", ".join(sorted(one["name"] for one in of_stage)) or "none"
            raise CodeError(f"no artifact of {stage} fits {pattern}; there are: {there}")
        if expired := sorted(str(one["name"]) for one in fitting if one.get("removed")):
            raise InfrastructureError(f"{', '.join(expired)} of {stage} expired and was removed: run {stage} again")
        for one in fitting:
            name = str(one["name"])
            if Path(name).name != name or "\\" in name or ":" in name:
                raise CodeError(f"{name!r} is no file name")
            if found.setdefault(name, one)["id"] != one["id"]:
                both = " and ".join(str(each["variant"] or stage) for each in (found[name], one))
                raise CodeError(f"two artifacts would be {name}: of {both}")
    return [found[name] for name in sorted(found)]


class Download:
    """One artifact on its way."""

    def __init__(self, server: Server, artifact: Mapping[str, Any], folder: Path) -> None:
        self.server = server
        self.name, self.size, self.sha256 = str(artifact["name"]), int(artifact["size"]), str(artifact["sha256"])
        self.path = f"/artifacts/{artifact['id']}/{self.name}"
        self.target = folder / self.name
        self.partial = folder / f".{self.name}.partial"
        self.progress = Progress(self.name, self.size)

    def run(self, patience: float) -> None:
        """Raises :class:`ToolError`."""
        with contextlib.suppress(FileNotFoundError):
            self.partial.unlink()  # somebody else's
        for _ in range(_TIMES):
            patiently(self.server, self.attempt, lambda: self.progress.done, patience=patience)
            with self.partial.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == self.sha256:
                    self.partial.replace(self.target)
                    return
            self.partial.unlink()
            print(f"{self.name} arrived differently; fetching it again", flush=True)
        raise InfrastructureError(f"{self.name} arrived differently {_TIMES} times")

    def attempt(self) -> None:
        """From wherever the last one broke."""
        with self.partial.open("ab") as file:
            offset = file.tell()
            if offset == self.size:
                return
            self.server.start("GET", self.path, {"Range": f"bytes={offset}-"} if offset else {})
            response = self.server.answer()
            if there := response.getheader("Location"):
                response.read()
                with elsewhere.get(there, offset) as response:
                    offset = self.keep(response, file, offset)
            else:
                offset = self.keep(response, file, offset)
            if offset < self.size:
                raise Interrupted(f"{offset} of {self.size} bytes came")

    def keep(self, response: http.client.HTTPResponse, file: BinaryIO, offset: int) -> int:
        """Write what comes from the offset on; where that ended."""
        # some stores say 200 of a part
        if offset and not response.getheader("Content-Range", "").startswith(f"bytes {offset}-"):
            file.truncate(0)
            raise Interrupted("the server sends no part of a file")
        while block := response.read(BLOCK):
            if offset + len(block) > self.size:
                raise InfrastructureError(f"{self.name} is larger than it was said to be")
            file.write(block)
            offset += len(block)
            self.progress.at(offset)
        return offset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", required=True, help="the artifact process's address")
    parser.add_argument("--run", required=True, type=int, help="whose artifacts")
    parser.add_argument("--stage", required=True, help="the stage that left them")
    parser.add_argument("--glob", dest="globs", action="append", required=True, metavar="PATTERN", help="which")
    parser.add_argument("--into", type=Path, default=Path(), metavar="DIRECTORY", help="where to (here)")
    parser.add_argument("--patience", type=float, default=PATIENCE_S, metavar="S", help="seconds without progress")


def main(options: argparse.Namespace) -> int:
    server = Server(options.url, read_token())
    try:
        options.into.mkdir(parents=True, exist_ok=True)
        listing = patiently(
            server, lambda: server.ask("GET", f"/runs/{options.run}/artifacts"), lambda: 0, patience=options.patience
        )
        for artifact in wanted(listing["artifacts"], options.stage, options.globs):
            download = Download(server, artifact, options.into)
            download.run(options.patience)
            where = os.fspath(download.target)
            print(f"{where}: {download.progress.summary()}, SHA-256 {download.sha256}", flush=True)
        server.close()
    except OSError as error:
        raise of_os_error(error) from error
    return 0
