"""Files to and from a store that the artifact process leads to, by signed addresses: an S3-compatible bucket."""

from __future__ import annotations

import contextlib
import http.client
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from workers.errors import CodeError, InfrastructureError
from workers.transfer import BLOCK, SILENCE_S, Interrupted

_MESSAGE = re.compile(rb"<Message>([^<]{1,300})</Message>")
_MOST_SAID = 65536  # bytes of a refusal


def put(there: Mapping[str, Any], file: Path, size: int, at: Callable[[int], None]) -> None:
    """Send a file; ``at`` is told how much of it went. Raises :class:`Interrupted` for every answer but yes: a fresh
    address may help, and patience ends."""
    connection, path = _connection(str(there["url"]))
    try:
        connection.putrequest("PUT", path, skip_accept_encoding=True)
        connection.putheader("Content-Length", str(size))
        for name, value in there["headers"].items():
            connection.putheader(name, value)
        connection.endheaders()
        _send(connection, file, size, at)
        response = connection.getresponse()
        said = response.read(_MOST_SAID)
        if not 200 <= response.status < 300:
            raise Interrupted(_refusal(response.status, said))
    finally:
        connection.close()


def get(url: str, offset: int) -> http.client.HTTPResponse:
    """A file from an offset on; the connection ends with the answer.

    Raises:
        Interrupted: a fresh address may help.
        InfrastructureError: the store has lost the file.
    """
    connection, path = _connection(url)
    connection.request("GET", path, headers={"Connection": "close", **_from(offset)})
    response = connection.getresponse()
    if response.status in (200, 206):
        return response
    with response:
        said = _refusal(response.status, response.read(_MOST_SAID))
    if response.status == 404:
        raise InfrastructureError(said)
    raise Interrupted(said)


def _from(offset: int) -> dict[str, str]:
    return {"Range": f"bytes={offset}-"} if offset else {}


def _send(connection: http.client.HTTPConnection, file: Path, size: int, at: Callable[[int], None]) -> None:
    sent = 0
    with file.open("rb") as stream:
        while block := stream.read(min(BLOCK, size - sent)):
            try:
                connection.send(block)
            except OSError:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    response = connection.getresponse()  # it may have said why before it hung up
                    raise Interrupted(_refusal(response.status, response.read(_MOST_SAID))) from None
                raise
            sent += len(block)
            at(sent)
    if sent < size:
        raise CodeError(f"{file.name} became shorter while it was uploaded")


def _connection(url: str) -> tuple[http.client.HTTPConnection, str]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Interrupted(f"the artifact process leads to no address: {url[:80]!r}")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname, parts.port, timeout=SILENCE_S), f"{parts.path or '/'}?{parts.query}"


def _refusal(status: int, said: bytes) -> str:
    found = _MESSAGE.search(said)
    why = found[1].decode(errors="replace") if found else "no reason given"
    return f"the store said no: {why} (HTTP {status})"
