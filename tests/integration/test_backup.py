"""A backup that is taken while a master works, and a master that goes on from it somewhere else."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from judge import all_well, assert_right, settled
from pipelines import hold
from rig import MARKER, MakeRig, Pushed, Rig
from test_on_postgresql import PostgresRig

from master.launch import script
from master.places import SECRETS
from master.site.owners import Owners
from master.site.processes import Site

pytestmark = pytest.mark.slow


def mlc_ci(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([script("mlc-ci"), *arguments], capture_output=True, text=True, check=False)


def works(rig: Rig) -> list[Pushed]:
    """A release, and a push whose build is under way."""
    rig.inject()
    rig.start()
    tag = rig.tag("v1.0")
    rig.ended(tag)
    pushed = rig.push({"ci/build-a.sh": hold(rig, "go")})
    rig.wait_for_state(rig.run(pushed)["id"], "build-a", "running")
    return [tag, pushed]


def goes_on(rig: Rig, events: list[Pushed]) -> None:
    """In another folder than before, as on another host."""
    rig.site = Site(
        rig.folder / "elsewhere", rig.folder / "unused.toml", overrides={MARKER: str(rig.folder)}, owners=Owners()
    )
    rig.site.prepare()
    rig.inject()
    rig.start()
    rig.flag("go")
    events.append(rig.push({"note.txt": "after the restore"}))
    expected = all_well(events)
    settled(rig, expected)
    assert_right(rig, expected)
    assert rig.attempt(rig.run(events[1])["id"], "build-a")["lost_with_master"] == 1


def secrets_of(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in (folder / "master" / SECRETS).iterdir()}


def test_a_master_goes_on_from_its_backup(make_rig: MakeRig, tmp_path: Path) -> None:
    rig = make_rig()
    backup = tmp_path / "backup.tar"
    events = works(rig)
    taken = mlc_ci("backup", backup, "--folder", rig.site.folder)
    assert taken.returncode == 0, taken.stderr
    assert backup.stat().st_mode & 0o777 == 0o600
    kept = secrets_of(rig.site.folder)

    rig.site.stop()
    refused = mlc_ci("restore", backup, "--folder", rig.site.folder)
    assert (refused.returncode, "there is a master" in refused.stderr) == (10, True)

    shutil.rmtree(rig.site.basedir)
    elsewhere = rig.folder / "elsewhere"
    damaged = tmp_path / "damaged.tar"
    damaged.write_bytes(backup.read_bytes()[:-20480])
    refused = mlc_ci("restore", damaged, "--folder", elsewhere)
    assert (refused.returncode, [path.name for path in elsewhere.iterdir()]) == (10, ["site.lock"]), refused.stderr
    restored = mlc_ci("restore", backup, "--folder", elsewhere)
    assert restored.returncode == 0, restored.stderr
    assert secrets_of(elsewhere) == kept
    goes_on(rig, events)


@pytest.fixture
def postgres_rig(template: Path, tmp_path: Path, postgresql_server: Callable[[], str]) -> Iterator[PostgresRig]:
    made = PostgresRig(tmp_path / "rig", template, postgresql_server())
    try:
        yield made
    finally:
        made.stop()


def test_so_does_one_with_postgresql(postgres_rig: PostgresRig, tmp_path: Path) -> None:
    rig = postgres_rig
    backup = tmp_path / "backup.tar"
    events = works(rig)
    taken = mlc_ci("backup", backup, "--folder", rig.site.folder)
    assert taken.returncode == 0, taken.stderr
    rig.site.stop()
    shutil.rmtree(rig.site.basedir)

    elsewhere = rig.folder / "elsewhere"
    refused = mlc_ci("restore", backup, "--folder", elsewhere)
    assert (refused.returncode, "tables already" in refused.stderr) == (10, True), refused.stderr
    assert not (elsewhere / "master").exists()
    with rig.engine.begin() as connection:
        connection.execute(sa.text("drop schema public cascade"))
        connection.execute(sa.text("create schema public"))
    restored = mlc_ci("restore", backup, "--folder", elsewhere)
    assert restored.returncode == 0, restored.stderr
    goes_on(rig, events)
