"""The way to the master: plain, or TLS with its certificate and name verified; and why there was none.

A connection is nothing to Buildbot until it got through TLS, so that neither a password nor a command ever
crosses one whose other end is not known.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from twisted.internet import defer, reactor
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python import log
from twisted.python.failure import Failure
from zope.interface import implementer

_TIMEOUT = 20  # seconds to connect, and again to get through TLS
_UNANSWERED = 60_000  # milliseconds until a host that acknowledges nothing counts as gone


class NoWay(Exception):
    """The master was reached, but not in a way that can be used."""


class MasterEndpoint:
    """Connects to the master; says in the log why it could not: the stock service retries without a word.

    Raises:
        UsageError: ``ca`` holds no certificate.
    """

    def __init__(self, host: str, port: int, *, tls: bool, ca: Path | None = None) -> None:
        self.where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.endpoint = HostnameEndpoint(reactor, host, port, timeout=_TIMEOUT)
        self.trust: Any = None
        if tls:
            from workers.trust import Trust  # noqa: PLC0415 - a plain worker needs no OpenSSL

            self.trust = Trust(host, ca)

    def connect(self, factory: Any) -> Any:
        return defer.ensureDeferred(self._connect(factory))

    async def _connect(self, factory: Any) -> Any:
        door: Any = WrappingFactory(factory)
        door.noisy = False
        try:
            if self.trust is None:
                door.protocol = lambda *given: _Plain(self.where, *given)
                return (await self.endpoint.connect(door)).wrappedProtocol
            door.protocol = _Secured
            visitor = (await self.endpoint.connect(self.trust.factory(door))).wrappedProtocol
            await visitor.ready
            return visitor.wrappedProtocol
        except defer.CancelledError:
            raise
        except Exception as error:
            said = self.trust.meaning(error) if self.trust else str(error)
            log.msg(f"the master at {self.where} cannot be reached: {said}")
            raise NoWay(said) from None


def quicken(transport: Any) -> None:
    """Small messages at once, and a dead host noticed: what lies between us and the socket passes both on."""
    # Nagle's algorithm against delayed acknowledgements costs 40 ms a round trip.
    transport.setTcpNoDelay(True)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNANSWERED)


class _Plain(ProtocolWrapper):
    """Notices a master that closes the connection without a word: its port may want TLS."""

    heard = False

    def __init__(self, where: str, factory: Any, wrapped: Any) -> None:
        super().__init__(factory, wrapped)
        self.where = where

    def dataReceived(self, data: bytes) -> None:
        self.heard = True
        ProtocolWrapper.dataReceived(self, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.heard and not self.disconnecting:
            log.msg(f"the master at {self.where} closed the connection without a word: does its port want TLS?")
        ProtocolWrapper.connectionLost(self, reason)


@implementer(IHandshakeListener)
class _Secured(ProtocolWrapper):
    """A connection: nothing to Buildbot until it got through TLS, which :attr:`ready` says."""

    transport: Any
    through = False

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.connected = 1
        self.ready: defer.Deferred[None] = defer.Deferred(lambda _: transport.abortConnection())
        running: Any = reactor
        self.timer = running.callLater(_TIMEOUT, self._too_slow)

    def handshakeCompleted(self) -> None:
        self.timer.cancel()
        self.through = True
        ProtocolWrapper.makeConnection(self, self.transport)
        self.ready.callback(None)

    def _too_slow(self) -> None:
        self.ready.errback(NoWay(f"it said nothing of TLS for {_TIMEOUT} s"))
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.through:
            ProtocolWrapper.connectionLost(self, reason)
            return
        if self.timer.active():
            self.timer.cancel()
        if not self.ready.called:
            self.ready.errback(reason)
