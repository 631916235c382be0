"""The Buildbot worker itself: attached to its master for ever, quick on the wire, and quick to notice a dead one."""

from __future__ import annotations

import socket
import sys
from typing import Any

from buildbot_worker.base import WorkerBase
from buildbot_worker.pb import BotFactory, BotPb, Worker
from twisted.application.internet import ClientService, backoffPolicy
from twisted.cred import credentials, error
from twisted.internet import reactor
from twisted.internet.endpoints import clientFromString
from twisted.python import log
from twisted.python.failure import Failure
from twisted.spread import pb

from workers.start import WorkerConfig

_KEEPALIVE = 30  # seconds between two signs of life …
_UNANSWERED = 60_000  # … and milliseconds until a host that acknowledges none of them counts as gone
_retry = backoffPolicy(initialDelay=0.5, maxDelay=8.0, factor=1.6)  # plus up to a second at random


class _Connection(BotFactory):
    def gotPerspective(self, perspective: Any) -> None:
        connection = perspective.broker.transport
        # Nagle's algorithm against delayed acknowledgements costs 40 ms a round trip.
        connection.setTcpNoDelay(True)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNANSWERED)
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


class _Endpoint:
    """Says why the master cannot be reached: the stock service retries without a word."""

    def __init__(self, host: str, port: int) -> None:
        self.where = f"{host}:{port}"
        escaped = host.replace(":", r"\:")
        self.endpoint = clientFromString(reactor, f"tcp:host={escaped}:port={port}:timeout=20")

    def connect(self, factory: Any) -> Any:
        def unreachable(why: Failure) -> Failure:
            log.msg(f"the master at {self.where} cannot be reached: {why.getErrorMessage()}")
            return why

        return self.endpoint.connect(factory).addErrback(unreachable)


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
        endpoint: Any = _Endpoint(config.host, config.port)
        self.addService(ClientService(endpoint, self.bf, retryPolicy=_retry))


def run(config: WorkerConfig) -> int:
    """Until a signal or the master ends it."""
    log.startLogging(sys.stdout, setStdout=False)
    worker = AttachedWorker(config)
    running: Any = reactor
    running.callWhenRunning(worker.startService)
    running.addSystemEventTrigger("before", "shutdown", worker.stopService)
    running.run()
    return 0
