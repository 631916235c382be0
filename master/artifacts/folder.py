"""Artifacts in a folder. Below it, ``.partial/BUILD/NAME`` is under way, and ``RUN/STAGE/VARIANT/ATTEMPT/BUILD/NAME``
is whole.

A link below the folder is never followed: every folder on the way is opened by itself, from its parent.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from master.artifacts.store import SendTo, StoreBroken, Stored, StoreFull

PARTIAL = ".partial"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FolderPartial:
    """A file that grows, and the hash of it, which a thread makes of each block while the next one comes.

    Whole blocks go to the disk past the page cache: nothing else is driven out of it, and the sync at the end has
    little to wait for.

    Args:
        handle: the file. It and ``direct`` are closed with this.
        direct: the same file with ``O_DIRECT``, where its file system has that.
        offset: bytes of it that count.
    """

    def __init__(self, handle: int, offset: int, direct: int | None = None) -> None:
        self._file = handle
        self._direct = direct
        self._hash = hashlib.sha256()
        self._hasher = ThreadPoolExecutor(1)
        self._hashing: Future[None] | None = None
        self.size = 0
        try:
            if os.fstat(handle).st_size < offset:
                raise ValueError(f"the upload does not have {offset} bytes yet")
            os.ftruncate(handle, offset)
            while self.size < offset:
                block = os.read(handle, min(_BLOCK, offset - self.size))
                self._hash.update(block)
                self.size += len(block)
        except BaseException:
            self.close()
            raise

    def write(self, block: bytes | bytearray | memoryview) -> None:
        rest = memoryview(block)
        self._hashed()
        self._hashing = self._hasher.submit(self._hash.update, rest)
        try:
            while rest:
                written = self._append(rest)
                self.size += written
                rest = rest[written:]
        except OSError as error:
            if error.errno in _FULL:
                raise StoreFull("the disk of the artifact store is full") from None
            raise

    def digest(self) -> str:
        self._hashed()
        return self._hash.hexdigest()

    def close(self) -> None:
        self._hasher.shutdown()
        for handle in (self._file, self._direct):
            if handle is not None and handle >= 0:
                os.close(handle)
        self._file, self._direct = -1, None

    def _append(self, block: memoryview) -> int:
        if self._direct is not None:
            try:
                return os.pwrite(self._direct, block, self.size)
            except OSError as error:
                if error.errno != errno.EINVAL:  # size, offset or memory are no multiple of what the disk wants
                    raise
        return os.pwrite(self._file, block, self.size)

    def _hashed(self) -> None:
        if self._hashing:
            self._hashing.result()
            self._hashing = None


class FolderStore:
    """See :class:`master.artifacts.store.Store`. ``reserve``: bytes of the disk that stay free."""

    direct = False
    largest = 1 << 62

    def __init__(self, root: Path, *, reserve: int) -> None:
        self.root = root
        self.reserve = reserve
        with contextlib.suppress(OSError):  # the master only reads it; who writes checks
            root.mkdir(mode=0o700, exist_ok=True)
            (root / PARTIAL).mkdir(mode=0o700, exist_ok=True)

    def check(self) -> None:
        if not self.root.is_dir() or not os.access(self.root, os.R_OK | os.W_OK | os.X_OK):
            raise StoreBroken(f"{self.root} is no folder that this user may write to")

    def begun(self, build_id: int) -> dict[str, int]:
        try:
            with os.scandir(self.root / PARTIAL / str(build_id)) as found:
                return {entry.name: entry.stat(follow_symlinks=False).st_size for entry in found}
        except FileNotFoundError:
            return {}

    def open(self, build_id: int, name: str, offset: int) -> FolderPartial:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with self._folder(PARTIAL, str(build_id)) as folder:
                handle = os.open(name, flags, 0o600, dir_fd=folder)
                direct = None
                with contextlib.suppress(OSError):  # not every file system has it
                    direct = os.open(name, os.O_WRONLY | os.O_DIRECT | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        except OSError as error:
            if error.errno in _FULL:
                raise StoreFull("the disk of the artifact store is full") from None
            raise
        return FolderPartial(handle, offset, direct)

    def send_to(self, build_id: int, name: str, *, size: int, sha256: str, md5: str) -> SendTo:
        raise NotImplementedError("a folder is sent to through the artifact process")

    def digest(self, build_id: int, name: str, size: int, path: str) -> str:
        partial = self.open(build_id, name, size)
        try:
            return partial.digest()
        finally:
            partial.close()

    def settle(self, build_id: int, name: str, path: str) -> None:
        with self._folder(PARTIAL, str(build_id)) as folder:
            handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                os.fsync(handle)
            except OSError:  # what is lost is not told a second time: the next sync would succeed
                self.drop(build_id, name)
                raise
            finally:
                os.close(handle)
        with self._folder(*path.split("/")[:-1]):  # which syncs each that it makes
            pass

    def publish(self, build_id: int, name: str, path: str) -> None:
        *parents, last = path.split("/")
        with self._folder(PARTIAL, str(build_id)) as source, self._folder(*parents) as target:
            os.rename(name, last, src_dir_fd=source, dst_dir_fd=target)
            os.fsync(target)

    def drop(self, build_id: int, name: str, path: str = "") -> None:
        with contextlib.suppress(FileNotFoundError):
            (self.root / PARTIAL / str(build_id) / name).unlink()
        self._tidy(path)

    def builds(self) -> set[int]:
        return {int(entry.name) for entry in (self.root / PARTIAL).iterdir() if entry.name.isdecimal()}

    def sweep(self, build_ids: Iterable[int]) -> None:
        for build_id in build_ids:
            shutil.rmtree(self.root / PARTIAL / str(build_id), ignore_errors=True)

    def stored(self) -> Iterator[Stored]:
        """Every published file."""
        for folder, folders, names in os.walk(self.root):  # follows no links
            if folder == str(self.root):
                folders[:] = [name for name in folders if name != PARTIAL]
            for name in names:
                file = Path(folder) / name
                with contextlib.suppress(FileNotFoundError):
                    found = file.lstat()
                    path = file.relative_to(self.root).as_posix()
                    yield Stored(path=path, size=found.st_size, changed_at=found.st_mtime)

    def remove(self, path: str) -> None:
        """Remove a published file, and the folders that it leaves empty."""
        (self.root / path).unlink(missing_ok=True)
        self._tidy(path)

    def room(self) -> int:
        return shutil.disk_usage(self.root).free - self.reserve

    def file(self, path: str) -> Path | None:
        file = (self.root / path).resolve()
        return file if file.is_relative_to(self.root.resolve()) and file.is_file() else None

    def link(self, path: str, name: str) -> str | None:
        return None

    @contextlib.contextmanager
    def reader(self, path: str) -> Iterator[BinaryIO]:
        with self.local(path) as file, file.open("rb") as stream:
            yield stream

    @contextlib.contextmanager
    def local(self, path: str) -> Iterator[Path]:
        file = self.file(path)
        if file is None:
            raise FileNotFoundError(path)
        yield file

    def _tidy(self, path: str) -> None:
        """Remove the folders on the way to a path that are empty."""
        for folder in PurePosixPath(path).parents[:-1]:
            try:
                (self.root / folder).rmdir()
            except OSError:  # not empty, or gone
                break

    @contextlib.contextmanager
    def _folder(self, *parts: str) -> Iterator[int]:
        """A folder below the root, made where it is missing, as a descriptor."""
        handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in parts:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=handle)
                    os.fsync(handle)
                below = os.open(part, _DIRECTORY, dir_fd=handle)
                os.close(handle)
                handle = below
            yield handle
        finally:
            os.close(handle)
