"""Tells who started the master which ports it got: settings may ask for any free one."""

from __future__ import annotations

import json
import os
from pathlib import Path

from buildbot.util.service import BuildbotService
from twisted.internet import defer
from twisted.internet.task import LoopingCall

from master.places import PORTS


class Announcement(BuildbotService):
    """Writes ``ports.json`` into the master's folder once the page and the workers' port are open:
    ``{"pid": …, "web": …, "worker": …}``. ``web_port`` is the page's port, 0 when it is any free one."""

    name = "announcement"

    def __init__(self, web_port: int) -> None:
        super().__init__(name=self.name)
        self._web = web_port
        self._looking = LoopingCall(self._look)

    def startService(self) -> defer.Deferred[None]:
        self._looking.start(0.1, now=False)
        started: defer.Deferred[None] = super().startService()
        return started

    def stopService(self) -> defer.Deferred[None]:
        if self._looking.running:
            self._looking.stop()
        stopped: defer.Deferred[None] = super().stopService()
        return stopped

    def _look(self) -> None:
        web, worker = self._web_port(), self._worker_port()
        if web and worker:
            self._looking.stop()
            path = Path(self.master.basedir) / PORTS
            fresh = path.with_suffix(".new")
            fresh.write_text(json.dumps({"pid": os.getpid(), "web": web, "worker": worker}))
            fresh.replace(path)

    def _web_port(self) -> int | None:
        if self._web:
            return self._web
        try:
            return int(self.master.www.getPortnum())  # knows the port of "any free one", once it is open
        except AttributeError:
            return None

    def _worker_port(self) -> int | None:
        for dispatcher in self.master.pbmanager.dispatchers.values():
            if dispatcher.port is not None:
                return int(dispatcher.port.getHost().port)
        return None
