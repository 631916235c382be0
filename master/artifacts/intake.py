"""Taking uploads in: begun, sent in as many pieces as it takes, and committed against the sender's own SHA-256.

Nothing is an upload before it is committed, and nothing is an artifact before its attempt is accepted. A broken
connection, a killed sender or a killed server leave an unfinished file that the next piece goes on with.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from anyio import to_thread

from master.artifacts.admission import Admission, Key
from master.artifacts.connection import BLOCK, SILENCE_S, Body, Broken, Straight
from master.artifacts.doorman import Database, Doorman
from master.artifacts.names import folded
from master.artifacts.refusal import Refused
from master.artifacts.store import Partial, Store, StoreFull
from master.artifacts.tokens import Grant
from master.database import uploads
from master.database.records import Artifact

_LOOK_S = 1.0  # while bytes come

Receive = Callable[[], Awaitable[Any]]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Bytes ``first`` up to, but not including, ``end`` of a file of ``total``."""

    first: int
    end: int
    total: int


@dataclass
class _Writer:
    """One connection that sends one file."""

    left: int
    task: asyncio.Task[None] | None = None
    told_to_end: bool = False
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self) -> None:
        if self.task and not self.told_to_end:  # a second cancellation would not wait for the thread that writes
            self.task.cancel()
        self.told_to_end = True


