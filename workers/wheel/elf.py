"""An ELF library as the dynamic loader sees it: through its segments. Sections may be missing, or lie.

pyelftools describes the structures. Its ``ELFFile`` is not used: it follows counts and offsets from the file without
bound (a section table of 2**32 entries is a valid ELF file).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.common.utils import struct_parse
from elftools.elf.enums import ENUM_D_TAG
from elftools.elf.structs import ELFStructs

from workers.wheel.bounds import Clock
from workers.wheel.native import Broken, Image, TvmNames, text_at

_MOST_SEGMENTS = 1024
_MOST_TAGS = 1 << 16
_MOST_VERSIONS = 1 << 16
_MOST_SYMBOLS = 1 << 22
_TAGS = {value: name for name, value in ENUM_D_TAG.items() if isinstance(value, int) and name != "DT_LOOS"}
_EXPORTED = (1, 2, 10)  # global, weak, unique
_WEAK = 2


@dataclass(frozen=True, kw_only=True)
class Elf:
    """``versions``: for each library needed, the symbol versions that it must have."""

    machine: str  #: EM_X86_64 …
    bits: int
    soname: str = ""
    needed: tuple[str, ...] = ()
    rpaths: tuple[str, ...] = ()  #: entries of RPATH and RUNPATH; an empty one means the current folder
    versions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    undefined: frozenset[str] = frozenset()  #: TVM's symbols that it uses, weak ones apart
    exported: frozenset[str] = frozenset()  #: TVM's symbols that it offers


def read_elf(image: Image, clock: Clock, *, symbols: bool) -> Elf:
    """Raises :class:`Broken`, with the reason, for whatever a loader would stumble over."""
    try:
        return _Reader(image, clock).read(symbols=symbols)
    except (ELFError, struct.error, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise Broken(f"its headers make no sense: {type(error).__name__}: {error}") from error


class _Reader:
    def __init__(self, image: Image, clock: Clock) -> None:
        self.image, self.clock, self.size = image, clock, len(image)
        self.stream: Any = image
        identity = image[:16]
        if len(identity) < 16 or identity[4] not in (1, 2) or identity[5] not in (1, 2):
            raise Broken("its header is cut off, or of no known class")
        self.bits = 32 * identity[4]
        self.order = "<" if identity[5] == 1 else ">"
        self.structs: Any = ELFStructs(little_endian=self.order == "<", elfclass=self.bits)
        self.structs.create_basic_structs()
        self.header = self._parse(self.structs.Elf_Ehdr, 0, 64 if self.bits == 64 else 52)
        self.structs.create_advanced_structs(
            self.header.e_type, self.header.e_machine, str(self.header.e_ident.EI_OSABI)
        )
        self.loads: list[tuple[int, int, int]] = []  # address, offset, size in the file
        self.tags: dict[str, list[int]] = {}

    def read(self, *, symbols: bool) -> Elf:
        header = self.header
        if header.e_shoff and header.e_shoff + max(header.e_shnum, 1) * header.e_shentsize > self.size:
            raise Broken(f"its section headers end at {header.e_shoff + header.e_shnum * header.e_shentsize}, and "
                         f"the file at {self.size}: it is cut off")  # fmt: skip
        dynamic = None
        for segment in self._segments():
            if segment.p_offset + segment.p_filesz > self.size:
                end = segment.p_offset + segment.p_filesz
                raise Broken(f"a segment ends at {end}, and the file at {self.size}: it is cut off")
            if segment.p_type == "PT_LOAD":
                self.loads.append((segment.p_vaddr, segment.p_offset, segment.p_filesz))
            elif segment.p_type == "PT_DYNAMIC" and segment.p_filesz:
                dynamic = segment
        if dynamic is None:
            return Elf(machine=str(header.e_machine), bits=self.bits)
        self._read_tags(dynamic.p_offset, dynamic.p_filesz)
        rpaths = [path for tag in ("DT_RPATH", "DT_RUNPATH") for path in self._texts(tag)]
        undefined, exported = self._symbols() if symbols else (frozenset(), frozenset())
        return Elf(
            machine=str(header.e_machine),
            bits=self.bits,
            soname=next(iter(self._texts("DT_SONAME")), ""),
            needed=tuple(self._texts("DT_NEEDED")),
            rpaths=tuple(entry for path in rpaths if path for entry in path.split(":")),
            versions=self._versions(),
            undefined=undefined,
            exported=exported,
        )

    def _parse(self, shape: Any, offset: int, size: int) -> Any:
        if offset < 0 or offset + size > self.size:
            raise Broken(f"a header at {offset:#x} is beyond its end: it is cut off")
        return struct_parse(shape, self.stream, stream_pos=offset)

    def _segments(self) -> Iterator[Any]:
        count, size = self.header.e_phnum, self.header.e_phentsize
        if count > _MOST_SEGMENTS:
            raise Broken(f"it has {count} segments")
        if count and size < self.structs.Elf_Phdr.sizeof():
            raise Broken(f"its program headers have {size} bytes each")
        for index in range(count):
            yield self._parse(self.structs.Elf_Phdr, self.header.e_phoff + index * size, size)

    def _read_tags(self, offset: int, size: int) -> None:
        pair = struct.Struct(self.order + ("QQ" if self.bits == 64 else "LL"))
        if size // pair.size > _MOST_TAGS:
            raise Broken(f"its dynamic section has {size} bytes")
        for tag, value in pair.iter_unpack(self.image[offset : offset + size // pair.size * pair.size]):
            if tag == 0:
                return
            self.tags.setdefault(_TAGS.get(tag, ""), []).append(value)

    def _tag(self, name: str) -> int | None:
        return next(iter(self.tags.get(name, ())), None)

    def _offset(self, address: int, what: str) -> int:
        for start, offset, size in self.loads:
            if start <= address < start + size:
                return address - start + offset
        raise Broken(f"{what} is at {address:#x}, which is in no segment of the file")

    def _strings(self) -> int:
        strings = self._tag("DT_STRTAB")
        if strings is None:
            raise Broken("its dynamic section has no string table")
        return self._offset(strings, "the string table")

    def _texts(self, tag: str) -> list[str]:
        values = self.tags.get(tag)
        return [text_at(self.image, self._strings() + value) for value in values] if values else []

    def _versions(self) -> dict[str, tuple[str, ...]]:
        table, count = self._tag("DT_VERNEED"), self._tag("DT_VERNEEDNUM")
        versions: dict[str, tuple[str, ...]] = {}
        if table is None or not count:
            return versions
        at, strings, taken = self._offset(table, "the version table"), self._strings(), 0
        for _ in range(min(count, _MOST_VERSIONS)):
            need = self._parse(self.structs.Elf_Verneed, at, 16)
            names, aux = [], at + need.vn_aux
            for _ in range(need.vn_cnt):
                self.clock.check()
                taken += 1
                if taken > _MOST_VERSIONS:
                    raise Broken(f"it has more than {_MOST_VERSIONS} symbol versions")
                version = self._parse(self.structs.Elf_Vernaux, aux, 16)
                names.append(text_at(self.image, strings + version.vna_name, 256))
                if not version.vna_next:
                    break
                aux += version.vna_next
            library = text_at(self.image, strings + need.vn_file)
            versions[library] = (*versions.get(library, ()), *names)
            if not need.vn_next:
                break
            at += need.vn_next
        return versions

    def _symbols(self) -> tuple[frozenset[str], frozenset[str]]:
        table = self._tag("DT_SYMTAB")
        if table is None:
            return frozenset(), frozenset()
        at, strings, count = self._offset(table, "the symbol table"), self._strings(), self._symbol_count()
        entry = struct.Struct(self.order + ("LBBHQQ" if self.bits == 64 else "LLLBBH"))
        if count > _MOST_SYMBOLS or at + count * entry.size > self.size:
            raise Broken(f"it says that it has {count} symbols")
        names = TvmNames()
        undefined: set[str] = set()
        exported: set[str] = set()
        for index, fields in enumerate(entry.iter_unpack(self.image[at : at + count * entry.size])):
            if not index % 1024:
                self.clock.check()
            info, section = (fields[1], fields[3]) if self.bits == 64 else (fields[3], fields[5])
            binding = info >> 4
            if binding not in _EXPORTED or (not section and binding == _WEAK):
                continue
            name = names.take(self.image, strings + fields[0])
            if name is not None:
                (exported if section else undefined).add(name)
        return frozenset(undefined), frozenset(exported)

    def _symbol_count(self) -> int:
        """The dynamic section does not say it; the hash tables do."""
        word = struct.Struct(self.order + "L")
        if (table := self._tag("DT_HASH")) is not None:
            return int(word.unpack_from(self.image, self._offset(table, "the hash table") + 4)[0])
        table = self._tag("DT_GNU_HASH")
        if table is None:
            raise Broken("it has symbols and no hash table")
        at = self._offset(table, "the hash table")
        buckets, first, bloom, _ = struct.unpack_from(self.order + "4L", self.image, at)
        at += 16 + bloom * self.bits // 8
        if buckets > _MOST_SYMBOLS or at + 4 * buckets > self.size:
            raise Broken(f"its hash table says that it has {buckets} buckets")
        last = max(struct.unpack_from(f"{self.order}{buckets}L", self.image, at), default=0)
        if last < first:
            return int(first)
        at += 4 * buckets
        while last - first < _MOST_SYMBOLS:
            if not last % 1024:
                self.clock.check()
            if word.unpack_from(self.image, at + 4 * (last - first))[0] & 1:
                break
            last += 1
        return int(last + 1)
