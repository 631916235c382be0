"""The verdict: one wheel against the rules, several against each other."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from packaging.metadata import Metadata

from workers.wheel.beside import manifest_findings
from workers.wheel.bounds import Bounds, Unreadable
from workers.wheel.checks import CHECKS, Finding, shown
from workers.wheel.contents import Contents, read_contents
from workers.wheel.expectations import Expectations
from workers.wheel.identity import Identity, dist_info_folder, missing_files, parse_filename
from workers.wheel.install import install_findings
from workers.wheel.metadata import parse_metadata
from workers.wheel.rules import RULES
from workers.wheel.subject import Subject
from workers.wheel.symbols import Offer, symbol_findings

PASSED, FAILED, UNREADABLE = 0, 1, 2
_MOST_FINDINGS = 20  # of one check: a thousand files missing in RECORD are one mistake
_ARCHIVE = tuple(CHECKS)[: tuple(CHECKS).index("filename")]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    path: Path
    identity: Identity | None = None
    contents: Contents | None = None
    metadata: Metadata | None = None
    findings: Sequence[Finding] = ()
    made: frozenset[str] = field(default=frozenset())  #: ids of the checks that were made

    @property
    def exit_code(self) -> int:
        return exit_code(self.findings)


def exit_code(findings: Iterable[Finding]) -> int:
    codes = [UNREADABLE if CHECKS[finding.check].unreadable else FAILED for finding in findings]
    return max(codes, default=PASSED)


def verify(path: Path, expected: Expectations, bounds: Bounds, offer: Offer | None = None) -> Verdict:
    """All checks on one wheel. ``offer``: what the TVM named in the expectations exports."""
    identity = parse_filename(path.name)
    try:
        contents = read_contents(path, bounds, symbols=offer is not None)
    except Unreadable as error:
        finding = Finding(check=error.check, file="", reason=str(error))
        named = None if isinstance(identity, Finding) else identity
        return Verdict(path=path, identity=named, findings=[finding], made=frozenset({error.check}))
    made = {*_ARCHIVE, "filename"}
    if isinstance(identity, Finding) or not contents.whole:
        named = None if isinstance(identity, Finding) else identity
        findings = [*contents.findings, *([identity] if isinstance(identity, Finding) else [])]
        return Verdict(path=path, identity=named, contents=contents, findings=few(findings), made=frozenset(made))
    subject, findings = _subject(identity, contents)
    made |= {"dist-info", *(["metadata"] if f"{subject.dist_info}/METADATA" in contents.texts else [])}
    for rule in RULES:
        if rule.asked(expected) and (not rule.needs or f"{subject.dist_info}/{rule.needs}" in contents.texts):
            made.update(rule.checks)
            found = rule.run(subject, expected)
            findings += few(each for each in found if not expected.allows(each.check, each.file))
    if offer is not None:
        made.add("tvm-symbol")
        findings += symbol_findings(subject, offer)
    if expected.manifest:
        made.add("manifest")
        findings += manifest_findings(path, _known(path, identity, contents))
    if expected.install and not findings:
        made.add("install")
        findings += install_findings(path, identity)
    return Verdict(
        path=path,
        identity=identity,
        contents=contents,
        metadata=subject.metadata,
        findings=findings,
        made=frozenset(made),
    )


def _known(path: Path, identity: Identity, contents: Contents) -> dict[str, object]:
    """What a manifest has to say of it too."""
    known: dict[str, object] = {"file": path.name, "version": str(identity.version)}
    return known | {"size": contents.size, "sha256": contents.sha256}


def _subject(identity: Identity, contents: Contents) -> tuple[Subject, list[Finding]]:
    folder = dist_info_folder(identity, {name.partition("/")[0] for name in contents.members if "/" in name})
    if isinstance(folder, Finding):
        return Subject(identity=identity, contents=contents), [folder]
    findings = list(missing_files(folder, contents.texts))
    metadata = None
    if (data := contents.texts.get(f"{folder}/METADATA")) is not None:
        parsed = parse_metadata(shown(f"{folder}/METADATA"), data)
        if isinstance(parsed, list):
            findings += parsed
        else:
            metadata = parsed
    return Subject(identity=identity, contents=contents, dist_info=folder, metadata=metadata), findings


def few(findings: Iterable[Finding]) -> list[Finding]:
    """The first findings of each check, and how many more there are."""
    counts: Counter[str] = Counter()
    kept = []
    for finding in findings:
        counts[finding.check] += 1
        if counts[finding.check] <= _MOST_FINDINGS:
            kept.append(finding)
    for check, count in counts.items():
        if count > _MOST_FINDINGS:
            kept.append(Finding(check=check, file="", reason=f"and {count - _MOST_FINDINGS} more"))
    return kept


def set_findings(verdicts: Sequence[Verdict], expected: Expectations) -> Iterator[Finding]:
    """The wheels against each other: one for each platform, all of one version, none missing."""
    places: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    versions: dict[str, set[str]] = defaultdict(set)
    for verdict in verdicts:
        if (identity := verdict.identity) is not None:
            versions[identity.name].add(str(identity.version))
            for platform in sorted(identity.promise.platforms):
                places[identity.name, platform, identity.interpreters].append(verdict.path.name)
    for (name, platform, _), files in places.items():
        if len(files) > 1:
            reason = f"{name} has {len(files)} wheels for {platform}: {', '.join(map(shown, sorted(files)))}"
            yield Finding(check="wheel-duplicate", file="", reason=reason)
    for name, found in versions.items():
        if len(found) > 1:
            reason = f"the wheels of {name} have versions {', '.join(sorted(found))}"
            yield Finding(check="wheel-versions", file="", reason=reason)
    strays = any(verdict.identity is None for verdict in verdicts)
    if not strays and not any(f.check == "tag-platform" for verdict in verdicts for f in verdict.findings):
        for platform in expected.platforms:
            if not any(platform == found for _, found, _ in places):
                yield Finding(check="platform-missing", file="", reason=f"there is no wheel for {platform}")
