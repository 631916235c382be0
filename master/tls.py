"""Certificates for the workers' port: an own authority made on first use, or certificates that were given.

In the master's folder ``tls/`` (not in ``secrets/``, whose files any stage may name):

| file | holds |
|---|---|
| ``ca-key.pem`` | the authority's key; whoever has it can play the master to every worker |
| ``ca.pem`` | its certificate: what workers trust, and nothing else |
| ``server-key.pem``, ``server.pem`` | what the master shows them, for the names in ``master.worker_host`` |

Every file is readable by its owner alone, and belongs to whom the master's folder belongs.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from master.errors import UserError

FOLDER = "tls"
AUTHORITY = "ca.pem"  #: in the folder: what workers trust
CA_LIFE = timedelta(days=10 * 365)
SERVER_LIFE = timedelta(days=90)
RENEWED = timedelta(days=30)  #: so long before its end a server certificate is replaced
_SKEW = timedelta(hours=1)  # a worker's clock may be behind


class TlsUnusable(UserError):
    """The certificates for the workers' port cannot be used, or cannot be made."""

    exit_code = 7


@dataclass(frozen=True, kw_only=True)
class Chain:
    """What the master shows to workers. ``ca`` is what they trust; ``None``: what their system trusts."""

    certificate: Path
    key: Path
    ca: Path | None


def own(folder: Path, hosts: Sequence[str], now: datetime | None = None) -> Chain:
    """Certificates by our own authority; made, or made anew, when they are missing, near their end, or for other
    names than ``hosts``.

    Raises:
        TlsUnusable: the folder cannot be written, or what is in it cannot be used.
    """
    now = now or datetime.now(UTC)
    chain = Chain(certificate=folder / "server.pem", key=folder / "server-key.pem", ca=folder / AUTHORITY)
    try:
        with _locked(folder):
            authority, authority_key = _authority(folder, now)
            if not _fits(chain, authority, hosts, now):
                key = ec.generate_private_key(ec.SECP256R1())
                certificate = _server(authority, authority_key, key.public_key(), hosts, now)
                write_private(chain.key, _pem(key))
                write_private(chain.certificate, certificate.public_bytes(serialization.Encoding.PEM))
    except OSError as error:
        raise TlsUnusable(f"{folder} cannot be used: {error}", "run it as the master's user, or as root") from None
    return chain


def given(certificate: Path, key: Path, ca: Path | None, now: datetime | None = None) -> Chain:
    """Certificates that somebody else made.

    Raises:
        TlsUnusable: missing, unreadable, expired, a key that others can read or that belongs to another certificate.
    """
    found = _certificates(certificate)[0]
    mode = _stat(key).st_mode
    if mode & 0o077:
        raise TlsUnusable(f"{key} can be read by others", f"chmod 600 {key}")
    if _public(_key(key)) != _public(found):
        raise TlsUnusable(f"{key} is not the key of {certificate}", "give the pair that belongs together")
    now = now or datetime.now(UTC)
    if not found.not_valid_before_utc <= now <= found.not_valid_after_utc:
        valid = f"from {found.not_valid_before_utc:%Y-%m-%d} to {found.not_valid_after_utc:%Y-%m-%d}"
        raise TlsUnusable(f"{certificate} is valid {valid} only", "put a valid one in its place")
    if ca is not None:
        _certificates(ca)
    return Chain(certificate=certificate, key=key, ca=ca)


def names(certificate: x509.Certificate) -> set[str]:
    """The host names and addresses that a certificate is for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))}


def _authority(folder: Path, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate, key = folder / AUTHORITY, folder / "ca-key.pem"
    again = f"delete {certificate} and {key} for a new authority, then give every worker a new bundle"
    if not certificate.exists() and not key.exists():
        made = ec.generate_private_key(ec.SECP256R1())
        write_private(key, _pem(made))
        write_private(certificate, _root(made, now).public_bytes(serialization.Encoding.PEM))
    if not (certificate.exists() and key.exists()):
        raise TlsUnusable(f"of {certificate} and {key}, one is missing", f"put it back from a backup, or {again}")
    found, found_key = _certificates(certificate)[0], _key(key)
    if _public(found) != _public(found_key):
        raise TlsUnusable(f"{key} is not the key of {certificate}", again)
    if found.not_valid_after_utc <= now:
        raise TlsUnusable(f"{certificate} expired on {found.not_valid_after_utc:%Y-%m-%d}", again)
    return found, found_key


def _root(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"mlc-ci workers {now:%Y-%m-%d}")])
    usage = _usage(digital_signature=False, key_cert_sign=True, crl_sign=True)
    return (
        x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _server(
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    public: ec.EllipticCurvePublicKey,
    hosts: Sequence[str],
    now: datetime,
) -> x509.Certificate:
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    return (
        x509.CertificateBuilder(issuer_name=authority.subject, public_key=public)
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mlc-ci master")]))
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(min(now + SERVER_LIFE, authority.not_valid_after_utc))
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True, key_cert_sign=False, crl_sign=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(issuer, critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def _fits(chain: Chain, authority: x509.Certificate, hosts: Sequence[str], now: datetime) -> bool:
    """Whether the server certificate that is there will do."""
    if not (chain.certificate.exists() and chain.key.exists()):
        return False
    try:
        found, key = _certificates(chain.certificate)[0], _key(chain.key)
        found.verify_directly_issued_by(authority)
    except Exception:  # whatever is wrong with it: it is made anew
        return False
    fresh = found.not_valid_after_utc - now > min(RENEWED, authority.not_valid_after_utc - now - _SKEW)
    return fresh and _public(found) == _public(key) and names(found) == {_normal(host) for host in hosts}


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(_normal(host))


def _normal(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower()


def _usage(*, digital_signature: bool, key_cert_sign: bool, crl_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise TlsUnusable(f"no certificate can be read from {path}: {error}", "it must hold PEM") from None


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    """A private key; of any kind, of which only what all kinds have is used unless it is our own."""
    try:
        return serialization.load_pem_private_key(path.read_bytes(), None)  # type: ignore[return-value]
    except (OSError, ValueError, TypeError) as error:
        raise TlsUnusable(f"no key can be read from {path}: {error}", "it must hold PEM, without a password") from None


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise TlsUnusable(f"{path} cannot be read: {error.strerror}") from None


def _public(holder: x509.Certificate | ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return holder.public_key().public_bytes(serialization.Encoding.DER, form)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The folder, made when it is not there, to ourselves: the master and ``mlc-ci worker add`` may both be first."""
    folder.mkdir(mode=0o700, exist_ok=True)
    give(folder, folder.parent)
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def write_private(path: Path, content: bytes) -> None:
    """A file for the owner of its folder alone, whole or not at all."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    give(fresh, path.parent)
    fresh.replace(path)


def give(path: Path, like: Path) -> None:
    """As root: to whom ``like`` belongs, who must be able to read it."""
    if os.geteuid() == 0:
        owner = like.stat()
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
