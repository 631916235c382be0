"""The processes of a site: started, waited for, ended by their pid."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from master import launch
from master.artifacts import announced
from master.errors import UserError
from master.places import PORTS, SECRETS, SETTINGS, password_name
from master.settings import Settings, load
from master.site import files
from master.site.beside import NOTHING, Beside
from master.site.owners import Owners
from master.site.process import Process
from master.worker_port import chain_for
from workers.start import passed_on

ARTIFACTS = "artifacts"  #: what the artifact process is called
_POLL_S = 0.05
_START_S = 90.0


class NotStarted(UserError):
    """A process ended, or did not become ready, instead of running."""


class Site:
    """A master and its local workers in one folder: ``FOLDER/master``, ``FOLDER/workers/NAME``.

    Args:
        folder: made when it is not there.
        settings_file: the settings of a new master; a master that is there keeps its own.
        overrides: ``MLC_CI_…`` variables for the master.
        owners: whom master and workers run as.
        beside: what else runs here, and what master and workers are told of it.
    """

    def __init__(
        self,
        folder: Path,
        settings_file: Path,
        *,
        overrides: Mapping[str, str] | None = None,
        owners: Owners,
        beside: Beside = NOTHING,
    ) -> None:
        self.folder = folder
        self.settings_file = settings_file
        self.owners = owners
        self.beside = beside
        self.environment = {**os.environ, **(overrides or {})}
        self.processes: list[Process] = []

    @property
    def basedir(self) -> Path:
        return self.folder / "master"

    @property
    def settings(self) -> Settings:
        return load(self.basedir / SETTINGS, self.environment)

    @property
    def ports(self) -> dict[str, int]:
        """What the running master announced: ``web`` and ``worker``."""
        ports: dict[str, int] = json.loads((self.basedir / PORTS).read_text())
        return ports

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['web']}/"

    def prepare(self) -> None:
        """Make the folders, the secrets and the database, each as its owner.

        Raises:
            NotStarted: with what the master's preparation said.
        """
        self.owners.let_through(self.folder, Path(sys.prefix))
        for folder in (self.folder / "logs", self.folder / "workers"):
            folder.mkdir(exist_ok=True, mode=0o755)
        owner = self.owners.master
        files.folder(self.basedir, owner)
        settings = self.basedir / SETTINGS
        if not settings.exists():
            files.write(settings, self.settings_file.read_text(), owner)
        if self.beside.secrets:
            files.folder(self.basedir / SECRETS, owner)
        for name, secret in self.beside.secrets.items():
            files.write(self.basedir / SECRETS / name, secret + "\n", owner)
        done = subprocess.run(
            [sys.executable, "-m", "master.launch", str(self.basedir)],
            env=self.environment,
            cwd=self.folder / "logs",
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **(owner.popen_arguments if owner else {}),
        )
        if done.returncode != 0:
            raise NotStarted(f"{self.basedir} could not be prepared:\n{(done.stdout + done.stderr).strip()}")

    def start_master(self) -> Process:
        """Start the master and wait until its page and its workers' port are open."""
        (self.basedir / PORTS).unlink(missing_ok=True)
        process = Process(
            name="master",
            command=launch.command(self.basedir),
            log=self.folder / "logs" / "master.log",
            own_log=self.basedir / "twistd.log",
            environment=self.environment,
            owner=self.owners.master,
        )
        self._run(process)
        self.wait_until((self.basedir / PORTS).exists, process, "open its ports")
        return process

    def start_artifacts(self, *, wait: bool = True) -> Process:
        """Start the artifact process; with ``wait``, until it answers."""
        process = Process(
            name=ARTIFACTS,
            command=[sys.executable, "-P", "-m", "master.artifacts", str(self.basedir)],
            log=self.folder / "logs" / f"{ARTIFACTS}.log",
            environment=self.environment,
            owner=self.owners.master,
        )
        self._run(process)
        if wait:
            self.wait_for_artifacts()
        return process

    def wait_for_artifacts(self) -> None:
        """Until the artifact process answers. Raises :class:`NotStarted`."""
        process = next(p for p in self.processes if p.name == ARTIFACTS)
        self.wait_until(lambda: announced.pid(self.basedir) == process.pid, process, "open its port")

    def start_worker(self, name: str) -> Process:
        """Start one local worker, as the owner for its trust."""
        owner = self.owners.worker(self.settings.workers[name].trust)
        folder = self.folder / "workers" / name
        files.folder(folder, owner)
        files.write(folder / "password", (self.basedir / SECRETS / password_name(name)).read_text(), owner)
        config: dict[str, object] = {"name": name, "host": "127.0.0.1", "port": self.ports["worker"]}
        if more := self.beside.environments.get(name):
            config["environment"] = dict(more)
        files.write(folder / "worker.json", json.dumps(config, indent=2) + "\n", owner)
        if self.settings.artifacts.tls:  # the master's port for local workers is plain; this one is not
            chain = chain_for(self.settings.master, self.basedir)
            if chain.ca:
                files.write(folder / "ca.pem", chain.ca.read_text(), owner)
        process = Process(
            name=name,
            command=[launch.script("mlc-ci-worker"), "start", str(folder)],
            log=self.folder / "logs" / f"{name}.log",
            environment={  # its builds can read it
                **passed_on(self.environment),
                "HOME": str(folder),
                **({"USER": owner.name} if owner else {}),
            },
            owner=owner,
        )
        self._run(process)
        return process

    def local_workers(self) -> list[str]:
        """The workers that the settings say are started here."""
        return [name for name, worker in self.settings.workers.items() if worker.local]

    def stop(self) -> None:
        """End every process: the master first, so that it does not take its workers for lost, and last what they
        send to."""
        order = ("master", "", ARTIFACTS)
        for process in sorted(self.processes, key=lambda p: order.index(p.name if p.name in order else "")):
            process.stop()
        self.processes.clear()

    def failed(self) -> Process | None:
        """A process that has ended although nobody stopped it.

        Raises:
            NotStarted: what runs beside the site has.
        """
        if reason := self.beside.failure():
            raise NotStarted(reason)
        return next((p for p in self.processes if p.exit_code is not None), None)

    def wait_until(self, condition: Callable[[], bool], process: Process, what: str) -> None:
        """Wait for a condition that a process brings about.

        Raises:
            NotStarted: the process ended, or the condition did not come true in time.
        """
        until = time.monotonic() + _START_S
        while not condition():
            if process.exit_code is not None:
                raise NotStarted(
                    f"{process.name} ended with {process.exit_code}:\n{process.last_words()}", f"see {process.log}"
                )
            if time.monotonic() > until:
                raise NotStarted(f"{process.name} did not {what} within {_START_S:g} s", f"see {process.log}")
            time.sleep(_POLL_S)

    def _run(self, process: Process) -> None:
        self.processes = [p for p in self.processes if p.name != process.name]
        self.processes.append(process)
        process.start()


