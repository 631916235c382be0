"""The corpus' cases of the zip file, of names, tags, METADATA and RECORD."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

from wheel_corpus import (
    LINUX,
    METADATA,
    PURE_EXPECTATIONS,
    Draft,
    case,
    changed,
    linux,
    packed,
    pure,
    windows,
)
from wheel_natives import Natives

Members = Sequence[tuple[str, bytes]]
VICTIM = "sample/__init__.py"


def _info(name: str, **values: Any) -> Callable[[Members], bytes]:
    """Packs with attributes of one member's header changed."""

    def change(info: zipfile.ZipInfo) -> None:
        for attribute, value in values.items():
            setattr(info, attribute, value)

    return lambda members: packed(members, {name: change})


def _edited(edit: Callable[[bytes], bytes]) -> Callable[[Members], bytes]:
    return lambda members: edit(packed(members))


def _shifted(data: bytes, by: int) -> bytes:
    """The archive with ``by`` bytes put before it, and all offsets corrected: valid for zipfile."""
    end = data.rindex(b"PK\5\6")
    start = struct.unpack_from("<L", data, end + 16)[0]
    body = bytearray(data)
    struct.pack_into("<L", body, end + 16, start + by)
    position = start
    while position < end:
        offset = struct.unpack_from("<L", body, position + 42)[0]
        struct.pack_into("<L", body, position + 42, offset + by)
        position += 46 + sum(struct.unpack_from("<3H", body, position + 28))
    return b"#" * by + bytes(body)


def _overlapping(data: bytes) -> bytes:
    """The second member's entry points at the first one's bytes."""
    body = bytearray(data)
    end = data.rindex(b"PK\5\6")
    first = struct.unpack_from("<L", data, end + 16)[0]
    second = first + 46 + sum(struct.unpack_from("<3H", data, first + 28))
    body[second + 42 : second + 46] = data[first + 42 : first + 46]
    return bytes(body)


def _flagged(data: bytes, bit: int) -> bytes:
    body = bytearray(data)
    start = struct.unpack_from("<L", data, data.rindex(b"PK\5\6") + 16)[0]
    body[6] |= bit
    body[start + 8] |= bit
    return bytes(body)


PACKED: list[tuple[str, str, Callable[[Members], bytes]]] = [
    ("zip-broken", "not a zip", lambda _: b"no wheel at all" * 100),
    ("zip-broken", "empty file", lambda _: b""),
    ("zip-broken", "its end is cut off", _edited(lambda data: data[:-40])),
    ("zip-broken", "its beginning is cut off", _edited(lambda data: data[100:])),
    ("zip-broken", "a flipped bit in a member", _edited(lambda data: data[:60] + bytes([data[60] ^ 16]) + data[61:])),
    ("bounds", "a bomb", lambda members: packed([*members, ("sample/zeros", bytes(64 << 20))])),
    ("zip-ambiguous", "data before it", _edited(lambda data: b"#!/bin/sh\n" + data)),
    ("zip-ambiguous", "data before it, offsets corrected", _edited(lambda data: _shifted(data, 512))),
    ("zip-ambiguous", "data after it", _edited(lambda data: data + b"more")),
    ("zip-ambiguous", "a comment", _edited(lambda data: data[:-2] + b"\4\0note")),
    (
        "zip-ambiguous",
        "two names for a member",
        _edited(lambda data: data.replace(b"sample/__init__", b"sample/__evil__", 1)),
    ),
    ("zip-overlap", "two entries, one member", _edited(_overlapping)),
    ("member-symlink", "a link", _info(VICTIM, external_attr=0o120777 << 16)),
    ("member-symlink", "a device", _info(VICTIM, external_attr=0o020666 << 16)),
    ("member-encrypted", "a password", _edited(lambda data: _flagged(data, 1))),
    ("member-method", "LZMA", lambda members: packed(members, method={VICTIM: zipfile.ZIP_LZMA})),
    ("member-method", "bzip2", lambda members: packed(members, method={VICTIM: zipfile.ZIP_BZIP2})),
    ("member-duplicate", "a name twice", lambda members: packed([*members, (VICTIM, b"import os\n")])),
    ("member-duplicate", "a file and a folder", lambda members: packed([*members, (f"{VICTIM}/x.py", b"")])),
    ("member-case", "one name, two cases", lambda members: packed([*members, ("Sample/__init__.py", b"")])),
    ("member-case", "one name, two compositions", lambda m: packed([*m, ("a/e\u0301", b""), ("a/\u00e9", b"")])),
]
for _check, _name, _pack in PACKED:
    case(_check, _name)(lambda natives, pack=_pack: changed(linux(natives), pack=pack))

