"""The release stage: gathers the run's accepted wheels, verifies them, writes the notes, publishes once."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from email.parser import HeaderParser
from pathlib import Path

from buildbot.process.buildstep import BuildStep
from buildbot.process.results import FAILURE, SUCCESS
from twisted.internet import threads

from master.database import store
from master.database.records import Artifact, AttemptRow
from master.release_notes import BuiltWheel, MissingPlatform, notes
from master.releases import Asset, Release, ReleaseRefused, ReleaseTarget
from master.run_model import latest_attempts
from steps.classify import FailureClass


class PublishRelease(BuildStep):
    """Publishes the wheels that this run's needed stages left.

    Args:
        target: where the release goes.
        needs: the stages whose wheels it must have, one at least of each.
        builds: every build stage of the pipeline, so that the notes can name the platform that is missing.
        project: what the release is called.
        artifacts: the folder below which artifacts lie.
    """

    name = "publish"
    haltOnFailure = True

    def __init__(
        self, *, target: ReleaseTarget, needs: Sequence[str], builds: Sequence[str], project: str, artifacts: Path
    ) -> None:
        super().__init__()
        self.target = target
        self.needs = needs
        self.builds = builds
        self.project = project
        self.artifacts = artifacts

    async def run(self) -> int:
        run_id, tag = self.getProperty("run_id"), self.getProperty("tag")
        found = await self.master.db.pool.do(store.artifacts_of, [run_id])
        attempts = await self.master.db.pool.do(store.attempts, [run_id])
        try:
            release = await threads.deferToThread(self.gather, tag, found, attempts)
            await self.addCompleteLog("notes", release.notes)
            said = await threads.deferToThread(self.target.publish, release)
        except (ReleaseRefused, OSError) as error:
            kind = FailureClass.INFRASTRUCTURE if isinstance(error, OSError) else FailureClass.CODE
            self.setProperty("failure_class", kind.value, self.name)
            self.setProperty("failure_reason", str(error), self.name)
            self.descriptionDone = [str(error)]
            await self.addCompleteLog("error", f"{error}\n")
            return int(FAILURE)
        self.descriptionDone = [said]
        return int(SUCCESS)

    def gather(self, tag: str, found: Sequence[tuple[AttemptRow, Artifact]], attempts: Sequence[AttemptRow]) -> Release:
        """The release that this run has built. Blocking: reads the wheels.

        Raises:
            ReleaseRefused: no tag, a stage without a wheel, two wheels of one name, a wheel of another version.
        """
        if not tag:
            raise ReleaseRefused("a release needs a tag, and this run is for none")
        wheels = [
            (source, file) for source, file in found if file.name.endswith(".whl") and source.stage in self.builds
        ]
        if missing := [need for need in self.needs if need not in {source.stage for source, _ in wheels}]:
            raise ReleaseRefused(f"no wheel from {', '.join(missing)}")
        names = [file.name for _, file in wheels]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ReleaseRefused(f"built more than once: {', '.join(twice)}")
        built = [self._built(source, file) for source, file in wheels]
        have = {wheel.stage for wheel in built}
        newest = latest_attempts(attempt.facts for attempt in attempts)
        gone = [
            MissingPlatform(stage=stage, reason=attempt.reason or str(attempt.state))
            for (stage, _), attempt in sorted(newest.items())
            if stage in self.builds and stage not in have
        ]
        return Release(
            tag=tag,
            commit=self.getProperty("head_sha"),
            notes=notes(self.project, tag, self.getProperty("head_sha"), built, gone),
            assets=tuple(
                Asset(name=file.name, source=self.artifacts / file.path, size=file.size, sha256=file.sha256)
                for _, file in wheels
            ),
        )

    def _built(self, source: AttemptRow, file: Artifact) -> BuiltWheel:
        try:
            with zipfile.ZipFile(self.artifacts / file.path) as wheel:
                (name,) = (n for n in wheel.namelist() if n.count("/") == 1 and n.endswith(".dist-info/METADATA"))
                metadata = HeaderParser().parsestr(wheel.read(name).decode())
        except (zipfile.BadZipFile, ValueError, KeyError) as error:
            raise ReleaseRefused(f"{file.name} is no wheel: {error}") from None
        requires = tuple(metadata.get_all("Requires-Dist", ()))
        return BuiltWheel(name=file.name, stage=source.stage, version=str(metadata["Version"]), requires=requires)
