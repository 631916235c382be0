"""Settings of the artifact process, and of what a stage fetches."""

from __future__ import annotations

from pathlib import Path

import pytest
from settings_sample import MINIMAL, problem, read, usable
from typer.testing import CliRunner

from master.artifacts.stores import store_of
from master.cli import app
from master.errors import SecretUnreadable

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


@pytest.mark.parametrize("secret", ["artifact-tokens", "admin-password", "s3-access-key", "s3-secret-key"])
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


# -- a bucket

S3 = '[artifacts.s3]\nbucket = "ci-artifacts"'


def test_a_bucket_needs_no_more_than_its_name() -> None:
    found = usable(read(S3)).artifacts.s3
    assert found is not None
    assert (found.bucket, found.prefix, found.endpoint, found.region) == ("ci-artifacts", "", "", "us-east-1")
    assert (found.path_style, found.checksums) == (True, False)
    assert usable(read()).artifacts.s3 is None
    more = 'prefix = "ci/main/"\nendpoint = "https://s3.example.org:9000"\nchecksums = true'
    assert read(S3, more).problems == []


@pytest.mark.parametrize(
    ("line", "key", "message"),
    [
        ('prefix = "ci"', "prefix", "is no prefix of keys"),
        ('prefix = "/ci/"', "prefix", "is no prefix of keys"),
        ('prefix = "a b/"', "prefix", "is no prefix of keys"),
        ('endpoint = "s3.example.org"', "endpoint", "is no web address"),
        ('checksums = "yes"', "checksums", ""),
        ('access_key = "x"', "access_key", ""),
    ],
)
def test_what_is_wrong_with_a_bucket_is_said(line: str, key: str, message: str) -> None:
    found = problem(read(S3, line), f"artifacts.s3.{key}")
    assert (found.severity, message in found.message) == ("error", True), found


@pytest.mark.parametrize("name", ["s3://ci", "ci/artifacts", "", "x"])
def test_a_bucket_is_called_by_its_name_alone(name: str) -> None:
    found = problem(read(f'[artifacts.s3]\nbucket = "{name}"'), "artifacts.s3.bucket")
    assert (found.severity, found.message) == ("error", "is no name of a bucket")
    assert problem(read('[artifacts.s3]\nprefix = "ci/"'), "artifacts.s3.bucket").severity == "error"


def test_the_command_says_the_same(tmp_path: Path) -> None:
    file = tmp_path / "ci.toml"
    for more, code in ((S3, 0), (f'{S3}\nprefix = "ci"', 3)):
        file.write_text(f"{MINIMAL}\n{more}\n")
        done = CliRunner().invoke(app, ["check", str(file)])
        assert done.exit_code == code, done.output
    assert "artifacts.s3.prefix" in done.output


def test_a_bucket_whose_keys_are_not_there_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    settings = usable(read(S3))
    with pytest.raises(SecretUnreadable, match="secret 's3-access-key' cannot be read from") as found:
        store_of(settings, tmp_path)
    assert "install -m 600 /dev/stdin" in str(found.value)
    (tmp_path / "secrets").mkdir()
    for name in ("s3-access-key", "s3-secret-key"):
        file = tmp_path / "secrets" / name
        file.write_text("x")
        file.chmod(0o644)
        with pytest.raises(SecretUnreadable, match=f"secret '{name}' in .* can be read by others"):
            store_of(settings, tmp_path)
        file.chmod(0o600)
    assert store_of(settings, tmp_path).direct
