"""Which request a builder starts next: of those that the gate lets start on a worker that is free now, the first in
line (:mod:`master.waiting_line`).

Buildbot's own chooser asks for each request in turn which of the free workers may run it. Where the free workers are
of one trust and the queue is of the other, that is every request times every worker, under the distributor's lock.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from buildbot.process.buildrequestdistributor import BasicBuildChooser
from twisted.internet import defer

from master.gate import Gate
from master.waiting_line import in_order


class PlannedChooser(BasicBuildChooser):
    """Buildbot's chooser, of the requests that can start.

    It stands in for the distributor's ``BuildChooser``, a class of its own for each distributor so that it can be.
    """

    def __init__(self, gate: Gate, builder: Any, master: Any) -> None:
        super().__init__(builder, master)
        self.gate = gate

    @defer.inlineCallbacks
    def _getNextUnclaimedBuildRequest(self) -> Generator[Any, Any, Any]:
        free = [*self.preferredWorkers, *self.workerpool] or self.bldr.getAvailableWorkers()
        names = {worker.worker.workername for worker in free}
        startable = self.gate.startable(self.bldr.name, names)
        if not startable:
            return None
        requests = yield self._fetchUnclaimedBrdicts()
        fitting = [request for request in requests if request["buildrequestid"] in startable]
        if not fitting:
            return None
        first = in_order(self.gate.tickets, [request["buildrequestid"] for request in fitting])[0]
        (row,) = (request for request in fitting if request["buildrequestid"] == first)
        chosen = yield self._getBuildRequestForBrdict(row)
        return chosen
