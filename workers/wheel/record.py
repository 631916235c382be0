"""RECORD against the members, both ways."""

from __future__ import annotations

import base64
import binascii
import csv
import io
from collections.abc import Iterator, Mapping

from workers.wheel.checks import Finding, shown
from workers.wheel.contents import HASHES, Member
from workers.wheel.names import unsafe

_UNLISTED = ("RECORD", "RECORD.jws", "RECORD.p7s")  # they cannot hold their own hashes
_MOST_LINES = 200_000


def record_findings(folder: str, data: bytes, members: Mapping[str, Member]) -> Iterator[Finding]:
    file = shown(f"{folder}/RECORD")
    own = {f"{folder}/{name}" for name in _UNLISTED}
    listed: set[str] = set()
    try:
        for number, row in enumerate(csv.reader(io.StringIO(data.decode("utf-8"), newline="")), 1):
            if number > _MOST_LINES:
                yield Finding(check="record", file=file, reason=f"it has more than {_MOST_LINES} lines")
                return
            if problem := _row_problem(row, listed):
                yield Finding(check="record", file=file, reason=f"line {number}: {problem}")
            elif row:
                yield from _judge(row, members, own)
            listed.update(row[:1])
    except (csv.Error, UnicodeError) as error:
        yield Finding(check="record", file=file, reason=f"it is no CSV: {shown(error)}")
        return
    for name in sorted(members.keys() - listed - own):
        yield Finding(
            check="record-unlisted", file=shown(name), reason="it is in the wheel, and RECORD does not list it"
        )


def _row_problem(row: list[str], listed: set[str]) -> str:
    if not row:
        return ""
    if len(row) != 3:
        return f"it has {len(row)} fields, not 3"
    if problem := unsafe(row[0]):
        return f"the path {shown(row[0])} {problem}"
    if row[0] in listed:
        return f"{shown(row[0])} is listed twice"
    if row[2] and not (row[2].isascii() and row[2].isdigit() and len(row[2]) < 20):
        return f"the size {shown(row[2])} is no number"
    return ""


def _judge(row: list[str], members: Mapping[str, Member], own: set[str]) -> Iterator[Finding]:
    name, written, size = row
    member = members.get(name)
    if member is None:
        yield Finding(check="record-absent", file=shown(name), reason="RECORD lists it, and it is not in the wheel")
    elif name not in own:
        yield from _compare(name, written, size, member)


def _compare(name: str, written: str, size: str, member: Member) -> Iterator[Finding]:
    algorithm, _, encoded = written.partition("=")
    if algorithm not in HASHES:
        found = f"its hash is {shown(algorithm)}" if algorithm else "it has no hash"
        yield Finding(check="record-weak", file=shown(name), reason=f"{found} in RECORD")
        return
    try:
        digest = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except (binascii.Error, ValueError):
        digest = b""
    if digest != member.digests.get(algorithm):
        yield Finding(check="record-hash", file=shown(name), reason=f"its {algorithm} is not the one in RECORD")
    elif size and int(size) != member.size:
        reason = f"it has {member.size} bytes; RECORD says {size}"
        yield Finding(check="record-hash", file=shown(name), reason=reason)
