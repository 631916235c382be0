"""From the rows of a run to the rows of the outbox, in one transaction; whether GitHub is there is nothing to it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import sqlalchemy as sa

from master import summary
from master.database import build_facts, outbox, store
from master.database.records import RunRow
from master.github import comment, statuses
from master.pipeline import Pipeline

_ACTIVE_S = 24 * 3600.0  #: runs that ended this recently are looked at again on start


@dataclass(frozen=True, kw_only=True)
class Reporter:
    """What is to be told of runs of this pipeline. ``page`` is the address of the master's page, with its slash."""

    pipeline: Pipeline
    page: str
    statuses: bool
    comment: bool

    def report(self, connection: sa.Connection, run_id: int, now: float) -> bool:
        """Say what GitHub is to show of a run and of its commit; whether anything of that is new."""
        run = store.run(connection, run_id)
        if run is None or not statuses.has_a_say(run):
            return False
        changed = False
        speaker = statuses.speaker(store.runs_of_commit(connection, run.head)) if self.statuses else None
        if speaker is not None:
            attempts = store.attempts(connection, [speaker.id])
            for status in statuses.wanted(speaker, attempts, self.pipeline, self.page):
                key = f"{run.head} {status.context}"
                wanted = {"sha": run.head, **asdict(status)}
                changed |= outbox.want(connection, outbox.STATUS, key, speaker.id, wanted, now)
        if self.comment and _worth_a_comment(run):
            wanted = {"pull": run.pull_request, "body": self._comment(connection, run)}
            key = f"pull {run.pull_request}"
            made = not run.cancelled  # one that was cancelled changes a comment, and makes none
            changed |= outbox.want(connection, outbox.COMMENT, key, run_id, wanted, now, make=made)
        return changed

    def behind(self, connection: sa.Connection, now: float) -> list[int]:
        """Runs that a master that was killed may have left unreported."""
        return outbox.unfinished(connection, now - _ACTIVE_S)

    def _comment(self, connection: sa.Connection, run: RunRow) -> str:
        attempts = store.attempts(connection, [run.id])
        files = store.artifacts_of(connection, [run.id])
        builds = build_facts.of_builds(connection, [each.build_id for each in attempts if each.build_id])
        lines = summary.stage_lines(self.pipeline.names(), attempts, files, builds)
        own = next((stage.name for stage in self.pipeline.stages if stage.uses == "summary"), "")
        tolerated = [stage.name for stage in self.pipeline.stages if stage.continue_on_error]
        return comment.body(run, lines, own, tolerated, self.page)


def _worth_a_comment(run: RunRow) -> bool:
    """Whether it has ended, or waits for somebody or did; not when its pull request has the next run already."""
    approval = bool(run.held or run.approved) and not run.cancelled
    worth = run.ended_at is not None or approval
    return bool(run.pull_request) and worth and not run.cancelled.startswith("superseded")
