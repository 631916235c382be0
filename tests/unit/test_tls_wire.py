"""What a worker and a master say of a connection that did not come to be, each tried against a real socket."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from OpenSSL import SSL
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from master import tls
from master.worker_port import meaning
from workers.errors import UsageError
from workers.trust import Trust

CONNECT = """
import sys
from pathlib import Path
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.python import log
from workers.wire import MasterEndpoint

class Silent(Protocol):
    def connectionMade(self):
        print("through", flush=True)
        reactor.callLater(0.5, reactor.stop)

log.startLogging(sys.stdout, setStdout=False)
host, port, use_tls, ca = sys.argv[1:]
endpoint = MasterEndpoint(host, int(port), tls=use_tls == "tls", ca=Path(ca) if ca else None)
endpoint.connect(Factory.forProtocol(Silent)).addErrback(lambda why: reactor.stop())
reactor.callLater(10, reactor.stop)
reactor.run()
"""


def connect(host: str, port: int, how: str = "tls", ca: Path | str = "") -> str:
    command = [sys.executable, "-c", textwrap.dedent(CONNECT), host, str(port), how, str(ca)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port of the loopback interface, and what is done with the first connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            try:
                connection = server.accept()[0]
            except OSError:
                return
            with connection:
                serve(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(20)


def speaking_tls(chain: tls.Chain, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Callable[[socket.socket], None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = newest
    context.load_cert_chain(chain.certificate, chain.key)

    def serve(connection: socket.socket) -> None:
        try:
            with context.wrap_socket(connection, server_side=True) as secured:
                secured.recv(1)
        except OSError:
            pass

    return serve


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tls.Chain:
    return tls.own(tmp_path_factory.mktemp("ours") / "tls", ["127.0.0.1", "localhost"])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_worker_gets_through_to_the_master_it_trusts_by_every_name_of_it(chain: tls.Chain, host: str) -> None:
    assert chain.ca
    with listening(speaking_tls(chain)) as port:
        assert "through" in connect(host, port, ca=chain.ca)


def test_without_an_authority_it_trusts_what_its_system_trusts_and_that_is_not_us(chain: tls.Chain) -> None:
    with listening(speaking_tls(chain)) as port:
        said = connect("127.0.0.1", port)
    assert "is signed by an authority that this worker does not trust" in said
    assert "through" not in said


def test_a_name_that_the_certificate_does_not_have_is_refused(tmp_path: Path) -> None:
    other = tls.own(tmp_path / "tls", ["127.0.0.1", "ci.example.org"])
    assert other.ca
    with listening(speaking_tls(other)) as port:
        said = connect("localhost", port, ca=other.ca)
    assert f"the master at localhost:{port} cannot be reached: its certificate is not for 'localhost'" in said
    assert "through" not in said


@pytest.mark.parametrize(
    ("made", "why"), [(-tls.SERVER_LIFE - timedelta(days=1), "has expired"), (timedelta(days=1), "is not valid yet")]
)
def test_a_certificate_of_another_time_is_refused(tmp_path: Path, made: timedelta, why: str) -> None:
    other = tls.own(tmp_path / "tls", ["127.0.0.1"], datetime.now(UTC) + made)
    assert other.ca
    with listening(speaking_tls(other)) as port:
        said = connect("127.0.0.1", port, ca=other.ca)
    assert re.search(f"cannot be reached: (its certificate|the certificate of its authority) {why}", said)
    assert "through" not in said


def test_nothing_older_than_tls_1_2_is_accepted(chain: tls.Chain) -> None:
    assert chain.ca
    with listening(speaking_tls(chain, ssl.TLSVersion.TLSv1_1)) as port:
        said = connect("127.0.0.1", port, ca=chain.ca)
    assert "cannot be reached: TLS failed: " in said
    assert "through" not in said


def test_a_port_without_tls_is_called_that(chain: tls.Chain) -> None:
    assert chain.ca
    with listening(lambda connection: connection.sendall(b"\x02\x80\x02\x82pb\x04\x82none")) as port:
        said = connect("127.0.0.1", port, ca=chain.ca)
    assert f"the master at 127.0.0.1:{port} cannot be reached: it does not speak TLS on this port" in said
    assert "through" not in said


def test_a_plain_connection_that_is_closed_without_a_word_makes_one_think_of_tls() -> None:
    with listening(lambda connection: None) as port:
        said = connect("127.0.0.1", port, "plain")
    assert f"the master at 127.0.0.1:{port} closed the connection without a word: does its port want TLS?" in said


@pytest.mark.parametrize("content", ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_an_authority_that_is_none_is_said_at_once(tmp_path: Path, content: str) -> None:
    (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(UsageError, match=r"ca\.pem (holds no certificate|cannot be used)"):
        Trust("ci.example.org", tmp_path / "ca.pem")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SSL.Error([("SSL routines", "", "tlsv1 alert unknown ca")]), "does not trust this master's"),
        (SSL.Error([("SSL routines", "", "wrong version number")]), "it does not speak TLS (wrong version number)"),
        (SSL.Error([("SSL routines", "", "http request")]), "it does not speak TLS, but plain HTTP (http request)"),
        (SSL.Error([("SSL routines", "", "unsupported protocol")]), "older than 1.2"),
        (SSL.Error([("SSL routines", "", "no shared cipher")]), "TLS failed: no shared cipher"),
        (SSL.Error([]), "TLS failed: no reason given"),
        (SSL.Error(), "TLS failed: no reason given"),
        (ConnectionLost(), "it was broken off before TLS was agreed on"),
    ],
)
def test_the_master_says_what_a_failed_handshake_means(error: Exception, said: str) -> None:
    assert said in meaning(Failure(error))
