"""``mlc-ci worker add`` here and ``mlc-ci-worker join`` there: what crosses, and what is refused."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from settings_sample import MINIMAL
from typer.testing import CliRunner

from master import bundle
from master.cli import app
from master.errors import UserError
from master.versions import mismatch
from workers.errors import UsageError
from workers.join import join, read_bundle
from workers.start import read_config

TLS = '[master]\nworker_listen = "0.0.0.0"\nworker_tls = true\nworker_host = ["ci.example.org", "10.0.0.5"]\n'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site whose master has never been started."""
    basedir = tmp_path / "site" / "master"
    (basedir / "secrets").mkdir(parents=True, mode=0o700)
    (basedir / "settings.toml").write_text(MINIMAL + TLS)
    return tmp_path / "site"


def add(site: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["worker", "add", *arguments, "--folder", str(site)])
    if isinstance(result.exception, UserError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def made(site: Path, name: str = "here", *arguments: str) -> dict[str, Any]:
    path = site / "made.bundle"
    path.unlink(missing_ok=True)
    add(site, name, "--output", str(path), *arguments)
    assert path.stat().st_mode & 0o777 == 0o600
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_a_bundle_has_what_the_worker_needs(site: Path) -> None:
    found = made(site)
    assert (found["name"], found["host"], found["port"], found["tls"]) == ("here", "ci.example.org", 9989, True)
    assert found["ca"] == (site / "master" / "tls" / "ca.pem").read_text()
    secret = site / "master" / "secrets" / "worker-here"
    assert found["password"] == secret.read_text().strip()
    assert secret.stat().st_mode & 0o777 == 0o600


def test_a_bundle_on_the_standard_output_has_nothing_beside_it(site: Path) -> None:
    result = CliRunner().invoke(app, ["worker", "add", "here", "--output", "-", "--folder", str(site)])
    assert json.loads(result.stdout) == made(site)


def test_a_second_bundle_has_the_same_password(site: Path) -> None:
    assert made(site) == made(site)


def test_the_worker_may_use_any_name_that_the_certificate_has_and_no_other(site: Path) -> None:
    assert made(site, "here", "--master-host", "10.0.0.5")["host"] == "10.0.0.5"
    with pytest.raises(bundle.CannotAdd, match="certificate is not for 'elsewhere'"):
        made(site, "here", "--master-host", "elsewhere")


def test_without_tls_a_bundle_is_for_this_machine_only(site: Path) -> None:
    (site / "master" / "settings.toml").write_text(MINIMAL)
    found = made(site)
    assert (found["host"], found["port"], found["tls"], found["ca"]) == ("127.0.0.1", 9989, False, "")
    with pytest.raises(bundle.CannotAdd, match="cannot be reached from other hosts"):
        made(site, "here", "--master-host", "ci.example.org")


def test_a_worker_that_the_settings_lack_is_told_and_not_written(site: Path) -> None:
    settings = site / "master" / "settings.toml"
    before = settings.read_text()
    said = add(site, "new", "--trust", "trusted", "--provides", "python, cmake", "--output", str(site / "b"))
    assert '[workers.new]\ntrust = "trusted"\nprovides = ["python", "cmake"]' in said
    assert settings.read_text() == before


def test_with_write_it_is_added_and_nothing_else_changes(site: Path) -> None:
    settings = site / "master" / "settings.toml"
    before = settings.read_text()
    arguments = ["--trust", "untrusted", "--os", "windows", "--max-builds", "3", "--write"]
    add(site, "new", *arguments, "--output", str(site / "b"))
    after = settings.read_text()
    assert after.startswith(before.rstrip("\n"))
    assert tomllib.loads(after)["workers"]["new"] == {
        "trust": "untrusted",
        "os": "windows",
        "provides": ["python"],
        "max_builds": 3,
    }


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["new"], "the settings have no worker 'new'"),
        (["new worker", "--trust", "trusted"], "workers"),
        (["7", "--trust", "trusted"], "is no name for a worker"),
    ],
)
def test_what_cannot_be_added_leaves_nothing(site: Path, arguments: list[str], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        add(site, *arguments, "--write", "--output", str(site / "b"))
    assert not (site / "b").exists()
    assert list((site / "master" / "secrets").iterdir()) == []
    assert (site / "master" / "settings.toml").read_text() == MINIMAL + TLS


def test_no_file_is_overwritten(site: Path) -> None:
    (site / "b").write_text("precious")
    with pytest.raises(bundle.CannotAdd, match="is there already"):
        add(site, "here", "--output", str(site / "b"))
    assert (site / "b").read_text() == "precious"


def test_without_a_master_it_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(bundle.CannotAdd, match=f"there is no master in {tmp_path}"):
        add(tmp_path, "here")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_what_root_makes_the_masters_user_can_read(site: Path) -> None:
    for path in (site / "master", site / "master" / "secrets"):
        os.chown(path, 61184, 61184)
    add(site, "new", "--trust", "trusted", "--write", "--output", str(site / "b"))
    ours = [p for p in (site / "master").rglob("*") if p.is_file()]
    assert len(ours) >= 6
    assert {path.stat().st_uid for path in ours} == {61184}


# --- there ------------------------------------------------------------------------------------------------------------


def joined(site: Path, folder: Path, **changes: Any) -> bool:
    path = site / "sent.bundle"
    path.write_text(json.dumps({**made(site), **changes}))
    return join(read_bundle(path), folder)


def test_a_worker_joins_with_what_the_master_sent(site: Path, tmp_path: Path) -> None:
    folder = tmp_path / "w"
    assert joined(site, folder)
    config = read_config(folder)
    assert (config.name, config.host, config.port, config.tls, config.ca) == (
        "here",
        "ci.example.org",
        9989,
        True,
        folder / "ca.pem",
    )
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_joining_again_changes_nothing_and_keeps_what_is_the_workers_own(site: Path, tmp_path: Path) -> None:
    folder = tmp_path / "w"
    joined(site, folder)
    config = json.loads((folder / "worker.json").read_text()) | {"environment": {"A": "b"}}
    (folder / "worker.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "worker.json").chmod(0o600)
    assert not joined(site, folder)
    assert joined(site, folder, port=1234, password="other", ca="")
    again = read_config(folder)
    assert (again.port, again.password, again.ca, again.environment) == (1234, "other", None, {"A": "b"})


def test_another_workers_folder_is_left_alone(site: Path, tmp_path: Path) -> None:
    joined(site, tmp_path / "w")
    with pytest.raises(UsageError, match="belongs to the worker 'here'"):
        joined(site, tmp_path / "w", name="there")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mlc_ci_worker": 2}, "is a bundle of format 2, this version reads 1"),
        ({"port": "9989"}, "port is missing, or of the wrong kind"),
        ({"port": 0}, "port is 0"),
        ({"tls": 1}, "tls is missing, or of the wrong kind"),
        ({"name": "../w"}, "not allowed"),
        ({"password": ""}, "is empty"),
        ({"surprise": 1}, "unknown key 'surprise'"),
    ],
)
def test_a_bundle_that_is_none_is_refused(site: Path, tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        joined(site, tmp_path / "w", **changes)
    assert not (tmp_path / "w").exists()


# --- versions ---------------------------------------------------------------------------------------------------------

OURS = {"mlc_ci": "1.2.3", "version": "4.3.0"}


@pytest.mark.parametrize(
    ("worker", "said"),
    [
        ({"mlc_ci": "1.2.3\n", "version": "4.3.0"}, ""),
        ({"mlc_ci": "1.2.9", "version": "4.3.1"}, ""),
        ({"mlc_ci": "1.2.4.dev3+g1234", "version": "4.3.0"}, ""),
        ({"mlc_ci": "1.3.0", "version": "4.3.0"}, "it has mlc-ci 1.3.0, the master 1.2.3"),
        ({"mlc_ci": "2.2.3", "version": "4.3.0"}, "it has mlc-ci 2.2.3, the master 1.2.3"),
        ({"mlc_ci": "1.2.3", "version": "4.2.1"}, "it has Buildbot 4.2.1, the master 4.3.0"),
        (
            {"mlc_ci": "1.1", "version": "3.0"},
            "it has mlc-ci 1.1, the master 1.2.3; it has Buildbot 3.0, the master 4.3.0",
        ),
        ({"version": "4.3.0"}, ""),
        ({"mlc_ci": "unknown (mlc-ci is not installed)", "version": "latest"}, ""),
        ({}, ""),
    ],
)
def test_a_worker_fits_when_major_and_minor_version_are_the_masters(worker: dict[str, object], said: str) -> None:
    assert mismatch(worker, OURS) == said
