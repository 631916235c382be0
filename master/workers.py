"""The workers as the master sees them."""

from __future__ import annotations

from typing import Any

from buildbot.plugins import util
from buildbot.util.twisted import async_to_deferred
from buildbot.worker import AbstractWorker, Worker
from buildbot.worker.local import LocalWorker

from master.places import password_name
from master.settings import Settings

LOCAL = "in-master"  #: the worker inside the master that serves ``local`` stages
_LOCAL_BUILDS = 10


class FleetWorker(Worker):
    """A worker host. Small messages go out at once: Nagle's algorithm against delayed acknowledgements costs
    40 ms for each message that a step sends."""

    @async_to_deferred
    async def attached(self, conn: Any) -> None:
        conn.mind.broker.transport.setTcpNoDelay(True)
        await super().attached(conn)


def configured_workers(settings: Settings) -> list[AbstractWorker]:
    """The settings' workers, and the one inside the master."""
    fleet: list[AbstractWorker] = [
        FleetWorker(
            name,
            util.Secret(password_name(name)),
            max_builds=worker.max_builds,
            properties={"worker_trust": worker.trust, "worker_os": worker.os},
        )
        for name, worker in settings.workers.items()
    ]
    return [*fleet, LocalWorker(LOCAL, max_builds=_LOCAL_BUILDS)]
