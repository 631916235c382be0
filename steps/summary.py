"""The summary stage: runs in the master, reads the run's rows, and writes what became of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from buildbot.process.buildstep import BuildStep
from buildbot.process.results import SUCCESS

from master import summary
from master.database import store


class Summarise(BuildStep):
    """Writes the run's summary to the log ``summary`` and its verdict to the build's own line.

    Args:
        order: the pipeline's stages, in the order they are told.
        tolerated: those whose failure is only a warning.
        link: the page of runs.
    """

    name = "summary"
    haltOnFailure = True

    def __init__(self, *, order: Sequence[str], tolerated: Collection[str], link: str) -> None:
        super().__init__()
        self.order = order
        self.tolerated = tolerated
        self.link = link

    async def run(self) -> int:
        run_id, stage = self.getProperty("run_id"), self.getProperty("stage")
        database = self.master.db.pool
        run = await database.do(store.run, run_id)
        attempts = await database.do(store.attempts, [run_id])
        files = await database.do(store.artifacts_of, [run_id])
        lines = summary.stage_lines(self.order, attempts, files)
        said = summary.verdict(lines, stage, self.tolerated)
        await self.addCompleteLog("summary", summary.text(run, lines, said, stage))
        self.addURL("pipeline", f"{self.link}/{run_id}")
        self.descriptionDone = [said]
        return int(SUCCESS)
