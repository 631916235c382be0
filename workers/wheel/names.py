"""Whether the names in a zip file can be unpacked anywhere without surprise. Pure: names and modes in, findings out."""

from __future__ import annotations

import stat
import unicodedata
from bisect import bisect
from collections.abc import Iterator, Sequence
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipInfo

from workers.wheel.checks import Finding, shown

_ENCRYPTED = 0x1 | 0x40 | 0x2000  # traditional, strong, and encrypted table of members
_LONGEST_NAME = 1024
_DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))})


def name_findings(infos: Sequence[ZipInfo]) -> Iterator[Finding]:
    for info in infos:
        name = shown(info.orig_filename)
        if problem := unsafe(info.orig_filename):
            yield Finding(check="path-unsafe", file=name, reason=f"the name {problem}")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (kind == stat.S_IFDIR) > info.orig_filename.endswith("/"):
            what = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a folder with a file's name"}.get(kind, "a device")
            yield Finding(check="member-symlink", file=name, reason=f"it is {what} (mode {info.external_attr >> 16:o})")
        if info.flag_bits & _ENCRYPTED:
            yield Finding(check="member-encrypted", file=name, reason="it is encrypted")
        elif info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            yield Finding(check="member-method", file=name, reason=f"compression method {info.compress_type}")
    if not any(unsafe(info.orig_filename) for info in infos):
        yield from _collisions([info.orig_filename for info in infos])


def unsafe(name: str) -> str:
    """What makes this name unsafe to unpack; empty: nothing."""
    if not name or name.startswith("/"):
        return "is absolute" if name else "is empty"
    if len(name) > _LONGEST_NAME:
        return f"has {len(name)} characters"
    if "\\" in name:
        return "has a backslash: a separator on Windows"
    if ":" in name:
        return "has a colon: a drive or a stream on Windows"
    if any(ord(character) < 32 or 127 <= ord(character) < 160 for character in name):
        return "has control characters"
    parts = name.removesuffix("/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "has an empty, . or .. part"
    if any(part.endswith((".", " ")) for part in parts):
        return "has a part that ends in a dot or blank: Windows drops it"
    if device := next((part for part in parts if part.partition(".")[0].lower() in _DEVICES), None):
        return f"names a device of Windows, {shown(device)}"
    return ""


def _collisions(names: Sequence[str]) -> Iterator[Finding]:
    ordered = sorted(names)
    seen: set[str] = set()
    spelled: dict[str, str] = {}
    for name in names:
        plain = name.removesuffix("/")
        other = spelled.setdefault(unicodedata.normalize("NFC", plain).casefold(), plain)
        below = bisect(ordered, f"{plain}/")
        if plain in seen:
            yield Finding(check="member-duplicate", file=shown(name), reason="the name occurs more than once")
        elif other != plain:
            yield Finding(check="member-case", file=shown(name), reason=f"only its case differs from {shown(other)}")
        elif name == plain and below < len(ordered) and ordered[below].startswith(f"{plain}/"):
            inner = shown(ordered[below])
            yield Finding(check="member-duplicate", file=shown(name), reason=f"it is a file, and the folder of {inner}")
        seen.add(plain)
