"""The Buildbot worker itself: attached to its master for ever, quick on the wire, and quick to notice a dead one."""

from __future__ import annotations

import sys
from pathlib import Path
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
from workers.info import tidied
from workers.probe.timer import ProbeTimer
from workers.start import WorkerConfig
from workers.wire import MasterEndpoint, quicken

_KEEPALIVE = 30  # seconds between two signs of life
_REACHED_IN = 30  # seconds: so long a worker that connects once tries to reach its master
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


class _OnlyConnection(_Connection):
    """Ends the worker when it ends, and when there is none in time."""

    exit_code = 2  #: of the worker: it is not started again
    over = False
    timer: Any = None

    def __init__(self, password: Path, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.password = password

    def await_master(self) -> None:
        self.timer = _reactor().callLater(_REACHED_IN, self.end, 2, f"the master was not reached in {_REACHED_IN} s")

    def gotPerspective(self, perspective: Any) -> None:
        if self.timer.active():
            self.timer.cancel()
        self.password.unlink(missing_ok=True)  # the master takes it once; no build shall find it
        perspective.broker.notifyOnDisconnect(lambda: self.end(0, "its one connection has ended"))
        super().gotPerspective(perspective)

    def failedToGetPerspective(self, why: Failure, broker: Any) -> Any:
        done = super().failedToGetPerspective(why, broker)
        if why.check(error.UnauthorizedLogin):
            self.end(2, "the master did not let it in")
        return done

    def end(self, code: int, why: str) -> None:
        if not self.over:
            self.over, self.exit_code = True, code
            log.msg(f"this worker ends: {why}")
            _reactor().stop()


def _reactor() -> Any:
    return reactor


class _Bot(BotPb):
    """Buildbot's, which sends all that lies in ``info/``: when it attaches, and when it is asked again."""

    def remote_getWorkerInfo(self) -> Any:
        tidied(Path(self.basedir))
        return super().remote_getWorkerInfo()


class AttachedWorker(Worker):
    """A worker whose connection is :class:`_Connection`: the stock class leaves no place to say so."""

    def __init__(self, config: WorkerConfig) -> None:
        WorkerBase.__init__(self, config.name, str(config.directory), _Bot, umask=0o022)
        self.numcpus = None
        self.shutdown_loop = None
        self.allow_shutdown = None
        how: tuple[Any, ...] = (None, None, _KEEPALIVE, None)
        self.only = _OnlyConnection(config.directory / "password", *how, retryPolicy=_retry) if config.once else None
        self.bf = self.only or _Connection(*how, retryPolicy=_retry)
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
    if not config.once:  # else the master has asked the image before, and of a GPU a build sees its own only
        worker.addService(ProbeTimer(config.directory))
    running = _reactor()
    if worker.only:
        running.callWhenRunning(worker.only.await_master)
    running.callWhenRunning(worker.startService)
    running.addSystemEventTrigger("before", "shutdown", worker.stopService)
    running.run()
    return worker.only.exit_code if worker.only and worker.only.over else 0
