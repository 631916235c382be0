"""The zip file: opened only when every reader must see the same members in it, none of which shares bytes with another.

``zipfile`` alone reads as many members as the file says, takes data before and after the archive, and (in some
versions of Python) overlapping members: how zip bombs and wheels that mean two things are made. PyPI refuses the
latter since 2025 (https://blog.pypi.org/posts/2025-08-07-wheel-archive-confusion-attacks/).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO
from zipfile import BadZipFile, ZipFile, ZipInfo

from workers.wheel.bounds import MIB, BoundExceeded, Bounds, Clock, Unreadable
from workers.wheel.checks import Finding, shown
from workers.wheel.names import name_findings

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_DESCRIPTOR = 0x8  # flag: sizes follow the data
_DESCRIPTOR_BYTES = 24
_UNSAID = 0xFFFFFFFF

#: What ``zipfile`` and ``zlib`` raise for damaged archives, found by mutating thousands of them.
DAMAGE = (
    BadZipFile,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    UnicodeError,
    ValueError,
    struct.error,
    zlib.error,
)


def open_archive(stream: BinaryIO, bounds: Bounds, clock: Clock) -> tuple[ZipFile | None, list[ZipInfo], list[Finding]]:
    """The archive and its members; with findings, nothing of it may be unpacked. Raises :class:`Unreadable`."""
    size = stream.seek(0, 2)
    if size > bounds.file:
        raise BoundExceeded("file", f"it has {size} bytes", str(bounds.file))
    problem = _check_directory(stream, size, bounds)
    if problem:
        return None, [], [Finding(check="zip-ambiguous", file="", reason=problem)]
    try:
        archive = ZipFile(stream)
    except DAMAGE as error:
        raise Unreadable("zip-broken", f"its table of members cannot be read: {shown(error)}") from error
    infos = archive.infolist()
    _check_sizes(infos, bounds)
    findings = list(name_findings(infos))
    if not findings:
        findings = list(_layout_findings(stream, archive.start_dir, infos, clock))
    return archive, infos, findings


def _check_directory(stream: BinaryIO, size: int, bounds: Bounds) -> str:
    """What makes the archive mean two things; raises for one that is cut off or has too large a table."""
    tail_at = max(0, size - _END.size - 0xFFFF)
    stream.seek(tail_at)
    tail = stream.read()
    found = tail.rfind(b"PK\5\6")
    if found < 0 or len(tail) - found < _END.size:
        raise Unreadable("zip-broken", "it is no zip file, or its end is missing")
    _, _, _, _, count, length, offset, comment = _END.unpack_from(tail, found)
    if found + _END.size != len(tail):
        return (
            "a comment follows the archive" if found + _END.size + comment == len(tail) else "data follows the archive"
        )
    end = tail_at + found
    if end >= _LOCATOR.size:
        stream.seek(end - _LOCATOR.size)
        signature, _, end64, _ = _LOCATOR.unpack(stream.read(_LOCATOR.size))
        if signature == b"PK\6\7":
            if end64 + _END64.size + _LOCATOR.size != end:
                raise Unreadable("zip-broken", "its zip64 end is not where it says")
            stream.seek(end64)
            fields = _END64.unpack(stream.read(_END64.size))
            if fields[0] != b"PK\6\6":
                raise Unreadable("zip-broken", "its zip64 end is damaged")
            count, length, offset, end = fields[7], fields[8], fields[9], end64
    if length > bounds.directory:
        raise BoundExceeded("directory", f"its table of members has {length} bytes", str(bounds.directory))
    if count > bounds.members:
        raise BoundExceeded("members", f"it has {count} members", str(bounds.members))
    if offset + length > end:
        raise Unreadable("zip-broken", "its beginning is missing")
    stream.seek(end - length)
    _check_count(stream.read(length), count)
    return "" if offset + length == end else "data precedes the archive, or lies before its table of members"


def _check_count(table: bytes, count: int) -> None:
    position = counted = 0
    while position + _CENTRAL.size <= len(table) and counted <= count:
        fields = _CENTRAL.unpack_from(table, position)
        if fields[0] != b"PK\1\2":
            raise Unreadable("zip-broken", f"its table of members is damaged at member {counted}")
        position += _CENTRAL.size + sum(fields[10:13])
        counted += 1
    if counted != count or position != len(table):
        raise Unreadable("zip-broken", f"it says that it has {count} members, and its table has room for others")


def _check_sizes(infos: Sequence[ZipInfo], bounds: Bounds) -> None:
    total = 0
    for info in infos:
        total += info.file_size
        if info.file_size > bounds.member:
            raise BoundExceeded(
                "member", f"{shown(info.filename)} unpacks to {info.file_size} bytes", str(bounds.member)
            )
        if info.file_size > MIB and info.file_size > bounds.ratio * info.compress_size:
            found = f"{shown(info.filename)} unpacks from {info.compress_size} to {info.file_size} bytes"
            raise BoundExceeded("ratio", found, f"{bounds.ratio} to 1")
    if total > bounds.unpacked:
        raise BoundExceeded("unpacked", f"it unpacks to {total} bytes", str(bounds.unpacked))


def _layout_findings(stream: BinaryIO, end: int, infos: Sequence[ZipInfo], clock: Clock) -> Iterator[Finding]:
    """Members lie one after the other without gaps, and say of themselves what the table says of them."""
    position, before, slack = 0, "the beginning", 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        clock.check()
        name = shown(info.orig_filename)
        if info.header_offset < position:
            yield Finding(check="zip-overlap", file=name, reason=f"its bytes are also those of {before}")
            return
        if info.header_offset > position + slack:
            hidden = f"{info.header_offset - position} bytes that no reader lists lie between {before} and it"
            yield Finding(check="zip-ambiguous", file=name, reason=hidden)
            return
        stream.seek(info.header_offset)
        header = stream.read(_LOCAL.size)
        if len(header) < _LOCAL.size or not header.startswith(b"PK\3\4"):
            raise Unreadable("zip-broken", f"{name} is not where the table of members says")
        _, _, flags, method, _, _, crc, packed, unpacked, name_length, extra_length = _LOCAL.unpack(header)
        said = stream.read(name_length)
        known = flags & _DESCRIPTOR or _UNSAID in (packed, unpacked)
        same = known or (crc, packed, unpacked) == (info.CRC, info.compress_size, info.file_size)
        encoding = "utf-8" if flags & 0x800 else "cp437"
        if not same or method != info.compress_type or said.decode(encoding, "replace") != info.orig_filename:
            yield Finding(
                check="zip-ambiguous", file=name, reason="its own header says otherwise than the table of members"
            )
            return
        position = info.header_offset + _LOCAL.size + name_length + extra_length + info.compress_size
        before, slack = name, _DESCRIPTOR_BYTES if flags & _DESCRIPTOR else 0
    if position > end:
        yield Finding(check="zip-overlap", file=before, reason="its bytes are also those of the table of members")
    elif end > position + slack:
        hidden = f"{end - position} bytes that no reader lists lie between {before} and the table of members"
        yield Finding(check="zip-ambiguous", file="", reason=hidden)
