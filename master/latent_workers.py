"""Workers that are containers: one is started for each build, and nothing of it is there once the build is over.

Buildbot's latent workers, with four ends mended:

- What keeps a container from becoming a worker (no such image, a crash, no way to the master, no engine) ends the
  build as an infrastructure failure that says so. Stock, it is RETRY, and the request is queued again for ever.
- A container's password is its own, and good for one connection. Stock, it is the worker's, until the master ends,
  and stands in the container's environment.
- The container sees no GPU but those that its build leased.
- What a killed master leaves running is found by its label at the next start, and removed.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from buildbot.interfaces import IRenderable, LatentWorkerCannotSubstantiate
from buildbot.util.twisted import async_to_deferred
from buildbot.worker.docker import DockerLatentWorker
from buildbot.worker.latent import States
from twisted.internet import threads
from twisted.python import log
from twisted.python.failure import Failure
from zope.interface import implementer

from master.containers import ContainerFailed, Containers, Owner, Wanted, worker_files
from master.leases import NVML
from master.places import site_id
from master.settings_containers import ContainerSettings
from master.settings_models import MasterSettings
from master.worker_port import chain_for
from master.workers import FleetMember
from steps.devices import lent

LIFE = secrets.token_hex(8)  #: of this process
_LOOKS_EVERY_S = 1.0  #: while a container starts: whether it has crashed
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5, 120  #: before a worker whose container failed is given another build
_T = TypeVar("_T")


class CannotStart(LatentWorkerCannotSubstantiate):
    """Tells Buildbot that the build ends here. ``reason`` is for the page, the text for the log."""

    def __init__(self, why: ContainerFailed) -> None:
        super().__init__(str(why))
        self.reason = why.reason


@implementer(IRenderable)
class _Password:
    """What the next connection has to say; nobody knows it before one is awaited, and after it has come."""

    def __init__(self) -> None:
        self.value = secrets.token_urlsafe(32)

    def renewed(self) -> str:
        self.value = secrets.token_urlsafe(32)
        return self.value

    def getRenderingFor(self, _properties: Any) -> str:
        return self.value


@implementer(IRenderable)
class _Asked:
    """Is rendered when the worker is configured, and gives what is rendered at each login."""

    def __init__(self, password: _Password) -> None:
        self.password = password

    def getRenderingFor(self, _properties: Any) -> _Password:
        return self.password


class ContainerWorker(FleetMember, DockerLatentWorker):
    """A worker of the settings that has a table ``container``.

    Args:
        container: that table.
        settings: of the master: where it listens for workers, and with which certificates.
        basedir: the master's own folder.
        artifacts_tls: whether uploads need the master's certificate authority.
    """

    builds_may_be_incompatible = False  # each has a container of its own
    quarantine_timeout = quarantine_initial_timeout = _FIRST_PAUSE_S
    quarantine_max_timeout = _LONGEST_PAUSE_S
    containers: Containers  # where the one is that runs, whatever the settings say by now
    _crash: ContainerFailed | None = None  # how the container that is starting has ended
    instance: str | None
    state: States

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._password = _Password()
        super().__init__(*args, **kwargs)

    def checkConfig(self, name: str, *, container: ContainerSettings, **more: Any) -> None:  # type: ignore[override]
        for ours in ("settings", "basedir", "artifacts_tls"):
            more.pop(ours)
        super().checkConfig(name, None, docker_host=container.docker_host, image=container.image, **more)

    @async_to_deferred
    async def reconfigService(
        self,
        name: str,
        *,
        container: ContainerSettings,
        settings: MasterSettings,
        basedir: Path,
        artifacts_tls: bool,
        **more: Any,
    ) -> None:
        """Buildbot's hook. A container that runs keeps what it was started with."""
        self._container, self._settings = container, settings
        self._basedir, self._artifacts_tls = basedir, artifacts_tls
        self._next = Containers(container, Owner(master=site_id(basedir), life=LIFE))
        await super().reconfigService(
            name,
            _Asked(self._password),
            docker_host=container.docker_host,
            image=container.image,
            masterFQDN=self._address,
            build_wait_timeout=0,
            missing_timeout=container.start_timeout,
            check_instance_interval=_LOOKS_EVERY_S,
            **more,
        )

    @async_to_deferred
    async def startService(self) -> None:
        await super().startService()
        self._deferwaiter.add(self._sweep())

    @async_to_deferred
    async def _sweep(self) -> None:
        try:
            if swept := await _in_thread(self._next.sweep):
                log.msg(f"removed containers that an earlier life of this master left: {', '.join(sorted(swept))}")
        except ContainerFailed as failed:
            self.refused = failed.reason
            log.msg(f"worker {self.name!r}: {failed.reason}")

    # -- what the fleet asks

    @property
    def available(self) -> bool:
        """It comes when it is asked for; not while it rests after a container that did not start."""
        return self.quarantine_timer is None and self.state is not States.SHUT_DOWN

    def turned_away(self, why: str) -> None:
        self._fail(ContainerFailed(f"its image does not fit: {why}"))

    @async_to_deferred
    async def ran_out_of_memory(self) -> bool:
        """Whether the build that it has went beyond the memory of its container."""
        try:
            return self.instance is not None and await _in_thread(self.containers.ran_out_of_memory, self.instance)
        except ContainerFailed as failed:
            log.msg(f"worker {self.name!r}: {failed.reason}")
            return False

    # -- what Buildbot asks of a latent worker

    @async_to_deferred
    async def start_instance(self, build: Any) -> bool:
        self._crash, self.containers = None, self._next
        gpus = [gpu["id"] for gpu in lent(build.getProperties()) if gpu["id"].startswith(NVML)]
        wanted = Wanted(worker=self.name, files=self._files(), gpus=gpus)
        try:
            self.instance = await _in_thread(self.containers.start, wanted)
        except ContainerFailed as failed:
            raise self._cannot(failed) from None
        log.msg(f"worker {self.name!r}: container {self.instance[:12]} of {self._container.image} was started")
        return True

    @async_to_deferred
    async def check_instance(self) -> tuple[bool, str]:
        """Asked while it starts. Why it has ended is kept: Buildbot has a text for it, no more."""
        if self.instance is not None:
            try:
                self._crash = await _in_thread(self.containers.trouble, self.instance)
            except ContainerFailed as failed:
                self._crash = failed
        return self._crash is None, ""

    @async_to_deferred
    async def stop_instance(self, fast: bool = False) -> None:
        instance, self.instance = self.instance, None
        self._password.renewed()
        if instance is not None:
            try:
                await _in_thread(self.containers.remove, instance)
            except ContainerFailed as failed:  # its worker's next container takes it along, or the next life's sweep
                log.msg(f"worker {self.name!r}: container {instance[:12]} could not be removed: {failed.reason}")

    @async_to_deferred
    async def attached(self, conn: Any) -> None:
        self._password.renewed()
        await super().attached(conn)
        if self.substantiated:
            self.refused = ""

    # -- what becomes of one that does not start

    def _missing_timer_fired(self) -> None:
        self.missing_timer = None
        self._deferwaiter.add(self._too_late(self.instance))

    @async_to_deferred
    async def _too_late(self, instance: str | None) -> None:
        words: list[str] = []
        if instance is not None:
            with contextlib.suppress(ContainerFailed):
                words = await _in_thread(self.containers.words, instance)
        if self.instance == instance and not self.substantiated:
            within = f"within {self._container.start_timeout:g} s (start_timeout)"
            self._fail(ContainerFailed(f"its container did not connect {within}", words))

    def _fail(self, why: ContainerFailed) -> None:
        self._substantiation_failed(Failure(why))

    def _substantiation_failed(self, failure: Any) -> Any:
        """Buildbot's hook: whatever it was, the build ends with it."""
        error = failure.value if isinstance(failure, Failure) else failure
        return super()._substantiation_failed(Failure(self._cannot(error)))

    def _cannot(self, error: Any) -> CannotStart:
        if isinstance(error, CannotStart):
            return error
        known = error if isinstance(error, ContainerFailed) else self._crash
        known = known or ContainerFailed(str(error) or type(error).__name__)
        self.refused = known.reason
        return CannotStart(known)

    # -- what a container is told

    @property
    def _on_loopback(self) -> bool:
        """Whether it shares this machine's loopback, where a plain port is."""
        own = self._container
        return own.on_host and not own.master and own.docker_host.startswith("unix://")

    @property
    def _address(self) -> str:
        if self._on_loopback:
            return "127.0.0.1"
        return self._container.master or next(iter(self._settings.worker_host), "127.0.0.1")

    def _files(self) -> dict[str, str]:
        tls = self._settings.worker_tls and not self._on_loopback
        port = self._settings.worker_port if tls else self.registration.getPBPort()
        ca = chain_for(self._settings, self._basedir).ca if tls or self._artifacts_tls else None
        return worker_files(self.name, self._password.renewed(), host=self._address, port=port, tls=tls, ca=ca)


async def _in_thread(function: Callable[..., _T], *arguments: Any) -> _T:
    found: _T = await threads.deferToThread(function, *arguments)
    return found
