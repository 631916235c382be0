"""Several connections at one file at once: what is checked is what is published, whoever writes meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from buildbot.db.model import Model

from master.artifacts.connection import BLOCK, Body, Straight
from master.artifacts.doorman import Database, Doorman
from master.artifacts.folder import FolderStore
from master.artifacts.intake import Intake, Piece, _Writer
from master.artifacts.refusal import Refused
from master.artifacts.tokens import Grant
from master.database.engine import engine_kwargs
from master.database.tables import metadata

GRANT = Grant(build_id=7, run_id=1, folder="1/build/default/1/7", budget=1 << 30)
GOOD, EVIL = b"good" * (BLOCK // 2), b"evil" * (BLOCK // 2)
SHA256 = hashlib.sha256(GOOD).hexdigest()


class SlowStore(FolderStore):
    """Waits for the test between the check of a file and its publication, when it is told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, reserve=0)
        self.reached, self.go = threading.Event(), threading.Event()
        self.go.set()

    def settle(self, build_id: int, name: str, path: str) -> None:
        super().settle(build_id, name, path)
        self.reached.set()
        assert self.go.wait(20)


@pytest.fixture
def store(tmp_path: Path) -> SlowStore:
    return SlowStore(tmp_path / "artifacts")


@pytest.fixture
def intake(tmp_path: Path, store: SlowStore) -> Iterator[Intake]:
    url = f"sqlite:///{tmp_path}/state.sqlite"
    engine = sa.create_engine(url, **engine_kwargs(url))
    Model.metadata.create_all(engine)
    metadata.create_all(engine)
    build = {"id": 7, "number": 7, "builderid": 1, "buildrequestid": 7, "workerid": 1, "masterid": 1, "started_at": 1}
    with engine.begin() as connection:
        connection.execute(Model.builds.insert().values({**build, "state_string": "x", "locks_duration_s": 0}))
    database = Database(engine)
    yield Intake(store, database, Doorman(database, "key", public=True, password=""))
    engine.dispose()


class Sender:
    """A connection: gives what the test lets it."""

    def __init__(self, content: bytes, *, held: bool = False) -> None:
        self.content = content
        self.asked, self.go = asyncio.Event(), asyncio.Event()
        if not held:
            self.go.set()

    async def receive(self) -> dict[str, Any]:
        self.asked.set()
        await self.go.wait()
        piece, self.content = self.content[:100_000], self.content[100_000:]
        return {"type": "http.request", "body": piece, "more_body": bool(self.content)}


def put(
    intake: Intake, sender: Sender, size: int, first: int = 0, straight: Straight | None = None
) -> asyncio.Task[dict[str, Any]]:
    piece = Piece(first=first, end=size, total=size)
    return asyncio.create_task(intake.take(GRANT, "a.whl", piece, sender.receive, straight))


def published(store: FolderStore) -> bytes:
    return (store.root / GRANT.folder / "a.whl").read_bytes()


def test_what_was_checked_does_not_change_before_it_is_published(intake: Intake, store: SlowStore) -> None:
    async def attack() -> None:
        await put(intake, Sender(GOOD), len(GOOD))
        store.go.clear()
        committing = asyncio.create_task(intake.commit(GRANT, "a.whl", len(GOOD), SHA256))
        await asyncio.to_thread(store.reached.wait, 20)
        evil = Sender(EVIL)
        attacking = put(intake, evil, len(EVIL))
        done, _ = await asyncio.wait({attacking}, timeout=0.3)
        assert not done  # it waits for the check to be over
        assert not evil.asked.is_set()
        store.go.set()
        assert (await committing)["sha256"] == SHA256
        await asyncio.wait({attacking})
        assert published(store) == GOOD
        with pytest.raises(Refused, match="with another content"):
            await intake.commit(GRANT, "a.whl", len(EVIL), hashlib.sha256(EVIL).hexdigest())

    asyncio.run(attack())
    assert published(store) == GOOD


class Careless(Intake):
    """Publishes what it has checked, and lets others write meanwhile."""

    async def commit(self, grant: Grant, name: str, size: int, sha256: str) -> dict[str, Any]:
        return await self._commit(grant, name, size, sha256)


def test_an_intake_that_lets_others_write_meanwhile_publishes_what_it_never_checked(
    intake: Intake, store: SlowStore
) -> None:
    careless = Careless(store, intake.database, intake.doorman)

    async def attack() -> None:
        await put(careless, Sender(GOOD), len(GOOD))
        store.go.clear()
        committing = asyncio.create_task(careless.commit(GRANT, "a.whl", len(GOOD), SHA256))
        await asyncio.to_thread(store.reached.wait, 20)
        await put(careless, Sender(EVIL), len(EVIL))
        store.go.set()
        assert (await committing)["sha256"] == SHA256

    asyncio.run(attack())
    assert published(store) == EVIL


