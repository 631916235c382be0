"""Settings of the artifact process, and of what a stage fetches."""

from __future__ import annotations

import pytest
from settings_sample import problem, read, usable

TLS = '[master]\nworker_tls = true\nworker_host = ["ci.example.org"]'
CHECK = """
[stages.check]
uses = "commands"
needs = ["lint"]
commands = ["true"]
downloads = [{ stage = "STAGE", globs = ["*.whl"], into = "INTO" }]
"""


def test_without_a_word_it_listens_on_loopback_and_keeps_some_of_the_disk() -> None:
    found = usable(read()).artifacts
    assert (found.listen, found.port, found.tls, found.reserve, found.public) == (
        "127.0.0.1",
        8020,
        False,
        2 << 30,
        True,
    )


def test_beyond_loopback_there_must_be_tls() -> None:
    found = problem(read('[artifacts]\nlisten = "0.0.0.0"'), "artifacts.listen")
    assert (found.severity, found.found) == ("error", "0.0.0.0")  # noqa: S104
    assert "tls = true" in found.allowed
    assert read(TLS, '[artifacts]\nlisten = "0.0.0.0"\ntls = true').problems == []


def test_tls_shows_the_certificates_of_the_workers_port() -> None:
    found = problem(read("[artifacts]\ntls = true"), "artifacts.tls")
    assert found.allowed == "master.worker_tls = true, or no tls here"


@pytest.mark.parametrize(("port", "other"), [(8010, "web_port"), (9989, "worker_port")])
def test_a_port_is_nobody_elses(port: int, other: str) -> None:
    assert other in problem(read(f"[artifacts]\nport = {port}"), "artifacts.port").message
    assert read("[artifacts]\nport = 8011").problems == []


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('reserve = "2 GB"', "artifacts.reserve"),
        ('url = "ftp://x"', "artifacts.url"),
        ("port = 65536", "artifacts.port"),
        ('public = "yes"', "artifacts.public"),
        ('folder = "x"', "artifacts.folder"),
    ],
)
def test_what_is_wrong_is_said(line: str, key: str) -> None:
    assert problem(read(f"[artifacts]\n{line}"), key).severity == "error"


def check(stage: str = "lint", into: str = "wheels") -> str:
    return CHECK.replace("STAGE", stage).replace("INTO", into)


def test_a_stage_fetches_from_what_it_needs() -> None:
    (wanted,) = usable(read(check())).stages["check"].downloads
    assert (wanted.stage, wanted.globs, wanted.into) == ("lint", ("*.whl",), "wheels")


def test_and_from_nothing_else() -> None:
    found = problem(read(check("other")), "stages.check.downloads")
    assert found.message == "stage 'check' does not need 'other', and may run before it has left anything"
    assert found.allowed == "lint"


@pytest.mark.parametrize("into", ["..", "a/../..", "/tmp", "C:x", "..\\\\x", ""])  # noqa: S108
def test_nothing_is_fetched_out_of_the_checkout(into: str) -> None:
    assert [p.message for p in read(check(into=into)).errors] == ["leads out of the checkout"]


@pytest.mark.parametrize("secret", ["artifact-tokens", "admin-password"])
def test_no_build_is_given_the_masters_own_secrets(secret: str) -> None:
    more = f'[stages.a]\nuses = "commands"\ncommands = ["x"]\nwhen = ["push"]\nsecrets = ["{secret}"]'
    assert problem(read(more), "stages.a.secrets").message == "is the master's own secret"
    assert read(more.replace(secret, "deploy-key")).problems == []


def test_artifacts_are_where_workers_reach_the_master() -> None:
    wire = '[master]\nworker_listen = "0.0.0.0"\nworker_tls = true\nworker_host = ["ci.example.org"]\n'
    artifacts = usable(read(wire)).artifacts
    assert (artifacts.listen, artifacts.tls) == ("0.0.0.0", True)  # noqa: S104
    own = usable(read(wire, '[artifacts]\nlisten = "127.0.0.1"\ntls = false')).artifacts
    assert (own.listen, own.tls) == ("127.0.0.1", False)
    plain = usable(read()).artifacts
    assert (plain.listen, plain.tls) == ("127.0.0.1", False)
