"""Whom a worker takes for its master: certificates verified, names too, and each refusal explained.

Twisted's own verification is as strict, but cannot say whether a certificate has expired or is a stranger's.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import Certificate, CertificateOptions, platformTrust, trustRootFromCertificates
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from workers.errors import UsageError

_WHY = {  # OpenSSL's verification errors that a reader can do something about
    9: "is not valid yet: compare the clocks",
    10: "has expired",
    18: "is signed by nobody that this worker trusts (ca.pem)",
    19: "is signed by an authority that this worker does not trust (ca.pem)",
    20: "is signed by an authority that this worker does not trust (ca.pem)",
    21: "is signed by an authority that this worker does not trust (ca.pem)",
}


@implementer(IOpenSSLClientConnectionCreator)
class Trust:
    """Verifies the master's certificate, for its name too, while TLS is agreed on.

    Args:
        host: what the certificate must be for.
        ca: PEM of whose certificates are trusted; ``None``: those that the system trusts.

    Raises:
        UsageError: ``ca`` holds no certificate.
    """

    def __init__(self, host: str, ca: Path | None) -> None:
        self.host = host
        self.refused = ""
        self.context = CertificateOptions(trustRoot=_root(ca)).getContext()  # TLS 1.2 and newer
        self.is_address = _is_address(host)

    def factory(self, wrapped: Any) -> TLSMemoryBIOFactory:
        """TLS around what another factory makes."""
        creator: Any = self
        return TLSMemoryBIOFactory(creator, True, wrapped)

    def clientConnectionForTLS(self, _protocol: object) -> SSL.Connection:
        self.refused = ""
        connection = SSL.Connection(self.context, None)
        if not self.is_address:
            connection.set_tlsext_host_name(self.host.encode("idna"))
        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._accepts)
        return connection

    def _accepts(self, _connection: object, certificate: crypto.X509, error: int, depth: int, ok: int) -> bool:
        """OpenSSL asks this about each certificate of the chain; anything but True ends the handshake."""
        if not ok:
            which = "its certificate" if depth == 0 else "the certificate of its authority"
            self.refused = f"{which} {_WHY.get(error, f'is not accepted (OpenSSL error {error})')}"
            return False
        if depth == 0:
            found: Any = certificate.to_cryptography()
            verify = verify_certificate_ip_address if self.is_address else verify_certificate_hostname
            try:
                verify(found, self.host)
            except (VerificationError, CertificateError):
                self.refused = f"its certificate is not for {self.host!r}"
                return False
        return True

    def meaning(self, error: Exception) -> str:
        """Why the connection failed, for whoever reads the log."""
        if self.refused:
            return self.refused
        if isinstance(error, SSL.Error):
            details = error.args[0] if error.args and isinstance(error.args[0], list) else []
            text = "; ".join(part[-1] for part in details)
            if "wrong version number" in text or "packet length too long" in text:
                return f"it does not speak TLS on this port ({text})"
            return f"TLS failed: {text or 'no reason given'}"
        return str(error)


def _root(ca: Path | None) -> Any:
    if ca is None:
        return platformTrust()
    try:
        pems = ca.read_text(encoding="ascii").split("-----END CERTIFICATE-----")[:-1]
        found = [Certificate.loadPEM(f"{pem}-----END CERTIFICATE-----\n".encode()) for pem in pems]
    except (OSError, ValueError, SSL.Error, crypto.Error) as error:
        raise UsageError(f"{ca} cannot be used: {error}") from error
    if not found:
        raise UsageError(f"{ca} holds no certificate")
    return trustRootFromCertificates(found)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
