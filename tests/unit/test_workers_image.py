"""The image tools: what docker's failures mean, what scanners report, and a login that is in no file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from workers.errors import CodeError, InfrastructureError, ToolError
from workers.image.client import STATE, Login, client
from workers.image.failures import judged
from workers.image.findings import NoReport, read
from workers.image.lint import lint
from workers.image.smoke import health_check

FAILED_RUN = """\
#8 [2/3] RUN make it
#8 0.123 cc: nothing to do
#8 ERROR: process "/bin/sh -c make it" did not complete successfully: exit code: 2
------
 > [2/3] RUN make it:
0.101 first line
0.123 cc: nothing to do
------
Dockerfile:2
--------------------
   1 |     FROM base
   2 | >>> RUN make it
   3 |     USER app
--------------------
ERROR: failed to solve: process "/bin/sh -c make it" did not complete successfully: exit code: 2
"""
HEAD = "unexpected status from HEAD request to http://registry.example.org/v2/acme/x/manifests/latest: 401 Unauthorized"


@pytest.mark.parametrize(
    ("said", "kind", "reason"),
    [
        (FAILED_RUN, CodeError, "Dockerfile:2: RUN make it: exit code: 2; its last line: cc: nothing to do"),
        (f"ERROR: {HEAD}", InfrastructureError, "unauthorized: registry.example.org refuses the login"),
        (f"ERROR: failed to solve: {HEAD.replace('401 Unauthorized', '403 Forbidden')}", InfrastructureError, "403"),
        (
            "ERROR: failed to solve: acme/typo: failed to resolve source metadata for docker.io/acme/typo:latest:"
            " pull access denied, repository does not exist or may require authorization",
            CodeError,
            "acme/typo",
        ),
        (
            'ERROR: failed to do request: Head "http://registry.example.org/v2/": dial tcp 192.0.2.1:443:'
            " connect: connection refused",
            InfrastructureError,
            "connection refused",
        ),
        (
            "ERROR: Cannot connect to the Docker daemon at unix:///x.sock. Is the docker daemon running?",
            InfrastructureError,
            "docker's engine is not to be reached",
        ),
        ("ERROR: failed to solve: write /x: no space left on device", InfrastructureError, "no space left"),
        ("Dockerfile:3\nERROR: failed to solve: dockerfile parse error: unknown instruction: RNU", CodeError, "RNU"),
        ("docker: unknown command: docker buildx", InfrastructureError, "no buildx"),
        ("", CodeError, "docker says nothing"),
    ],
)
def test_whose_fault_a_failure_is(said: str, kind: type[ToolError], reason: str) -> None:
    error = judged(said.splitlines(), "registry.example.org")
    assert type(error) is kind, error
    assert reason in str(error)


def test_who_is_refused_elsewhere_has_named_something_wrong() -> None:
    assert isinstance(judged([f"ERROR: {HEAD}"], "other.example.org"), CodeError)


TRIVY = {
    "SchemaVersion": 2,
    "Results": [
        {"Target": "x", "Vulnerabilities": [{"VulnerabilityID": "CVE-1", "Severity": "HIGH", "PkgName": "zlib"}]}
    ],
}
GRYPE = {
    "descriptor": {},
    "matches": [{"vulnerability": {"id": "CVE-1", "severity": "High"}, "artifact": {"name": "zlib"}}],
}
SARIF = {
    "runs": [
        {
            "tool": {"driver": {"rules": [{"id": "CVE-1", "properties": {"security-severity": "7.5"}}]}},
            "results": [{"ruleId": "CVE-1", "level": "note"}],
        }
    ]
}


@pytest.mark.parametrize("report", [TRIVY, GRYPE, SARIF])
def test_findings_of_every_scanner_that_is_known(report: dict[str, Any]) -> None:
    (found,) = read(json.dumps(report))
    assert (found.severity, found.name) == ("high", "CVE-1")


@pytest.mark.parametrize(
    "report",
    [
        {"SchemaVersion": 2, "Results": [{"Target": "x", "Vulnerabilities": None}]},
        {"descriptor": {}, "matches": []},
        {"runs": [{"tool": {"driver": {}}, "results": []}]},
    ],
)
def test_a_report_of_nothing_is_one(report: dict[str, Any]) -> None:
    assert read(json.dumps(report)) == []


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "all is well",
            "[]",
            "{}",
            "null",
            "3",
            '{"matches": []}',
            '{"Results": []}',
            '{"runs": []}',
            "[" * 100_000,
        ),
        json.dumps({"SchemaVersion": 2, "Results": []}),
        json.dumps({"SchemaVersion": 2}),
        json.dumps(TRIVY).replace("HIGH", "SEVERE"),
        json.dumps(TRIVY).replace('"Severity": "HIGH", ', ""),
        json.dumps(SARIF).replace("7.5", "much"),
        json.dumps(TRIVY)[:-5],
    ],
)
def test_what_is_no_report_never_says_that_nothing_was_found(text: str) -> None:
    with pytest.raises(NoReport):
        read(text)


def test_health_checks_as_commands() -> None:
    assert health_check({"Healthcheck": {"Test": ["CMD", "/x", "y"]}}) == ["/x", "y"]
    assert health_check({"Healthcheck": {"Test": ["CMD-SHELL", "x y"]}}) == ["/bin/sh", "-c", "x y"]
    for none in ({}, {"Healthcheck": None}, {"Healthcheck": {"Test": ["NONE"]}}):
        assert health_check(none) == []


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "build").mkdir()
    monkeypatch.chdir(tmp_path / "build")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(theirs))
    told = {"auths": {"x": {"auth": "c2VjcmV0"}}, "credsStore": "pass", "proxies": {"default": {"noProxy": "x"}}}
    (theirs / "config.json").write_text(json.dumps(told))
    return tmp_path


def test_a_password_is_in_no_file_and_the_users_own_logins_are_left_out(checkout: Path) -> None:
    login = Login(registry="registry.example.org", user="ci", password='secret "0123')
    with client(login) as docker:
        folder = Path(docker.environment["DOCKER_CONFIG"])
        assert folder.stat().st_mode & 0o777 == 0o700
        for file in folder.iterdir():
            assert "secret" not in file.read_text(), file
        settings = json.loads((folder / "config.json").read_text())
        assert settings == {"proxies": {"default": {"noProxy": "x"}}, "credHelpers": {"registry.example.org": "mlc-ci"}}
        asked = ["docker-credential-mlc-ci", "get"]
        said = subprocess.run(
            asked, env=docker.environment, input="x", capture_output=True, text=True, check=True
        ).stdout
        assert json.loads(said)["Secret"] == 'secret "0123'
    assert list((checkout / "build" / STATE).iterdir()) == []


def test_without_a_login_there_is_none(checkout: Path) -> None:
    with client() as docker:
        settings = json.loads((Path(docker.environment["DOCKER_CONFIG"]) / "config.json").read_text())
        assert settings.keys() == {"proxies"}
        assert not [name for name in docker.environment if "REGISTRY" in name]


def test_hadolint_names_the_line(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    Path("Dockerfile").write_text('FROM debian:12\nRUN cd /tmp && make\nCMD ["x"]\n')
    with pytest.raises(CodeError, match=r"hadolint: Dockerfile:2 DL3003 warning"):
        lint("Dockerfile")
    Path(".hadolint.yaml").write_text("ignored: [DL3003]\n")
    lint("Dockerfile")
