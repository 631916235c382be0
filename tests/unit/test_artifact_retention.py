"""What retention removes and what it never does, on real rows and real files."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from buildbot.db.model import Model
from retention_world import DAY, POLICY, World, build_rows

from master.artifacts import retention
from master.artifacts.retention import GRACE_S
from master.database import releases, store
from master.database.tables import artifacts, runs, stage_attempts, uploads
from master.database.uploads import begin_writing
from master.pipeline import State


@pytest.fixture
def world(engine: sa.Engine, database: Callable[..., Any], tmp_path: Path) -> World:
    return World(engine, database, tmp_path / "artifacts")


def test_an_artifact_goes_after_its_time_and_stays_listed(world: World) -> None:
    world.built()
    [path] = world.files()
    world.now += 30 * DAY
    assert world.sweep() == []
    world.now += 1
    assert world.sweep() == [(path, "expired")]
    assert world.files() == []
    row = world.execute(sa.select(artifacts)).one()
    assert (row.path, row.removed_at) == (path, world.now)
    assert world.sweep() == []


def test_a_stage_may_keep_its_own_for_another_time(world: World) -> None:
    world.built("nightly")
    kept = world.built("build")
    world.now += 3 * DAY
    world.sweep()
    assert [path.split("/")[0] for path in world.files()] == [str(kept)]


def test_what_a_live_run_may_still_read_stays(world: World) -> None:
    run_id = world.run()
    world.settle(run_id, world.build(run_id))
    world.now += 90 * DAY
    assert world.sweep() == []
    world.end(run_id)
    assert len(world.sweep()) == 1


def test_what_was_released_stays_for_good(world: World) -> None:
    run_id = world.built()
    [path] = world.files()
    world.database(releases.record, "v1.0", run_id, [path], world.now)
    world.now += 3650 * DAY
    assert world.sweep() == []
    assert world.files() == [path]


def test_an_upload_that_nobody_accepted_goes_once_its_attempt_is_decided(world: World) -> None:
    run_id = world.run()
    build = world.build(run_id, complete=False)
    world.now += 10 * DAY
    assert world.sweep() == [], "its build runs"
    world.execute(Model.builds.update().values(complete_at=int(world.now)))
    assert world.sweep() == [], "its outcome may still be accepted"
    world.settle(run_id, build, State.FAILURE)
    assert [why for _, why in world.sweep()] == ["never accepted"]
    assert world.files() == []


def test_an_upload_is_left_alone_for_a_while(world: World) -> None:
    run_id = world.run()
    world.settle(run_id, world.build(run_id), State.FAILURE)
    world.now += GRACE_S - 1
    assert world.sweep() == []
    world.now += 2
    assert len(world.sweep()) == 1


def lost(world: World, build_id: int, run_id: int = 1) -> str:
    """A file whose row is missing: the process was killed after it moved it and before its transaction ended."""
    path = f"{run_id}/build/default/1/{build_id}/lost.whl"
    world.put(path)
    return path


#: not of the shape that builds' files have, or of builds that this database does not know
FOREIGN = (
    "README",
    "lost+found/README",
    "backup/2026/files.tar",
    "1/notes.txt",
    "1/build/default/1/1/below/x.whl",
    "1/build/default/1/x.whl",
    "1/build/default/first/1/x.whl",
    "77/build/default/1/99/x.whl",
)


def test_a_file_that_no_row_names_goes(world: World) -> None:
    kept = world.built()
    for path in FOREIGN:
        world.put(path)
    gone = lost(world, build_id=1)
    world.now += GRACE_S
    assert world.sweep() == []
    world.now += 1
    assert world.sweep() == [(gone, "in no list")]
    assert all((world.root / path).exists() for path in FOREIGN)
    [named] = [path for path in world.files() if path not in FOREIGN]
    assert named.startswith(f"{kept}/")


def test_a_file_that_is_just_being_recorded_stays(world: World) -> None:
    """However long ago its last byte was written: its build is what says that no row will come."""
    build = world.build(world.run(), complete=False)
    path = lost(world, build)
    world.now += 10 * DAY
    assert world.sweep() == []
    world.execute(Model.builds.update().values(complete_at=int(world.now)))
    world.now += GRACE_S
    assert world.sweep() == []
    world.now += 1
    assert (path, "in no list") in world.sweep()


def test_the_store_of_another_database_stays(world: World) -> None:
    world.built()
    world.built()
    before = world.files()
    world.now += 1
    tables = (artifacts, uploads, stage_attempts, runs, Model.builds, Model.buildrequests)
    for table in tables:
        world.execute(table.delete())
    assert world.sweep() == []
    assert world.files() == before
    # and builds of the new one that have the same numbers
    for build_id in (1, 2):
        with world.engine.begin() as connection:
            build_rows(connection, build_id, world.now, complete=True, first=False)
    gone = lost(world, build_id=2)
    world.now += GRACE_S + 1
    assert world.sweep() == [(gone, "in no list")]
    assert world.files() == before


def test_what_an_artifact_names_stays_whatever_else_is_said_of_it(world: World) -> None:
    """Rows that an upgrade did not find, and two artifacts that are one file."""
    world.built()
    [path] = world.files()
    world.execute(uploads.delete())
    world.now += DAY
    assert world.sweep() == []
    live = world.run()
    world.settle(live, world.build(live))
    world.execute(artifacts.update().values(path=path))
    world.execute(uploads.update().values(path=path))
    world.now += 40 * DAY
    assert ("expired" in [why for _, why in world.sweep()], (world.root / path).exists()) == (False, True)
    world.end(live)
    world.now += 40 * DAY
    assert (path, "expired") in world.sweep()
    assert not (world.root / path).exists()


def test_a_run_that_is_opened_again_keeps_its_artifacts(world: World) -> None:
    """It is opened while a pass has looked at it and has not yet marked anything: one of them waits."""
    run_id = world.built()
    world.now += 31 * DAY
    looked = threading.Event()

    def after(*said: Any) -> None:
        if "FROM artifacts" in said[2]:
            looked.set()

    sa.event.listen(world.engine, "after_cursor_execute", after)
    sweep = threading.Thread(target=retention.remove, args=(world.database, POLICY, world.now, world.shelf))
    with world.engine.begin() as connection:
        begin_writing(connection)
        store.reopen_run(connection, run_id)
        sweep.start()
        assert not looked.wait(0.5)
    sweep.join(30)
    assert looked.is_set()
    assert world.execute(sa.select(artifacts.c.removed_at)).scalars().all() == [None]
    assert len(world.files()) == 1


@pytest.mark.parametrize("calls", range(4))
def test_a_pass_that_is_killed_anywhere_is_completed_by_the_next(world: World, calls: int) -> None:
    world.built()
    world.built()
    world.now += 31 * DAY

    class Killed(Exception):
        pass

    left = iter(range(calls))

    def database(function: Callable[..., Any], *args: Any) -> Any:
        if next(left, None) is None:
            raise Killed
        return world.database(function, *args)

    with pytest.raises(Killed):
        retention.remove(database, POLICY, world.now, world.shelf)
    for path in world.files():
        row = world.execute(sa.select(artifacts).where(artifacts.c.path == path)).one()
        assert row.removed_at is None or world.execute(sa.select(uploads).where(uploads.c.path == path)).first()
    retention.remove(world.database, POLICY, world.now, world.shelf)
    assert world.files() == []
    assert world.execute(sa.select(uploads)).all() == []


@pytest.mark.slow
def test_a_year_of_builds_stays_within_bounds_and_keeps_its_releases(world: World) -> None:
    most, released = 0, []
    for day in range(365):
        world.built("nightly")
        run_id = world.built()
        if day % 30 == 7:
            path = next(path for path in world.files() if path.startswith(f"{run_id}/"))
            world.database(releases.record, f"v1.{day}", run_id, [path], world.now)
            released.append(path)
        failed = world.run()
        world.settle(failed, world.build(failed), State.FAILURE)
        world.end(failed)
        world.now += DAY
        world.sweep()
        most = max(most, len(world.files()))
    # 30 days of builds and 2 of nightlies, the newest day of each on its edge, and the releases
    assert most <= 31 + 3 + len(released)
    assert set(released) <= set(world.files())
    assert len(world.execute(sa.select(uploads)).all()) == len(world.files())
