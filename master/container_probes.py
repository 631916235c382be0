"""Asks the images of workers that are containers what they have, before there is a build for them.

Such a worker has no host of its own that could say so while nothing runs; and what a build's container sees of GPUs is
what that build was lent. So a container without a network says it, once for all workers whose containers are alike.
An image that is not there, or is no worker's, is known here before a build meets it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from buildbot.util.service import BuildbotService
from buildbot.util.twisted import async_to_deferred
from twisted.internet import defer, threads
from twisted.python import log

from master.calls import Calls
from master.containers import ContainerFailed, Containers, Owner
from master.latent_workers import LIFE
from master.places import site_id
from master.probe_facts import Unreadable
from master.probes import SERVICE as PROBES
from master.settings import Settings
from master.settings_containers import ContainerSettings
from workers.probe.facts import PERIOD

_AGAIN_S = 30.0  #: after a failure
_SOON_S = 0.5


class ContainerProbes(BuildbotService):
    """Tells :class:`master.probes.Probes` what the settings' containers have.

    Args:
        settings: whom to ask.
    """

    name = "container-probes"
    settings: Settings

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(name=self.name, **kwargs)
        self._calls = Calls()
        self._running = False
        self._asking: defer.Deferred[Any] | None = None

    def checkConfig(self, *, settings: Settings) -> None:
        """Nothing more than the settings' own checks."""

    @async_to_deferred
    async def reconfigService(self, *, settings: Settings) -> None:
        self.settings = settings
        self._running = True
        self._soon(0)

    @async_to_deferred
    async def stopService(self) -> None:
        self._running = False
        self._calls.call_all_off()
        if self._asking is not None:
            await self._asking
        await super().stopService()

    def _soon(self, seconds: float) -> None:
        if self._running:
            self._calls.call(self.master.reactor, "ask", seconds, self._ask)

    def _ask(self) -> None:
        if self._asking is None:
            self._asking = self._ask_all()
            self._asking.addErrback(self._failed).addBoth(self._asked)

    @staticmethod
    def _failed(why: Any) -> None:
        log.err(why, "while asking images what they have; trying again")

    def _asked(self, pause: Any) -> None:
        self._asking = None
        self._soon(pause if isinstance(pause, float) else _AGAIN_S)

    @async_to_deferred
    async def _ask_all(self) -> float:
        failed, probes = False, self.master.service_manager.namedServices.get(PROBES)
        if probes is None:  # the master is just starting
            return _SOON_S
        for container, names in self._alike():
            if not self._running:
                break
            owner = Owner(master=site_id(Path(self.master.basedir)), life=LIFE)
            said: str | Unreadable
            try:
                said = await threads.deferToThread(Containers(container, owner).probe, names[0])
            except ContainerFailed as why:
                failed, said = True, Unreadable(reason=f"cannot be started: {why.reason}")
            for name in names:
                probes.container_said(name, said)
        return _AGAIN_S if failed else float(PERIOD)

    def _alike(self) -> list[tuple[ContainerSettings, list[str]]]:
        """Workers by what their containers are made of."""
        found: list[tuple[ContainerSettings, list[str]]] = []
        for name, worker in self.settings.workers.items():
            if worker.container:
                names = next((names for made_of, names in found if made_of == worker.container), None)
                if names is None:
                    found.append((worker.container, [name]))
                else:
                    names.append(name)
        return found
