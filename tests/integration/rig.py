"""A whole site for one test: a real master, real workers, real repositories, driven and read from outside.

The rig plays the developer (pushes, pull requests, tags), the administrator (starts, stops, kills) and the
browser (REST with a login). What became of it all it reads from the database, from the folders and from the
lines that commands left; it asks no object of the master.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
from observer import Observer, Pushed, Row, StillWaiting
from sites import EFFECT_SCRIPT, HERE, free_port, git, load_module, make_template, repository, toml

from master.site.owners import Owners
from master.site.process import Process
from master.site.processes import ARTIFACTS, Site

__all__ = ["HERE", "Pushed", "Rig", "Row", "StillWaiting", "git", "load_module", "make_template", "repository"]

MARKER = "MLC_CI_TEST_FOLDER"  #: in the environment of every process of a rig


class Rig(Observer):
    """One site in one folder. ``template`` is a prepared folder to copy from, ``tables`` the settings."""

    def __init__(self, folder: Path, template: Path, tables: Mapping[str, Any]) -> None:
        self.folder = folder
        self.repositories = folder / "repositories"
        self.effects_file = folder / "effects"
        self.flags = folder / "flags"
        self.flags.mkdir(parents=True)
        shutil.copytree(template / "repositories", self.repositories)
        shutil.copytree(template / "site", folder / "site")
        (folder / "effect.sh").write_text(EFFECT_SCRIPT.format(effects=self.effects_file))
        self.web_port, self.worker_port, self.artifacts_port = free_port(), free_port(), free_port()
        self.site = Site(folder / "site", folder / "unused.toml", overrides={MARKER: str(folder)}, owners=Owners())
        self.tables: dict[str, Any] = {}
        self._windows = itertools.count(1)
        self._marker = folder
        self.configure(tables)

    # -- the administrator

    def configure(self, tables: Mapping[str, Any]) -> None:
        """Write the settings; a running master reads them when told (:meth:`reload`)."""
        self.tables = {
            **tables,
            "project": {
                "name": "sample",
                "repository": str(self.repositories / "sample.git"),
                "submodules": False,
                "poll_interval": 0.5,
                **tables.get("project", {}),
            },
            "master": {"web_port": self.web_port, "worker_port": self.worker_port},
            "artifacts": {"port": self.artifacts_port, "reserve": "1M", **tables.get("artifacts", {})},
        }
        text = toml(self.tables).replace("{rig}", str(self.folder))
        (self.site.basedir / "settings.toml").write_text(text)

    def start(self, workers: Iterable[str] | None = None) -> None:
        """Start everything, and wait until the workers are there and the repository was looked at."""
        self.site.start_artifacts(wait=False)
        self.start_master(wait=False)
        self.site.wait_for_artifacts()
        names = self.site.local_workers() if workers is None else workers
        for name in names:
            self.site.start_worker(name)
        self.wait_for_workers(*names)
        self.wait(lambda: self.rows("select 1 from polled_refs where ref = ''"), "the poller's first look")

    def start_master(self, *, wait: bool = True) -> Process:
        process = self.site.start_master()
        if wait:
            self.wait_for_workers(*[p.name for p in self.site.processes if p.name not in ("master", ARTIFACTS)])
        return process

    @property
    def opened(self) -> bool:
        """Whether the master has opened its ports since it was started."""
        return (self.site.basedir / "ports.json").exists()

    def wait_for_workers(self, *names: str) -> None:
        for name in names:
            self.wait(lambda name=name: self.connected(name), f"worker {name} connected")

    def connected(self, name: str) -> bool:
        query = "select 1 from connected_workers c join workers w on w.id = c.workerid where w.name = ?"
        return bool(self.rows(query, name))

    def process(self, name: str) -> Process:
        return next(p for p in self.site.processes if p.name == name)

    def kill(self, name: str) -> None:
        """SIGKILL, and nothing else."""
        process = self.process(name)
        assert process.running
        process.running.kill()
        process.running.wait()
        self._forget_master(name)

    def signal_innermost(self, name: str, sign: signal.Signals) -> None:
        """For a worker itself; its supervisors, which stand above it, get none."""
        running = self.process(name).running
        assert running
        pids = [running.pid]
        for _ in range(2):
            pids.append(int(Path(f"/proc/{pids[-1]}/task/{pids[-1]}/children").read_text().split()[0]))
        os.kill(pids[-1], sign)

    def end(self, name: str) -> None:
        """SIGTERM, and wait."""
        self.process(name).stop()
        self._forget_master(name)

    def reload(self) -> None:
        """Have the master read its settings again, and wait until it says how that went."""
        done = ("configuration update complete", "configuration update aborted", "configuration update partially")
        before = sum(self.log().count(text) for text in done)
        running = self.process("master").running
        assert running
        running.send_signal(signal.SIGHUP)
        self.wait(lambda: sum(self.log().count(text) for text in done) > before, "the master read its settings again")

    def stop(self) -> None:
        self.site.stop()
        self.wait(lambda: not list(self.left()), "every process of the test ended", seconds=15)

    def left(self) -> Iterator[str]:
        """Processes of this rig that still run: by their environment, their folder or their command."""
        mark = str(self.folder).encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes()
                if not command:
                    continue  # a zombie: dead, and its parent's to collect
                about = (entry / "environ").read_bytes() + command + str((entry / "cwd").readlink()).encode()
                if mark in about:
                    yield f"{entry.name}: {command.replace(bytes(1), b' ').decode(errors='replace')}"

    def _forget_master(self, name: str) -> None:
        self.site.processes = [p for p in self.site.processes if p.name != name]

    # -- windows (see injection.py)

    def inject(self, *, window: str = "", broken: str = "") -> None:
        """Have the master kill itself, once, in a window, or be broken from its next start on."""
        tac = self.site.basedir / "buildbot.tac"
        orders = {"window": window, "broken": broken, "marker": str(self.folder / f"hit-{next(self._windows)}")}
        self._marker = Path(orders["marker"])
        file = self.folder / "injection.json"
        file.with_suffix(".new").write_text(json.dumps(orders))
        file.with_suffix(".new").replace(file)
        first = "# injected by a test"
        if not tac.read_text().startswith(first):
            load = (
                f"{first}\nimport importlib.util\n"
                f"_spec = importlib.util.spec_from_file_location('injection', {str(HERE / 'injection.py')!r})\n"
                "_injection = importlib.util.module_from_spec(_spec)\n_spec.loader.exec_module(_injection)\n"
                f"_injection.arm({str(file)!r})\n"
            )
            tac.write_text(load + tac.read_text())

    def wait_for_the_window(self) -> None:
        """Until the master has killed itself where it was told to."""
        process = self.process("master")
        self.wait(lambda: process.exit_code is not None, "the master killed itself in the window")
        assert process.exit_code == -signal.SIGKILL, f"the master ended with {process.exit_code}: {self.log()[-3000:]}"
        assert self._marker.exists(), "the master died, and not in the window"
        self._forget_master("master")

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """While the master waits where it was told to pause."""
        self.wait(self._marker.exists, "the master came to where it pauses")
        try:
            yield
        finally:
            self.inject()
            for marker in self.folder.glob("hit-*"):
                marker.unlink()

    # -- the developer

    def push(self, files: Mapping[str, str] | None = None) -> Pushed:
        done = repository.push(self.repositories, files=files)
        return Pushed(kind="push", ref=done["ref"], head=done["after"])

    def pull_request(self, number: int, files: Mapping[str, str] | None = None, *, again: bool = False) -> Pushed:
        done = repository.pull_request(self.repositories, number, files=files, synchronize=again)
        return Pushed(kind="pull_request", ref=done["ref"], head=done["head"])

    def tag(self, name: str, revision: str = "main") -> Pushed:
        done = repository.tag(self.repositories, name, revision=revision)
        return Pushed(kind="tag", ref=done["ref"], head=done["commit"])

    def flag(self, name: str) -> None:
        """Let a command that waits for this flag (:func:`hold`) go on."""
        (self.flags / name).touch()

    # -- the browser

    @contextlib.contextmanager
    def browser(self, *, login: bool = True) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=self.site.url, timeout=30, trust_env=False) as client:
            if login:
                password = (self.site.basedir / "secrets" / "admin-password").read_text().strip()
                answer = client.get("auth/login", auth=("admin", password))
                assert answer.status_code in (200, 302), answer.text
            yield client

    def control(self, path: str, method: str, *, login: bool = True, **parameters: Any) -> httpx.Response:
        """An order through Buildbot's REST interface (JSON-RPC)."""
        order = {"jsonrpc": "2.0", "method": method, "params": parameters, "id": 1}
        with self.browser(login=login) as client:
            return client.post(f"api/v2/{path}", json=order)

    def order(self, path: str, **body: Any) -> httpx.Response:
        """An order through our own API."""
        with self.browser() as client:
            return client.post(f"plugins/mlc_ci/api/{path}", json=body)

    def force(self, *, login: bool = True, **parameters: Any) -> httpx.Response:
        return self.control("forceschedulers/run", "force", login=login, **parameters)


MakeRig = Callable[..., Rig]  #: makes rigs, not started, for one test