def test_a_commit_ends_whoever_still_writes(intake: Intake, store: SlowStore) -> None:
    async def attack() -> None:
        await put(intake, Sender(GOOD), len(GOOD))
        rewriting = Sender(EVIL, held=True)
        attacking = put(intake, rewriting, len(EVIL))
        await rewriting.asked.wait()  # it has opened the file, and forgotten what was in it
        with pytest.raises(Refused, match=f"0 of {len(GOOD)} bytes"):
            await intake.commit(GRANT, "a.whl", len(GOOD), SHA256)
        rewriting.go.set()
        with pytest.raises(Refused, match="another connection has gone on"):
            await attacking

    asyncio.run(attack())
    assert not (store.root / GRANT.folder).exists()


def test_two_commits_at_once_are_one(intake: Intake, store: SlowStore) -> None:
    async def both() -> None:
        await put(intake, Sender(GOOD), len(GOOD))
        store.go.clear()
        first = asyncio.create_task(intake.commit(GRANT, "a.whl", len(GOOD), SHA256))
        await asyncio.to_thread(store.reached.wait, 20)
        second = asyncio.create_task(intake.commit(GRANT, "a.whl", len(GOOD), SHA256))
        await asyncio.wait({second}, timeout=0.1)
        store.go.set()
        assert (await first)["sha256"] == SHA256
        assert (await second)["sha256"] == SHA256  # it finds what the first has made of it
        assert (await intake.begin(GRANT, {"a.whl": len(GOOD)}))["a.whl"]["sha256"] == SHA256

    asyncio.run(both())
    assert published(store) == GOOD