UNSAFE = ["/etc/passwd", "../evil.py", "sample/../../evil.py", "C:/evil.py", "C:evil.py", "sample\\..\\evil.py"]
UNSAFE += ["./evil.py", "sample//evil.py", "sample/nul.txt", "sample/evil.py.", "sample/e\x1b[2Jvil", "x" * 2000]
for _name in UNSAFE:
    case("path-unsafe", ascii(_name[:40]))(
        lambda natives, name=_name: changed(linux(natives), pack=lambda members: packed([*members, (name, b"")]))
    )

FILENAMES = {
    "sample.whl": "too few parts",
    "sample-1.2.3-py3-none.whl": "no platform",
    f"sample-!-{LINUX}.whl": "no version",
}
for _filename, _name in FILENAMES.items():
    case("filename", _name)(lambda natives, filename=_filename: changed(linux(natives), filename=filename))


def _texts(check: str, name: str, texts: dict[str, str | None], **expect: Any) -> None:
    case(check, name, **expect)(lambda natives: changed(linux(natives), texts=dict(texts)))


GOOD = METADATA.format(version="1.2.3")
WHEEL = f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {LINUX}\n"
_texts("dist-info", "no METADATA", {"METADATA": None})
_texts("dist-info", "no WHEEL", {"WHEEL": None})
_texts("dist-info", "no RECORD", {"RECORD": None})
_texts("wheel-file", "of the future", {"WHEEL": WHEEL.replace("1.0", "2.0")})
_texts("wheel-file", "empty", {"WHEEL": ""})
_texts("wheel-file", "a tag that multiplies", {"WHEEL": WHEEL + "Tag: " + "-".join([".".join("abcdefgh" * 90)] * 3)})
_texts("tag-mismatch", "WHEEL still says linux", {"WHEEL": WHEEL.replace("manylinux_2_17", "linux")})
_texts("tag-mismatch", "a build number", {"WHEEL": WHEEL + "Build: 7\n"})
_texts("metadata", "a broken requirement", {"METADATA": GOOD + "Requires-Dist: tvm ==== 1\n"})
_texts("metadata", "no name", {"METADATA": GOOD.replace("Name: sample\n", "")})
_texts("metadata", "a nest of parentheses", {"METADATA": GOOD + "Requires-Dist: a; " + "(" * 100_000 + "\n"})
_texts("metadata-mismatch", "another version", {"METADATA": GOOD.replace("1.2.3", "1.2.4")})
_texts("metadata-mismatch", "another name", {"METADATA": GOOD.replace("Name: sample", "Name: simple")})
_texts("description", "broken reStructuredText", {"METADATA": GOOD + "\nTitle\n===\n\n.. nothing::\n   `x\n"})
_texts("requires-dist", "nothing of the name", {"METADATA": GOOD.replace("apache-tvm-ffi", "tvm-ffi")})
_texts("requires-dist", "another range", {"METADATA": GOOD.replace(",<0.2", "")})


@case("dist-info")
def _of_another_version(natives: Natives) -> Draft:
    return changed(linux(natives), info="sample-1.2.2.dist-info")


