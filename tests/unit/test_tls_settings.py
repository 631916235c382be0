"""Settings of the workers' port: nothing crosses a network in plain text, and every mistake is said."""

from __future__ import annotations

import pytest
from settings_sample import problem, read, usable

from master.configure import _plain_port


def master(*lines: str) -> str:
    return "\n".join(("[master]", *lines))


TLS = ('worker_listen = "0.0.0.0"', "worker_tls = true", 'worker_host = ["ci.example.org", "10.0.0.5", "fd00::5"]')


@pytest.mark.parametrize("listen", ["0.0.0.0", "::", "10.0.0.5", "ci.example.org"])  # noqa: S104
def test_beyond_loopback_there_must_be_tls(listen: str) -> None:
    found = problem(read(master(f'worker_listen = "{listen}"')), "master.worker_listen")
    assert (found.severity, found.found) == ("error", listen)
    assert "worker_tls = true" in found.allowed


def test_tls_beyond_loopback_is_fine() -> None:
    assert read(master(*TLS)).problems == []
    given = ('worker_certificate = "/etc/ci.pem"', 'worker_key = "/etc/ci.key"', 'worker_ca = "/etc/ca.pem"')
    assert read(master(*TLS, *given)).problems == []


@pytest.mark.parametrize(
    ("lines", "key", "message"),
    [
        (("worker_tls = true",), "master.worker_host", "must say whose it is"),
        ((*TLS, "worker_port = 0"), "master.worker_port", "must know the port"),
        ((*TLS, 'worker_certificate = "a.pem"'), "master.worker_key", "used with its key"),
        ((*TLS, 'worker_key = "a.pem"'), "master.worker_certificate", "used with its key"),
        ((*TLS, 'worker_ca = "a.pem"'), "master.worker_ca", "their own authority"),
        ((*TLS, "worker_local_port = 9989"), "master.worker_local_port", "cannot share a port with worker_port"),
        ((*TLS, "worker_local_port = 8010"), "master.worker_local_port", "cannot share a port with web_port"),
    ],
)
def test_what_does_not_go_together_is_refused(lines: tuple[str, ...], key: str, message: str) -> None:
    found = problem(read(master(*lines)), key)
    assert found.severity == "error"
    assert message in found.message


@pytest.mark.parametrize("host", ["ci.example.org:9989", "https://ci", "-ci", "10.0.0.256", "ci..org", "*"])
def test_a_host_is_a_name_or_an_address(host: str) -> None:
    found = problem(read(master("worker_tls = true", f'worker_host = ["{host}"]')), "master.worker_host")
    assert (found.message, found.found) == ("is no host", host)


def test_settings_for_tls_without_tls_are_worth_a_warning() -> None:
    found = problem(read(master('worker_host = ["ci.example.org"]')), "master.worker_host")
    assert (found.severity, found.message) == ("warning", "means nothing without worker_tls = true")


@pytest.mark.parametrize(
    ("lines", "port"),
    [
        ((), "tcp:9989:interface=127.0.0.1"),
        (('worker_listen = "::1"', "worker_port = 1"), r"tcp:1:interface=\:\:1"),
        (TLS, "tcp:0:interface=127.0.0.1"),
        ((*TLS, "worker_local_port = 9988"), "tcp:9988:interface=127.0.0.1"),
    ],
)
def test_the_plain_port_never_leaves_the_machine(lines: tuple[str, ...], port: str) -> None:
    assert _plain_port(usable(read(master(*lines))).master) == port
