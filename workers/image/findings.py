"""What a vulnerability scanner has found, read from its JSON report: Trivy's, Grype's, or SARIF of anybody.

It fails closed: a report that is missing, empty or of an unknown shape is no report, and never "nothing found". Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SEVERITIES = ("unknown", "negligible", "low", "medium", "high", "critical")  #: the least first
_CVSS = ((9.0, "critical"), (7.0, "high"), (4.0, "medium"), (0.1, "low"), (0.0, "negligible"))
_LEVELS = {"error": "high", "warning": "medium", "note": "low", "none": "negligible"}  # SARIF's, without a score


class NoReport(ValueError):
    """It is not what a scanner writes; says why."""


@dataclass(frozen=True, order=True)
class Finding:
    rank: int
    name: str
    package: str

    @property
    def severity(self) -> str:
        return SEVERITIES[self.rank]

    def __str__(self) -> str:
        return f"{self.severity}: {self.name}" + (f" in {self.package}" if self.package else "")


def read(text: str) -> list[Finding]:
    """Everything that was found, the worst first. Raises :class:`NoReport`."""
    try:
        report = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NoReport(f"it is no JSON ({str(error)[:100]})") from None
    try:
        return sorted(set(_findings(report)), reverse=True)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, NoReport):
            raise
        raise NoReport(f"a part of it is not as it must be ({error!r})"[:200]) from None


def _findings(report: Any) -> Iterator[Finding]:
    if not isinstance(report, dict):
        raise NoReport("it is no JSON object")
    if isinstance(report.get("Results"), list) and "SchemaVersion" in report:
        yield from _trivy(report)
    elif isinstance(report.get("matches"), list) and "descriptor" in report:
        yield from _grype(report)
    elif isinstance(report.get("runs"), list) and report["runs"]:
        yield from _sarif(report)
    else:
        raise NoReport("it is none of Trivy, Grype or SARIF with something that was looked at")


def _trivy(report: Mapping[str, Any]) -> Iterator[Finding]:
    if not report["Results"]:
        raise NoReport("Trivy has looked at nothing")
    for result in report["Results"]:
        for found in result.get("Vulnerabilities") or ():
            yield _finding(found["Severity"], found["VulnerabilityID"], found.get("PkgName", ""))


def _grype(report: Mapping[str, Any]) -> Iterator[Finding]:
    for match in report["matches"]:
        found = match["vulnerability"]
        yield _finding(found["severity"], found["id"], match["artifact"]["name"])


def _sarif(report: Mapping[str, Any]) -> Iterator[Finding]:
    for run in report["runs"]:
        rules = {rule["id"]: rule for rule in run["tool"]["driver"].get("rules") or ()}
        for result in run["results"]:
            rule = rules.get(result["ruleId"], {})
            score = rule.get("properties", {}).get("security-severity")
            if score is not None:
                severity = next(name for least, name in _CVSS if float(score) >= least)
            else:
                severity = _LEVELS[result.get("level", "warning")]
            yield _finding(severity, result["ruleId"], "")


def _finding(severity: object, name: object, package: object) -> Finding:
    word = str(severity).lower()
    if word not in SEVERITIES:
        raise NoReport(f"it has a severity {str(severity)[:40]!r}; known are {', '.join(SEVERITIES)}")
    return Finding(SEVERITIES.index(word), str(name)[:80], str(package)[:80])