@case("dist-info")
def _two_of_them(natives: Natives) -> Draft:
    draft = linux(natives)
    draft.members["other-1.0.dist-info/METADATA"] = b""
    return draft


@case("tag-bare-linux")
def _not_repaired(natives: Natives) -> Draft:
    return changed(linux(natives), tag="py3-none-linux_x86_64")


@case("tag-platform", base=PURE_EXPECTATIONS, platforms=["linux_x86_64"])
def _windows_where_linux_was_asked_for(natives: Natives) -> Draft:
    return changed(pure(), tag="py3-none-win_amd64")


@case("tag-pure", base=PURE_EXPECTATIONS)
def _any_platform_with_a_library(natives: Natives) -> Draft:
    draft = pure()
    draft.members["sample/libsample.so"] = natives.core()
    return draft


@case("version", tag="v1.2.4")
def _not_the_tag(natives: Natives) -> Draft:
    return linux(natives)


for _version in ("0.1.dev0", "0.1", "0.0.0", "0.1.dev0+cu128"):
    case("placeholder-version", _version, version="")(
        lambda natives, version=_version: changed(linux(natives), version=version)
    )


def _record(check: str, name: str, edit: Callable[[list[str]], list[str]]) -> None:
    case(check, name)(lambda natives: changed(linux(natives), record=edit))


def _first(lines: list[str], *values: str) -> list[str]:
    name, digest, size = lines[0].split(",")
    return [",".join(value.format(name=name, digest=digest, size=size) for value in values), *lines[1:]]


_record("record", "two fields", lambda lines: _first(lines, "{name}", "{digest}"))
_record("record", "a path that leaves", lambda lines: [*lines, "../evil.py,,"])
_record("record", "a line twice", lambda lines: [*lines, lines[0]])
_record("record", "a size of words", lambda lines: _first(lines, "{name}", "{digest}", "large"))
_record("record-hash", "another hash", lambda lines: _first(lines, "{name}", "sha256=AAAA", "{size}"))
_record("record-hash", "another size", lambda lines: _first(lines, "{name}", "{digest}", "1{size}"))
_record("record-weak", "no hash", lambda lines: _first(lines, "{name}", "", ""))
_record("record-weak", "MD5", lambda lines: _first(lines, "{name}", "md5=AAAA", "{size}"))
_record("record-unlisted", "a member more", lambda lines: lines[1:])
_record("record-absent", "a member less", lambda lines: [*lines, "sample/gone.py,sha256=AAAA,4"])


for _name, _manifest in {
    "no manifest": None,
    "the manifest of another file": {"file": "sample-1.2.3-1-py3-none-any.whl"},
    "the manifest of another version": {"version": "1.2.4"},
    "the manifest of an earlier build": {"sha256": "0" * 64},
    "a manifest that says nothing": "{}",
    "a manifest that is no JSON": "manifest",
    "a manifest that is no object": "[]",
    "a manifest of depth": "[" * 100_000,
}.items():
    case("manifest", _name, base=PURE_EXPECTATIONS, manifest=True)(
        lambda natives, manifest=_manifest: changed(pure(), manifest=manifest)
    )


@case("install", base=PURE_EXPECTATIONS, install=True)
def _a_command_that_is_none(natives: Natives) -> Draft:
    return pure(**{"entry_points.txt": "[console_scripts]\nrun = not a module\n"})


@case("wheel-duplicate", platforms=["linux_x86_64"])
def _left_from_the_last_build(natives: Natives) -> list[Draft]:
    return [linux(natives), changed(linux(natives), tag="py3-none-manylinux_2_28_x86_64")]


@case("wheel-versions", base={"policy": True}, exclude=["*tvm_ffi*"])
def _of_two_builds(natives: Natives) -> list[Draft]:
    return [linux(natives), changed(windows(natives), version="1.2.4")]


@case("platform-missing", platforms=["linux_x86_64", "win_amd64"])
def _no_windows(natives: Natives) -> list[Draft]:
    return [linux(natives)]
