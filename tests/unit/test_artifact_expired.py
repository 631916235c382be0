"""What is said of artifacts that retention has removed, to those who ask for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from retention_world import DAY, World

from master.database import store, uploads
from master.releases import FolderTarget, ReleaseRefused
from steps.release import PublishRelease
from workers.download import wanted
from workers.errors import CodeError, InfrastructureError

GONE = {"id": 1, "stage": "build", "variant": "", "name": "x.whl", "removed": True}
THERE = {**GONE, "id": 2, "name": "y.whl", "removed": False}


@pytest.fixture
def world(engine: sa.Engine, database: Callable[..., Any], tmp_path: Path) -> World:
    return World(engine, database, tmp_path / "artifacts")


def test_a_run_lists_what_it_had_and_that_it_is_gone(world: World) -> None:
    ended = world.now
    run_id = world.built()
    [one] = world.database(uploads.accepted_of_run, run_id)
    assert (one.file.removed, one.at) == (False, ended)
    world.now += 31 * DAY
    world.sweep()
    [one] = world.database(uploads.accepted_of_run, run_id)
    assert (one.file.name, one.file.removed, one.at) == ("x.whl", True, ended)
    assert world.database(uploads.accepted, one.id) == one


def test_a_stage_that_needs_an_expired_artifact_is_told_so() -> None:
    assert wanted([GONE, THERE], "build", ["y*"]) == [THERE]
    with pytest.raises(InfrastructureError, match=r"^x\.whl of build expired and was removed: run build again$"):
        wanted([GONE, THERE], "build", ["*.whl"])
    with pytest.raises(CodeError, match="no artifact of build fits z"):
        wanted([GONE, THERE], "build", ["z*"])
    before = {name: value for name, value in THERE.items() if name != "removed"}  # of a master that does not say it
    assert wanted([before], "build", ["*"]) == [before]


def test_an_expired_wheel_cannot_be_released(world: World, tmp_path: Path) -> None:
    run_id = world.built()
    target = FolderTarget(tmp_path / "releases")
    about = {"needs": ["build"], "builds": ["build"], "project": "x", "store": world.shelf}
    step = PublishRelease(target=target, **about)

    def gather() -> None:
        found = world.database(store.artifacts_of, [run_id])
        step.gather("v1", found, [], lambda path: world.root / path)

    with pytest.raises(AssertionError):  # with its wheels, it goes on to ask its build for the commit: it has none
        gather()
    world.now += 31 * DAY
    world.sweep()
    with pytest.raises(ReleaseRefused, match=r"^x\.whl has expired: run its stage again \(build/default/1\)$"):
        gather()
