"""The summary stage: runs in the master, reads the run's rows, and writes what became of it."""

from __future__ import annotations

from buildbot.process.buildstep import BuildStep
from buildbot.process.results import SUCCESS

from master import summary
from master.database import store
from master.pipeline import Pipeline


class Summarise(BuildStep):
    """Writes the run's summary to the log ``summary`` and its verdict to the build's own line."""

    name = "summary"
    haltOnFailure = True

    def __init__(self, *, pipeline: Pipeline, link: str) -> None:
        super().__init__()
        self.pipeline = pipeline
        self.link = link

    async def run(self) -> int:
        run_id, stage = self.getProperty("run_id"), self.getProperty("stage")
        database = self.master.db.pool
        run = await database.do(store.run, run_id)
        attempts = await database.do(store.attempts, [run_id])
        files = await database.do(store.artifacts_of, [run_id])
        lines = summary.stage_lines(self.pipeline.names(), attempts, files)
        said = summary.verdict(self.pipeline, lines, stage)
        await self.addCompleteLog("summary", summary.text(run, lines, said, stage))
        self.addURL("pipeline", f"{self.link}/{run_id}")
        self.descriptionDone = [said]
        return int(SUCCESS)
