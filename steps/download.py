"""Artifacts of earlier stages of the run, into the worker's checkout (``mlc-ci-worker download``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from master.settings_artifacts import DownloadSettings
from steps.command import Frame
from steps.upload import StoreCommand

_LONGEST_NAME = 50  # Buildbot's limit


class DownloadArtifacts(StoreCommand):
    """Fetches what one stage has left. An artifact that is not there: a failure of the code."""

    def __init__(self, stage: str, globs: Sequence[str], into: str, **kwargs: Any) -> None:
        super().__init__(name=f"download-{stage}"[:_LONGEST_NAME], **kwargs)
        self.stage = stage
        self.globs = list(globs)
        self.into = into

    def words(self, url: str) -> list[str]:
        patterns = [f"--glob={pattern}" for pattern in self.globs]
        options = [f"--url={url}", f"--run={self.getProperty('run_id')}", f"--stage={self.stage}"]
        return ["mlc-ci-worker", "download", *options, *patterns, f"--into={self.into}"]


def download_artifacts(frame: Frame, wanted: DownloadSettings) -> DownloadArtifacts:
    return DownloadArtifacts(wanted.stage, wanted.globs, wanted.into, **frame.limits())
