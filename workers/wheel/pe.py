"""A DLL as Windows' loader sees it. pefile reads the headers and maps addresses; the tables are walked here, bounded.

pefile's own import parser stops without a word after 8192 symbols, and with ``fast_load=False`` counts every byte.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pefile  # type: ignore[import-untyped]

from workers.wheel.bounds import Clock
from workers.wheel.native import Broken, Image, TvmNames, text_at

_EXPORT, _IMPORT, _DELAY = 0, 1, 13  # data directories
_MOST_DLLS = 4096
_MOST_SYMBOLS = 1 << 20
_FARTHEST_HEADER = 1 << 16
_RVA_BASED = 1


@dataclass(frozen=True, kw_only=True)
class Pe:
    """``imports``: for each DLL, the names of TVM's symbols that are taken from it."""

    machine: int  #: IMAGE_FILE_MACHINE_…
    imports: Mapping[str, frozenset[str]] = field(default_factory=dict)
    exported: frozenset[str] = frozenset()  #: TVM's symbols that it offers


def read_pe(image: Image, clock: Clock, *, symbols: bool) -> Pe:
    """Raises :class:`Broken`, with the reason, for whatever a loader would stumble over."""
    header = int.from_bytes(image[60:64], "little")
    if len(image) < 64 or header > min(_FARTHEST_HEADER, len(image) - 24) or image[header : header + 4] != b"PE\0\0":
        raise Broken("its PE header is missing, or beyond its end")
    try:
        return _Reader(image, clock, _Headers(data=image, fast_load=True), symbols=symbols).read()
    except (
        pefile.PEFormatError,
        struct.error,
        ValueError,
        TypeError,
        AttributeError,
        IndexError,
        OverflowError,
    ) as error:
        raise Broken(f"its headers make no sense: {type(error).__name__}: {error}") from error


class _Headers(pefile.PE):
    def close(self) -> None:
        """Nothing: the image is not pefile's own, whose ``close`` collects the whole process' garbage each time."""


class _Reader:
    def __init__(self, image: Image, clock: Clock, file: Any, *, symbols: bool) -> None:
        self.image, self.clock, self.file, self.symbols = image, clock, file, symbols
        self.wide = file.OPTIONAL_HEADER.Magic == 0x20B
        self.names = TvmNames()
        self.taken = 0

    def read(self) -> Pe:
        slack = min(int(self.file.OPTIONAL_HEADER.FileAlignment), 4096)
        if self.file.FILE_HEADER.NumberOfSections != len(self.file.sections):
            raise Broken(f"it says that it has {self.file.FILE_HEADER.NumberOfSections} sections; "
                         f"{len(self.file.sections)} are there")  # fmt: skip
        for section in self.file.sections:
            end = section.PointerToRawData + section.SizeOfRawData
            if end > len(self.image) + slack:
                raise Broken(f"a section ends at {end}, and the file at {len(self.image)}: it is cut off")
        imports: dict[str, frozenset[str]] = {}
        for name, thunks in (*self._imports(), *self._delayed()):
            imports[name] = imports.get(name, frozenset()) | (self._thunks(thunks) if self.symbols else frozenset())
        return Pe(
            machine=int(self.file.FILE_HEADER.Machine),
            imports=imports,
            exported=self._exports() if self.symbols else frozenset(),
        )

    def _directory(self, index: int) -> int:
        entries = self.file.OPTIONAL_HEADER.DATA_DIRECTORY
        return int(entries[index].VirtualAddress) if index < len(entries) else 0

    def _unpack(self, shape: str, rva: int) -> tuple[int, ...]:
        data = self.file.get_data(rva, struct.calcsize(shape))
        return struct.unpack(shape, data)

    def _text(self, rva: int) -> str:
        return text_at(self.image, int(self.file.get_offset_from_rva(rva)), 512)

    def _imports(self) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        rva = self._directory(_IMPORT)
        while rva and len(found) <= _MOST_DLLS:
            self.clock.check()
            lookup, _, _, name, table = self._unpack("<5L", rva)
            if not name:
                return found
            found.append((self._text(name), lookup or table))
            rva += 20
        return self._few(found)

    def _delayed(self) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        rva = self._directory(_DELAY)
        base = int(self.file.OPTIONAL_HEADER.ImageBase)
        while rva and len(found) <= _MOST_DLLS:
            self.clock.check()
            attributes, name, _, _, lookup, *_ = self._unpack("<8L", rva)
            if not name:
                return found
            shift = 0 if attributes & _RVA_BASED else base
            found.append((self._text(name - shift), lookup - shift))
            rva += 32
        return self._few(found)

    def _few(self, found: list[tuple[str, int]]) -> list[tuple[str, int]]:
        if len(found) > _MOST_DLLS:
            raise Broken(f"it imports more than {_MOST_DLLS} DLLs")
        return found

    def _count(self) -> None:
        self.taken += 1
        if not self.taken % 1024:
            self.clock.check()
        if self.taken > _MOST_SYMBOLS:
            raise Broken(f"it has more than {_MOST_SYMBOLS} symbols")

    def _thunks(self, rva: int) -> frozenset[str]:
        shape, by_ordinal = ("<Q", 1 << 63) if self.wide else ("<L", 1 << 31)
        taken: set[str] = set()
        while True:
            self._count()
            (value,) = self._unpack(shape, rva)
            if not value:
                return frozenset(taken)
            if not value & by_ordinal:
                name = self.names.take(self.image, int(self.file.get_offset_from_rva(value + 2)))
                taken |= {name} - {None}  # type: ignore[arg-type]
            rva += struct.calcsize(shape)

    def _exports(self) -> frozenset[str]:
        rva = self._directory(_EXPORT)
        if not rva:
            return frozenset()
        count, _, names = self._unpack("<10L", rva)[6:9]
        if 4 * count > len(self.image):
            raise Broken(f"it says that it exports {count} names")
        exported = set()
        for (name_rva,) in struct.iter_unpack("<L", self.file.get_data(names, 4 * count)[: 4 * count]):
            self._count()
            name = self.names.take(self.image, int(self.file.get_offset_from_rva(name_rva)))
            if name is not None:
                exported.add(name)
        return frozenset(exported)