class Intake:
    """All uploads of one artifact process."""

    def __init__(self, store: Store, database: Database, doorman: Doorman, *, quota: int | None = None) -> None:
        self.store = store
        self.database = database
        self.doorman = doorman
        self._writers: dict[Key, _Writer] = {}
        self._digests: dict[Key, tuple[int, str]] = {}  # of uploads that are complete, and not committed
        self.admission = Admission(
            store, database, lambda: [(key, writer.left) for key, writer in self._writers.items()], quota=quota
        )

    async def begin(self, grant: Grant, files: Mapping[str, int]) -> dict[str, Any]:
        """How much of each file is there; whether they may come at all is answered before any of them does."""
        finished = await self.admission.admit(grant, files)
        begun = await to_thread.run_sync(self.store.begun, grant.build_id)
        return {
            name: {"offset": row.size, "sha256": row.sha256, "direct": False}
            if (row := finished.get(name))
            else {"offset": self._goes_on(begun.get(name, 0), size), "sha256": None, "direct": self.store.direct}
            for name, size in files.items()
        }

    async def send_to(self, grant: Grant, name: str, *, size: int, sha256: str, md5: str) -> dict[str, Any]:
        """Where a file may be sent, past this process."""
        if not self.store.direct:
            raise Refused(409, "files are sent to this artifact process itself: PUT")
        if name in await self.admission.admit(grant, {name: size}):
            raise Refused(409, f"{name} is finished: commit it again to see whether it is the same")
        place = functools.partial(self.store.send_to, grant.build_id, name, size=size, sha256=sha256, md5=md5)
        there = await to_thread.run_sync(place)
        return {"url": there.url, "headers": dict(there.headers)}

    async def take(
        self, grant: Grant, name: str, piece: Piece, receive: Receive, straight: Straight | None = None
    ) -> dict[str, Any]:
        """Store a piece of a file; ``straight`` tells how its bytes can be read past the event loop."""
        if await self.admission.admit(grant, {name: piece.total}):
            said = f"{name} is finished: commit it again to see whether it is the same"
            raise Refused(409, said, offset=piece.total)
        if self.store.direct:
            raise Refused(409, "files are sent to the store itself: POST …/direct tells where")
        key = (grant.build_id, name)
        await self._take_over(key)
        writer = self._writers[key] = _Writer(left=piece.end - piece.first)
        partial: Partial | None = None
        try:
            partial = await self._open(key, piece)
            if not writer.told_to_end:
                writer.task = asyncio.create_task(self._write(writer, partial, receive, straight, grant.build_id))
                await asyncio.wait({writer.task})
            if writer.task is None or writer.task.cancelled():
                raise Refused(409, "another connection has gone on with this upload", offset=piece.first)
            writer.task.result()
            if partial.size == piece.total:
                self._digests[key] = (partial.size, partial.digest())
            return {"name": name, "size": piece.total, "offset": partial.size}
        except StoreFull as error:
            await to_thread.run_sync(self.store.drop, *key)
            raise Refused(507, f"{error}; nothing of {name} was kept") from None
        except Broken:
            raise Refused(400, f"the connection ended before all of {name} was there") from None
        finally:
            if writer.task and not writer.task.done():
                writer.end()
                await asyncio.wait({writer.task})
            if partial:
                partial.close()
            del self._writers[key]
            writer.closed.set()

    async def commit(self, grant: Grant, name: str, size: int, sha256: str) -> dict[str, Any]:
        """Make a complete file an upload, if it is what its sender has."""
        key = (grant.build_id, name)
        await self._take_over(key)
        nobody_else = self._writers[key] = _Writer(left=0)  # what is being checked must not change under it
        try:
            # asked only now: a commit before this one may have made it an upload
            if row := (await self.admission.admit(grant, {name: size})).get(name):
                return _same(row, sha256)
            return await self._commit(grant, name, size, sha256)
        finally:
            del self._writers[key]
            nobody_else.closed.set()

    async def _commit(self, grant: Grant, name: str, size: int, sha256: str) -> dict[str, Any]:
        key = (grant.build_id, name)
        path = f"{grant.folder}/{name}"
        there = (await to_thread.run_sync(self.store.begun, grant.build_id)).get(name, 0)
        if there > size:  # of a file that has become shorter since
            await to_thread.run_sync(self.store.drop, *key)
        if there != size:
            offset = self._goes_on(there, size)
            raise Refused(409, f"{there} of {size} bytes of {name} are there", offset=offset)
        try:
            found = await self._digest(key, size, path)
        except FileNotFoundError:
            raise Refused(409, f"{name} is not there", offset=0) from None
        if found != sha256:
            await to_thread.run_sync(self.store.drop, *key, path)
            self._forget(key)
            raise Refused(422, f"{name} did not arrive as its sender has it, and was thrown away")
        file = Artifact(name=name, path=path, size=size, sha256=sha256)
        await to_thread.run_sync(self.store.settle, *key, path)
        self.admission.forget(key)  # its row counts from now on, and once is enough
        try:
            recorded = await self.database.do(
                uploads.record,
                grant.build_id,
                file,
                folded(name),
                now=time.time(),
                publish=lambda: self.store.publish(*key, path),
            )
        except sa.exc.IntegrityError:  # another name that some system takes for this one was quicker
            await self.admission.admit(grant, {name: size})
            raise Refused(409, f"{name} is there already: begin again", offset=0) from None
        if not recorded:
            await to_thread.run_sync(self.store.drop, *key, path)
            raise Refused(403, f"build {grant.build_id} is over, and its token with it")
        await to_thread.run_sync(self.store.drop, *key)
        self._forget(key)
        return {"name": name, "size": size, "sha256": sha256}

    async def sweep(self) -> None:
        """Forget unfinished uploads of builds that are over."""
        begun = await to_thread.run_sync(self.store.builds)
        begun |= {build_id for build_id, _ in self.admission.under_way()}
        ended = begun - await self.database.do(uploads.running_among, begun) if begun else set()
        await to_thread.run_sync(self.store.sweep, ended)
        for key in [key for key in {*self.admission.under_way(), *self._digests} if key[0] in ended]:
            self._forget(key)
        for build_id in ended:
            self.doorman.forget(build_id)

    async def _take_over(self, key: Key) -> None:
        """End whoever still writes this file: a connection that broke may look alive for long."""
        while writer := self._writers.get(key):
            writer.end()
            await writer.closed.wait()

    async def _open(self, key: Key, piece: Piece) -> Partial:
        there = (await to_thread.run_sync(self.store.begun, key[0])).get(key[1], 0)
        if piece.first > there:
            raise Refused(409, f"{there} bytes of {key[1]} are there, not {piece.first}", offset=there)
        self._digests.pop(key, None)
        return await to_thread.run_sync(self.store.open, *key, piece.first)

    async def _write(
        self, writer: _Writer, partial: Partial, receive: Receive, straight: Straight | None, build_id: int
    ) -> None:
        """Store what comes, past the event loop where that can be."""
        if body := straight() if straight else None:
            await self._pour(writer, partial, body, build_id)
        else:
            await self._stream(writer, partial, receive, build_id)

    async def _stream(self, writer: _Writer, partial: Partial, receive: Receive, build_id: int) -> None:
        """Store what comes: one block is received while the last one is written and hashed, in a thread."""
        loop = asyncio.get_running_loop()
        block = bytearray()
        writing: asyncio.Future[None] | None = None
        try:
            while writer.left:
                try:
                    async with asyncio.timeout(SILENCE_S):
                        message = await receive()
                except TimeoutError:
                    raise Broken from None
                if message["type"] != "http.request":
                    raise Broken
                block += message["body"]
                writer.left -= len(message["body"])
                if writer.left and not message.get("more_body"):
                    raise Broken
                if len(block) >= BLOCK or not writer.left:
                    if writing:
                        await asyncio.shield(writing)
                    writing = loop.run_in_executor(None, partial.write, block)
                    block = bytearray()
                    await self.doorman.still_running(build_id)
            if writing:
                await asyncio.shield(writing)
        except BaseException:  # whatever it was, the file must not be closed under the thread that writes it
            if writing:
                await asyncio.wait({writing})  # nobody else may write before it is done
            if block and (writing is None or writing.exception() is None):
                await asyncio.wait({loop.run_in_executor(None, partial.write, block)})
            raise

    async def _pour(self, writer: _Writer, partial: Partial, body: Body, build_id: int) -> None:
        """Have a thread store what comes, and look now and then whether the build still runs."""

        def poured(size: int) -> None:
            writer.left -= size

        # its own: the pool's few threads are there for what takes moments
        thread = ThreadPoolExecutor(1)
        pouring = asyncio.get_running_loop().run_in_executor(thread, body.pour, partial, writer.left, poured)
        try:
            while not (await asyncio.wait({pouring}, timeout=_LOOK_S))[0]:
                await self.doorman.still_running(build_id)
            pouring.result()
        finally:
            body.end()
            await asyncio.wait({pouring})  # nobody else may write before it is done, and the file must stay open
            if not pouring.cancelled():
                pouring.exception()
            body.close()
            thread.shutdown(wait=False)

    async def _digest(self, key: Key, size: int, path: str) -> str:
        known = self._digests.get(key)
        if known and known[0] == size:
            return known[1]
        return await to_thread.run_sync(self.store.digest, *key, size, path)  # after a new start of this process

    def _goes_on(self, there: int, size: int) -> int:
        """Where a sender goes on: what is too long begins again, and what goes past us comes whole or not at all."""
        return 0 if there > size or (self.store.direct and there < size) else there

    def _forget(self, key: Key) -> None:
        self.admission.forget(key)
        self._digests.pop(key, None)


def _same(row: Artifact, sha256: str) -> dict[str, Any]:
    if row.sha256 != sha256:
        raise Refused(409, f"{row.name} was uploaded before, with another content (SHA-256 {row.sha256})")
    return {"name": row.name, "size": row.size, "sha256": row.sha256}
