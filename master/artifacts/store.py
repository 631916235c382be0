"""Where the bytes of artifacts are: what every store can do. Calls block; run them in threads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol


class StoreFull(Exception):
    """The store has no room; nothing of what did not fit is left in it."""


class StoreBroken(Exception):
    """The store does not answer, or not as it should."""


@dataclass(frozen=True, kw_only=True)
class SendTo:
    """Where a worker sends one file by itself, by PUT with these headers; whoever has the address may."""

    url: str
    headers: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A published file; ``changed_at`` in seconds since the epoch."""

    path: str
    size: int
    changed_at: float


class Partial(Protocol):
    """An upload under way: nobody sees it, and it can be gone on with after a crash of anybody."""

    size: int  #: bytes that are there

    def write(self, block: bytes | bytearray | memoryview) -> None:
        """Append. The block must stay as it is until the next call returns: it may still be hashed.

        Raises :class:`StoreFull`.
        """

    def digest(self) -> str:
        """SHA-256 of all that is there, in hexadecimal."""

    def close(self) -> None:
        """Leave it for later."""


class Store(Protocol):
    """Names and folders that it is given were checked (:mod:`master.artifacts.names`). Any call but ``file`` may raise
    :class:`StoreBroken`."""

    direct: bool  #: workers send to the store by themselves (``send_to``), and not through us (``open``)
    largest: int  #: bytes of one file

    def check(self) -> None:
        """Look whether the store can be used: it is there, and lets us in."""

    def begun(self, build_id: int) -> dict[str, int]:
        """Uploads of a build that are under way: bytes by name."""

    def open(self, build_id: int, name: str, offset: int) -> Partial:
        """Go on with an upload, or begin one, at an offset that is there; what lies beyond it is forgotten.

        Raises:
            StoreFull: no room to begin.
            ValueError: the offset is beyond what is there.
        """

    def send_to(self, build_id: int, name: str, *, size: int, sha256: str, md5: str) -> SendTo:
        """Where a worker may send one file. A store that verifies size or hashes takes no other."""

    def digest(self, build_id: int, name: str, size: int, path: str) -> str:
        """SHA-256 of an upload of so many bytes, in hexadecimal: read again; empty when there are more or fewer.

        Where senders may still write, it is copied to its path first, and the copy is what is read.

        Raises:
            FileNotFoundError: there is no such upload.
        """

    def settle(self, build_id: int, name: str, path: str) -> None:
        """Do what takes long before a complete upload can be published, and have it there for good."""

    def publish(self, build_id: int, name: str, path: str) -> None:
        """Move a complete upload to its path, at once and whole."""

    def drop(self, build_id: int, name: str, path: str = "") -> None:
        """Forget an upload that is under way, and the copy of it that ``digest`` has put at this path."""

    def sweep(self, build_ids: Iterable[int]) -> None:
        """Forget what is under way of these builds."""

    def builds(self) -> set[int]:
        """Builds with uploads under way."""

    def stored(self) -> Iterable[Stored]:
        """Every published file."""

    def remove(self, path: str) -> None:
        """Remove a published file, content when it is gone already."""

    def room(self) -> int:
        """Bytes that may still be stored: free ones less the reserve. May be negative."""

    def file(self, path: str) -> Path | None:
        """A published file to read; ``None`` when it is not there (any more), or not on this machine."""

    def link(self, path: str, name: str) -> str | None:
        """Where everybody may read a published file for some minutes; ``None`` where it is read through us."""

    def reader(self, path: str) -> AbstractContextManager[BinaryIO]:
        """A published file to read a little of, here and there. Raises :class:`FileNotFoundError`."""

    def local(self, path: str) -> AbstractContextManager[Path]:
        """A published file on this machine, for as long as the context lasts. Raises :class:`FileNotFoundError`."""
