"""What the gate says: a table for people, JSON for programs. The JSON's shape is stable: ``format`` counts it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from workers.wheel.checks import CHECKS, Finding
from workers.wheel.verify import FAILED, PASSED, UNREADABLE, Verdict, exit_code

FORMAT = 1
_STATES = {PASSED: "passed", FAILED: "failed", UNREADABLE: "unreadable"}


def overall(verdicts: Sequence[Verdict], together: Sequence[Finding]) -> int:
    return max([exit_code(together), *(verdict.exit_code for verdict in verdicts)])


def as_json(verdicts: Sequence[Verdict], together: Sequence[Finding]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "state": _STATES[overall(verdicts, together)],
        "wheels": [_wheel(verdict) for verdict in verdicts],
        "findings": [_finding(finding) for finding in together],
    }


def _wheel(verdict: Verdict) -> dict[str, Any]:
    identity, contents = verdict.identity, verdict.contents
    failed = {finding.check for finding in verdict.findings}
    checks = {name: "failed" if name in failed else "passed" for name in CHECKS if name in verdict.made | failed}
    return {
        "file": verdict.path.name,
        "name": identity.name if identity else None,
        "version": str(identity.version) if identity else None,
        "tags": sorted(map(str, identity.tags)) if identity else [],
        "size": contents.size if contents else None,
        "sha256": contents.sha256 if contents else None,
        "state": _STATES[verdict.exit_code],
        "checks": checks,
        "findings": [_finding(finding) for finding in verdict.findings],
    }


def _finding(finding: Finding) -> dict[str, str]:
    return {"check": finding.check, "file": finding.file, "reason": finding.reason, "hint": finding.hint}


def as_text(verdicts: Sequence[Verdict], together: Sequence[Finding]) -> str:
    return "\n".join(_lines(verdicts, together))


def _lines(verdicts: Sequence[Verdict], together: Sequence[Finding]) -> Iterator[str]:
    for verdict in verdicts:
        failed = len({finding.check for finding in verdict.findings})
        made = len(verdict.made | {finding.check for finding in verdict.findings})
        size = f", {verdict.contents.size} bytes" if verdict.contents else ""
        state = _STATES[verdict.exit_code].upper()
        yield f"{state:10}  {verdict.path.name}  ({made} checks, {failed} failed{size})"
        yield from _table(verdict.findings)
    if together:
        yield "FAILED      the wheels together"
        yield from _table(together)


def _table(findings: Sequence[Finding]) -> Iterator[str]:
    width = max((len(finding.check) for finding in findings), default=0)
    hinted = set()
    for finding in findings:
        where = f"{finding.file}: " if finding.file else ""
        yield f"  {finding.check:{width}}  {where}{finding.reason}"
        if finding.check not in hinted:
            hinted.add(finding.check)
            yield f"  {'':{width}}  hint: {finding.hint}"
