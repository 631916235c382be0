"""Which checks run when: the table between what was read and what is demanded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from workers.wheel import identity, libraries, linux, metadata, windows
from workers.wheel.checks import Finding, shown
from workers.wheel.expectations import Expectations
from workers.wheel.record import record_findings
from workers.wheel.subject import Subject


def _always(_: Expectations) -> bool:
    return True


def _ours(expected: Expectations) -> bool:
    return expected.policy


@dataclass(frozen=True, kw_only=True)
class Rule:
    """``needs``: a file of the .dist-info folder that must be there; empty: none."""

    checks: tuple[str, ...]
    run: Callable[[Subject, Expectations], Iterable[Finding]]
    asked: Callable[[Expectations], bool] = _always
    needs: str = ""


def _wheel(subject: Subject, _: Expectations) -> Iterator[Finding]:
    file = f"{subject.dist_info}/WHEEL"
    yield from identity.wheel_findings(subject.identity, shown(file), subject.contents.texts[file])


def _record(subject: Subject, _: Expectations) -> Iterator[Finding]:
    data = subject.contents.texts[f"{subject.dist_info}/RECORD"]
    yield from record_findings(subject.dist_info, data, subject.contents.members)


def _metadata(subject: Subject, expected: Expectations) -> Iterator[Finding]:
    if subject.metadata is not None:
        file = shown(f"{subject.dist_info}/METADATA")
        yield from metadata.agreement_findings(file, subject.metadata, subject.identity)
        yield from metadata.requires_findings(file, subject.metadata, expected)


def _description(subject: Subject, _: Expectations) -> Iterator[Finding]:
    if subject.metadata is not None:
        yield from metadata.description_findings(shown(f"{subject.dist_info}/METADATA"), subject.metadata)


RULES: tuple[Rule, ...] = (
    Rule(checks=("wheel-file", "tag-mismatch"), run=_wheel, needs="WHEEL"),
    Rule(checks=("tag-bare-linux",), run=lambda subject, _: identity.bare_findings(subject.identity)),
    Rule(
        checks=("tag-platform",),
        run=lambda subject, expected: identity.platform_findings(subject.identity, expected),
        asked=lambda expected: bool(expected.platforms),
    ),
    Rule(checks=("metadata-mismatch", "requires-dist"), run=_metadata, needs="METADATA"),
    Rule(checks=("description",), run=_description, asked=lambda _: metadata.can_render(), needs="METADATA"),
    Rule(
        checks=("version",),
        run=lambda subject, expected: identity.version_findings(subject.identity, expected),
        asked=lambda expected: expected.wanted_version is not None,
    ),
    Rule(
        checks=("placeholder-version",),
        run=lambda subject, expected: identity.placeholder_findings(subject.identity, expected),
        asked=lambda expected: expected.policy and expected.wanted_version is None,
    ),
    Rule(
        checks=("record", "record-hash", "record-weak", "record-unlisted", "record-absent"), run=_record, needs="RECORD"
    ),
    Rule(checks=("empty",), run=libraries.empty_findings, asked=_ours),
    Rule(checks=("package",), run=libraries.package_findings, asked=lambda expected: bool(expected.package)),
    Rule(checks=("toplevel",), run=libraries.toplevel_findings, asked=lambda expected: bool(expected.package)),
    Rule(checks=("bytecode",), run=libraries.bytecode_findings, asked=_ours),
    Rule(checks=("static-archive",), run=libraries.static_findings, asked=_ours),
    Rule(checks=("size",), run=libraries.size_findings, asked=lambda expected: expected.max_size > 0),
    Rule(checks=("library-format",), run=libraries.format_findings),
    Rule(checks=("library-missing",), run=libraries.required_findings, asked=lambda expected: bool(expected.libraries)),
    Rule(checks=("library-duplicate",), run=libraries.duplicate_findings, asked=_ours),
    Rule(checks=("grafted-library",), run=libraries.grafted_findings, asked=_ours),
    Rule(checks=("tag-pure", "native-foreign"), run=libraries.foreign_findings, asked=_ours),
    Rule(checks=("elf-broken", "pe-broken"), run=lambda subject, _: subject.contents.findings),
    Rule(checks=("elf-machine",), run=linux.machine_findings),
    Rule(checks=("rpath",), run=linux.rpath_findings),
    Rule(checks=("elf-needed", "library-forbidden"), run=linux.needed_findings, asked=_ours),
    Rule(checks=("elf-glibc", "elf-glibcxx", "elf-cxxabi"), run=linux.ceiling_findings),
    Rule(checks=("pe-machine",), run=windows.machine_findings),
    Rule(checks=("pe-import", "library-forbidden"), run=windows.import_findings, asked=_ours),
)
