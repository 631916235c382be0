"""A master's rows and files, for the tests of what retention makes of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from buildbot.db.model import Model
from stored import arrives, push

from master.artifacts import retention
from master.artifacts.folder import FolderStore
from master.artifacts.retention import Policy
from master.database import store
from master.database.records import Artifact
from master.database.tables import runs, stage_attempts, uploads
from master.pipeline import State
from master.run_model import Create, Slot

DAY = 86_400.0
POLICY = Policy(keep=30 * DAY, keep_of={"nightly": 2 * DAY})


class World:
    """A master's rows and files, with a clock that the test turns."""

    def __init__(self, engine: sa.Engine, database: Callable[..., Any], root: Path) -> None:
        Model.metadata.create_all(engine)
        self.engine, self.database = engine, database
        self.shelf = FolderStore(root, reserve=0)
        self.root = root
        self.now = 1_790_000_000.0
        self.builds = 0

    def execute(self, statement: Any) -> Any:
        with self.engine.begin() as connection:
            return connection.execute(statement)

    def run(self) -> int:
        run_id, _ = arrives(self.database, push(f"{self.builds + 1:040x}"))
        assert run_id is not None
        return run_id

    def build(self, run_id: int, stage: str = "build", number: int = 1, *, complete: bool = True) -> int:
        """A build that uploads one file, for an attempt that waits for its outcome."""
        self.builds += 1
        build_id = self.builds
        slot = Slot(stage, "", number)
        assert self.database(store.add_attempts, run_id, [Create(slot=slot)], self.now)
        values = {"state": State.RUNNING, "build_id": build_id, "request_id": build_id}
        assert self.database(store.change, run_id, slot, was=[State.PENDING], values=values)
        with self.engine.begin() as connection:
            build_rows(connection, build_id, self.now, complete=complete)
        folder = f"{run_id}/{stage}/default/{number}/{build_id}"
        file = Artifact(name="x.whl", path=f"{folder}/x.whl", size=5, sha256="0" * 64)
        self.put(file.path)
        row = {"build_id": build_id, "folded": file.name, "finished_at": self.now, "path": file.path}
        self.execute(uploads.insert().values(name=file.name, size=file.size, sha256=file.sha256, **row))
        return build_id

    def put(self, path: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(b"wheel")
        os.utime(self.root / path, (self.now, self.now))

    def settle(self, run_id: int, build_id: int, state: State = State.SUCCESS, stage: str = "build") -> None:
        row = self.execute(sa.select(stage_attempts).where(stage_attempts.c.build_id == build_id)).one()
        files = []
        if state.good:
            upload = self.execute(sa.select(uploads).where(uploads.c.build_id == build_id)).one()
            files = [Artifact(name=upload.name, path=upload.path, size=upload.size, sha256=upload.sha256)]
        slot = Slot(row.stage, "", row.number)
        values = {"state": state, "ended_at": self.now}
        assert self.database(store.accept, run_id, slot, values=values, files=files)

    def end(self, run_id: int) -> None:
        self.execute(runs.update().where(runs.c.id == run_id).values(ended_at=self.now))

    def built(self, stage: str = "build") -> int:
        """A whole run with one accepted artifact."""
        run_id = self.run()
        self.settle(run_id, self.build(run_id, stage))
        self.end(run_id)
        return run_id

    def files(self) -> list[str]:
        return sorted(
            path.relative_to(self.root).as_posix() for path in self.root.glob("[0-9]*/**/*") if path.is_file()
        )

    def sweep(self) -> list[tuple[str, str]]:
        """One pass: what it removed and why. A rehearsal must have said the same of the rows."""
        said = {(file.path, file.why) for file in self.database(retention.removable, POLICY, self.now)}
        gone = [(f.path, f.why) for f in retention.remove(self.database, POLICY, self.now, self.shelf)]
        assert {pair for pair in gone if pair[1] != retention.UNKNOWN} == said
        return gone


def build_rows(
    connection: sa.Connection, build_id: int, now: float, *, complete: bool, first: bool | None = None
) -> None:
    if build_id == 1 if first is None else first:
        connection.execute(Model.masters.insert().values(id=1, name="m", name_hash="m", active=1, last_active=0))
        connection.execute(Model.builders.insert().values(id=1, name="build", name_hash="b"))
        connection.execute(Model.buildsets.insert().values(id=1, submitted_at=0, complete=0))
    request = {"id": build_id, "buildsetid": 1, "builderid": 1, "complete": 0, "submitted_at": 0}
    connection.execute(Model.buildrequests.insert().values(**request))
    times = {"started_at": int(now), "complete_at": int(now) if complete else None, "locks_duration_s": 0}
    build = {"id": build_id, "number": build_id, "builderid": 1, "buildrequestid": build_id, "masterid": 1}
    connection.execute(Model.builds.insert().values(**build, **times, state_string=""))
