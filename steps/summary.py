"""The summary stage: runs in the master, reads the run's rows, and writes what became of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from buildbot.process.buildstep import BuildStep
from buildbot.process.results import SUCCESS

from master import summary
from master.database import build_facts, store


class Summarise(BuildStep):
    """Writes the run's summary to the log ``summary`` and its verdict to the build's own line.

    Args:
        order: the pipeline's stages, in the order they are told.
        tolerated: those whose failure is only a warning.
        url: Buildbot's page.
    """

    name = "summary"
    haltOnFailure = True

    def __init__(self, *, order: Sequence[str], tolerated: Collection[str], url: str) -> None:
        super().__init__()
        self.order = order
        self.tolerated = tolerated
        self.url = url

    async def run(self) -> int:
        run_id, stage = self.getProperty("run_id"), self.getProperty("stage")
        database = self.master.db.pool
        run = await database.do(store.run, run_id)
        attempts = await database.do(store.attempts, [run_id])
        files = await database.do(store.artifacts_of, [run_id])
        builds = await database.do(build_facts.of_builds, [a.build_id for a in attempts if a.build_id])
        lines = summary.stage_lines(self.order, attempts, files, builds)
        said = summary.verdict(lines, stage, self.tolerated)
        await self.addCompleteLog("summary", summary.text(run, lines, said, stage, self.url))
        self.addURL("pipeline", f"{self.url}#/pipelines/{run_id}")
        self.descriptionDone = [said]
        return int(SUCCESS)
