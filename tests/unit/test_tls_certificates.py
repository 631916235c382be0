"""The certificates for the workers' port: made, kept, renewed, refused."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL

from master import tls
from master.worker_port import server_options

NOW = datetime(2026, 11, 24, tzinfo=UTC)
HOSTS = ["CI.example.org", "10.1.2.3", "fd00::1"]


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tls"


def test_the_first_use_makes_an_authority_and_a_certificate_for_the_hosts(folder: Path) -> None:
    chain = tls.own(folder, HOSTS, NOW)
    assert chain.ca
    server, authority = certificate(chain.certificate), certificate(chain.ca)
    server.verify_directly_issued_by(authority)
    assert tls.names(server) == {"ci.example.org", "10.1.2.3", "fd00::1"}
    assert server.not_valid_after_utc - NOW == tls.SERVER_LIFE
    assert authority.not_valid_after_utc - NOW == tls.CA_LIFE
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not server.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_nobody_else_can_read_any_of_it(folder: Path) -> None:
    old = os.umask(0)
    try:
        tls.own(folder, HOSTS, NOW)
    finally:
        os.umask(old)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_what_root_makes_belongs_to_the_masters_user(folder: Path) -> None:
    os.chown(folder.parent, 61184, 61184)
    tls.own(folder, HOSTS, NOW)
    assert {path.stat().st_uid for path in (folder, *folder.iterdir())} == {61184}


@pytest.mark.parametrize("host_order", [HOSTS, HOSTS[::-1], ["ci.EXAMPLE.org", *HOSTS[1:]]])
def test_what_will_do_is_kept(folder: Path, host_order: list[str]) -> None:
    tls.own(folder, HOSTS, NOW)
    before = contents(folder)
    tls.own(folder, host_order, NOW + tls.SERVER_LIFE - tls.RENEWED - timedelta(minutes=1))
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("hosts", "later"),
    [
        (HOSTS, tls.SERVER_LIFE - tls.RENEWED + timedelta(minutes=1)),
        (HOSTS, tls.SERVER_LIFE + timedelta(days=400)),
        ([*HOSTS, "other"], timedelta(0)),
        (HOSTS[:1], timedelta(0)),
    ],
)
def test_near_its_end_or_for_other_names_the_certificate_is_made_anew_by_the_same_authority(
    folder: Path, hosts: list[str], later: timedelta
) -> None:
    tls.own(folder, HOSTS, NOW)
    before = contents(folder)
    chain = tls.own(folder, hosts, NOW + later)
    after = contents(folder)
    assert before["ca.pem"] == after["ca.pem"]
    assert before["server.pem"] != after["server.pem"]
    assert len(tls.names(certificate(chain.certificate))) == len(hosts)


def test_a_damaged_server_certificate_is_made_anew(folder: Path) -> None:
    chain = tls.own(folder, HOSTS, NOW)
    chain.certificate.write_text("half a cert")
    certificate(tls.own(folder, HOSTS, NOW).certificate)


def test_no_certificate_outlives_its_authority(folder: Path) -> None:
    tls.own(folder, HOSTS, NOW)
    late = NOW + tls.CA_LIFE - timedelta(days=10)
    chain = tls.own(folder, HOSTS, late)
    assert certificate(chain.certificate).not_valid_after_utc == NOW + tls.CA_LIFE
    before = contents(folder)
    tls.own(folder, HOSTS, late + timedelta(days=1))
    assert contents(folder) == before
    with pytest.raises(tls.TlsUnusable, match=r"ca\.pem expired on 2036"):
        tls.own(folder, HOSTS, NOW + tls.CA_LIFE + timedelta(days=1))


def test_half_an_authority_is_not_replaced_silently(folder: Path) -> None:
    tls.own(folder, HOSTS, NOW)
    (folder / "ca-key.pem").unlink()
    with pytest.raises(tls.TlsUnusable, match=r"one is missing[^$]*put it back from a backup"):
        tls.own(folder, HOSTS, NOW)


def test_an_authority_with_anothers_key_is_refused(folder: Path, tmp_path: Path) -> None:
    tls.own(folder, HOSTS, NOW)
    tls.own(tmp_path / "other", HOSTS, NOW)
    (folder / "ca-key.pem").write_bytes((tmp_path / "other" / "ca-key.pem").read_bytes())
    with pytest.raises(tls.TlsUnusable, match="is not the key of"):
        tls.own(folder, HOSTS, NOW)


def test_given_certificates_are_used_as_they_are(folder: Path) -> None:
    made = tls.own(folder, HOSTS, NOW)
    given = tls.given(made.certificate, made.key, None, NOW)
    assert (given.certificate, given.key, given.ca) == (made.certificate, made.key, None)


def _readable(folder: Path) -> None:
    (folder / "server-key.pem").chmod(0o640)


def _others_key(folder: Path) -> None:
    (folder / "server-key.pem").write_bytes((folder / "ca-key.pem").read_bytes())


def _no_pem(folder: Path) -> None:
    (folder / "server.pem").write_text("no PEM")


def _no_file(folder: Path) -> None:
    (folder / "server-key.pem").unlink()


def _encrypted(folder: Path) -> None:
    key: Any = serialization.load_pem_private_key((folder / "server-key.pem").read_bytes(), None)
    how = serialization.BestAvailableEncryption(b"secret")
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)
    (folder / "server-key.pem").write_bytes(pem)


@pytest.mark.parametrize(
    ("damage", "later", "reason"),
    [
        (_readable, timedelta(0), r"server-key\.pem can be read by others"),
        (_others_key, timedelta(0), r"is not the key of"),
        (_no_pem, timedelta(0), r"no certificate can be read from"),
        (_no_file, timedelta(0), r"server-key\.pem cannot be read"),
        (_encrypted, timedelta(0), r"no key can be read from"),
        (lambda _: None, tls.SERVER_LIFE + timedelta(days=1), r"valid from 2026-11-23 to 2027-02-22 only"),
        (lambda _: None, timedelta(days=-1), r"valid from 2026-11-23"),
    ],
)
def test_given_certificates_that_cannot_be_used_are_refused(
    folder: Path, damage: Any, later: timedelta, reason: str
) -> None:
    made = tls.own(folder, HOSTS, NOW)
    damage(folder)
    with pytest.raises(tls.TlsUnusable) as refused:
        tls.given(made.certificate, made.key, None, NOW + later)
    assert re.search(reason, str(refused.value))


def test_nothing_older_than_tls_1_2_is_spoken(folder: Path) -> None:
    context = server_options(tls.own(folder, HOSTS)).getContext()
    old = SSL.OP_NO_SSLv3 | SSL.OP_NO_TLSv1 | SSL.OP_NO_TLSv1_1
    assert context.set_options(0) & old == old
    assert not context.set_options(0) & (SSL.OP_NO_TLSv1_2 | SSL.OP_NO_TLSv1_3)
