"""Bodies that are read past the event loop: whole, from where the parser stopped, given up when somebody says so."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from master.artifacts.__main__ import _listener
from master.artifacts.connection import BLOCK, Body, Broken
from master.artifacts.folder import PARTIAL, FolderStore

CONTENT = os.urandom(3 * BLOCK + 12345)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "artifacts", reserve=0)


@pytest.fixture
def wire() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Of the sender, and of the server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = socket.create_connection(listener.getsockname())
        server = listener.accept()[0]
    with sender, server:
        sender.settimeout(20)  # when nobody reads any more
        yield sender, server


def arrived(store: FolderStore) -> bytes:
    return (store.root / PARTIAL / "7" / "a.whl").read_bytes()


@pytest.mark.parametrize("early", [0, 1, 70_000, 3 * BLOCK + 12344])
def test_what_was_read_already_comes_first(
    store: FolderStore, wire: tuple[socket.socket, socket.socket], early: int
) -> None:
    sender, server = wire
    partial = store.open(7, "a.whl", 0)
    body = Body(CONTENT[:early], server.dup())
    poured: list[int] = []
    with ThreadPoolExecutor(1) as thread:
        pouring = thread.submit(body.pour, partial, len(CONTENT), poured.append)
        sender.sendall(CONTENT[early:] + b"GET / HTTP/1.1")
        pouring.result(20)
    body.close()
    assert (partial.digest(), partial.size, sum(poured)) == (SHA256, len(CONTENT), len(CONTENT))
    partial.close()
    assert arrived(store) == CONTENT
    assert server.recv(100) == b"GET / HTTP/1.1"  # nothing beyond the body was taken


def test_what_came_before_the_end_is_kept(store: FolderStore, wire: tuple[socket.socket, socket.socket]) -> None:
    sender, server = wire
    partial = store.open(7, "a.whl", 0)
    body = Body(b"", server.dup())
    sender.sendall(CONTENT[:1000])
    sender.close()
    with pytest.raises(Broken):
        body.pour(partial, len(CONTENT), lambda _: None)
    partial.close()
    assert arrived(store) == CONTENT[:1000]
    again = store.open(7, "a.whl", 1000)
    again.write(CONTENT[1000:])
    assert again.digest() == SHA256
    again.close()


def test_a_silent_sender_is_given_up_when_somebody_says_so(
    store: FolderStore, wire: tuple[socket.socket, socket.socket]
) -> None:
    _, server = wire
    partial = store.open(7, "a.whl", 0)
    body = Body(b"x", server.dup())
    with ThreadPoolExecutor(1) as thread:
        pouring = thread.submit(body.pour, partial, len(CONTENT), lambda _: None)
        with pytest.raises(TimeoutError):
            pouring.result(0.2)  # it waits, as long as nobody says so
        body.end()
        with pytest.raises(Broken):
            pouring.result(20)
    partial.close()
    assert arrived(store) == b"x"


def test_what_has_arrived_unread_is_left_when_somebody_says_so(
    store: FolderStore, wire: tuple[socket.socket, socket.socket]
) -> None:
    """Else a sender that never stops would be read for ever."""
    sender, server = wire
    partial = store.open(7, "a.whl", 0)
    body = Body(b"", server.dup())
    sender.sendall(CONTENT[:1000])
    assert server.recv(1000, socket.MSG_PEEK)
    body.end()
    with pytest.raises(Broken):
        body.pour(partial, len(CONTENT), lambda _: None)
    partial.close()
    assert arrived(store) == b""


# -- what is quick only as long as it is done in a certain way


def cached(file: Path) -> bool:
    """Whether the file's beginning is in the page cache."""
    with file.open("rb") as stream:
        try:
            return os.preadv(stream.fileno(), [bytearray(4096)], 0, os.RWF_NOWAIT) > 0
        except BlockingIOError:
            return False


def test_whole_blocks_go_past_the_page_cache(store: FolderStore, wire: tuple[socket.socket, socket.socket]) -> None:
    sender, server = wire
    partial = store.open(7, "a.whl", 0)
    if partial._direct is None:
        pytest.skip("the file system of the tests has no O_DIRECT")
    body = Body(b"", server.dup())
    with ThreadPoolExecutor(1) as thread:
        pouring = thread.submit(body.pour, partial, len(CONTENT), lambda _: None)
        sender.sendall(CONTENT)
        pouring.result(20)
    usual = store.open(7, "b.whl", 0)
    usual.write(b"x" + CONTENT[1:])  # memory that begins anywhere: the usual way
    assert not cached(store.root / PARTIAL / "7" / "a.whl")
    assert cached(store.root / PARTIAL / "7" / "b.whl")
    partial.close()
    usual.close()


def test_without_direct_writes_it_is_the_same_file(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "O_DIRECT", os.O_DIRECTORY)  # no file can be opened with that
    partial = store.open(7, "a.whl", 0)
    assert partial._direct is None
    partial.write(CONTENT)
    assert partial.digest() == SHA256
    partial.close()
    assert arrived(store) == CONTENT


def test_answers_do_not_wait_for_the_one_before_to_be_acknowledged() -> None:
    async def nodelay(listener: socket.socket) -> int:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        async with await asyncio.start_server(accepted, sock=listener):
            with socket.create_connection(listener.getsockname()):
                return await found

    usual = socket.create_server(("127.0.0.1", 0))  # its protocol is left out
    assert asyncio.run(nodelay(usual)) == 0
    ours = _listener("127.0.0.1", 0, 0)
    ours.listen()
    assert asyncio.run(nodelay(ours)) != 0
