"""The vulnerability scanner that the settings name: run over each image, and its report held against a limit."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from workers.errors import CodeError, InfrastructureError
from workers.image.client import STATE, Docker, local_name
from workers.image.findings import SEVERITIES, Finding, NoReport, read

_MOST = 64 << 20  # bytes of a report
_SHOWN = 50


def report_of(target: str) -> Path:
    return STATE / (f"scan-{target}.json" if target else "scan.json")


def scan(docker: Docker, target: str, command: Sequence[str]) -> None:
    """Runs the scanner, which is told IMAGE (one of this engine's) and REPORT (the file to write) as variables.

    Raises:
        InfrastructureError: it left no report that can be read: then nobody knows.
    """
    report = report_of(target)
    report.unlink(missing_ok=True)
    told = {"IMAGE": local_name(target), "REPORT": str(report.resolve())}
    # with the worker's own settings of docker, where the scanner may want its plugins
    environment = {name: value for name, value in docker.environment.items() if name != "DOCKER_CONFIG"}
    theirs = {"DOCKER_CONFIG": os.environ["DOCKER_CONFIG"]} if "DOCKER_CONFIG" in os.environ else {}
    try:
        code = subprocess.run(command, env={**environment, **theirs, **told}, check=False).returncode
    except OSError as error:
        raise InfrastructureError(f"the scanner does not run: {command[0]}: {error.strerror}") from None
    try:
        found = _read(report)
    except NoReport as error:
        ended = f", and ended with exit code {code}" if code else ""
        raise InfrastructureError(f"the scanner left no report of {told['IMAGE']}: {error}{ended}") from None
    print(f"{report.name}: {len(found)} findings", flush=True)


def judge(targets: Sequence[str], fail_on: str) -> None:
    """Raises :class:`CodeError` for a finding as bad as ``fail_on`` or worse."""
    bad: list[Finding] = []
    for target in targets:
        try:
            found = _read(report_of(target))
        except NoReport as error:
            raise InfrastructureError(f"{report_of(target).name} cannot be read: {error}") from None
        for finding in found[:_SHOWN]:
            print(f"{target or 'image'}: {finding}")
        if len(found) > _SHOWN:
            print(f"… and {len(found) - _SHOWN} more, none of them worse")
        bad += [finding for finding in found if finding.rank >= SEVERITIES.index(fail_on)]
    if bad:
        shown = "; ".join(map(str, sorted(bad, reverse=True)[:3]))
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise CodeError(f"{len(bad)} findings at or above {fail_on}: {shown}{more}")


def _read(report: Path) -> list[Finding]:
    try:
        if report.stat().st_size > _MOST:
            raise NoReport("it is too big")
        return read(report.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NoReport("there is none") from None
    except (OSError, UnicodeError) as error:
        raise NoReport(str(error)) from None
