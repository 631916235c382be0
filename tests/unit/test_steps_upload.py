"""Uploading artifacts: what lands where, and what is refused."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from buildbot.process.remotetransfer import FileWriter
from buildbot.process.results import FAILURE, RETRY, SUCCESS
from buildbot.test.reactor import TestReactorMixin
from buildbot.test.steps import ExpectGlob, ExpectRemoteRef, ExpectUploadFile, TestBuildStepMixin
from twisted.internet import defer, error
from twisted.trial import unittest

from master.acceptance import build_folder
from steps.upload import LARGEST, UnsafeName, UploadArtifacts, attempt_folder, file_name

PROPERTIES = {"run_id": 3, "stage": "build-linux", "variant": "", "attempt": 2}


@pytest.mark.parametrize("path", ["/w/dist/a.whl", "a.whl", "C:\\w\\dist\\a.whl", "../../a.whl"])
def test_a_file_keeps_only_its_last_part(path: str) -> None:
    assert file_name(path) == "a.whl"


HOSTILE = ["", "/", "dist/", "..", "a/..", "dist/.", "a\nb", "a\0", "C:", "a:b", "\\\\host\\share\\"]


@pytest.mark.parametrize("path", HOSTILE)
def test_a_name_that_could_lead_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(UnsafeName):
        file_name(path)


@pytest.mark.parametrize("variant", ["", "vulkan"])
def test_the_folder_is_where_the_master_looks(variant: str) -> None:
    properties = _Properties({**PROPERTIES, "variant": variant})
    assert attempt_folder(properties, 92) == "artifacts/" + build_folder(3, "build-linux", variant, 2, 92)


@pytest.mark.parametrize("stage", ["..", "a/b", ""])
def test_a_property_cannot_lead_out_of_the_folder(stage: str) -> None:
    with pytest.raises(UnsafeName):
        attempt_folder(_Properties({**PROPERTIES, "stage": stage}), 92)


class _Properties:
    def __init__(self, values: dict[str, object]) -> None:
        self.values = values

    def getProperty(self, name: str) -> object:
        return self.values.get(name)


class TestUploadArtifacts(TestBuildStepMixin, TestReactorMixin, unittest.TestCase):  # type: ignore[misc]
    @defer.inlineCallbacks
    def setUp(self) -> Generator[Any, Any, None]:
        self.setup_test_reactor()
        yield self.setup_test_build_step()
        scratch = tempfile.TemporaryDirectory()  # trial's own would lie in the current folder
        self.addCleanup(scratch.cleanup)
        self.master.basedir = f"{scratch.name}/master"
        self.folder = Path(self.master.basedir) / "artifacts/3/build-linux/default/2/92"

    def with_step(self, *globs: str) -> None:
        self.setup_step(UploadArtifacts(globs or ("dist/*.whl",)))
        for name, value in PROPERTIES.items():
            self.build.setProperty(name, value, "test")

    def glob(self, *paths: str, pattern: str = "dist/*.whl") -> Any:
        return ExpectGlob(path=f"wkdir/{pattern}", log_environ=False).files(list(paths)).exit(0)

    def upload(self, path: str) -> Any:
        return ExpectUploadFile(
            blocksize=256 * 1024,
            maxsize=LARGEST,
            workersrc=path,
            workdir="wkdir",
            writer=ExpectRemoteRef(FileWriter),
            keepstamp=False,
        )

    def refuse(self, failure_class: str, reason: str) -> Any:
        self.expect_outcome(FAILURE, f"artifacts failed ({failure_class}): {reason}")
        self.expect_property("failure_class", failure_class)
        self.expect_no_property("artifacts")
        return self.run_step()

    @defer.inlineCallbacks
    def test_files_land_flat_and_sorted_in_the_attempts_folder(self) -> Generator[Any, Any, None]:
        self.with_step("dist/*.whl", "docs/**/*.txt")
        self.expect_commands(
            self.glob("/w/dist/b.whl", "/w/dist/a.whl"),
            self.glob("/w/docs/x/note.txt", pattern="docs/**/*.txt"),
            self.upload("/w/dist/a.whl").upload_string("A").exit(0),
            self.upload("/w/dist/b.whl").upload_string("B").exit(0),
            self.upload("/w/docs/x/note.txt").upload_string("N").exit(0),
        )
        self.expect_outcome(SUCCESS, "uploaded a.whl, b.whl, note.txt")
        self.expect_property("artifacts", ["a.whl", "b.whl", "note.txt"])
        yield self.run_step()
        found = {file.name: file.read_text(encoding="utf-8") for file in self.folder.iterdir()}
        self.assertEqual(found, {"a.whl": "A", "b.whl": "B", "note.txt": "N"})

    def test_a_file_that_two_patterns_match_is_uploaded_once(self) -> Any:
        self.with_step("dist/*.whl", "dist/a*")
        both = (self.glob("/w/dist/a.whl"), self.glob("/w/dist/a.whl", pattern="dist/a*"))
        self.expect_commands(*both, self.upload("/w/dist/a.whl").upload_string("A").exit(0))
        self.expect_outcome(SUCCESS)
        return self.run_step()

    def test_nothing_matched(self) -> Any:
        self.with_step()
        self.expect_commands(self.glob())
        return self.refuse("code", "no file matches dist/*.whl")

    def test_two_files_of_one_name(self) -> Any:
        self.with_step("**/*.whl")
        self.expect_commands(self.glob("/w/a/x.whl", "/w/b/x.whl", pattern="**/*.whl"))
        return self.refuse("code", "two files would be x.whl: /w/a/x.whl and /w/b/x.whl")

    def test_a_name_that_is_no_name(self) -> Any:
        self.with_step()
        self.expect_commands(self.glob("/w/dist/.."))
        return self.refuse("code", "'/w/dist/..' ends in no safe file name")

    @defer.inlineCallbacks
    def test_a_file_that_the_worker_cannot_read_leaves_nothing(self) -> Generator[Any, Any, None]:
        self.with_step()
        self.expect_commands(self.glob("/w/dist/a.whl"), self.upload("/w/dist/a.whl").upload_string("half").exit(1))
        reason = f"a.whl was not uploaded: the worker cannot read it whole (is it a file, of at most {LARGEST} bytes?)"
        yield self.refuse("code", reason)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_a_master_that_cannot_write_is_infrastructure(self) -> Any:
        self.with_step()
        self.expect_commands(
            self.glob("/w/dist/a.whl"),
            self.upload("/w/dist/a.whl").upload_string("x", error=OSError(28, "No space left on device")),
        )
        return self.refuse(
            "infrastructure", "a.whl was not uploaded: the master cannot write it: [Errno 28] No space left on device"
        )

    def test_a_folder_that_cannot_be_made_is_infrastructure(self) -> Any:
        self.with_step()
        Path(self.master.basedir).write_text("a file where the folder should be", encoding="utf-8")
        self.expect_commands(self.glob("/w/dist/a.whl"))
        return self.refuse("infrastructure", "a.whl was not uploaded: the master cannot write it: Not a directory")

    @defer.inlineCallbacks
    def test_a_lost_worker_stays_a_retry(self) -> Generator[Any, Any, None]:
        self.with_step()
        upload = self.upload("/w/dist/a.whl").error(error.ConnectionLost())
        self.expect_commands(self.glob("/w/dist/a.whl"), upload)
        self.expect_outcome(RETRY)
        self.expect_no_property("failure_class")
        yield self.run_step()
        self.assertEqual(list(self.folder.iterdir()), [])
