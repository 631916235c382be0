"""From a master's folder to Buildbot's configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from settings_sample import MINIMAL

from master.configure import configure
from master.errors import UserError
from master.places import ADMIN_PASSWORD, SECRETS, SETTINGS, password_name
from master.secret_files import ensure


@pytest.fixture
def basedir(tmp_path: Path) -> Path:
    (tmp_path / SETTINGS).write_text(MINIMAL)
    ensure(tmp_path / SECRETS, ADMIN_PASSWORD)
    return tmp_path


def test_a_worker_that_was_added_while_the_master_ran_gets_its_password(basedir: Path) -> None:
    configure(basedir)
    (basedir / SETTINGS).write_text(MINIMAL + '[workers.third]\ntrust = "trusted"\nprovides = ["python"]\n')
    configured = configure(basedir)
    file = basedir / SECRETS / password_name("third")
    assert file.stat().st_mode & 0o777 == 0o600
    [worker] = [worker for worker in configured["workers"] if worker.name == "third"]
    assert worker.password == file.read_text().strip()


def test_passwords_stay_as_they_are(basedir: Path) -> None:
    configure(basedir)
    before = {file.name: file.read_text() for file in (basedir / SECRETS).iterdir()}
    configure(basedir)
    assert {file.name: file.read_text() for file in (basedir / SECRETS).iterdir()} == before
    assert len(set(before.values())) == len(before)


def test_settings_that_are_wrong_are_refused(basedir: Path) -> None:
    (basedir / SETTINGS).write_text(MINIMAL + "[stages.lint]\n")
    with pytest.raises(UserError):
        configure(basedir)
