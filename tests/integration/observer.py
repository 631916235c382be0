"""What became of it: a site's rows, files and logs, read from outside and waited for, never for longer than told."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from master.site.processes import Site

PATIENCE_S = 45.0

Row = dict[str, Any]


class StillWaiting(AssertionError):
    """Something did not become true in time."""


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """An event as the developer caused it."""

    kind: str
    ref: str
    head: str


class Observer:
    """Reads one site. It asks no object of the master."""

    site: Site
    folder: Path
    effects_file: Path

    def rows(self, query: str, *values: Any) -> list[Row]:
        """Rows of the database, read from outside; none while there is no such table yet."""
        with contextlib.closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=30)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query, values)]

    @property
    def database(self) -> Path:
        return self.site.basedir / "state.sqlite"

    def runs(self, pushed: Pushed | None = None) -> list[Row]:
        if pushed is None:
            return self.rows("select * from runs order by id")
        query = "select * from runs where kind = ? and ref = ? and head = ? order by id"
        return self.rows(query, pushed.kind, pushed.ref, pushed.head)

    def run(self, pushed: Pushed) -> Row:
        """The one run of an event, once it is there."""
        self.wait(lambda: self.runs(pushed), f"a run for {pushed}")
        (run,) = self.runs(pushed)
        return run

    def ended(self, pushed: Pushed, *, seconds: float = PATIENCE_S) -> Row:
        """The one run of an event, once it has ended."""
        run = self.run(pushed)
        return self.run_ended(run["id"], seconds=seconds)

    def run_ended(self, run_id: int, *, seconds: float = PATIENCE_S) -> Row:
        query = "select * from runs where id = ?"

        def ended() -> bool:
            return self.rows(query, run_id)[0]["ended_at"] is not None

        self.wait(ended, f"run {run_id} ended", seconds=seconds)
        return self.rows(query, run_id)[0]

    def attempts(self, run_id: int, stage: str = "") -> list[Row]:
        query = "select * from stage_attempts where run_id = ? and (? = '' or stage = ?) order by id"
        return self.rows(query, run_id, stage, stage)

    def states(self, run_id: int) -> dict[str, str]:
        """The newest state of each stage."""
        return {row["stage"]: row["state"] for row in self.attempts(run_id)}

    def attempt(self, run_id: int, stage: str) -> Row:
        """The newest attempt of a stage, once there is one."""
        self.wait(lambda: self.attempts(run_id, stage), f"{stage} of run {run_id} is planned")
        return self.attempts(run_id, stage)[-1]

    def wait_for_state(self, run_id: int, stage: str, *states: str) -> Row:
        def reached() -> bool:
            found = self.attempts(run_id, stage)
            return bool(found) and found[-1]["state"] in states

        self.wait(reached, f"{stage} of run {run_id} is {' or '.join(states)}")
        return self.attempt(run_id, stage)

    def builds(self, request_id: int) -> list[Row]:
        query = (
            "select b.*, w.name worker, n.name builder from builds b join workers w on w.id = b.workerid"
            " join builders n on n.id = b.builderid where b.buildrequestid = ? order by b.id"
        )
        return self.rows(query, request_id)

    def effects(self) -> list[list[str]]:
        """What commands left outside: begin or end, stage, build, commit, worker."""
        return (
            [line.split() for line in self.effects_file.read_text().splitlines()] if self.effects_file.exists() else []
        )

    def step_log(self, build_id: int, name: str = "stdio", step: str = "") -> str:
        """A log of a build, as the page would show it."""
        query = (
            "select l.id, s.name step from logs l join steps s on s.id = l.stepid where s.buildid = ? and l.name = ?"
        )
        (log,) = [r for r in self.rows(query, build_id, name) if step in ("", r["step"])]
        return httpx.get(f"{self.site.url}api/v2/logs/{log['id']}/raw", timeout=30, trust_env=False).text

    def summary(self, run_id: int) -> str:
        return self.step_log(self.attempt(run_id, "summary")["build_id"], "summary")

    def journal(self, run_id: int) -> list[str]:
        return [row["text"] for row in self.rows("select text from journal where run_id = ? order by id", run_id)]

    def wait(self, condition: Callable[[], Any], what: str, *, seconds: float = PATIENCE_S) -> None:
        """Until the condition is true; looks often, and gives up with the end of the master's log."""
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                raise StillWaiting(f"after {seconds:g} s not: {what}\n{self.state()}\n{self.log()[-4000:]}")
            time.sleep(0.05)

    def state(self) -> str:
        """The tables, for whoever has to find out why a test failed."""
        said = [f"{r['id']} {r['kind']} {r['ref']} {r['result']} {r['cancelled']}" for r in self.runs()]
        query = (
            "select run_id, stage, number, state, reason, request_id, build_id, worker, withdrawn from stage_attempts"
        )
        said += [" ".join(str(value) for value in row.values()) for row in self.rows(query)]
        said += [
            " ".join(str(value) for value in row.values()) for row in self.rows("select key, state, outcome from inbox")
        ]
        return "\n".join(said)

    def log(self, name: str = "") -> str:
        """The master's log, or the output of one of the site's processes."""
        path = self.folder / "site" / "logs" / f"{name}.log" if name else self.site.basedir / "twistd.log"
        return path.read_text(errors="replace") if path.exists() else ""
