"""A build that ends whatever becomes of its worker, and that a stopping master leaves for later."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from buildbot.process.build import Build
from buildbot.process.results import CANCELLED, RETRY
from twisted.internet import defer
from twisted.python import log


class ResumableBuild(Build):
    """Mends three ends of Buildbot's builds.

    Buildbot stops running builds as RETRY when it shuts down, but the step that it interrupts ends as CANCELLED, which
    is the worse of the two and wins: the request would be complete, and nobody would run it again (buildbot#6029).

    A build whose worker leaves while it is being prepared fails on the worker that is no more, and never ends: its
    request would stay claimed until the master's end.

    A build whose request is cancelled while it is being prepared is stopped before it has a step that could end it
    (``Build.startBuild`` returns after ``stopBuild``): request and worker would stay taken until the master's end.
    """

    results: int
    _put_off = False

    @defer.inlineCallbacks
    def startBuild(self, workerforbuilder: Any) -> Generator[Any, Any, None]:
        """Buildbot's hook: prepare and begin."""
        try:
            yield super().startBuild(workerforbuilder)
            if self.stopped and not self.finished and not self.executedSteps:
                yield self.buildFinished(["cancelled"], self.results)
        except Exception:
            log.err(None, f"{self} could not be prepared (has its worker left?); its request is queued again")
            if self.finished:
                return
            if self.buildid is not None:
                yield self.buildFinished(["worker", "lost"], RETRY)
            else:
                self.builder.building.remove(self)
                if workerforbuilder.worker:  # else its leaving has freed it
                    workerforbuilder.buildFinished()
                yield self.master.data.updates.unclaimBuildRequests([request.id for request in self.requests])

    def stopBuild(self, reason: str = "<no reason given>", results: int = CANCELLED) -> Any:
        """Buildbot's hook: a shutdown asks for RETRY, everybody else for CANCELLED."""
        self._put_off = self._put_off or results == RETRY
        return super().stopBuild(reason, results)

    def buildFinished(self, text: list[str], results: int) -> Any:
        """Buildbot's hook: the end, whatever brought it."""
        if self._put_off and CANCELLED in (results, self.results):
            self.results = results = RETRY
        return super().buildFinished(text, results)
