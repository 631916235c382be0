"""Notices a worker that hangs, or whose host or network is gone without a word.

TCP tells of such an end after a quarter of an hour or never, and Buildbot asks once an hour. Here a worker is asked
often, and its connection is ended when it neither answers nor says anything else: Buildbot then takes its builds for
lost, as with a worker that was killed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import defer
from twisted.internet.task import LoopingCall
from twisted.python import log

ROUNDS = 4  #: so many questions in a row a worker may leave open


class Watchdog:
    """Watches one connection.

    Silence is counted in rounds, not by the clock: a master that was busy, or was stopped for a while, has then asked
    less often, and blames nobody.

    Args:
        name: of the worker.
        broker: the connection.
        ask: asks the worker something; fires with any answer.
        patience: how long a worker may be silent, in seconds.
        clock: the reactor.
    """

    def __init__(
        self, name: str, broker: Any, ask: Callable[[], defer.Deferred[Any]], patience: float, clock: Any
    ) -> None:
        self.name = name
        self._broker = broker
        self._ask = ask
        self._asked = False  # and not answered so far
        self._silent = 0  # rounds
        self._patience = patience
        self._rounds = LoopingCall(self._round)
        self._rounds.clock = clock

    def start(self) -> None:
        self._rounds.start(self._patience / ROUNDS, now=True)

    def stop(self) -> None:
        if self._rounds.running:
            self._rounds.stop()

    def heard(self) -> None:
        """The worker has given a sign of life."""
        self._silent = 0

    def _round(self) -> None:
        if self._broker.disconnected:
            self.stop()
        elif self._silent >= ROUNDS:
            self.end(f"it has given no sign of life for {self._patience:g} s (worker_timeout)")
        else:
            self._silent += 1
            if not self._asked:  # one question is enough: an answer may stand in line behind a long log
                self._asked = True
                defer.maybeDeferred(self._ask).addBoth(self._answered)

    def _answered(self, _answer: object) -> None:
        self._asked = False
        self.heard()

    def end(self, why: str) -> None:
        """End the connection at once, also when nobody is there to say goodbye to."""
        self.stop()
        if not self._broker.disconnected:
            log.msg(f"the connection of worker {self.name!r} is ended: {why}")
            self._broker.transport.abortConnection()
