"""Artifacts: files of the worker, by pattern, into the attempt's folder on the master."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from buildbot.process.buildstep import BuildStep
from buildbot.process.remotecommand import RemoteCommand, RemoteException
from buildbot.process.remotetransfer import FileWriter
from buildbot.process.results import SUCCESS
from buildbot.steps.worker import CompositeStepMixin
from twisted.internet import defer

from steps.classify import FailureClass
from steps.command import FailureMixin, Frame

_NAME = re.compile(r"[^\x00-\x1f\x7f/\\:]+")
_BLOCK = 256 * 1024  # bytes; bigger ones are slower, and 640 KiB is the protocol's limit
LARGEST = 4 * 1024**3  #: bytes of one file: a stranger's build must not fill the master's disk


class UnsafeName(ValueError):
    """A file name that could land outside the attempt's folder."""


def file_name(path: str) -> str:
    """The last part of a worker's path, Windows' or not. Raises :class:`UnsafeName`."""
    name = re.split(r"[/\\]", path)[-1]
    if name in ("", ".", "..") or not _NAME.fullmatch(name):
        raise UnsafeName(f"{path!r} ends in no safe file name")
    return name


def attempt_folder(properties: Any, buildid: int) -> str:
    """Where a build's artifacts go, relative to the master's folder."""
    parts = [str(properties.getProperty(name) or "") for name in ("run_id", "stage", "variant", "attempt")]
    parts[2] = parts[2] or "default"
    for part in parts:
        if file_name(part) != part:
            raise UnsafeName(f"{part!r} cannot be part of a path")
    return "/".join(["artifacts", *parts, str(buildid)])


class UploadArtifacts(FailureMixin, CompositeStepMixin, BuildStep):
    """Uploads what the patterns match. Nothing matched, or two files of one name: a failure of the code."""

    renderables = ("globs",)
    logEnviron = False
    name = "artifacts"

    def __init__(self, globs: Sequence[str], *, largest: int = LARGEST, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.globs = list(globs)
        self.largest = largest

    @defer.inlineCallbacks
    def run(self) -> Generator[Any, Any, int]:
        yield self.addLogForRemoteCommands("stdio")
        found: dict[str, str] = {}
        for pattern in self.globs:
            paths = yield self.runGlob(self.build.path_module.join(str(self.workdir), pattern))
            if not paths:
                return self.blame(FailureClass.CODE, f"no file matches {pattern}")
            for path in sorted(paths):
                try:
                    name = file_name(path)
                except UnsafeName as error:
                    return self.blame(FailureClass.CODE, str(error))
                if found.setdefault(name, path) != path:
                    return self.blame(FailureClass.CODE, f"two files would be {name}: {found[name]} and {path}")
        folder = Path(self.master.basedir) / attempt_folder(self.getProperties(), self.build.buildid)
        for name, path in sorted(found.items()):
            problem = yield self.upload(path, folder / name)
            if problem:
                return self.failed_upload(path, problem)
        self.setProperty("artifacts", sorted(found), "step")
        self.descriptionDone = [f"uploaded {', '.join(sorted(found))}"]
        result: int = SUCCESS
        return result

    @defer.inlineCallbacks
    def upload(self, path: str, destination: Path) -> Generator[Any, Any, str]:
        """One file; says what went wrong, or nothing. A lost connection is Buildbot's to handle."""
        try:
            writer = FileWriter(os.fspath(destination), self.largest, 0o644)
        except OSError as error:
            return f"the master cannot write it: {error.strerror}"
        arguments = {
            "workdir": self.workdir,
            "workersrc": path,
            "writer": writer,
            "maxsize": self.largest,
            "blocksize": _BLOCK,
            "keepstamp": False,
        }
        command = RemoteCommand("uploadFile", arguments)
        command.useLog(self.rc_log, False)
        try:
            yield self.runCommand(command)
        except (OSError, RemoteException) as error:
            return f"the master cannot write it: {error}"
        finally:
            writer.cancel()
        if command.didFail():
            writer.purge()
            return f"the worker cannot read it whole (is it a file, of at most {self.largest} bytes?)"
        return ""

    def failed_upload(self, path: str, problem: str) -> int:
        ours = problem.startswith("the master")
        blamed = FailureClass.INFRASTRUCTURE if ours else FailureClass.CODE
        return self.blame(blamed, f"{file_name(path)} was not uploaded: {problem}")


def upload_artifacts(frame: Frame, globs: Sequence[str]) -> UploadArtifacts:
    return UploadArtifacts(globs, **frame.outcome())
