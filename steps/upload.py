"""Artifacts: files of the worker, by pattern, into the artifact store (``mlc-ci-worker upload``)."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from buildbot.process.properties import Secret
from buildbot.process.results import SUCCESS
from twisted.internet import defer

from master.artifacts import announced
from master.artifacts.names import UnsafeName, artifact_name, build_folder
from master.artifacts.tokens import KEY, Grant, sign
from master.pipeline import Limits
from steps.classify import FailureClass
from steps.command import Command, Frame

__all__ = ["StoreCommand", "UnsafeName", "UploadArtifacts", "file_name", "upload_artifacts"]

_REPORT = "mlc-ci-worker upload: {"
_MOST = 1000


def file_name(path: str) -> str:
    """The last part of a worker's path, Windows' or not. Raises :class:`UnsafeName`."""
    return artifact_name(re.split(r"[/\\]", path)[-1])


class StoreCommand(Command):
    """A command that talks to the artifact process, with a token that is good for this build alone.

    The token reaches it on standard input, which no log shows.
    """

    def __init__(self, *, budget: int = 0, **kwargs: Any) -> None:
        super().__init__(command=[], **kwargs)
        self.budget = budget

    def words(self, url: str) -> list[str]:
        """The command, for the artifact process at this address. For subclasses."""
        raise NotImplementedError

    @defer.inlineCallbacks
    def run(self) -> Generator[Any, Any, int]:
        url = announced.url(Path(self.master.basedir))
        if not url:
            return self.blame(FailureClass.INFRASTRUCTURE, "this master has no artifact process")
        try:
            grant = self.grant()
        except UnsafeName as error:
            return self.blame(FailureClass.CODE, str(error))
        key = yield self.build.render(Secret(KEY))
        token = sign(key, grant)
        self.build.getProperties().useSecret(token, "artifact token")
        self.initialStdin = f"{token}\n"
        self.command = self.words(url)
        result: int = yield super().run()
        return result

    def grant(self) -> Grant:
        """What this build may do. Raises :class:`UnsafeName`."""
        run_id, stage, variant, attempt = (self.getProperty(n) for n in ("run_id", "stage", "variant", "attempt"))
        build_id = self.build.buildid
        folder = build_folder(run_id, str(stage), str(variant or ""), attempt, build_id)
        return Grant(build_id=build_id, run_id=run_id, folder=folder, budget=self.budget)


class UploadArtifacts(StoreCommand):
    """Uploads what the patterns match; the build property ``artifacts`` gets the names.

    Nothing matched, or two files of one name: a failure of the code. ``budget``: bytes of all artifacts of the build.
    """

    def __init__(self, globs: Sequence[str], *, budget: int = Limits().artifacts, **kwargs: Any) -> None:
        super().__init__(name="artifacts", budget=budget, **kwargs)
        self.globs = list(globs)
        self.names: list[str] = []

    def words(self, url: str) -> list[str]:
        patterns = [f"--glob={pattern}" for pattern in self.globs]
        return ["mlc-ci-worker", "upload", f"--url={url}/builds/{self.build.buildid}", *patterns]

    def line_received(self, line: str) -> None:
        if line.startswith(_REPORT):
            self.names = names_in(line)

    def accept(self) -> int:
        self.setProperty("artifacts", self.names, "step")
        self.descriptionDone = [f"uploaded {', '.join(self.names)}"]
        result: int = SUCCESS
        return result


def names_in(line: str) -> list[str]:
    """What the tool's last line says that it has uploaded; nothing where it makes no sense."""
    try:
        said = json.loads(line.partition(": ")[2])
        return sorted(artifact_name(str(name)) for name in list(said)[:_MOST])
    except (ValueError, RecursionError):
        return []


def upload_artifacts(frame: Frame, globs: Sequence[str]) -> UploadArtifacts:
    return UploadArtifacts(globs, budget=frame.bounds.artifacts, **frame.limits())
