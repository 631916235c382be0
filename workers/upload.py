"""``mlc-ci-worker upload``: a build's files into the artifact store; the token comes on standard input.

A file is sent while it is hashed, from where the last connection broke, and is an upload only when the other end has
the same SHA-256. What every name came to stands in the last line, which the master reads.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import hashlib
import http.client
import json
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from workers import elsewhere
from workers.errors import CodeError, InfrastructureError, of_os_error
from workers.transfer import PATIENCE_S, Answered, Interrupted, Progress, Server, patiently, read_token

REPORT = "mlc-ci-worker upload: "
_BLOCK = 1 << 18  # bytes
_TIMES = 3  # so often a file may arrive differently before it is not tried again


def chosen(patterns: Sequence[str]) -> dict[str, Path]:
    """The files that the patterns match, by the names that they will have.

    Raises:
        CodeError: a pattern that matches none, or two files of one name.
    """
    found: dict[str, Path] = {}
    for pattern in patterns:
        files = [Path(path) for path in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 (absolute ones too)
        files = [file for file in files if file.is_file()]
        if not files:
            raise CodeError(f"no file matches {pattern}")
        for file in files:
            first = found.setdefault(file.name, file)
            if os.path.normpath(first) != os.path.normpath(file):
                raise CodeError(f"two files would be {file.name}: {first} and {file}")
    return dict(sorted(found.items()))


class Differently(Exception):
    """What arrived was not what was sent."""


class Upload:
    """One file on its way."""

    def __init__(self, server: Server, file: Path) -> None:
        self.server = server
        self.file = file
        self.path = f"/{file.name}"
        self.size = file.stat().st_size
        self.progress = Progress(file.name, self.size)

    def run(self, patience: float) -> str:
        """Its SHA-256, once the store has it. Raises :class:`ToolError`."""
        with ThreadPoolExecutor(1) as hasher:
            digest = hasher.submit(self.digest)
            for _ in range(_TIMES):
                try:
                    return patiently(self.server, lambda: self.attempt(digest), self.done, patience=patience)
                except Differently as error:
                    print(f"{error}; sending it again", flush=True)
        raise InfrastructureError(f"{self.file.name} arrived differently {_TIMES} times (does something change it?)")

    def attempt(self, digest: Future[str]) -> str:
        """From wherever it stands to its end."""
        begun = self.server.ask("POST", "", {"files": {self.file.name: self.size}})["files"][self.file.name]
        if begun["sha256"] is None and begun["direct"] and (begun["offset"] < self.size or not self.size):
            self.send_elsewhere(digest.result())
        elif begun["sha256"] is None and begun["offset"] < self.size:
            self.send(int(begun["offset"]))
        try:
            done = self.server.ask("POST", f"{self.path}/commit", {"size": self.size, "sha256": digest.result()})
        except Answered as answered:
            if answered.status == 422:
                raise Differently(str(answered)) from None
            if "offset" in answered.body:
                raise Interrupted(str(answered)) from None
            raise
        return str(done["sha256"])

    def send_elsewhere(self, sha256: str) -> None:
        with self.file.open("rb") as file:
            # what stores verify; nothing is trusted for it
            md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        order = {"size": self.size, "sha256": sha256, "md5": md5}
        elsewhere.put(self.server.ask("POST", f"{self.path}/direct", order), self.file, self.size, self.progress.at)

    def send(self, offset: int) -> None:
        headers: dict[str, str | int] = {"Content-Length": self.size - offset}
        if offset:
            headers["Content-Range"] = f"bytes {offset}-{self.size - 1}/{self.size}"
            print(f"{self.file.name}: going on at byte {offset} of {self.size}", flush=True)
        connection = self.server.start("PUT", self.path, headers)
        try:
            self.send_from(connection, offset)
        except OSError:
            with contextlib.suppress(OSError, http.client.HTTPException, Interrupted):
                self.sent()  # it may have said why before it hung up
            raise
        self.sent()

    def sent(self) -> None:
        try:
            self.server.answer().read()
        except Answered as answered:
            if (
                "offset" in answered.body or "error" not in answered.body
            ):  # what it said may be lost with the connection
                raise Interrupted(str(answered)) from None
            raise

    def send_from(self, connection: http.client.HTTPConnection, offset: int) -> None:
        block = memoryview(bytearray(_BLOCK))
        with self.file.open("rb", buffering=0) as file:
            file.seek(offset)
            while offset < self.size:
                read = file.readinto(block[: self.size - offset])
                if not read:
                    raise CodeError(f"{self.file.name} became shorter while it was uploaded")
                connection.sock.sendall(block[:read])
                offset += read
                self.progress.at(offset)

    def done(self) -> int:
        return self.progress.done

    def digest(self) -> str:
        with self.file.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", required=True, help="the artifact process's address of this build")
    parser.add_argument("--glob", dest="globs", action="append", required=True, metavar="PATTERN", help="files to send")
    parser.add_argument("--patience", type=float, default=PATIENCE_S, metavar="S", help="seconds without progress")


def main(options: argparse.Namespace) -> int:
    token = read_token()
    try:
        files = chosen(options.globs)
        server = Server(options.url, token)
        uploads = {name: Upload(server, file) for name, file in files.items()}
        sizes = {name: upload.size for name, upload in uploads.items()}
        patiently(server, lambda: server.ask("POST", "", {"files": sizes}), lambda: 0, patience=options.patience)
        sent = {}
        for name, upload in uploads.items():
            sent[name] = upload.run(options.patience)
            print(f"{name}: {upload.progress.summary()}, SHA-256 {sent[name]}", flush=True)
        server.close()
    except OSError as error:
        raise of_os_error(error) from error
    print(REPORT + json.dumps(sent), flush=True)
    return 0
