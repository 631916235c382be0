"""One large file from a worker: into our store, by one bare HTTP PUT, and by a stock master's own upload steps.

All four are steps of one build of a stock master, on its stock worker, one after the other in every round: what else
the machine does falls on all of them. Our artifact process stands beside that master and reads its database.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from buildbot.db import enginestrategy

from master import launch
from master.artifacts import announced
from master.bench.caches import NotMeasured
from master.bench.stock import CONTENDERS, IDLE, MEASURED, NAME, PAGES, PASSWORD, READ, WATCH
from master.bench.throughput import Memory, Moved, Throughput
from master.database import migrate

_PATIENCE_S = 30 * 60.0
_POLL_S = 0.1
_ANSWERS = "answers.jsonl"
_CFG = "from master.bench.stock import from_environment\nBuildmasterConfig = from_environment()\n"
_SETTINGS = """\
[project]
name = "bench"
repository = "none"
[artifacts]
port = 0
reserve = "1M"
[stages.summary]
"""


class _Running:
    """The processes of one measurement, ended when it is over."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> _Running:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.processes.values()):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(self, name: str, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=self.folder / "bare",  # nothing there may look like a package
                env={**os.environ, **environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self.processes[name]

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Raises :class:`NotMeasured` when it does not come, or a process has ended."""
        until = time.monotonic() + _PATIENCE_S
        while not condition():
            for name, process in self.processes.items():
                if process.poll() is not None:
                    words = (self.folder / f"{name}.log").read_text(errors="replace")[-1000:]
                    raise NotMeasured(f"{name} ended with {process.returncode}:\n{words}")
            if time.monotonic() > until:
                raise NotMeasured(f"gave up waiting for {what}")
            time.sleep(_POLL_S)


def measure(rounds: int, size: int, said: Callable[[str], None]) -> Throughput:
    """Set everything up in a throwaway folder and measure. ``size`` in bytes; ``said`` is told of the progress.

    Raises:
        UserError: something could not be started, or did not move the file.
    """
    with _throwaway() as folder, _Running(folder) as running:
        basedir, bare = folder / "master", folder / "bare"
        bare.mkdir()
        said("making a stock master, its worker, an artifact process and a bare server …")
        _call(launch.script("buildbot"), "create-master", "--db", "sqlite:///state.sqlite", str(basedir))
        (basedir / "master.cfg").write_text(_CFG)
        (basedir / "settings.toml").write_text(_SETTINGS)
        engine = enginestrategy.create_engine("sqlite:///state.sqlite", basedir=str(basedir))
        with engine.begin() as connection:
            migrate.upgrade(connection)
        engine.dispose()
        python = (sys.executable, "-P", "-m")
        running.start("bare", *python, "master.bench.bare", "serve", str(bare))
        ours = running.start("artifacts", *python, "master.artifacts", str(basedir))
        running.wait(lambda: (bare / "port").exists() and announced.pid(basedir) == ours.pid, "the servers to listen")
        port, www = _free_port(), _free_port()
        bare_url = f"http://127.0.0.1:{(bare / 'port').read_text()}"
        stock = {"port": port, "www": www, "size": size, "rounds": rounds, "bare": bare_url}
        twistd = (launch.script("twistd"), "--nodaemon", "--no_save", "--pidfile=")
        tac = f"--python={basedir / 'buildbot.tac'}"
        running.start("stock", *twistd, tac, MLC_BENCH_STOCK=json.dumps(stock))
        worker = folder / "worker"
        create = (launch.script("buildbot-worker"), "create-worker", "--umask=0o22", str(worker))
        _call(*create, f"127.0.0.1:{port}", NAME, PASSWORD)
        running.start("worker", *twistd, f"--python={worker / 'buildbot.tac'}")
        urls = [f"http://127.0.0.1:{www}{page}" for page in PAGES]
        running.start("reader", *python, "master.bench.pages", str(basedir / WATCH), str(folder / _ANSWERS), *urls)
        found = _lines(basedir, rounds, running, said)
        rate, name = _hash()
        return Throughput(size=size, rounds=found, hash_rate=rate, hash_name=name)


def _lines(basedir: Path, rounds: int, running: _Running, said: Callable[[str], None]) -> Sequence[dict[str, Moved]]:
    """What the build notes, once it is done."""
    told: list[dict[str, Moved]] = [{} for _ in range(rounds)]
    steps = (*CONTENDERS, IDLE, READ)
    for number in range(rounds * len(steps)):
        running.wait(lambda seen=number: len(_read(basedir / MEASURED)) > seen, "the file to be moved")  # type: ignore[misc]
        line = _read(basedir / MEASURED)[number]
        if line["result"] != 0 or line["what"] not in steps:
            raise NotMeasured(
                f"the build ended with {line['what']}", (running.folder / "stock.log").read_text()[-1000:]
            )
        where = number // len(steps)
        memory = {name: Memory(before=before, peak=peak) for name, (before, peak) in line["memory"].items()}
        began, seconds = line["began"], line["seconds"]
        answers = [one["seconds"] for one in _read(running.folder / _ANSWERS) if 0 <= one["at"] - began < seconds]
        told[where][line["what"]] = Moved(
            seconds=seconds, cpu=line["cpu"], lag=line["lag"], answers=answers, memory=memory
        )
        said(f"round {where + 1}: {line['what']} {line['seconds']:.2f} s")
    return told


def _read(file: Path) -> list[dict[str, Any]]:
    """The lines that are there in full."""
    try:
        return [json.loads(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
    except FileNotFoundError:
        return []


def _hash() -> tuple[float, str]:
    """Bytes a second of one core, and whose work that is."""
    block = memoryview(os.urandom(1 << 20))
    digest = hashlib.sha256()
    began = time.perf_counter()
    for _ in range(256):
        digest.update(block)
    return 256 * len(block) / (time.perf_counter() - began), f"hashlib, {ssl.OPENSSL_VERSION}"


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        raise NotMeasured(f"{command[0]} {command[1]} failed", (done.stdout + done.stderr).strip())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _throwaway() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="mlc-ci-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
