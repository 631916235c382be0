"""Input made to hurt the reader ends in a message, in a process with little memory and little time."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from wheel_corpus import ANY, INIT, LINUX, METADATA, Draft, packed

resource = pytest.importorskip("resource", reason="memory is limited by setrlimit, which Windows has not")

MEMORY = 768 << 20  # bytes of address space: an idle interpreter with all imports maps about a tenth
PROCESSOR = 20  # seconds


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR, PROCESSOR))


def gate(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "workers.cli", "verify-wheel", *map(str, arguments)],
        cwd=Path(__file__).parents[2],
        preexec_fn=limited,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def judged(path: Path, *options: object) -> set[str]:
    """The ids of the failed checks; also: no traceback, one line a finding, a bounded report."""
    done = gate("--json", *options, path)
    assert "Traceback" not in done.stderr and done.returncode in (1, 2), done.stderr + done.stdout
    assert len(done.stdout) < 100_000
    answer = json.loads(done.stdout)
    return {finding["check"] for wheel in answer["wheels"] for finding in wheel["findings"]}


def text_member(**texts: str) -> Draft:
    return Draft(members={"sample/__init__.py": INIT}, tag=ANY, texts=dict(texts))


def library(data: bytes, name: str = "sample/libx.so") -> Draft:
    return Draft(members={"sample/__init__.py": INIT, name: data}, tag="py3-none-win_amd64" if "dll" in name else LINUX)


# --- archives ---------------------------------------------------------------------------------------------------------


def central(name: bytes, offset: int, size: int, packed_size: int, crc: int = 0) -> bytes:
    fields = (0x14, 0x14, 0, 8, 0, 0x21, crc, packed_size, size, len(name), 0, 0, 0, 0, 0, offset)
    return struct.pack("<4s6H3L5H2L", b"PK\1\2", *fields) + name


def ended(body: bytes, table: bytes, count: int) -> bytes:
    return body + table + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(table), len(body), 0)


def many_members() -> bytes:
    """Sixty thousand members without a byte of data, as far as the table can count."""
    return ended(b"", b"".join(central(b"m%d" % index, 0, 0, 0) for index in range(60_000)), 60_000)


def long_table() -> bytes:
    return ended(b"", b"".join(central(b"x" * 65_000, 0, 0, 0) for _ in range(400)), 400)


def miscounted() -> bytes:
    """The table holds sixty thousand members and says one."""
    return ended(b"", b"".join(central(b"m%d" % index, 0, 0, 0) for index in range(60_000)), 1)


def overlapping_bomb() -> bytes:
    """As by David Fifield: thousands of entries that share one compressed kernel."""
    kernel = packed([("k", bytes(1 << 20))])
    end = kernel.rindex(b"PK\5\6")
    start = struct.unpack_from("<L", kernel, end + 16)[0]
    crc, small, large = struct.unpack_from("<3L", kernel, start + 16)
    table = b"".join(central(b"k%d" % index if index else b"k", 0, large, small, crc) for index in range(5000))
    return ended(kernel[:start], table, 5000)


def nested() -> bytes:
    inner = packed([("zeros", bytes(16 << 20))])
    return packed([(f"sample/{index}.zip", inner) for index in range(100)])


ARCHIVES: dict[str, tuple[Callable[[], bytes], set[str]]] = {
    "a bomb": (lambda: packed([("zeros", bytes(512 << 20))]), {"bounds"}),
    "an overlapping bomb": (overlapping_bomb, {"zip-overlap"}),
    "a nested bomb": (nested, {"dist-info"}),
    "too many members": (many_members, {"bounds"}),
    "more members than it says": (miscounted, {"zip-broken"}),
    "a table of long names": (long_table, {"bounds"}),
    "an ocean of nothing": (lambda: bytes(64 << 20), {"zip-broken"}),
    "only end records": (lambda: struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, 0, 0, 0) * 3000, {"zip-ambiguous"}),
    "empty": (lambda: packed([]), {"dist-info"}),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_hostile_archives_end_in_a_message(name: str, tmp_path: Path) -> None:
    make, expected = ARCHIVES[name]
    path = tmp_path / f"sample-1.2.3-{ANY}.whl"
    path.write_bytes(make())
    assert judged(path) == expected


def test_a_large_wheel_within_the_bounds_needs_little_memory(tmp_path: Path) -> None:
    """Two gigabytes of a library: more than the process may have."""
    path = tmp_path / f"sample-1.2.3-{LINUX}.whl"
    block = os.urandom(1 << 16) + bytes(16 << 20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in ("a", "b"):
            with archive.open(f"sample/data-{name}.bin", "w", force_zip64=True) as member:
                for _ in range(64):
                    member.write(block)
    assert judged(path) == {"dist-info"}


@pytest.mark.parametrize("name", ["/dev/zero", "a pipe", "nothing"])
def test_what_is_no_file_is_not_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"sample-1.2.3-{ANY}.whl"
    if name == "a pipe":
        os.mkfifo(path)
    elif name != "nothing":
        path.symlink_to(name)
    assert judged(path) == {"zip-broken"}


# --- texts ------------------------------------------------------------------------------------------------------------

GOOD = METADATA.format(version="1.2.3")
TEXTS: dict[str, tuple[dict[str, str], set[str]]] = {
    "a deep requirement": ({"METADATA": GOOD + "Requires-Dist: a; " + "(" * 500_000 + "\n"}, {"metadata"}),
    "a long version": ({"METADATA": GOOD.replace("1.2.3", "1." * 500_000 + "1")}, {"metadata-mismatch"}),
    "a megabyte of headers": ({"METADATA": GOOD + "Name: other\n" * 100_000}, {"metadata"}),
    "too long": ({"METADATA": GOOD + "\n" + "x" * (3 << 20)}, {"metadata"}),
    "a tag of a billion": (
        {"WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: " + "-".join([".".join("a" * 1000)] * 3) + "\n"},
        {"wheel-file"},
    ),
    "a long field": ({"RECORD": "x" * 200_000 + ",sha256=x,1\n"}, {"record"}),
    "many empty lines": ({"RECORD": "\n" * 16_000_000}, {"record"}),
    "many strange lines": ({"RECORD": "a,b\n" * 4_000_000}, {"record"}),
    "escapes": ({"RECORD": '"\x1b[31mred\n\x07",,\n'}, {"record", "record-unlisted"}),
}


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_texts_end_in_a_message(name: str, tmp_path: Path) -> None:
    texts, expected = TEXTS[name]
    found = judged(text_member(**texts).write(tmp_path), "--bound", "ratio=1100")
    assert found == expected


def test_names_from_the_wheel_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    path = Draft(members={"sample/\x1b]0;owned\x07.py": INIT}, tag=ANY).write(tmp_path)
    assert not set(gate(path).stdout) & {"\x1b", "\x07"}


# --- libraries --------------------------------------------------------------------------------------------------------

HEADER = struct.Struct("<4s5B7x2HL3QL6H")
DYNAMIC_AT, LOAD_SIZE = 0x200, 1 << 20


def elf(
    tags: list[tuple[int, int]], body: bytes = b"", e_shoff: int = 0, e_shnum: int = 0, shentsize: int = 64
) -> bytes:
    """An ELF library of one segment: tags at 0x200, ``body`` at 0x1000."""
    head = HEADER.pack(b"\x7fELF", 2, 1, 1, 0, 0, 3, 62, 1, 0, 64, e_shoff, 0, 64, 56, 2, shentsize, e_shnum, 0)
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in tags)
    load = struct.pack("<LLQQQQQQ", 1, 5, 0, 0, 0, LOAD_SIZE, LOAD_SIZE, 4096)
    where = struct.pack("<LLQQQQQQ", 2, 4, DYNAMIC_AT, DYNAMIC_AT, 0, len(dynamic), len(dynamic), 8)
    data = (head + load + where).ljust(DYNAMIC_AT, b"\0") + dynamic
    return (data.ljust(0x1000, b"\0") + body).ljust(LOAD_SIZE, b"\0")


STRTAB, SYMTAB, HASH, GNU_HASH, NEEDED, VERNEED, VERNEEDNUM = 5, 6, 4, 0x6FFFFEF5, 1, 0x6FFFFFFE, 0x6FFFFFFF
_STRINGS = (STRTAB, 0x80000)

ELVES: dict[str, bytes] = {
    "2**32 sections": elf([], e_shoff=0x1000, e_shnum=0, body=struct.pack("<4Q", 0, 0, 0, 0) + b"\xff" * 32),
    "65535 sections beyond the end": elf([], e_shoff=0x1000, e_shnum=0xFFFF),
    "sections of 65535 bytes": elf([], e_shoff=0x1000, e_shnum=0xFF00, shentsize=0xFFFF),
    "versions in a circle": elf(
        [_STRINGS, (VERNEED, 0x1000), (VERNEEDNUM, 1 << 40)], struct.pack("<HHLLL", 1, 65535, 0, 0, 0)
    ),
    "versions of versions": elf(
        [_STRINGS, (VERNEED, 0x1000), (VERNEEDNUM, 65535)], struct.pack("<HHLLL", 1, 65535, 0, 16, 1) * 30_000
    ),
    "a name without end": elf([(STRTAB, 0x1000), (NEEDED, 0)], b"x" * (LOAD_SIZE - 0x1000)),
    "names beyond the end": elf([(STRTAB, LOAD_SIZE - 1), (NEEDED, 1 << 62)]),
    "2**32 symbols": elf([_STRINGS, (SYMTAB, 0x1000), (HASH, 0x2000)], b"\xff" * 0x2000),
    "2**32 buckets": elf([_STRINGS, (SYMTAB, 0x1000), (GNU_HASH, 0x2000)], b"\xff" * 0x2000),
    "a chain without end": elf(
        [_STRINGS, (SYMTAB, 0x1000), (GNU_HASH, 0x2000)],
        bytes(0x1000) + struct.pack("<8L", 1, 1, 1, 0, 0, 0, 1, 0),
    ),
    "as many tags as fit": elf([(NEEDED, 0)] * 60_000 + [_STRINGS]),
}


@pytest.mark.parametrize("name", ELVES)
def test_hostile_elf_files_end_in_a_message(name: str, tmp_path: Path) -> None:
    tvm = tmp_path / f"sample-9-{ANY}.whl"
    tvm.write_bytes(b"")
    path = library(ELVES[name]).write(tmp_path)
    done = gate("--json", path, "--bound", "ratio=1000")
    assert "Traceback" not in done.stderr and done.returncode in (0, 1), done.stderr


@pytest.mark.parametrize("name", ELVES)
def test_hostile_tvm_libraries_end_in_a_message(name: str, tmp_path: Path) -> None:
    """``--tvm`` has its symbols read."""
    tvm = tmp_path / "libtvm_ffi.so"
    tvm.write_bytes(ELVES[name])
    done = gate(library(ELVES["2**32 sections"]).write(tmp_path), "--tvm", tvm)
    assert "Traceback" not in done.stderr and done.returncode == 2, done.stderr
    assert done.stderr.startswith("mlc-ci-worker verify-wheel: error: --tvm")


def pe(sections: int = 1, optional: int = 240, at: int = 64, directories: int = 16) -> bytes:
    head = b"MZ".ljust(60, b"\0") + struct.pack("<L", at)
    coff = struct.pack("<4s2H3L2H", b"PE\0\0", 0x8664, sections, 0, 0, 0, optional, 0x2022)
    shape, alignments, sizes = "<H2B5LQ2L6H4L2H4Q2L", (4096, 512), (0, 1 << 20, 512, 0)
    fields = struct.pack(
        shape, 0x20B, 0, 0, *[0] * 5, 1 << 20, *alignments, *[0] * 6, *sizes, 2, 0, *[0] * 4, 0, directories
    )
    tables = struct.pack("<LL", 0x1000, 0xFFFFFFFF) * 16
    table = struct.pack("<8s6L2HL", b".x", 0x10000, 0x1000, 0xF000, 0x1000, 0, 0, 0, 0, 0x60000020)
    body = (head.ljust(at, b"\0") + coff + fields + tables + table * sections).ljust(0x1000, b"\0")
    return body + struct.pack("<5L", 0x1000, 0, 0, 0x1000, 0x1000) * 3000


PES: dict[str, bytes] = {
    "imports in a circle": pe(),
    "a million DLLs": pe() + struct.pack("<5L", 0x1000, 0, 0, 0x1000, 0x1000) * 200_000,
    "2000 sections": pe(2000),
    "65535 sections": pe(1)[:70] + b"\xff\xff" + pe(1)[72:],
    "a header far away": b"MZ".ljust(60, b"\0") + struct.pack("<L", 8 << 20) + bytes(8 << 20),
    "2**32 directories": pe(directories=0xFFFFFFFF),
    "nothing but MZ": b"MZ",
}


@pytest.mark.parametrize("name", PES)
def test_hostile_pe_files_end_in_a_message(name: str, tmp_path: Path) -> None:
    path = library(PES[name], "sample/x.dll").write(tmp_path)
    found = judged(path, "--bound", "ratio=1100")
    assert found <= {"pe-broken", "library-format"}, found
    tvm = tmp_path / "tvm_ffi.dll"
    tvm.write_bytes(PES[name])
    done = gate(path, "--tvm", tvm)
    assert "Traceback" not in done.stderr and done.returncode == 2, done.stderr


def test_time_is_bounded(tmp_path: Path) -> None:
    """A minute's work with a second's bound."""
    path = tmp_path / f"sample-1.2.3-{ANY}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        block = os.urandom(1 << 14) + bytes(1 << 20)
        for index in range(40):
            with archive.open(f"sample/{index}.bin", "w") as member:
                for _ in range(64):
                    member.write(block)
    assert judged(path, "--bound", "seconds=1") == {"bounds"}
