"""What is read of Buildbot's own tables, on a database that holds both theirs and ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from buildbot.db.model import Model
from buildbot.process.results import FAILURE, RETRY
from stored import run_with

from master.database import buildbot_rows, store
from master.pipeline import State
from master.run_model import Slot

BUILD = Slot("build", "", 1)


def hand_over(database: Callable[..., Any], run_id: int) -> None:
    """As far as it goes before the request's id is stored."""
    assert database(store.change, run_id, BUILD, was=[State.PENDING], values={"state": State.QUEUED})


def begin_build(connection: sa.Connection, request: int, **values: Any) -> None:
    master = {"id": 1, "name": "m", "name_hash": "m", "active": 1, "last_active": 0}
    connection.execute(Model.masters.insert().values(**master))
    build = {"id": 1, "number": 1, "builderid": 1, "buildrequestid": request, "masterid": 1, "state_string": ""}
    connection.execute(Model.builds.insert().values(**build, started_at=0, locks_duration_s=0, **values))


@pytest.fixture
def buildbot(engine: sa.Engine) -> Callable[..., int]:
    """Adds a request for the builder ``build``, with an external id; the request's id."""
    Model.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(Model.builders.insert().values(id=1, name="build", name_hash="x"))

    def add(external_id: str, *, rebuilt: bool = False) -> int:
        with engine.begin() as connection:
            if rebuilt:
                newest = connection.execute(sa.select(sa.func.max(Model.buildrequests.c.id))).scalar_one()
                begin_build(connection, newest)
            columns = {"external_idstring": external_id, "rebuilt_buildid": 1 if rebuilt else None}
            buildset = connection.execute(Model.buildsets.insert().values(submitted_at=0, complete=0, **columns))
            (buildset_id,) = buildset.inserted_primary_key or ()
            values = {"buildsetid": buildset_id, "builderid": 1, "complete": 0, "submitted_at": 0}
            request_row = connection.execute(Model.buildrequests.insert().values(**values))
            (request_id,) = request_row.inserted_primary_key or ()
            return int(request_id)

    return add


def test_a_request_that_nobody_planned_is_a_stray(database: Callable[..., Any], buildbot: Callable[..., int]) -> None:
    run_with(database, BUILD)
    foreign = buildbot("")
    assert database(buildbot_rows.strays, ["build"]) == [(foreign, "")]
    assert database(buildbot_rows.strays, ["another"]) == []


def test_a_request_whose_id_its_attempt_does_not_know_yet_is_none(
    database: Callable[..., Any], buildbot: Callable[..., int]
) -> None:
    """An error between adding the request and storing its id: the run is carried on later and adopts it."""
    run_id = run_with(database, BUILD)
    hand_over(database, run_id)
    request = buildbot(f"{run_id}/{BUILD}")
    assert database(buildbot_rows.strays, ["build"]) == []
    assert database(buildbot_rows.find_buildset, f"{run_id}/{BUILD}") == (1, request)
    ended = {"state": State.CANCELLED}
    assert database(store.change, run_id, BUILD, was=[State.QUEUED], values=ended)
    assert database(buildbot_rows.strays, ["build"]) == [(request, f"{run_id}/{BUILD}")]


def test_only_an_attempt_that_is_being_handed_over_can_await_a_request(
    database: Callable[..., Any], buildbot: Callable[..., int]
) -> None:
    run_id = run_with(database, BUILD)
    request = buildbot(f"{run_id}/{BUILD}")
    assert database(buildbot_rows.strays, ["build"]) == [(request, f"{run_id}/{BUILD}")]
    hand_over(database, run_id)
    assert database(buildbot_rows.strays, ["build"]) == []


def test_a_rebuild_is_a_stray_also_while_its_attempt_awaits_a_request(
    database: Callable[..., Any], buildbot: Callable[..., int]
) -> None:
    run_id = run_with(database, BUILD)
    hand_over(database, run_id)
    buildbot(f"{run_id}/{BUILD}")
    rebuild = buildbot(f"{run_id}/{BUILD}", rebuilt=True)
    assert database(buildbot_rows.strays, ["build"]) == [(rebuild, f"{run_id}/{BUILD}")]


@pytest.mark.parametrize(("results", "told"), [(RETRY, None), (FAILURE, FAILURE)])
def test_the_result_of_a_lost_build_is_none_that_its_request_can_end_with(
    engine: sa.Engine, database: Callable[..., Any], buildbot: Callable[..., int], results: int, told: int | None
) -> None:
    run_id = run_with(database, BUILD)
    request = buildbot(f"{run_id}/{BUILD}")
    with engine.begin() as connection:
        begin_build(connection, request, results=results, complete_at=1)
    values = {"state": State.INFRASTRUCTURE, "request_id": request, "build_id": 1}
    assert database(store.change, run_id, BUILD, was=[State.PENDING], values=values)
    assert database(buildbot_rows.open_requests_of_ended_attempts) == [(request, told, "infrastructure")]