def test_a_connection_that_is_taken_over_leaves_what_it_brought(intake: Intake, store: SlowStore) -> None:
    async def over() -> None:
        half = Sender(GOOD[: len(GOOD) // 2], held=True)
        first = put(intake, half, len(GOOD))
        await half.asked.wait()
        half.go.set()
        with pytest.raises(Refused, match=r"the connection ended before all of a\.whl was there"):
            await first
        begun = await intake.begin(GRANT, {"a.whl": len(GOOD)})
        offset = begun["a.whl"]["offset"]
        assert offset == len(GOOD) // 2
        assert (await put(intake, Sender(GOOD[offset:]), len(GOOD), offset))["offset"] == len(GOOD)
        assert (await intake.commit(GRANT, "a.whl", len(GOOD), SHA256))["sha256"] == SHA256

    asyncio.run(over())
    assert published(store) == GOOD
    assert store.begun(7) == {}


def test_a_file_that_became_shorter_begins_again(intake: Intake, store: SlowStore) -> None:
    short = GOOD[:1000]
    sha256 = hashlib.sha256(short).hexdigest()

    async def again() -> None:
        await put(intake, Sender(GOOD), len(GOOD))
        assert (await intake.begin(GRANT, {"a.whl": 1000}))["a.whl"]["offset"] == 0
        with pytest.raises(Refused, match=f"{len(GOOD)} of 1000 bytes") as refused:
            await intake.commit(GRANT, "a.whl", 1000, sha256)
        assert refused.value.body["offset"] == 0
        assert store.begun(7) == {}
        await put(intake, Sender(short), 1000)
        assert (await intake.commit(GRANT, "a.whl", 1000, sha256))["sha256"] == sha256

    asyncio.run(again())
    assert published(store) == short


def test_a_quota_is_shared_with_what_others_have_begun_until_they_end(intake: Intake, store: SlowStore) -> None:
    small = Intake(store, intake.database, intake.doorman, quota=1000)
    other = Grant(build_id=8, run_id=2, folder="2/build/default/1/8", budget=1 << 30)

    async def two() -> None:
        await small.begin(other, {"b.whl": 700})
        with pytest.raises(Refused, match="1000 bytes are to come, 300 bytes are free"):
            await small.begin(GRANT, {"a.whl": 1000})
        await small.begin(GRANT, {"a.whl": 300})
        await small.begin(GRANT, {"a.whl": 300})  # the same again is not more
        await small.sweep()  # build 8 does not run
        await small.begin(GRANT, {"a.whl": 1000})

    asyncio.run(two())


def test_a_database_that_fails_meanwhile_does_not_take_the_file_from_the_thread_that_writes(intake: Intake) -> None:
    """Closed under it, its number could be another file's by then."""
    began, go, written = threading.Event(), threading.Event(), []

    class Slow:
        def write(self, block: bytes) -> None:
            began.set()
            assert go.wait(20)
            written.append(len(block))

    async def fails(_build_id: int) -> None:
        await asyncio.to_thread(began.wait, 20)
        raise sa.exc.OperationalError("select", {}, Exception("gone"))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": bytes(BLOCK), "more_body": True}

    async def take() -> None:
        intake.doorman.still_running = fails  # type: ignore[method-assign]
        writer = _Writer(left=3 * BLOCK)
        task = asyncio.create_task(intake._stream(writer, Slow(), receive, 7))  # type: ignore[arg-type]
        await asyncio.to_thread(began.wait, 20)
        done, _ = await asyncio.wait({task}, timeout=0.3)
        assert not done, "it gave the file up while a thread was writing"
        go.set()
        with pytest.raises(sa.exc.OperationalError):
            await task

    asyncio.run(take())
    assert written == [BLOCK]


# -- what is read past the event loop


@pytest.fixture
def wire() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Of the sender, and of this process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = socket.create_connection(listener.getsockname())
        ours = listener.accept()[0]
    with sender, ours:
        sender.settimeout(20)  # when nobody reads any more
        yield sender, ours


def test_a_body_is_read_past_the_event_loop_where_it_can_be(
    intake: Intake, store: SlowStore, wire: tuple[socket.socket, socket.socket]
) -> None:
    sender, ours = wire

    async def upload() -> None:
        usual = Sender(GOOD)
        putting = put(intake, usual, len(GOOD), straight=lambda: Body(GOOD[:5], ours.dup()))
        await asyncio.to_thread(sender.sendall, GOOD[5:])
        assert (await putting)["offset"] == len(GOOD)
        assert not usual.asked.is_set()
        await intake.commit(GRANT, "a.whl", len(GOOD), SHA256)

    asyncio.run(upload())
    assert published(store) == GOOD


def test_the_usual_way_is_gone_where_it_cannot_be(intake: Intake, store: SlowStore) -> None:
    async def upload() -> None:
        await put(intake, Sender(GOOD), len(GOOD), straight=lambda: None)
        await intake.commit(GRANT, "a.whl", len(GOOD), SHA256)

    asyncio.run(upload())
    assert published(store) == GOOD


def test_another_connection_takes_over_from_one_that_is_silent(
    intake: Intake, store: SlowStore, wire: tuple[socket.socket, socket.socket]
) -> None:
    _, ours = wire

    async def upload() -> None:
        silent = put(intake, Sender(b""), len(EVIL), straight=lambda: Body(EVIL[:5], ours.dup()))
        done, _ = await asyncio.wait({silent}, timeout=0.2)
        assert not done
        await put(intake, Sender(GOOD), len(GOOD))
        with pytest.raises(Refused, match="another connection has gone on"):
            await silent
        await intake.commit(GRANT, "a.whl", len(GOOD), SHA256)

    asyncio.run(upload())
    assert published(store) == GOOD


def test_a_build_that_ends_is_noticed_while_its_connection_is_silent(
    intake: Intake, wire: tuple[socket.socket, socket.socket]
) -> None:
    _, ours = wire

    async def upload() -> None:
        silent = put(intake, Sender(b""), len(GOOD), straight=lambda: Body(GOOD[:5], ours.dup()))
        done, _ = await asyncio.wait({silent}, timeout=0.2)
        assert not done
        with intake.database.engine.begin() as connection:
            connection.execute(Model.builds.update().values(complete_at=2))
        with pytest.raises(Refused, match="build 7 is over"):
            await asyncio.wait_for(silent, 20)

    asyncio.run(upload())


def test_nor_does_it_past_the_event_loop(intake: Intake, wire: tuple[socket.socket, socket.socket]) -> None:
    began, go, written = threading.Event(), threading.Event(), []

    class Slow:
        def write(self, block: memoryview) -> None:
            began.set()
            assert go.wait(20)
            written.append(len(block))

    _, ours = wire
    asked = threading.Event()

    async def fails(_build_id: int) -> None:
        asked.set()
        raise sa.exc.OperationalError("select", {}, Exception("gone"))

    async def take() -> None:
        intake.doorman.still_running = fails  # type: ignore[method-assign]
        body = Body(bytes(BLOCK), ours.dup())
        task = asyncio.create_task(intake._pour(_Writer(left=3 * BLOCK), Slow(), body, 7))  # type: ignore[arg-type]
        await asyncio.to_thread(began.wait, 20)
        assert await asyncio.to_thread(asked.wait, 20)
        done, _ = await asyncio.wait({task}, timeout=0.3)
        assert not done, "it gave the file up while a thread was writing"
        go.set()
        with pytest.raises(sa.exc.OperationalError):
            await task

    asyncio.run(take())
    assert written == [BLOCK]
