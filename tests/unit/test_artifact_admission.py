"""What is promised to one upload counts for the next, also while both are asked about at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from buildbot.db.model import Model

from master.artifacts.admission import MOST_FILES, Admission
from master.artifacts.doorman import Database, Doorman
from master.artifacts.folder import FolderStore
from master.artifacts.intake import Intake
from master.artifacts.refusal import Refused
from master.artifacts.tokens import Grant
from master.database.engine import engine_kwargs
from master.database.tables import metadata

BUDGET = 1000


def grant(build_id: int) -> Grant:
    return Grant(build_id=build_id, run_id=1, folder=f"1/build/default/1/{build_id}", budget=BUDGET)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path}/state.sqlite"
    engine = sa.create_engine(url, **engine_kwargs(url))
    Model.metadata.create_all(engine)
    metadata.create_all(engine)
    yield Database(engine)
    engine.dispose()


def admission(database: Database, folder: Path, quota: int | None = None) -> Admission:
    return Admission(FolderStore(folder / "artifacts", reserve=0), database, lambda: (), quota=quota)


async def all_at_once(admitted: Admission, build_id: int, names: list[str], size: int) -> list[int]:
    """Status of each answer: 200, or why not."""

    async def one(name: str) -> int:
        try:
            await admitted.admit(grant(build_id), {name: size})
        except Refused as refused:
            return refused.status
        return 200

    return await asyncio.gather(*map(one, names))


def test_many_at_once_get_no_more_than_the_budget_together(database: Database, tmp_path: Path) -> None:
    names = [f"{n}.whl" for n in range(40)]
    answers = asyncio.run(all_at_once(admission(database, tmp_path), 7, names, BUDGET // 4))
    assert sorted(answers) == [200] * 4 + [413] * 36


def test_the_same_file_again_is_admitted_again(database: Database, tmp_path: Path) -> None:
    answers = asyncio.run(all_at_once(admission(database, tmp_path), 7, ["a.whl"] * 5, BUDGET))
    assert answers == [200] * 5


def test_a_build_that_sends_nothing_takes_no_more_than_its_budget_from_the_others(
    database: Database, tmp_path: Path
) -> None:
    admitted = admission(database, tmp_path, quota=3 * BUDGET)
    answers = asyncio.run(all_at_once(admitted, 7, [f"{n}.whl" for n in range(10)], BUDGET))
    assert answers.count(200) == 1
    assert asyncio.run(all_at_once(admitted, 8, ["other.whl"], BUDGET)) == [200]
    assert asyncio.run(all_at_once(admitted, 9, ["third.whl"], BUDGET + 1)) == [413]
    assert asyncio.run(all_at_once(admitted, 9, ["third.whl"], BUDGET)) == [200]
    assert asyncio.run(all_at_once(admitted, 10, ["fourth.whl"], 1)) == [507]


def test_names_alone_are_counted(database: Database, tmp_path: Path) -> None:
    admitted = admission(database, tmp_path)

    async def name_many() -> None:
        await admitted.admit(grant(7), {f"{n}.txt": 0 for n in range(MOST_FILES)})
        with pytest.raises(Refused, match=f"{MOST_FILES} files"):
            await admitted.admit(grant(7), {"one-more.txt": 0})

    asyncio.run(name_many())


def test_what_an_ended_build_was_promised_is_free_again(database: Database, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "artifacts", reserve=0)
    intake = Intake(store, database, Doorman(database, "key", public=True, password=""), quota=BUDGET)

    async def promise_and_sweep() -> None:
        await intake.begin(grant(7), {"never-sent.whl": BUDGET})
        with pytest.raises(Refused, match="full"):
            await intake.begin(grant(8), {"a.whl": 1})
        await intake.sweep()  # build 7 does not run: no row says so
        await intake.begin(grant(8), {"a.whl": 1})

    asyncio.run(promise_and_sweep())
