"""The Buildbot worker itself: attached to its master for ever, quick on the wire, and quick to notice a dead one."""

from __future__ import annotations

import sys
from typing import Any

from buildbot_worker.base import WorkerBase
from buildbot_worker.pb import BotFactory, BotPb, Worker
from twisted.application.internet import ClientService, backoffPolicy
from twisted.cred import credentials, error
from twisted.internet import reactor
from twisted.python import log
from twisted.python.failure import Failure
from twisted.spread import pb

from workers.errors import ToolError
from workers.probe.timer import ProbeTimer
from workers.start import WorkerConfig
from workers.wire import MasterEndpoint, quicken

_KEEPALIVE = 30  # seconds between two signs of life
_retry = backoffPolicy(initialDelay=0.5, maxDelay=8.0, factor=1.6)  # plus up to a second at random


class _Connection(BotFactory):
    def gotPerspective(self, perspective: Any) -> None:
        quicken(perspective.broker.transport)
        self._failedAttempts = 0
        super().gotPerspective(perspective)

    def failedToGetPerspective(self, why: Failure, broker: Any) -> Any:
        if why.check(error.UnauthorizedLogin):
            log.msg("the master does not know this worker, or not this password: look at worker.json and password")
        elif not why.check(pb.PBConnectionLost):
            # Stock stops the worker here; a master that is just starting or stopping is no reason to.
            log.msg(f"the master refused this worker: {why.getErrorMessage()}")
            why = Failure(pb.PBConnectionLost())
        return super().failedToGetPerspective(why, broker)


class AttachedWorker(Worker):
    """A worker whose connection is :class:`_Connection`: the stock class leaves no place to say so."""

    def __init__(self, config: WorkerConfig) -> None:
        WorkerBase.__init__(self, config.name, str(config.directory), BotPb, umask=0o022)
        self.numcpus = None
        self.shutdown_loop = None
        self.allow_shutdown = None
        self.bf = _Connection(None, None, _KEEPALIVE, None, retryPolicy=_retry)
        login = credentials.UsernamePassword(config.name.encode(), config.password.encode())
        self.bf.startLogin(login, client=self.bot)
        endpoint: Any = MasterEndpoint(config.host, config.port, tls=config.tls, ca=config.ca)
        self.addService(ClientService(endpoint, self.bf, retryPolicy=_retry))


def run(config: WorkerConfig) -> int:
    """Until a signal or the master ends it."""
    log.startLogging(sys.stdout, setStdout=False)
    try:
        worker = AttachedWorker(config)
    except ToolError as wrong:
        print(f"mlc-ci-worker start: error: {wrong}", file=sys.stderr, flush=True)
        return wrong.exit_code
    worker.addService(ProbeTimer(config.directory))
    running: Any = reactor
    running.callWhenRunning(worker.startService)
    running.addSystemEventTrigger("before", "shutdown", worker.stopService)
    running.run()
    return 0
