"""A real artifact process, over a database whose builds the test begins and ends; a proxy that breaks connections."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
from buildbot.db.model import Model
from s3_server import ACCESS_KEY, SECRET_KEY, S3Server
from sites import free_port, toml

from master import settings_artifacts
from master.artifacts import announced
from master.artifacts.names import build_folder
from master.artifacts.tokens import KEY, Grant, sign
from master.database import store, uploads
from master.database.engine import engine_kwargs
from master.database.tables import metadata, runs, stage_attempts
from master.pipeline import State
from master.run_model import Slot

PATIENCE_S = 30.0
_RUN = {
    **{"kind": "push", "acts_as": "push", "ref": "refs/heads/main", "head": "a" * 40, "base": "", "pull_request": 0},
    **{"tag": "", "message": "", "author": "", "reason": "", "trusted": True, "publish": True, "threads": 1},
    "created_at": 1.0,
}


class ArtifactProcess:
    """One process, in a folder that stands for a master's.

    Args:
        s3: keeps the artifacts in a bucket of this server. Process and workers reach it over :attr:`wire`.
        bucket: more of what ``[artifacts.s3]`` says.
    """

    def __init__(
        self,
        folder: Path,
        *,
        master: dict[str, Any] | None = None,
        s3: S3Server | None = None,
        bucket: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.folder = folder
        folder.mkdir()
        self.root = folder / "artifacts"  #: where the bytes are, to be looked at
        self.wire: Proxy | None = None
        if s3 is not None:
            self.wire = Proxy(s3.port)
            settings["s3"] = {"bucket": s3.bucket(), "endpoint": self.wire.url, **(bucket or {})}
            self.root = s3.root / settings["s3"]["bucket"]
            (folder / "secrets").mkdir(mode=0o700)
            for name, key in ((settings_artifacts.ACCESS_KEY, ACCESS_KEY), (settings_artifacts.SECRET_KEY, SECRET_KEY)):
                (folder / "secrets" / name).write_text(key)
                (folder / "secrets" / name).chmod(0o600)
        self.port = free_port()
        tables: dict[str, Any] = {
            "project": {"name": "x", "repository": "/nowhere"},
            "master": master or {},
            "artifacts": {"port": self.port, "reserve": "1M", **settings},
            "stages": {"summary": {}},
        }
        (folder / "settings.toml").write_text(toml(tables))
        url = f"sqlite:///{folder}/state.sqlite"
        self.engine = sa.create_engine(url, **engine_kwargs(url))
        Model.metadata.create_all(self.engine)
        metadata.create_all(self.engine)
        self.running: subprocess.Popen[bytes] | None = None

    # -- its life

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            command = [sys.executable, "-P", "-m", "master.artifacts", str(self.folder)]
            process = self.running = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        wait(lambda: announced.pid(self.folder) == process.pid or process.poll() is not None)
        assert process.poll() is None, self.log()

    def kill(self) -> None:
        assert self.running
        self.running.kill()
        self.running.wait()

    def stop(self) -> int:
        assert self.running
        self.running.terminate()
        code = self.running.wait(20)
        self.running = None
        return code

    def end(self) -> None:
        if self.running and self.running.poll() is None:
            self.kill()
        self.engine.dispose()
        if self.wire:
            self.wire.close()

    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def url(self) -> str:
        return announced.url(self.folder)

    def peak_memory(self) -> int:
        """Bytes, at its highest."""
        assert self.running
        line = next(x for x in Path(f"/proc/{self.running.pid}/status").read_text().splitlines() if "VmHWM" in x)
        return int(line.split()[1]) * 1024

    # -- what Buildbot and the scheduler would do

    def begin(self, build_id: int, run_id: int = 1, stage: str = "build") -> None:
        """A build runs, of the first attempt of a stage."""
        build = {"id": build_id, "number": build_id, "builderid": 1, "buildrequestid": build_id, "workerid": 1}
        build |= {"masterid": 1, "started_at": 1, "state_string": "x", "locks_duration_s": 0}
        attempt = {"run_id": run_id, "stage": stage, "variant": "", "number": 1, "state": "running", "created_at": 1.0}
        with self.engine.begin() as connection:
            connection.execute(Model.builds.insert().values(build))
            if connection.execute(sa.select(runs.c.id).where(runs.c.id == run_id)).first() is None:
                connection.execute(runs.insert().values(id=run_id, event_key=f"run {run_id}", **_RUN))
            connection.execute(stage_attempts.insert().values(attempt))

    def finish(self, build_id: int) -> None:
        """A build ends."""
        with self.engine.begin() as connection:
            connection.execute(Model.builds.update().where(Model.builds.c.id == build_id).values(complete_at=2))

    def accept(self, build_id: int, run_id: int = 1, stage: str = "build") -> None:
        """The attempt's outcome is accepted, with what its build has uploaded."""
        with self.engine.begin() as connection:
            files = uploads.of_build(connection, build_id)
            slot = Slot(stage, "", 1)
            assert store.accept(connection, run_id, slot, values={"state": State.SUCCESS}, files=files)

    def token(self, build_id: int, run_id: int = 1, *, budget: int = 1 << 40, key: str = "") -> str:
        key = key or (self.folder / "secrets" / KEY).read_text().strip()
        folder = build_folder(run_id, "build", "", 1, build_id)
        return sign(key, Grant(build_id=build_id, run_id=run_id, folder=folder, budget=budget))

    # -- what the worker does

    def uploader(
        self,
        build_id: int,
        *globs: Path | str,
        url: str = "",
        token: str = "",
        patience: float = 20.0,
        worker: Path | None = None,
    ) -> subprocess.Popen[str]:
        command = [sys.executable, "-P", "-m", "workers.cli", "upload", f"--url={url or self.url}/builds/{build_id}"]
        command += [f"--patience={patience}", *(f"--glob={pattern}" for pattern in globs)]
        pipe = subprocess.PIPE
        environment = {**os.environ, **({"MLC_CI_WORKER_DIR": str(worker)} if worker else {})}
        process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=environment
        )
        assert process.stdin
        process.stdin.write((token or self.token(build_id)) + "\n")
        process.stdin.close()
        return process

    def upload(self, build_id: int, *globs: Path | str, **options: Any) -> tuple[int, str]:
        """Exit code and output of the worker's tool."""
        return ended(self.uploader(build_id, *globs, **options))

    @contextlib.contextmanager
    def way(self, **options: Any) -> Iterator[tuple[Proxy, str]]:
        """Breaks the connections that bytes take to the store (see :class:`Proxy`); with the address for uploaders."""
        if self.wire is None:
            with proxy(self.port, **options) as made:
                yield made, made.url
            return
        self.wire.set(**options)
        yield self.wire, self.url
        self.wire.cuts, self.wire.flips, self.wire.held = [], 0, None

    def client(self, token: str = "") -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(
            base_url=self.url,
            headers=headers,
            trust_env=False,
            timeout=PATIENCE_S,
            follow_redirects=self.wire is not None,
        )

    # -- what became of it

    def uploaded(self, build_id: int | None = None) -> dict[str, str]:
        """SHA-256 by name, of what counts as uploaded; each row's file is looked at."""
        with self.engine.connect() as connection:
            rows = connection.execute(sa.text("select * from uploads")).mappings().all()
        for row in rows:
            content = (self.root / row["path"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == row["sha256"]
            assert len(content) == row["size"]
        return {row["name"]: row["sha256"] for row in rows if build_id in (None, row["build_id"])}

    def unfinished(self) -> dict[str, int]:
        """Bytes by path below the folder of unfinished uploads."""
        place = self.root / ".partial"
        return {file.relative_to(place).as_posix(): file.stat().st_size for file in place.rglob("*") if file.is_file()}


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    assert process.stdout
    with process.stdout:
        said = process.stdout.read()
    return process.wait(60), said


def wait(condition: Callable[[], Any], seconds: float = PATIENCE_S) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "gave up waiting"
        time.sleep(0.01)


def content(size: int, seed: int = 0) -> bytes:
    """Bytes that compress badly and are the same each time."""
    block = hashlib.sha512(str(seed).encode()).digest() * 1024
    return b"".join(hashlib.sha256(block[:64] + str(n).encode()).digest() * 2048 for n in range(size // 65536 + 1))[
        :size
    ]


class Proxy:
    """Passes connections on to a port of this machine.

    Args:
        cuts: after how many bytes from the client each connection is cut, one after the other; then none is.
        flips: how many connections have one byte of theirs changed.
        held: after how many bytes from the client a connection waits for :attr:`go`.
    """

    def __init__(self, port: int, *, cuts: Sequence[int] = (), flips: int = 0, held: int | None = None) -> None:
        self.target = port
        self.set(cuts=cuts, flips=flips, held=held)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def set(self, *, cuts: Sequence[int] = (), flips: int = 0, held: int | None = None) -> None:
        """What happens to connections from now on."""
        self.cuts, self.flips, self.held = list(cuts), flips, held
        self.waiting, self.go = threading.Event(), threading.Event()
        self.cut = 0

    def close(self) -> None:
        self.go.set()
        self.listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self.listener.accept()[0]
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            with server:
                back = threading.Thread(target=self._back, args=(server, client), daemon=True)
                back.start()
                with contextlib.suppress(OSError):
                    self._forth(client, server)
                for one in (server, client):
                    with contextlib.suppress(OSError):
                        one.shutdown(socket.SHUT_RDWR)
                back.join()

    def _forth(self, client: socket.socket, server: socket.socket) -> None:
        limit = self.cuts[0] if self.cuts else None
        passed, flipped = 0, False
        while data := client.recv(65536):
            if passed > 65536 and self.flips > 0 and not flipped:
                self.flips -= 1
                flipped = True
                data = bytes([data[0] ^ 1]) + data[1:]
            if limit is not None and passed + len(data) > limit:
                server.sendall(data[: limit - passed])
                self.cuts.pop(0)
                self.cut += 1
                return
            if self.held is not None and passed + len(data) > self.held:
                self.waiting.set()
                self.go.wait(PATIENCE_S)
            server.sendall(data)
            passed += len(data)

    @staticmethod
    def _back(server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def proxy(port: int, **options: Any) -> Iterator[Proxy]:
    made = Proxy(port, **options)
    try:
        yield made
    finally:
        made.close()
