"""The workers as the master sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from buildbot.util.twisted import async_to_deferred
from buildbot.worker import AbstractWorker, Worker
from buildbot.worker.local import LocalWorker
from twisted.python import log
from twisted.spread import pb

from master.places import SECRETS, password_name
from master.settings import Settings, WorkerSettings, read_secret
from master.versions import mismatch, ours
from master.watchdog import Watchdog

LOCAL = "in-master"  #: the worker inside the master that serves ``local`` stages
_LOCAL_BUILDS = 10


class NotUsed(pb.Error):
    """What a worker is told that logs in and cannot be used."""


class FleetMember(AbstractWorker):
    """What a worker of the fleet does beside what its kind does. Small messages go out at once: Nagle's algorithm
    against delayed acknowledgements costs 40 ms for each message that a step sends.

    ``patience`` is how long it may give no sign of life, in seconds, before it is taken for lost.
    """

    refused = ""  #: why it is not used, as far as that is known
    _watchdog: Watchdog | None = None

    @property
    def available(self) -> bool:
        """Whether a build could be given to it, now or once it is done with what it does."""
        return self.conn is not None

    def checkConfig(self, name: str, password: Any, *, patience: float, **more: Any) -> None:
        super().checkConfig(name, password, **more)

    @async_to_deferred
    async def reconfigService(self, name: str, password: Any, *, patience: float, **more: Any) -> None:
        """Buildbot's hook; a connection that is there is watched with the patience that it came with."""
        self.patience = patience
        await super().reconfigService(name, password, **more)

    @async_to_deferred
    async def attached(self, conn: Any) -> None:
        conn.mind.broker.transport.setTcpNoDelay(True)
        if said := mismatch(conn.info, ours()):
            await self._turn_away(conn, f"versions do not fit: {said}; install the master's version on the worker")
        if version := str(conn.info.get("mlc_ci") or "").strip():
            conn.info["version"] = f"{conn.info.get('version')}, mlc-ci {version}"  # all that its page shows of it
        broker = conn.mind.broker
        self.refused = ""
        self._watch(conn)
        await super().attached(conn)
        if broker.disconnected:  # meanwhile, and Buildbot would take it for connected for ever: nobody tells it
            self._forget(conn)

    def _watch(self, conn: Any) -> None:
        """From here on: it may hang while it attaches, too."""
        mind, reactor = conn.mind, self.master.reactor
        # of all that can be asked this costs the least, and leaves no line in the worker's log
        watchdog = Watchdog(self.name, mind.broker, lambda: mind.callRemote("getVersion"), self.patience, reactor)
        conn.notifyOnDisconnect(watchdog.stop)
        self._watchdog = watchdog
        watchdog.start()

    def messageReceivedFromWorker(self) -> None:
        """Buildbot's hook: of each message, a piece of a log as well."""
        super().messageReceivedFromWorker()
        if self._watchdog:
            self._watchdog.heard()

    def drop(self, why: str) -> None:
        """End its connection, for this reason; it may connect again."""
        if self._watchdog:
            self._watchdog.end(why)

    @staticmethod
    def _forget(conn: Any) -> None:
        """What Buildbot does when a connection ends whose login succeeded, and only then."""
        if conn.mind is not None:
            conn.detached(conn.mind)

    async def _turn_away(self, conn: Any, why: str) -> None:
        """Refuse to attach: to the pipeline the worker is not there; its page, its own log and what waits for it say
        why."""
        self.refused = why
        log.msg(f"worker {self.name!r} is not used: {why}")
        version = f"{conn.info.get('version')}, not used: {why}"
        info = {key: conn.info.get(key) for key in ("admin", "host", "access_uri")} | {"version": version}
        updates, who = self.master.data.updates, {"workerid": self.workerid, "masterid": self.master.masterid}
        await updates.workerConnected(**who, workerinfo=info)
        await updates.workerDisconnected(**who)
        self._forget(conn)
        self.turned_away(why)
        raise NotUsed(why)

    def turned_away(self, why: str) -> None:
        """Told that it was not let in, and why."""


class FleetWorker(FleetMember, Worker):
    """A worker host that connects by itself."""


def configured_workers(settings: Settings, basedir: Path) -> list[AbstractWorker]:
    """The settings' workers, and the one inside the master.

    Passwords are read here, not by Buildbot's provider: that one looks at its folder once, and would not know the
    password of a worker that is added while the master runs. Raises :class:`SecretUnreadable`.
    """
    fleet = [_configured(settings, name, worker, basedir) for name, worker in settings.workers.items()]
    return [*fleet, LocalWorker(LOCAL, max_builds=_LOCAL_BUILDS)]


def _configured(settings: Settings, name: str, worker: WorkerSettings, basedir: Path) -> AbstractWorker:
    known: dict[str, Any] = {
        "max_builds": worker.max_builds,
        "patience": settings.scheduling.worker_timeout,
        "properties": {"worker_trust": worker.trust, "worker_os": worker.os},
    }
    if worker.container:
        from master.latent_workers import ContainerWorker  # noqa: PLC0415 - most fleets have none, and docker's SDK is large

        tls = settings.artifacts.tls
        return ContainerWorker(
            name, container=worker.container, settings=settings.master, basedir=basedir, artifacts_tls=tls, **known
        )
    return FleetWorker(name, read_secret(basedir / SECRETS, password_name(name)), **known)
