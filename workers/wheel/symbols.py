"""Whether the TVM that users will have exports what a wheel's libraries take from it.

A library that was built against another TVM links and installs, and fails at import with an undefined symbol.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from workers.errors import UsageError
from workers.wheel.bounds import Bounds, Clock, Unreadable
from workers.wheel.checks import Finding, shown
from workers.wheel.contents import Contents, Kind, kind_of, read_contents
from workers.wheel.elf import read_elf
from workers.wheel.native import Broken
from workers.wheel.pe import read_pe
from workers.wheel.subject import Subject, base

_TOLD = 3  # symbols that a reason names


@dataclass(frozen=True, kw_only=True)
class Offer:
    """TVM's symbols that the given files export: of all ELF files together, and of each DLL by its lower-case name."""

    elf: frozenset[str]
    dlls: dict[str, frozenset[str]]

    def __or__(self, other: Offer) -> Offer:
        return Offer(elf=self.elf | other.elf, dlls=self.dlls | other.dlls)


def offer_of(contents: Contents) -> Offer:
    elf = frozenset[str]().union(*(elf.exported for elf in contents.elves.values()))
    return Offer(elf=elf, dlls={base(name).lower(): pe.exported for name, pe in contents.pes.items()})


def read_offer(paths: list[Path], bounds: Bounds) -> Offer:
    """What wheels and libraries export; a folder means all wheels in it.

    Raises :class:`UsageError` for one that cannot be read or exports nothing.
    """
    offer = Offer(elf=frozenset(), dlls={})
    for path in tvm_files(paths):
        try:
            one = (
                offer_of(read_contents(path, bounds, symbols=True)) if path.suffix == ".whl" else _library(path, bounds)
            )
        except (Unreadable, Broken, OSError, ValueError) as error:
            raise UsageError(f"--tvm {path} cannot be read: {error}") from error
        if not one.elf and not any(one.dlls.values()):
            raise UsageError(f"--tvm {path} exports no symbol of TVM: is it the right file?")
        offer |= one
    return offer


def tvm_files(paths: Iterable[Path]) -> list[Path]:
    """The files, folders replaced by the wheels in them. Raises :class:`UsageError` for a folder without one."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.glob("*.whl")) if path.is_dir() else [path]
        if not inside:
            raise UsageError(f"--tvm {path} holds no wheel")
        found += inside
    return found


def _library(path: Path, bounds: Bounds) -> Offer:
    clock = Clock(bounds)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
        if kind_of(path.name, image[:4096]) is Kind.ELF:
            return Offer(elf=read_elf(image, clock, symbols=True).exported, dlls={})
        return Offer(elf=frozenset(), dlls={path.name.lower(): read_pe(image, clock, symbols=True).exported})


def symbol_findings(subject: Subject, offer: Offer) -> Iterator[Finding]:
    own = offer_of(subject.contents)
    for name, elf in subject.contents.elves.items():
        if missing := sorted(elf.undefined - own.elf - offer.elf):
            yield _finding(name, missing)
    for name, pe in subject.contents.pes.items():
        lost = {
            symbol
            for library, symbols in pe.imports.items()
            for symbol in symbols - own.dlls.get(library.lower(), offer.dlls.get(library.lower(), frozenset()))
        }
        if lost:
            yield _finding(name, sorted(lost))


def _finding(name: str, missing: list[str]) -> Finding:
    more = f" and {len(missing) - _TOLD} more" if len(missing) > _TOLD else ""
    reason = f"the TVM given does not export {', '.join(map(shown, missing[:_TOLD]))}{more}, which it uses"
    return Finding(check="tvm-symbol", file=shown(name), reason=reason)