@contextlib.contextmanager
def running(site: Site) -> Iterator[Site]:
    """A prepared site with its master, its artifact process and its local workers; ended on the way out.

    Raises:
        NotStarted: also when another process runs this very site.
    """
    make_folder(site.folder)
    with claimed(site.folder), _ended(site):
        site.prepare()
        site.start_artifacts(wait=False)  # both at once: neither needs the other to start
        site.start_master()
        site.wait_for_artifacts()
        for name in site.local_workers():
            site.start_worker(name)
        yield site


def make_folder(folder: Path) -> None:
    """Make a site's folder, open for others to pass through; one that is there stays as it is.

    Raises:
        NotStarted: it cannot be made.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(exist_ok=True, mode=0o711)
    except OSError as error:
        raise NotStarted(f"{folder} cannot be made: {error.strerror}", "name another --folder") from None


@contextlib.contextmanager
def _ended(site: Site) -> Iterator[None]:
    try:
        yield
    finally:
        site.stop()


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[int]:
    """While the site in this folder is ours; gives the lock's descriptor, and whoever inherits it goes on holding it.

    Raises:
        NotStarted: somebody else has it, or the folder cannot be used.
    """
    try:
        lock = (folder / "site.lock").open("a")
    except OSError as error:
        raise NotStarted(f"{folder} cannot be used: {error.strerror}", "name another --folder") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotStarted(f"another master already runs in {folder}", "stop it, or name another --folder") from None
        yield lock.fileno()
