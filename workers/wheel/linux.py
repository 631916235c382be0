"""What is demanded of ELF files: processor, symbol versions, RPATH, and where the libraries they need come from."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from itertools import chain

from workers.wheel.checks import Finding, shown
from workers.wheel.elf import Elf
from workers.wheel.expectations import Expectations
from workers.wheel.platform import MANYLINUX_LIBRARIES, MUSLLINUX_LIBRARIES, Numbers, numbers
from workers.wheel.subject import Subject, base, matches

_VERSION = re.compile(r"(GLIBC|GLIBCXX|CXXABI)_(\d+(?:\.\d+)*)")
#: Versions without a number: what they amount to (https://sourceware.org/glibc/wiki/Release). TM and FLOAT128 are old.
_NAMED = {"GLIBC_ABI_DT_RELR": "GLIBC_2.36", "GLIBC_ABI_GNU_TLS": "GLIBC_2.42", "GLIBC_ABI_GNU2_TLS": "GLIBC_2.42"}
_ORIGIN = re.compile(r"\$(ORIGIN|\{ORIGIN\})(?=/|$)")
FAMILIES = ("GLIBC", "GLIBCXX", "CXXABI")


def machine_findings(subject: Subject, _: Expectations) -> Iterator[Finding]:
    wanted = subject.identity.promise.elf_machine
    for name, elf in subject.contents.elves.items():
        if wanted and elf.machine != wanted:
            yield Finding(
                check="elf-machine", file=shown(name), reason=f"it is for {elf.machine}, the tag for {wanted}"
            )


def rpath_findings(subject: Subject, _: Expectations) -> Iterator[Finding]:
    for path, name in subject.installed.items():
        elf = subject.contents.elves.get(name)
        for entry in elf.rpaths if elf else ():
            if problem := _rpath_problem(path, entry):
                yield Finding(
                    check="rpath", file=shown(name), reason=f"RPATH entry {shown(entry) or '(empty)'} {problem}"
                )


def _rpath_problem(path: str, entry: str) -> str:
    if not entry:
        return "means the current folder"
    if not _ORIGIN.match(entry):
        return "is a folder of the machine that built it" if entry.startswith("/") else "depends on the current folder"
    place = posixpath.normpath(posixpath.join(posixpath.dirname(path), "." + _ORIGIN.sub("", entry, count=1)))
    return "leaves site-packages" if place.startswith("..") else ""


def provided(subject: Subject) -> set[str]:
    """The names by which the wheel's own libraries can be needed."""
    elves = subject.contents.elves
    return {base(name) for name in elves} | {elf.soname for elf in elves.values() if elf.soname}


def needed_findings(subject: Subject, expected: Expectations) -> Iterator[Finding]:
    own = provided(subject)
    system = MUSLLINUX_LIBRARIES if subject.identity.promise.musl else MANYLINUX_LIBRARIES
    allowed = (*system, *expected.exclude, *expected.needed)
    for name, elf in subject.contents.elves.items():
        for library in dict.fromkeys(elf.needed):
            if matches(library, expected.forbidden):
                yield Finding(check="library-forbidden", file=shown(name), reason=f"it needs {shown(library)}")
            elif library not in own and not matches(library, allowed):
                reason = f"it needs {shown(library)}, which is neither in the wheel nor on every such system"
                yield Finding(check="elf-needed", file=shown(name), reason=reason)


def ceiling_findings(subject: Subject, expected: Expectations) -> Iterator[Finding]:
    promise = subject.identity.promise
    promised = {"GLIBC": promise.glibc, "GLIBCXX": promise.glibcxx, "CXXABI": promise.cxxabi}
    asked = {"GLIBC": expected.glibc, "GLIBCXX": expected.glibcxx, "CXXABI": expected.cxxabi}
    own = provided(subject)
    for name, elf in subject.contents.elves.items():
        for family in FAMILIES:
            check = f"elf-{family.lower()}"
            found = list(_versions(elf, own, family))
            if private := next((text for text, version in found if not version), None):
                if promised[family] or asked[family]:
                    reason = f"it needs {shown(private)}, which no tag promises"
                    yield Finding(check=check, file=shown(name), reason=reason)
                continue
            newest = max(((version, text) for text, version in found), default=None)
            if newest is None:
                continue
            if promise.musl and family == "GLIBC":
                yield Finding(check=check, file=shown(name), reason=f"it needs {newest[1]}, and musl has no glibc")
                continue
            limits = [(promised[family], "the platform tag"), (numbers(asked[family] or "0"), "the expectation")]
            for limit, source in limits:
                if limit > (0,) and newest[0] > limit:
                    reason = f"it needs {newest[1]}; {source} allows {'.'.join(map(str, limit))}"
                    yield Finding(check=check, file=shown(name), reason=reason)
                    break


def _versions(elf: Elf, own: set[str], family: str) -> Iterator[tuple[str, Numbers]]:
    """Versions of a family, with their numbers (none: only glibc itself may use it)."""
    for library, versions in elf.versions.items():
        if library in own:
            continue  # a grafted libstdc++ has what it has
        for version in versions:
            if match := _VERSION.fullmatch(_NAMED.get(version, version)):
                if match[1] == family:
                    yield version, numbers(match[2])
            elif family == "GLIBC" and version.startswith("GLIBC_"):
                yield version, ()


def highest(elves: list[Elf], own: set[str]) -> dict[str, str]:
    """The newest version of each family that any of the libraries needs; for the manifest."""
    newest: dict[str, str] = {}
    for family in FAMILIES:
        found = chain.from_iterable(_versions(elf, own, family) for elf in elves)
        version = max((version for _, version in found), default=())
        newest[family] = ".".join(map(str, version))
    return newest
