"""What is demanded of a wheel's files as a whole: what must be there, what must not, and what only once."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from workers.wheel.checks import Finding, shown
from workers.wheel.contents import Kind
from workers.wheel.expectations import Expectations
from workers.wheel.subject import Subject, base, is_library, matches

_NATIVE = (Kind.ELF, Kind.PE)
_GRAFT = re.compile(r"-[0-9a-f]{8,64}(?=\.)")  # auditwheel and delvewheel put a hash into the name
_BYTECODE = (".pyc", ".pyo")


def _code(subject: Subject) -> list[str]:
    return [path for path in subject.installed if ".dist-info/" not in path]


def empty_findings(subject: Subject, _: Expectations) -> Iterator[Finding]:
    if not _code(subject):
        yield Finding(check="empty", file="", reason="it holds nothing but its own .dist-info")


def package_findings(subject: Subject, expected: Expectations) -> Iterator[Finding]:
    code = _code(subject)
    if code and not any(path.startswith(f"{expected.package}/") for path in code):
        yield Finding(check="package", file="", reason=f"it holds no folder {expected.package}")


def toplevel_findings(subject: Subject, expected: Expectations) -> Iterator[Finding]:
    tops = {path.partition("/")[0] for path in _code(subject)}
    allowed = (expected.package, "*.libs")
    if expected.package in tops:
        for top in sorted(tops):
            if not matches(top, allowed):
                reason = f"it would lie in site-packages beside {expected.package}"
                yield Finding(check="toplevel", file=shown(top), reason=reason)


def bytecode_findings(subject: Subject, _: Expectations) -> Iterator[Finding]:
    for name in subject.contents.members:
        if name.lower().endswith(_BYTECODE):
            yield Finding(check="bytecode", file=shown(name), reason="it is compiled Python")


def size_findings(subject: Subject, expected: Expectations) -> Iterator[Finding]:
    if subject.contents.size > expected.max_size:
        reason = f"it has {subject.contents.size} bytes; the budget is {expected.max_size}"
        yield Finding(check="size", file="", reason=reason)


def format_findings(subject: Subject, expected: Expectations) -> Iterator[Finding]:
    """What has a library's name, or is required as one, and is no library."""
    required = {f"{expected.package}/{library}" for library in expected.libraries}
    for path, name in subject.installed.items():
        if (is_library(path) or path in required) and subject.contents.members[name].kind not in _NATIVE:
            reason = f"it is neither ELF nor PE ({subject.contents.members[name].size} bytes)"
            yield Finding(check="library-format", file=shown(name), reason=reason)


def required_findings(subject: Subject, expected: Expectations) -> Iterator[Finding]:
    installed = subject.installed
    for library in expected.libraries:
        if f"{expected.package}/{library}" in installed:
            continue
        elsewhere = [path for path in installed if base(path) == library]
        where = f"; it lies at {shown(elsewhere[0])}" if elsewhere else ""
        reason = f"{library} is not at the root of {expected.package}{where}"
        yield Finding(check="library-missing", file="", reason=reason)


def duplicate_findings(subject: Subject, expected: Expectations) -> Iterator[Finding]:
    """The same content twice, or two that a loader would take for one."""
    groups: dict[tuple[str, object], list[str]] = defaultdict(list)
    for name, member in subject.contents.members.items():
        if member.kind in _NATIVE:
            groups["the same content", member.digests["sha256"]].append(name)
            elf = subject.contents.elves.get(name)
            if elf and elf.soname:
                groups["the same soname", elf.soname].append(name)
            if base(name) in expected.libraries:
                groups["the same name", base(name)].append(name)
    told: set[str] = set()
    for (what, _), names in groups.items():
        if len(names) > 1 and not told.issuperset(names):
            told.update(names)
            reason = f"it has {what} as {', '.join(map(shown, names[1:4]))}"
            yield Finding(check="library-duplicate", file=shown(names[0]), reason=reason)


def static_findings(subject: Subject, _: Expectations) -> Iterator[Finding]:
    for name, member in subject.contents.members.items():
        if member.kind is Kind.STATIC:
            yield Finding(
                check="static-archive", file=shown(name), reason=f"it is a static library ({member.size} bytes)"
            )


def grafted_findings(subject: Subject, expected: Expectations) -> Iterator[Finding]:
    """Copies of what comes from elsewhere, under their own name or the one that a repair tool gave them."""
    required = {f"{expected.package}/{library}" for library in expected.libraries}
    for path, name in subject.installed.items():
        if subject.contents.members[name].kind not in _NATIVE or path in required:
            continue
        grafted = path.partition("/")[0].endswith(".libs")
        plain = _GRAFT.sub("", base(path))
        never = (*expected.never_grafted, *expected.exclude) if grafted else expected.exclude
        patterns = [form for pattern in never for form in (pattern, *([f"{pattern}.*"] if ".so" in pattern else []))]
        stem = [pattern.partition(".so")[0] + ".so*" for pattern in expected.exclude if ".so" in pattern]
        if matches(plain, (*patterns, *stem), fold=plain.lower().endswith(".dll")):
            yield Finding(
                check="grafted-library", file=shown(name), reason=f"{plain} must come from elsewhere, not from here"
            )


def foreign_findings(subject: Subject, _: Expectations) -> Iterator[Finding]:
    """ELF in a wheel for Windows and the reverse, and any library in a wheel for all platforms."""
    promise = subject.identity.promise
    for name, member in subject.contents.members.items():
        if member.kind not in _NATIVE:
            continue
        if promise.platforms == {"any"}:
            yield Finding(
                check="tag-pure", file=shown(name), reason=f"it is {member.kind.value}, and the tag says any platform"
            )
        elif (promise.linux and member.kind is Kind.PE) or (promise.windows and member.kind is Kind.ELF):
            reason = f"it is {member.kind.value}, and the wheel is for {', '.join(sorted(promise.platforms))}"
            yield Finding(check="native-foreign", file=shown(name), reason=reason)
