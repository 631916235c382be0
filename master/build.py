"""A build that ends whatever becomes of its worker, that a stopping master leaves for later, and that has its GPUs from
before its first step to its end."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from buildbot.process.build import Build
from buildbot.process.results import CANCELLED, RETRY, SUCCESS, WARNINGS
from twisted.internet import defer
from twisted.python import log

from master.gate import Gate
from master.leases import Leases
from steps.classify import FailureClass
from steps.devices import GPUS
from steps.gpu import FAILED


class ResumableBuild(Build):
    """Mends three ends of Buildbot's builds.

    Buildbot stops running builds as RETRY when it shuts down, but the step that it interrupts ends as CANCELLED, which
    is the worse of the two and wins: the request would be complete, and nobody would run it again (buildbot#6029).

    A build whose worker leaves while it is being prepared fails on the worker that is no more, and never ends: its
    request would stay claimed until the master's end.

    A build whose request is cancelled while it is being prepared is stopped before it has a step that could end it
    (``Build.startBuild`` returns after ``stopBuild``): request and worker would stay taken until the master's end.

    ``gate`` knows which GPUs were reserved for it.
    """

    results: int
    _put_off = False
    _leases: Leases = ()

    def __init__(self, requests: Any, builder: Any, *, gate: Gate) -> None:
        super().__init__(requests, builder)
        self.gate = gate

    @defer.inlineCallbacks
    def startBuild(self, workerforbuilder: Any) -> Generator[Any, Any, None]:
        """Buildbot's hook: prepare and begin."""
        try:
            self._leases = self.gate.begin(self.requests[0].id, workerforbuilder.worker.workername)
            if self._leases:
                self.setProperty(GPUS, [lease.as_property() for lease in self._leases], "Lease")
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
                self._give_back(RETRY)
                self.builder.building.remove(self)
                if workerforbuilder.worker:  # else its leaving has freed it
                    workerforbuilder.buildFinished()
                yield self.master.data.updates.unclaimBuildRequests([request.id for request in self.requests])

    @defer.inlineCallbacks
    def buildPreparationFailure(self, why: Any, state_string: str) -> Generator[Any, Any, None]:
        """Buildbot's hook: it was not prepared. Where the worker says why, that is the attempt's reason."""
        if reason := getattr(getattr(why, "value", None), "reason", ""):
            self.setProperty("failure_class", FailureClass.INFRASTRUCTURE.value, "worker")
            self.setProperty("failure_reason", str(reason), "worker")
            yield self.master.data.updates.setBuildProperties(self.buildid, self)
        yield super().buildPreparationFailure(why, state_string)

    def stopBuild(self, reason: str = "<no reason given>", results: int = CANCELLED) -> Any:
        """Buildbot's hook: a shutdown asks for RETRY, everybody else for CANCELLED."""
        self._put_off = self._put_off or results == RETRY
        return super().stopBuild(reason, results)

    def buildFinished(self, text: list[str], results: int) -> Any:
        """Buildbot's hook: the end, whatever brought it."""
        if self._put_off and CANCELLED in (results, self.results):
            self.results = results = RETRY
        self._give_back(results)
        return super().buildFinished(text, results)

    def _give_back(self, results: int) -> None:
        found = self.getProperty(FAILED)
        faulty = found if isinstance(found, dict) else {}
        self.gate.end(self.requests[0].id, self._leases, good=results in (SUCCESS, WARNINGS), faulty=faulty)
        self._leases = ()
