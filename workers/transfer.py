"""HTTP to the artifact process, as a build does it: patient with the network, and with nobody's mistakes."""

from __future__ import annotations

import http.client
import json
import os
import random
import ssl
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from workers.errors import CodeError, InfrastructureError, UsageError

PATIENCE_S = 300.0  #: without a byte of progress
BLOCK = 1 << 20
SILENCE_S = 120.0  # a resumed upload is first read again at the other end
_LONGEST_PAUSE_S = 15.0
_PROGRESS_S = 5.0
_AGAIN = frozenset({408, 429})  # and every 5xx but a full disk
_NOT_THE_CODE = frozenset({401, 403, 404, 408, 429})
_T = TypeVar("_T")


class Interrupted(Exception):
    """Worth another try: a broken connection, or a server that says so."""


class Answered(Exception):
    """An answer that is an error: its status and what it said."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(f"{body.get('error') or 'no reason given'} (HTTP {status})")
        self.status = status
        self.body = body

    @property
    def final(self) -> InfrastructureError | CodeError:
        """What it means for the build."""
        if self.status >= 500 or self.status in _NOT_THE_CODE:
            return InfrastructureError(str(self))
        return CodeError(str(self))


def read_token() -> str:
    """From standard input: neither a command line nor an environment keeps a secret. Raises :class:`UsageError`."""
    token = sys.stdin.readline().strip()
    if not token:
        raise UsageError("no token came on standard input")
    return token


class Server:
    """The artifact process below one URL."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url!r} is no address of an artifact process")
        self.secure = parts.scheme == "https"
        self.where = (parts.hostname, parts.port)
        self.path = parts.path.rstrip("/")
        self.token = token
        self.context = _trusted() if self.secure else None
        self._open: http.client.HTTPConnection | None = None

    def connection(self) -> http.client.HTTPConnection:
        """The one connection, opened when it is not."""
        if self._open is None:
            if self.secure:
                self._open = http.client.HTTPSConnection(*self.where, timeout=SILENCE_S, context=self.context)
            else:
                self._open = http.client.HTTPConnection(*self.where, timeout=SILENCE_S)
        return self._open

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def start(self, method: str, path: str, headers: Mapping[str, str | int]) -> http.client.HTTPConnection:
        """Send a request's head."""
        connection = self.connection()
        connection.putrequest(method, self.path + quote(path), skip_accept_encoding=True)
        connection.putheader("Authorization", f"Bearer {self.token}")
        for name, value in headers.items():
            connection.putheader(name, str(value))
        connection.endheaders()
        return connection

    def answer(self) -> http.client.HTTPResponse:
        """The answer to what was sent, its body unread. Raises :class:`Answered`, :class:`Interrupted`."""
        response = self.connection().getresponse()
        if response.status < 400:
            return response
        said = response.read(65536)
        self.close()
        try:
            body = json.loads(said)
        except ValueError:
            body = None
        answered = Answered(response.status, body if isinstance(body, dict) else {})
        if answered.status in _AGAIN or (answered.status >= 500 and answered.status != 507):
            raise Interrupted(str(answered))
        raise answered

    def ask(self, method: str, path: str, order: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A request with JSON both ways. Raises :class:`Answered`, and what a broken connection raises."""
        text = b"" if order is None else json.dumps(order).encode()
        more: dict[str, str | int] = (
            {} if order is None else {"Content-Type": "application/json", "Content-Length": len(text)}
        )
        connection = self.start(method, path, more)
        if text:
            connection.send(text)
        found = json.loads(self.answer().read())
        if not isinstance(found, dict):
            raise Interrupted("the answer is no JSON object")
        return found


def patiently(
    server: Server, work: Callable[[], _T], progress: Callable[[], int], *, patience: float = PATIENCE_S
) -> _T:
    """Do it again after every failure of the network, as long as ``progress`` grows now and then.

    Raises:
        ToolError: there was no progress for ``patience`` seconds, or an answer that says no.
    """
    failures = 0
    last, since = progress(), time.monotonic()
    while True:
        try:
            return work()
        except Answered as answered:
            raise answered.final from None
        except (OSError, http.client.HTTPException, ValueError, Interrupted) as error:
            server.close()
            if isinstance(error, ssl.SSLCertVerificationError):
                raise InfrastructureError(f"the artifact process is not trusted: {error.verify_message}") from None
            now = progress()
            if now > last:
                failures, last, since = 0, now, time.monotonic()
            why = str(error) or type(error).__name__
            if time.monotonic() - since > patience:
                raise InfrastructureError(f"no progress for {patience:g} s: {why}") from None
            pause = min(0.5 * 2**failures, _LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            failures += 1
            print(f"interrupted ({why}); trying again in {pause:.1f} s", flush=True)
            time.sleep(pause)


class Progress:
    """A line now and then, so that a long transfer is not taken for a hung one."""

    def __init__(self, name: str, size: int) -> None:
        self.name, self.size = name, size
        self.done = 0
        self._said = self._began = time.monotonic()

    def at(self, done: int) -> None:
        self.done = max(self.done, done)
        now = time.monotonic()
        if now - self._said >= _PROGRESS_S:
            self._said = now
            print(f"{self.name}: {done / 1e6:.0f} of {self.size / 1e6:.0f} MB", flush=True)

    def summary(self) -> str:
        seconds = max(time.monotonic() - self._began, 0.001)
        return f"{self.size} bytes in {seconds:.1f} s ({self.size / seconds / 1e6:.0f} MB/s)"


def _trusted() -> ssl.SSLContext:
    """What the worker trusts its master by (``ca.pem`` in its folder), else what the system trusts."""
    ca = Path(os.environ.get("MLC_CI_WORKER_DIR", ".")) / "ca.pem"
    try:
        return ssl.create_default_context(cafile=ca if "MLC_CI_WORKER_DIR" in os.environ and ca.exists() else None)
    except (OSError, ValueError) as error:
        raise UsageError(f"{ca} cannot be used: {error}") from error
