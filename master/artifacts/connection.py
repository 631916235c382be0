"""Connections of the artifact process: impatient ones, whose bodies can be read past the event loop.

uvicorn hands a body on in pieces of at most 256 KiB, and stops and starts reading for each: that costs more than
hashing and writing together. So the body of an upload is read from the connection's own socket, by a thread, into
memory that is used again and again. What comes through TLS goes the usual way.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import mmap
import socket
import threading
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from master.artifacts.store import Partial

BLOCK = 1 << 20  #: bytes that are written and hashed at once; of each upload two are in memory
FIRST_WORD_S = 10.0  #: a connection that has asked for nothing by then is closed, so that idle ones crowd nobody out
SILENCE_S = 60.0  #: a sender that says nothing for so long is gone
_STRAIGHT = "mlc_ci.straight"  # of ASGI's extensions

Straight = Callable[[], "Body | None"]


class Broken(Exception):
    """The connection ended early."""


class Body:
    """What a request still brings: what was read of it already, and the socket. It is to be read by one thread."""

    def __init__(self, early: bytes, connection: socket.socket) -> None:
        self._early = memoryview(early)
        self._connection = connection
        self._connection.settimeout(SILENCE_S)
        self._ended = threading.Event()

    def pour(self, partial: Partial, left: int, poured: Callable[[int], None]) -> None:
        """Append ``left`` bytes, and tell how many after each block; what came of them stays when it ends early.

        Raises:
            Broken: it ended early, by the sender or by :meth:`end`.
            StoreFull: no room.
        """
        blocks = [memoryview(mmap.mmap(-1, BLOCK)) for _ in range(2)]  # they begin with a page, as disks like it
        while left:
            block = blocks[0][: min(BLOCK, left)]
            got = self._fill(block)
            if got:
                partial.write(block[:got])
                poured(got)
            if got < len(block):
                raise Broken
            left -= got
            blocks.reverse()  # the other one may still be hashed

    def _fill(self, block: memoryview) -> int:
        got = min(len(block), len(self._early))
        block[:got], self._early = self._early[:got], self._early[got:]
        with contextlib.suppress(OSError):  # silence, too
            while got < len(block) and not self._ended.is_set():
                read = self._connection.recv_into(block[got:])
                if not read:
                    break
                got += read
        return got

    def end(self) -> None:
        """Have the thread that reads it stop. From any thread."""
        self._ended.set()
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Leave the connection to whoever answers. Only once nobody reads any more."""
        self._connection.close()


def straight(scope: Any) -> Straight | None:
    """How the body of this request can be read past the event loop, if it can."""
    found: Straight | None = (scope.get("extensions") or {}).get(_STRAIGHT)
    return found


class Connection(HttpToolsProtocol):
    """Closes itself when no request comes; uvicorn waits for a first one for ever."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._first_word = self.loop.call_later(FIRST_WORD_S, self._asked_anything)

    def _asked_anything(self) -> None:
        if getattr(self, "cycle", None) is None and not self.transport.is_closing():
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._first_word.cancel()
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self.scheme == "http" and self.cycle is not None:
            scope: dict[str, Any] = self.scope  # type: ignore[assignment]
            scope["extensions"] = {_STRAIGHT: functools.partial(self._straight, self.cycle)}

    def _straight(self, cycle: RequestResponseCycle) -> Body | None:
        """Nobody else reads from this connection from now on; it ends with the answer."""
        if cycle is not self.cycle or not cycle.more_body or cycle.disconnected or self.transport.is_closing():
            return None
        if cycle.waiting_for_100_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            cycle.waiting_for_100_continue = False
        self.flow.pause_reading()
        cycle.keep_alive = False  # the parser never sees the end of the body
        early, cycle.body = bytes(cycle.body), bytearray()
        return Body(early, self.transport.get_extra_info("socket").dup())
