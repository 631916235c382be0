"""The port for workers on other hosts: TLS, and behind it the same login as on the plain port.

Buildbot opens one plain port for its workers; it stays on the loopback interface. Here is a second door to the same
hall: what gets through TLS is handed to the factory behind Buildbot's port. What does not is refused before a
single byte of it is interpreted, and the log says who and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from buildbot.util.service import BuildbotService
from buildbot.util.twisted import async_to_deferred
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.internet import defer
from twisted.internet.interfaces import IHandshakeListener, IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import LoopingCall
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python import log
from twisted.python.failure import Failure
from zope.interface import implementer

from master import tls
from master.settings_models import MasterSettings

HANDSHAKE_S = 10.0  #: so long may a connection take to get through TLS
_RENEWAL_S = 12 * 3600.0
_OTHER_NAME = "the worker refused this master's certificate, most likely for its names (worker_host)"
_SAID = (  # (part of what OpenSSL says, what it means here)
    ("unknown ca", "the worker does not trust this master's certificate authority: make it join with a new bundle"),
    ("certificate expired", "to the worker, this master's certificate has expired: compare the clocks"),
    ("certificate unknown", _OTHER_NAME),
    ("bad certificate", _OTHER_NAME),
    ("alert internal error", _OTHER_NAME),  # OpenSSL has no alert for a name, and this is what it sends
    ("wrong version number", "it does not speak TLS"),
    ("http request", "it does not speak TLS, but plain HTTP"),
    ("unsupported protocol", "it speaks only TLS older than 1.2"),
)


def server_options(chain: tls.Chain) -> CertificateOptions:
    """TLS 1.2 and newer with these certificates.

    Raises:
        OSError, ValueError: they cannot be read.
    """
    found = [
        crypto.X509.from_cryptography(one) for one in x509.load_pem_x509_certificates(chain.certificate.read_bytes())
    ]
    key: Any = load_pem_private_key(chain.key.read_bytes(), None)
    return CertificateOptions(
        privateKey=crypto.PKey.from_cryptography_key(key), certificate=found[0], extraCertChain=found[1:]
    )


def chain_for(master: MasterSettings, basedir: Path) -> tls.Chain:
    """The certificates that the settings name, or our own.

    Raises:
        TlsUnusable: they cannot be used.
    """
    if master.worker_certificate:
        ca = basedir / master.worker_ca if master.worker_ca else None
        return tls.given(basedir / master.worker_certificate, basedir / master.worker_key, ca)
    return tls.own(basedir / tls.FOLDER, master.worker_host)


class TlsPort(BuildbotService):
    """Listens for workers on other hosts. Certificates of our own are renewed in time, without a new start.

    Args:
        settings: where to listen, for which names, with which certificates.
    """

    name = "worker-tls"

    def __init__(self, **arguments: Any) -> None:
        super().__init__(name=self.name, **arguments)
        self._open: Any = None
        self._where: tuple[str, int] | None = None
        self._credentials = _Credentials()
        self._renewing = LoopingCall(self._renew)

    @async_to_deferred
    async def reconfigService(self, *, settings: MasterSettings) -> None:
        self._settings = settings
        self._load()
        where = (settings.worker_listen, settings.worker_port)
        if self._where != where:
            await self._close()
            credentials, hall = cast(Any, self._credentials), cast(Any, _Door(self.master))
            door = TLSMemoryBIOFactory(credentials, False, hall)
            self._open = self.master.reactor.listenTCP(where[1], door, interface=where[0])
            self._where = where
            log.msg(f"workers on other hosts: TLS on {where[0]} port {where[1]}, for {', '.join(settings.worker_host)}")
        if not self._renewing.running:
            self._renewing.start(_RENEWAL_S, now=False)

    @async_to_deferred
    async def stopService(self) -> None:
        if self._renewing.running:
            self._renewing.stop()
        await self._close()
        await super().stopService()

    async def _close(self) -> None:
        if self._open is not None:
            await defer.maybeDeferred(self._open.stopListening)
        self._open = self._where = None

    def _load(self) -> None:
        self._credentials.options = server_options(chain_for(self._settings, Path(self.master.basedir)))

    def _renew(self) -> None:
        try:
            self._load()
        except Exception:  # the next look may find it mended; until then the old ones serve
            log.err(None, "the certificates for workers could not be renewed")


@implementer(IOpenSSLServerConnectionCreator)
class _Credentials:
    """What new connections are shown; replaced when certificates are renewed."""

    options: CertificateOptions

    def serverConnectionForTLS(self, _protocol: object) -> SSL.Connection:
        return SSL.Connection(self.options.getContext(), None)


@implementer(IHandshakeListener)
class _Visitor(ProtocolWrapper):
    """A connection: nothing to Buildbot until it got through TLS."""

    transport: Any
    through = False

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.connected = 1
        self.peer = transport.getPeer()
        self.timer = self.factory.reactor.callLater(HANDSHAKE_S, self._too_slow)
        self.slow = False

    def handshakeCompleted(self) -> None:
        self.timer.cancel()
        self.through = True
        ProtocolWrapper.makeConnection(self, self.transport)

    def _too_slow(self) -> None:
        self.slow = True
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.through:
            ProtocolWrapper.connectionLost(self, reason)
            return
        if self.timer.active():
            self.timer.cancel()
        said = f"it said nothing of TLS for {HANDSHAKE_S:g} s" if self.slow else meaning(reason)
        log.msg(f"refused a worker's connection from {self.peer.host} port {self.peer.port}: {said}")


class _Nobody(Protocol):
    """Without a configured worker there is nobody to let in."""

    def connectionMade(self) -> None:
        cast(Any, self.transport).loseConnection()


class _Door(WrappingFactory[Any]):
    """Hands connections to the factory behind Buildbot's own port, whichever that is just now."""

    protocol: Any = _Visitor
    noisy = False

    def __init__(self, master: Any) -> None:
        super().__init__(cast(Any, Factory()))  # type: ignore[no-untyped-call]
        self.master = master
        self.reactor = master.reactor

    def buildProtocol(self, addr: Any) -> Any:
        for dispatcher in self.master.pbmanager.dispatchers.values():
            return self.protocol(self, dispatcher.serverFactory.buildProtocol(addr))
        return self.protocol(self, _Nobody())


def meaning(reason: Failure) -> str:
    """Why a connection did not get through TLS, for whoever reads the log."""
    if not isinstance(reason.value, SSL.Error):
        return "it was broken off before TLS was agreed on; the worker's own log says why"
    details: Sequence[Any] = reason.value.args[0] if reason.value.args else []
    text = "; ".join(part[-1] for part in details if part) if isinstance(details, list) else str(details)
    said = next((said for part, said in _SAID if part in text.lower()), "")
    return f"{said} ({text})" if said else f"TLS failed: {text or 'no reason given'}"
