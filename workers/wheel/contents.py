"""One pass over a wheel's members: what each is, its hash, and what a loader would read in the libraries.

Nothing is unpacked under a name from the wheel: libraries go through one nameless temporary file, one at a time.
"""

from __future__ import annotations

import hashlib
import mmap
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import IO
from zipfile import ZipFile, ZipInfo

from workers.wheel.archive import DAMAGE, open_archive
from workers.wheel.bounds import MIB, BoundExceeded, Bounds, Clock, Unreadable
from workers.wheel.checks import Finding, shown
from workers.wheel.elf import Elf, read_elf
from workers.wheel.native import Broken
from workers.wheel.pe import Pe, read_pe

_CHUNK = MIB
_PE_SUFFIXES = (".dll", ".pyd", ".exe")
HASHES = ("sha256", "sha384", "sha512")  #: what RECORD may use


class Kind(Enum):
    ELF = "ELF"
    PE = "PE"
    STATIC = "static library"
    OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class Member:
    size: int
    kind: Kind
    digests: dict[str, bytes]  #: by name of the hash: SHA-256, and what RECORD asked for


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What the checks want to know of the members; ``findings`` are of the archive, or of broken libraries."""

    size: int
    sha256: str
    members: dict[str, Member] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)  #: the files directly in ``*.dist-info``
    elves: dict[str, Elf] = field(default_factory=dict)
    pes: dict[str, Pe] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    whole: bool = True  #: false: the archive's own findings kept it from being unpacked


def read_contents(path: Path, bounds: Bounds, *, symbols: bool) -> Contents:
    """Reads a wheel. Raises :class:`Unreadable`; ``symbols``: take the names of TVM's symbols too, which costs time."""
    clock = Clock(bounds)
    try:
        if not path.is_file():
            raise Unreadable("zip-broken", "there is no such file" if not path.exists() else "it is no regular file")
        with path.open("rb") as stream:
            archive, infos, findings = open_archive(stream, bounds, clock)
            digest = hashlib.sha256()
            stream.seek(0)
            while chunk := stream.read(_CHUNK):
                clock.check()
                digest.update(chunk)
            contents = Contents(size=stream.tell(), sha256=digest.hexdigest(), findings=findings, whole=not findings)
            if archive and not findings:
                _Pass(contents, bounds, clock, symbols=symbols).run(archive, infos)
            return contents
    except OSError as error:
        raise Unreadable("zip-broken", f"it cannot be read: {error.strerror or error}") from error


class _Pass:
    def __init__(self, contents: Contents, bounds: Bounds, clock: Clock, *, symbols: bool) -> None:
        self.contents = contents
        self.bounds = bounds
        self.clock = clock
        self.symbols = symbols
        self.hashes = ["sha256"]

    def run(self, archive: ZipFile, infos: Sequence[ZipInfo]) -> None:
        texts = [info for info in infos if _is_text(info.filename)]
        for info in texts:
            self._read_text(archive, info)
        records = [data for name, data in self.contents.texts.items() if name.endswith("/RECORD")]
        self.hashes += [name for name in HASHES[1:] if any(f",{name}=".encode() in data for data in records)]
        with tempfile.TemporaryFile() as spool:
            for info in infos:
                if not info.is_dir():
                    self._read_member(archive, info, spool)

    def _read_text(self, archive: ZipFile, info: ZipInfo) -> None:
        if info.file_size > self.bounds.text:
            raise BoundExceeded("text", f"{shown(info.filename)} has {info.file_size} bytes", str(self.bounds.text))
        try:
            self.contents.texts[info.filename] = archive.read(info)
        except DAMAGE as error:
            raise _damaged(info, error) from error

    def _read_member(self, archive: ZipFile, info: ZipInfo, spool: IO[bytes]) -> None:
        digests = [hashlib.new(name, usedforsecurity=False) for name in self.hashes]
        kind, size = Kind.OTHER, 0
        try:
            with archive.open(info) as source:
                while chunk := source.read(_CHUNK):
                    self.clock.check()
                    if not size and (kind := kind_of(info.filename, chunk)) in (Kind.ELF, Kind.PE):
                        spool.seek(0)
                        spool.truncate()
                    size += len(chunk)
                    for digest in digests:
                        digest.update(chunk)
                    if kind in (Kind.ELF, Kind.PE):
                        spool.write(chunk)
        except DAMAGE as error:
            raise _damaged(info, error) from error
        self.contents.members[info.filename] = Member(
            size=size, kind=kind, digests={digest.name: digest.digest() for digest in digests}
        )
        if kind in (Kind.ELF, Kind.PE):
            spool.flush()
            self._read_library(info.filename, kind, spool.fileno())

    def _read_library(self, name: str, kind: Kind, descriptor: int) -> None:
        with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as image:
            try:
                if kind is Kind.ELF:
                    self.contents.elves[name] = read_elf(image, self.clock, symbols=self.symbols)
                else:
                    self.contents.pes[name] = read_pe(image, self.clock, symbols=self.symbols)
            except Broken as error:
                check = "elf-broken" if kind is Kind.ELF else "pe-broken"
                self.contents.findings.append(Finding(check=check, file=shown(name), reason=shown(error)))


def _damaged(info: ZipInfo, error: Exception) -> Unreadable:
    return Unreadable("zip-broken", f"{shown(info.filename)} cannot be unpacked: {shown(error)}")


def _is_text(name: str) -> bool:
    folder, _, file = name.partition("/")
    return folder.endswith(".dist-info") and file != "" and "/" not in file


def kind_of(name: str, beginning: bytes) -> Kind:
    """What a member is, by its first bytes (and its name, for Windows: some texts begin with ``MZ`` too)."""
    if beginning.startswith(b"\x7fELF"):
        return Kind.ELF
    suffix = PurePosixPath(name).suffix.lower()
    if beginning.startswith(b"MZ"):
        header = int.from_bytes(beginning[60:64], "little")
        if suffix in _PE_SUFFIXES or beginning[header : header + 4] == b"PE\0\0":
            return Kind.PE
    if beginning.startswith((b"!<arch>\n", b"!<thin>\n")) or suffix in (".a", ".lib"):
        return Kind.STATIC
    return Kind.OTHER
