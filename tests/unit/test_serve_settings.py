"""What a process takes over from outside before it becomes a master: settings by a link, secrets by copies."""

from __future__ import annotations

from pathlib import Path

import pytest

from master.places import SECRETS, SETTINGS
from master.serve import CannotTake, complete, prepare, take_over, take_secrets
from master.settings import read_secret
from master.site.processes import NotStarted, claimed

TOML = """\
[project]
name = "sample"
repository = "/nowhere"
[workers.one]
trust = "trusted"
[stages.test]
uses = "commands"
commands = ["true"]
"""


@pytest.fixture
def given(tmp_path: Path) -> Path:
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "database").write_text("hunter2\n")
    (folder / "database").chmod(0o644)  # as containers are given them
    return folder


def test_given_secrets_become_the_masters_own(given: Path, tmp_path: Path) -> None:
    assert take_secrets(given, tmp_path / SECRETS) == ["database"]
    assert read_secret(tmp_path / SECRETS, "database") == "hunter2"  # refuses one that others may read
    assert take_secrets(given, tmp_path / SECRETS) == []
    (given / "database").write_text("another\n")
    assert take_secrets(given, tmp_path / SECRETS) == ["database"]
    assert read_secret(tmp_path / SECRETS, "database") == "another"


def test_what_is_not_given_any_more_stays(given: Path, tmp_path: Path) -> None:
    take_secrets(given, tmp_path / SECRETS)
    (given / "database").unlink()
    take_secrets(given, tmp_path / SECRETS)
    assert read_secret(tmp_path / SECRETS, "database") == "hunter2"


def test_hidden_files_and_folders_are_no_secrets(given: Path, tmp_path: Path) -> None:
    (given / "..data").mkdir()
    (given / ".hidden").write_text("x")
    take_secrets(given, tmp_path / SECRETS)
    assert [file.name for file in (tmp_path / SECRETS).iterdir()] == ["database"]


def test_a_name_that_no_secret_has_is_refused(given: Path, tmp_path: Path) -> None:
    (given / "my secret").write_text("x")
    with pytest.raises(CannotTake, match="my secret has no secret's name"):
        take_secrets(given, tmp_path / SECRETS)


def test_settings_stay_where_they_are_edited(tmp_path: Path) -> None:
    outside, basedir = tmp_path / "outside.toml", tmp_path / "master"
    outside.write_text(TOML)
    take_over(basedir, settings=outside, secrets=None)
    take_over(basedir, settings=outside, secrets=None)
    outside.write_text(TOML + "# edited")
    assert (basedir / SETTINGS).read_text().endswith("# edited")


def test_settings_that_were_there_before_are_kept(tmp_path: Path) -> None:
    outside, basedir = tmp_path / "outside.toml", tmp_path / "master"
    outside.write_text(TOML)
    basedir.mkdir()
    (basedir / SETTINGS).write_text("earlier")
    take_over(basedir, settings=outside, secrets=None)
    assert (basedir / f"{SETTINGS}.before").read_text() == "earlier"


def test_settings_that_are_missing_are_missed(tmp_path: Path) -> None:
    with pytest.raises(CannotTake, match="there are no settings at"):
        take_over(tmp_path / "master", settings=tmp_path / "none.toml", secrets=None)
    with pytest.raises(CannotTake, match="is not there"):
        complete(tmp_path / "master", settings=None, secrets=None)


def test_a_site_that_somebody_runs_is_left_alone(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    outside = tmp_path / "outside.toml"
    outside.write_text(TOML)
    with claimed(site), pytest.raises(NotStarted, match="another master already runs"):
        prepare(site, settings=outside, secrets=None)
    assert not (site / "master").exists()
