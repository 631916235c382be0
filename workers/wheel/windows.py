"""What is demanded of PE files: processor, and where the DLLs they import come from."""

from __future__ import annotations

from collections.abc import Iterator

from workers.wheel.checks import Finding, shown
from workers.wheel.expectations import Expectations
from workers.wheel.platform import WINDOWS_LIBRARIES
from workers.wheel.subject import Subject, base, matches

_MACHINES = {0x14C: "x86", 0x8664: "x86-64", 0xAA64: "ARM64"}


def machine_name(machine: int) -> str:
    return _MACHINES.get(machine, f"machine {machine:#x}")


def machine_findings(subject: Subject, _: Expectations) -> Iterator[Finding]:
    wanted = subject.identity.promise.pe_machine
    for name, pe in subject.contents.pes.items():
        if wanted and pe.machine != wanted:
            reason = f"it is for {machine_name(pe.machine)}, the tag for {machine_name(wanted)}"
            yield Finding(check="pe-machine", file=shown(name), reason=reason)


def import_findings(subject: Subject, expected: Expectations) -> Iterator[Finding]:
    own = {base(name).lower() for name in subject.contents.pes}
    system = tuple(name if "*" in name else f"{name}.dll" for name in WINDOWS_LIBRARIES)
    allowed = (*system, *expected.exclude, *expected.needed)
    for name, pe in subject.contents.pes.items():
        for library in pe.imports:
            if matches(library, expected.forbidden, fold=True):
                yield Finding(check="library-forbidden", file=shown(name), reason=f"it imports {shown(library)}")
            elif library.lower() not in own and not matches(library, allowed, fold=True):
                reason = f"it imports {shown(library)}, which is neither in the wheel nor on every Windows"
                yield Finding(check="pe-import", file=shown(name), reason=reason)
