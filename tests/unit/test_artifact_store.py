"""The folder store: nothing half-written is ever published, and nothing is written outside."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from master.artifacts.folder import PARTIAL, FolderStore
from master.artifacts.store import StoreFull

PATH = "3/build/default/1/92/a.whl"


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "artifacts", reserve=0)


def write(store: FolderStore, content: bytes, name: str = "a.whl", offset: int = 0, build_id: int = 92) -> str:
    partial = store.open(build_id, name, offset)
    try:
        partial.write(content)
        return partial.digest()
    finally:
        partial.close()


def files(root: Path) -> dict[str, bytes]:
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def test_a_file_is_published_whole_and_at_once(store: FolderStore) -> None:
    assert write(store, b"wheel") == hashlib.sha256(b"wheel").hexdigest()
    assert store.begun(92) == {"a.whl": 5}
    assert store.file(PATH) is None
    store.settle(92, "a.whl", PATH)
    store.publish(92, "a.whl", PATH)
    assert store.begun(92) == {}
    assert files(store.root) == {PATH: b"wheel"}
    assert store.file(PATH) == store.root / PATH


def test_what_takes_long_is_done_before_the_publication(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which happens in a transaction: nobody else can write to SQLite meanwhile."""
    synced: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(handle), fsync(handle)))
    write(store, b"wheel")
    store.settle(92, "a.whl", PATH)
    assert len(synced) > len(PATH.split("/")) - 1  # the file, and each folder that got another
    synced.clear()
    store.publish(92, "a.whl", PATH)
    assert len(synced) == 1
    store.remove(PATH)
    write(store, b"again")
    store.publish(92, "a.whl", PATH)  # its folders went with the last file in them
    assert files(store.root) == {PATH: b"again"}


def test_what_could_not_be_synced_is_not_taken_for_durable_the_next_time(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store, b"wheel")
    fsync, failed = os.fsync, [False]

    def broken_once(handle: int) -> None:
        if not failed[0]:
            failed[0] = True
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", broken_once)
    with pytest.raises(OSError, match="Input/output error"):
        store.settle(92, "a.whl", PATH)
    assert store.begun(92) == {}  # it has to be sent again
    with pytest.raises(FileNotFoundError):
        store.settle(92, "a.whl", PATH)
    write(store, b"wheel")
    store.settle(92, "a.whl", PATH)
    assert store.begun(92) == {"a.whl": 5}


def test_what_was_settled_and_not_published_leaves_nothing(store: FolderStore) -> None:
    for name in ("a.whl", "b.whl"):
        write(store, b"wheel", name=name)
        store.settle(92, name, f"{PATH.rpartition('/')[0]}/{name}")
    store.publish(92, "a.whl", PATH)
    store.drop(92, "b.whl", f"{PATH.rpartition('/')[0]}/b.whl")
    assert files(store.root) == {PATH: b"wheel"}
    store.remove(PATH)
    write(store, b"wheel")
    store.settle(92, "a.whl", PATH)
    store.drop(92, "a.whl", PATH)
    assert [path.name for path in store.root.iterdir()] == [PARTIAL]
    store.root.rename(store.root.with_name("away"))
    store.drop(92, "a.whl", PATH)


@given(st.lists(st.binary(max_size=50), max_size=6), st.integers(0, 300))
@settings(max_examples=50)
def test_pieces_make_the_file_and_its_hash_whereever_the_connection_broke(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], back: int
) -> None:
    store = FolderStore(tmp_path_factory.mktemp("store"), reserve=0)
    whole = b""
    digest = hashlib.sha256().hexdigest()
    for piece in pieces:
        offset = max(0, len(whole) - back)  # the sender may know of less than has arrived
        whole = whole[:offset] + piece
        digest = write(store, piece, offset=offset)
        assert store.begun(92) == {"a.whl": len(whole)}
        assert digest == hashlib.sha256(whole).hexdigest()


def test_nothing_is_invented_where_bytes_are_missing(store: FolderStore) -> None:
    write(store, b"123")
    with pytest.raises(ValueError, match="does not have 4 bytes"):
        store.open(92, "a.whl", 4)
    assert files(store.root / PARTIAL) == {"92/a.whl": b"123"}


def test_two_builds_have_uploads_of_their_own(store: FolderStore) -> None:
    write(store, b"one", build_id=1)
    write(store, b"two!", build_id=2)
    assert (store.begun(1), store.begun(2), store.begun(3)) == ({"a.whl": 3}, {"a.whl": 4}, {})
    assert store.builds() == {1, 2}
    store.sweep({1, 7})
    assert files(store.root / PARTIAL) == {"2/a.whl": b"two!"}
    store.drop(2, "a.whl")
    store.drop(2, "a.whl")
    assert store.begun(2) == {}


@pytest.mark.parametrize("below", [PARTIAL, f"{PARTIAL}/92", "3", "3/build/default"])
def test_a_link_below_the_root_is_never_followed(tmp_path: Path, below: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    store = FolderStore(tmp_path / "artifacts", reserve=0)
    link = store.root / below
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.exists():
        link.rmdir()
    link.symlink_to(outside)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        write(store, b"x")
        store.publish(92, "a.whl", PATH)
    assert list(outside.iterdir()) == []


def test_a_link_in_the_place_of_a_file_is_not_written_through(store: FolderStore, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    (store.root / PARTIAL / "92").mkdir()
    (store.root / PARTIAL / "92" / "a.whl").symlink_to(target)
    with pytest.raises(OSError, match=r"symbolic links|Too many levels"):
        write(store, b"x")
    assert target.read_text() == "mine"


def test_only_files_below_the_root_are_read(store: FolderStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (store.root / "3").mkdir()
    (store.root / "3" / "link").symlink_to(tmp_path / "secret")
    assert store.file("3/link") is None
    assert store.file("../secret") is None
    assert store.file("3") is None


def test_the_reserve_is_not_room(tmp_path: Path) -> None:
    free = FolderStore(tmp_path / "a", reserve=0).room()
    assert free > 0
    assert FolderStore(tmp_path / "b", reserve=free * 2).room() < 0


@pytest.fixture
def no_file_beyond_4096_bytes() -> Iterator[None]:
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("no_file_beyond_4096_bytes")
def test_a_disk_that_is_full_is_told_apart_from_other_errors(store: FolderStore) -> None:
    write(store, b"x" * 4096)  # just fits
    with pytest.raises(StoreFull, match="disk of the artifact store is full"):
        write(store, b"x" * 4097, "b.whl")


def test_only_the_owner_reads_what_is_stored(store: FolderStore) -> None:
    write(store, b"x")
    store.publish(92, "a.whl", PATH)
    modes = {path.stat().st_mode & 0o077 for path in (store.root / PATH, *(store.root / PATH).parents[:6])}
    assert modes == {0}
