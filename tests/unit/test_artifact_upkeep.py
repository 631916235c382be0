"""`mlc-ci artifacts sweep`: a pass of retention by hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from retention_world import DAY, World
from settings_sample import MINIMAL

from master.artifacts import announced
from master.artifacts.retention import Policy
from master.database.engine import engine_kwargs
from master.database.tables import metadata
from master.places import SETTINGS

STAGES = '[stages.nightly]\nuses = "commands"\ncommands = ["true"]\nkeep_artifacts = "50d"\n'


class Site:
    """A master's folder, with an artifact of two stages each that are forty days old."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.basedir = folder / "master"
        self.basedir.mkdir(parents=True)
        url = f"sqlite:///{self.basedir}/ours.sqlite"
        (self.basedir / SETTINGS).write_text(f'{MINIMAL}{STAGES}[database]\nurl = "{url}"\n')
        engine = sa.create_engine(url, **engine_kwargs(url))
        metadata.create_all(engine)

        def database(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            with engine.begin() as connection:
                return function(connection, *args, **kwargs)

        self.world = World(engine, database, self.basedir / "artifacts")
        self.world.now = time.time() - 40 * DAY
        self.world.built()
        self.world.built("nightly")
        engine.dispose()

    def sweep(self, *options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "master.cli", "artifacts", "sweep", f"--folder={self.folder}", *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def there(self) -> list[Path]:
        return sorted(path for path in self.basedir.rglob("*") if not path.name.endswith(("-wal", "-shm")))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


def test_a_pass_by_hand_first_says_and_then_does(site: Site) -> None:
    before = site.world.files()
    said = site.sweep("--dry-run").stdout
    assert "would have removed 1 files, 5 bytes freed: 1 expired" in said
    assert site.world.files() == before
    assert "removed 1 files, 5 bytes freed: 1 expired" in site.sweep().stdout
    assert [path.split("/")[1] for path in site.world.files()] == ["nightly"]
    assert "there is nothing to remove" in site.sweep().stdout


def test_it_goes_by_what_the_artifact_process_was_started_with(site: Site) -> None:
    """Which may be other than the settings: the environment overrides them."""
    said = site.sweep("--dry-run").stdout
    assert f"artifacts are kept for 4w2d, of nightly 7w1d, says {site.basedir / SETTINGS}" in " ".join(said.split())
    policy = Policy(keep=60 * DAY, keep_of={"nightly": 10 * DAY})
    announced.announce(site.basedir, port=1, url="http://127.0.0.1:1", policy=asdict(policy))
    before = site.world.files()
    said = site.sweep("--dry-run").stdout
    assert "artifacts are kept for 8w4d, of nightly 1w3d, says the artifact process" in said
    assert site.world.files() == before
    assert site.sweep().returncode == 0
    assert [path.split("/")[1] for path in site.world.files()] == ["build"]


@pytest.mark.parametrize("lacks", ["ours.sqlite", "artifacts"])
def test_it_makes_nothing_where_no_master_has_been(site: Site, lacks: str) -> None:
    for path in site.basedir.glob(f"{lacks}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = site.there()
    for options in ((), ("--dry-run",)):
        ended = site.sweep(*options)
        assert ended.returncode == 2
        assert str(site.basedir / lacks) in ended.stderr.replace("\n", "")
    assert site.there() == before


def test_it_asks_for_a_folder_with_a_master(site: Site) -> None:
    site.folder = Path("/nowhere")
    assert "there is no master in /nowhere/master" in site.sweep().stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away, and do in it what it likes")
def test_root_does_not_sweep_another_users_store(site: Site) -> None:
    before = site.world.files()
    os.chown(site.basedir, 65534, -1)
    ended = site.sweep()
    assert ended.returncode == 2
    assert "sudo -u nobody mlc-ci artifacts sweep" in " ".join(ended.stderr.split())
    assert site.world.files() == before
    os.chown(site.basedir, 0, -1)
    assert site.sweep().returncode == 0
    assert site.world.files() != before
