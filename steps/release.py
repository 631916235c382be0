"""The release stage: gathers the run's accepted wheels, verifies them, writes the notes, publishes once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from buildbot.process.buildstep import BuildStep
from buildbot.process.results import CANCELLED, FAILURE, SUCCESS
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion
from twisted.internet import threads

from master import wheel_manifests
from master.artifacts.store import Store, StoreBroken
from master.database import releases, store
from master.database.records import Artifact, AttemptRow
from master.github.failures import GitHubError, GitHubRefused
from master.release_notes import BadTemplate, BuiltWheel, MissingPlatform, notes, shipped_template
from master.releases import Asset, Release, ReleaseRefused, ReleaseStopped, ReleaseTarget
from master.run_model import latest_attempts
from master.wheel_manifests import WheelManifest
from steps.classify import FailureClass
from workers.wheel.beside import InvalidManifest, manifest_name

Found = Sequence[tuple[AttemptRow, Artifact]]


class PublishRelease(BuildStep):
    """Publishes the wheels that this run's needed stages left, each with its manifest.

    Args:
        target: where the release goes.
        needs: the stages whose wheels it must have, one at least of each.
        builds: every build stage of the pipeline, so that the notes can name the platform that is missing.
        project: what the release is called.
        store: where artifacts lie.
        manifests: whether a wheel without its manifest is refused.
        template: the notes' template; ``None``: the shipped one.
    """

    name = "publish"
    haltOnFailure = True

    def __init__(
        self,
        *,
        target: ReleaseTarget,
        needs: Sequence[str],
        builds: Sequence[str],
        project: str,
        store: Store,
        manifests: bool = True,
        template: Path | None = None,
    ) -> None:
        super().__init__()
        self.target = target
        self.needs = needs
        self.builds = builds
        self.project = project
        self.store = store
        self.manifests = manifests
        self.template = template
        self._stop = threading.Event()

    def interrupt(self, reason: Any) -> Any:
        self._stop.set()
        return super().interrupt(reason)

    async def run(self) -> int:
        run_id, tag = self.getProperty("run_id"), self.getProperty("tag")
        found = await self.master.db.pool.do(store.artifacts_of, [run_id])
        attempts = await self.master.db.pool.do(store.attempts, [run_id])
        try:
            release, said = await threads.deferToThread(self.publish, tag, found, attempts)
            await self.addCompleteLog("notes", release.notes)
        except ReleaseStopped:
            self.descriptionDone = ["stopped before anything was public"]
            return int(CANCELLED)
        except (ReleaseRefused, GitHubError, StoreBroken, OSError) as error:
            ours = isinstance(error, ReleaseRefused | GitHubRefused)
            kind = FailureClass.CODE if ours else FailureClass.INFRASTRUCTURE
            self.setProperty("failure_class", kind.value, self.name)
            self.setProperty("failure_reason", str(error), self.name)
            self.descriptionDone = [str(error)]
            await self.addCompleteLog("error", f"{error}\n")
            return int(FAILURE)
        # after the publication, which this stage repeats when it is killed in between
        paths = [asset.artifact for asset in release.assets]
        now = self.master.reactor.seconds()
        await self.master.db.pool.do_with_transaction(releases.record, tag, run_id, paths, now)
        self.descriptionDone = [said]
        return int(SUCCESS)

    def publish(self, tag: str, found: Found, attempts: Sequence[AttemptRow]) -> tuple[Release, str]:
        """The release, and where it is public. Blocking."""
        with contextlib.ExitStack() as held:
            release = self.gather(tag, found, attempts, lambda path: held.enter_context(self.store.local(path)))
            return release, self.target.publish(release, self._stop)

    def gather(self, tag: str, found: Found, attempts: Sequence[AttemptRow], local: Callable[[str], Path]) -> Release:
        """The release that this run has built; ``local`` gives an artifact's file. Blocking: reads the manifests.

        Raises:
            ReleaseRefused: no tag, a stage without a wheel, a wheel that has expired, two wheels of one name, a wheel
                without its manifest or with one that is not its own, or not of this tag and commit; notes that cannot
                be written.
        """
        if not tag:
            raise ReleaseRefused("a release needs a tag, and this run is for none")
        wheels = [
            (source, file) for source, file in found if file.name.endswith(".whl") and source.stage in self.builds
        ]
        if missing := [need for need in self.needs if need not in {source.stage for source, _ in wheels}]:
            raise ReleaseRefused(f"no wheel from {', '.join(missing)}")
        for source, file in wheels:
            if file.removed:
                raise ReleaseRefused(f"{file.name} has expired: run its stage again ({source.slot})")
        names = [file.name for _, file in wheels]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            builders = ", ".join(str(source.slot) for source, file in wheels if file.name == twice[0])
            raise ReleaseRefused(f"{twice[0]} was built more than once: by {builders}; give variants a local_version")
        commit = self.getProperty("head_sha")
        assets, built = [], []
        for source, file in wheels:
            manifest, described = self._manifest(source, file, found, (tag, commit), local)
            built.append(_built(source, file, manifest))
            assets += [file, *described]
        return Release(
            tag=tag,
            commit=commit,
            notes=self._notes(tag, commit, built, _missing(self.builds, built, attempts)),
            assets=tuple(
                Asset(name=file.name, artifact=file.path, source=local(file.path), size=file.size, sha256=file.sha256)
                for file in assets
            ),
        )

    def _manifest(
        self,
        source: AttemptRow,
        wheel: Artifact,
        found: Found,
        version: tuple[str, str],
        local: Callable[[str], Path],
    ) -> tuple[WheelManifest | None, list[Artifact]]:
        """What the wheel's manifest says, and its file, if there must be one. ``version``: tag and commit."""
        name = manifest_name(wheel.name)
        files = [file for other, file in found if other.id == source.id and file.name == name]
        if not files:
            if not self.manifests:
                return None, []
            raise ReleaseRefused(f"{wheel.name} has no manifest: stage {source.stage} left no {name}")
        try:
            manifest = wheel_manifests.read(local(files[0].path))
        except InvalidManifest as error:
            raise ReleaseRefused(f"{name} is no manifest: {error}") from error
        if wrong := wheel_manifests.problems(manifest, wheel, tag=version[0], commit=version[1]):
            raise ReleaseRefused(f"{name} is not the manifest of this wheel: {'; '.join(wrong)}")
        return manifest, files

    def _notes(self, tag: str, commit: str, built: Sequence[BuiltWheel], missing: Sequence[MissingPlatform]) -> str:
        try:
            template = self.template.read_text(encoding="utf-8") if self.template else shipped_template()
            return notes(template, project=self.project, tag=tag, commit=commit, wheels=built, missing=missing)
        except (BadTemplate, UnicodeError) as error:
            raise ReleaseRefused(f"the notes' template {self.template or ''} cannot be filled: {error}") from error
        except FileNotFoundError:
            raise ReleaseRefused(f"there is no template for the notes at {self.template}") from None


def _built(source: AttemptRow, file: Artifact, manifest: WheelManifest | None) -> BuiltWheel:
    try:
        parse_wheel_filename(file.name)
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise ReleaseRefused(f"{file.name} is no name of a wheel: {error}") from None
    return BuiltWheel(name=file.name, stage=source.stage, variant=source.variant, manifest=manifest)


def _missing(
    builds: Sequence[str], built: Sequence[BuiltWheel], attempts: Sequence[AttemptRow]
) -> list[MissingPlatform]:
    have = {(wheel.stage, wheel.variant) for wheel in built}
    newest = latest_attempts(attempt.facts for attempt in attempts)
    return [
        MissingPlatform(stage=stage, variant=variant, reason=attempt.reason or str(attempt.state))
        for (stage, variant), attempt in sorted(newest.items())
        if stage in builds and (stage, variant) not in have
    ]
