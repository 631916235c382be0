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
from master.bench.stock import CONTENDERS, MEASURED, NAME, PASSWORD
from master.bench.throughput import Moved, Throughput
from master.database import migrate

_PATIENCE_S = 30 * 60.0
_POLL_S = 0.1
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
        port = _free_port()
        bare_url = f"http://127.0.0.1:{(bare / 'port').read_text()}"
        stock = {"port": port, "size": size, "rounds": rounds, "bare": bare_url}
        before = _peak(ours)
        twistd = (launch.script("twistd"), "--nodaemon", "--no_save", "--pidfile=")
        tac = f"--python={basedir / 'buildbot.tac'}"
        running.start("stock", *twistd, tac, MLC_BENCH_STOCK=json.dumps(stock))
        worker = folder / "worker"
        create = (launch.script("buildbot-worker"), "create-worker", "--umask=0o22", str(worker))
        _call(*create, f"127.0.0.1:{port}", NAME, PASSWORD)
        running.start("worker", *twistd, f"--python={worker / 'buildbot.tac'}")
        found = _lines(basedir, rounds, running, said)
        rate, name = _hash()
        return Throughput(
            size=size,
            rounds=found,
            memory_before=before,
            memory_after=_peak(ours),
            hash_rate=rate,
            hash_name=name,
        )


def _lines(basedir: Path, rounds: int, running: _Running, said: Callable[[str], None]) -> Sequence[dict[str, Moved]]:
    """What the build notes, once it is done."""
    told: list[dict[str, Moved]] = [{} for _ in range(rounds)]
    for number in range(rounds * len(CONTENDERS)):
        running.wait(lambda seen=number: len(_read(basedir)) > seen, "the file to be moved")  # type: ignore[misc]
        line = _read(basedir)[number]
        if line["result"] != 0 or line["what"] not in CONTENDERS:
            raise NotMeasured(
                f"the build ended with {line['what']}", (running.folder / "stock.log").read_text()[-1000:]
            )
        where = number // len(CONTENDERS)
        told[where][line["what"]] = Moved(seconds=line["seconds"], lag=line["lag"])
        said(f"round {where + 1}: {line['what']} {line['seconds']:.2f} s")
    return told


def _read(basedir: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in (basedir / MEASURED).read_text().splitlines()]
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


def _peak(process: subprocess.Popen[bytes]) -> int:
    line = next(x for x in Path(f"/proc/{process.pid}/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


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
