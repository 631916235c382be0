"""The same pipeline on a real PostgreSQL server: every event, a kill in the middle, two starts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pipelines import WELL, hold, pipeline
from rig import Rig, Row

from master.places import SECRETS


class PostgresRig(Rig):
    """A rig whose master keeps everything in PostgreSQL, as docs/operate.md says it."""

    def __init__(self, folder: Path, template: Path, url: str) -> None:
        self.engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
        documented = url.replace("postgresql+psycopg2://ci@", "postgresql://ci:{secret:database}@")
        assert documented != url
        super().__init__(folder, template, pipeline(database={"url": documented}))
        secrets = self.site.basedir / SECRETS
        (secrets / "database").write_text("a password that nobody asks for: %/@")
        (secrets / "database").chmod(0o600)
        self.site.prepare()

    def rows(self, query: str, *values: Any) -> list[Row]:
        number = itertools.count()
        text = sa.text(re.sub(r"\?", lambda _: f":v{next(number)}", query))
        with self.engine.connect() as connection:
            found = connection.execute(text, {f"v{place}": value for place, value in enumerate(values)})
            return [dict(row._mapping) for row in found]


@pytest.fixture
def rig(template: Path, tmp_path: Path, postgresql_server: Callable[[], str]) -> Iterator[PostgresRig]:
    made = PostgresRig(tmp_path / "rig", template, postgresql_server())
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.mark.slow
def test_every_event_and_a_master_that_is_killed(rig: PostgresRig) -> None:
    pushed = rig.push(files={"ci/build-a.sh": hold(rig, "go")})
    run = rig.run(pushed)
    rig.wait_for_state(run["id"], "build-a", "running")
    others = [rig.pull_request(1), rig.tag("v1.0")]
    rig.kill("master")
    rig.start_master()
    rig.flag("go")
    for event, kind in zip([pushed, *others], ("push", "pull_request", "tag"), strict=True):
        ended = rig.ended(event)
        assert (ended["result"], rig.states(ended["id"])) == ("success", WELL[kind])
    assert rig.attempt(run["id"], "build-a")["lost_with_master"] == 1
    assert not (rig.site.basedir / "state.sqlite-wal").exists(), "nothing went into SQLite"
    assert [line for line in rig.log().splitlines() if "Traceback" in line] == []
