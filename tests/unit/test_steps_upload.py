"""Uploading and fetching artifacts: what is sent to the worker, who learns the token, and what each answer means."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from buildbot.process.remotecommand import RemoteShellCommand
from buildbot.process.results import FAILURE, RETRY, SUCCESS
from buildbot.test.reactor import TestReactorMixin
from buildbot.test.steps import ExpectShell, TestBuildStepMixin
from twisted.internet import defer, error
from twisted.trial import unittest

from master.artifacts import announced
from master.artifacts.tokens import KEY, Grant, sign, verify
from master.pipeline import Limits
from master.settings_artifacts import DownloadSettings
from steps.command import Frame, StageEnvironment
from steps.download import download_artifacts
from steps.upload import UnsafeName, file_name, names_in, upload_artifacts

PROPERTIES = {"run_id": 3, "stage": "build-linux", "variant": "", "attempt": 2}
SECRET = "the-key-that-signs-tokens-in-this-test"
URL = "http://127.0.0.1:8020"
ENVIRONMENT = StageEnvironment({})
FRAME = Frame(
    environment=ENVIRONMENT,
    silence_timeout=60,
    timeout=600,
    continue_on_error=False,
    bounds=replace(Limits(), artifacts=5 << 20),
)


@pytest.mark.parametrize("path", ["/w/dist/a.whl", "a.whl", "C:\\w\\dist\\a.whl", "../../a.whl"])
def test_a_file_keeps_only_its_last_part(path: str) -> None:
    assert file_name(path) == "a.whl"


HOSTILE = ["", "/", "dist/", "..", "a/..", "dist/.", "a\nb", "a\0", "C:", "a:b", "\\\\host\\share\\", "nul"]


@pytest.mark.parametrize("path", HOSTILE)
def test_a_name_that_could_lead_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(UnsafeName):
        file_name(path)


def test_the_tools_last_line_is_read_as_data() -> None:
    assert names_in('mlc-ci-worker upload: {"b.whl": "…", "a.whl": "…"}') == ["a.whl", "b.whl"]
    for line in ('{"../x": 1}', '{"a": ', "{}", '{"a": ' + "[" * 100_000, "nonsense"):
        assert names_in(f"mlc-ci-worker upload: {line}") == []


class _Steps(TestReactorMixin, TestBuildStepMixin, unittest.TestCase):  # type: ignore[misc]
    @defer.inlineCallbacks
    def setUp(self) -> Generator[Any, Any, None]:
        self.setup_test_reactor()
        yield self.setup_test_build_step(with_secrets={KEY: SECRET})
        scratch = tempfile.TemporaryDirectory()  # trial's own would lie in the current folder
        self.addCleanup(scratch.cleanup)
        self.master.basedir = scratch.name
        announced.announce(Path(scratch.name), port=8020, url=URL)

    def with_step(self, step: Any, **properties: Any) -> None:
        self.setup_step(step)
        for name, value in {**PROPERTIES, **properties}.items():
            self.build.setProperty(name, value, "test")

    def command(self, *words: str, grant: Grant) -> Any:
        return ExpectShell(
            workdir="wkdir",
            command=["mlc-ci-worker", *words],
            env=ENVIRONMENT.plain(self.build.getProperties()),
            timeout=60,
            max_time=600.0,
            log_environ=False,
            initial_stdin=sign(SECRET, grant) + "\n",
        )

    def grant(self, budget: int) -> Grant:
        return Grant(build_id=92, run_id=3, folder="3/build-linux/default/2/92", budget=budget)


class TestUpload(_Steps):
    def expected(self) -> Any:
        words = ("upload", f"--url={URL}/builds/92", "--glob=dist/*.whl", "--glob=*.json")
        return self.command(*words, grant=self.grant(5 << 20))

    def upload(self, **properties: Any) -> None:
        self.with_step(upload_artifacts(FRAME, ["dist/*.whl", "*.json"]), **properties)

    def test_the_worker_sends_and_the_build_has_the_names(self) -> Any:
        self.upload()
        report = "mlc-ci-worker upload: " + json.dumps({"b.whl": "…", "a.json": "…"})
        self.expect_commands(self.expected().stdout(f"b.whl: 3 bytes\n{report}\n").exit(0))
        self.expect_outcome(SUCCESS, "uploaded a.json, b.whl")
        self.expect_property("artifacts", ["a.json", "b.whl"])
        return self.run_step()

    @defer.inlineCallbacks
    def test_the_token_is_struck_out_of_every_log(self) -> Generator[Any, Any, None]:
        self.upload()
        token = sign(SECRET, self.grant(5 << 20))
        self.expect_commands(self.expected().stdout(f"who prints {token} tells nothing, nor with {SECRET}\n").exit(0))
        self.expect_outcome(SUCCESS)
        yield self.run_step()
        said = self.get_nth_step(0).logs["stdio"].stdout
        self.assertEqual(said, f"who prints <artifact token> tells nothing, nor with <{KEY}>\n")
        self.assertEqual(verify(SECRET, token).build_id, 92)  # it was a token indeed

    @defer.inlineCallbacks
    def test_no_property_and_no_word_of_the_command_has_the_token(self) -> Generator[Any, Any, None]:
        self.upload()
        self.expect_commands(self.expected().exit(0))
        self.expect_outcome(SUCCESS)
        yield self.run_step()
        token = sign(SECRET, self.grant(5 << 20))
        everything = repr(self.build.getProperties().asDict()) + repr(self.get_nth_step(0).command)
        self.assertNotIn(token, everything)
        self.assertIn("--url", everything)

    def refuse(self, failure_class: str, reason: str) -> Any:
        self.expect_outcome(FAILURE, f"artifacts failed ({failure_class}): {reason}")
        self.expect_property("failure_class", failure_class)
        self.expect_no_property("artifacts")
        return self.run_step()

    def test_nothing_matched(self) -> Any:
        self.upload()
        said = "mlc-ci-worker upload: error: no file matches dist/*.whl\n"
        self.expect_commands(self.expected().stderr(said).exit(1))
        return self.refuse("code", "no file matches dist/*.whl")

    def test_a_store_that_is_full_is_infrastructure(self) -> Any:
        self.upload()
        said = "mlc-ci-worker upload: error: the artifact store is full (HTTP 507)\n"
        self.expect_commands(self.expected().stderr(said).exit(75))
        return self.refuse("infrastructure", "the artifact store is full (HTTP 507)")

    def test_a_master_without_an_artifact_process_is_infrastructure(self) -> Any:
        self.upload()
        (Path(self.master.basedir) / announced.FILE).unlink()
        self.expect_commands()
        return self.refuse("infrastructure", "this master has no artifact process")

    def test_a_property_cannot_lead_out_of_the_folder(self) -> Any:
        self.upload(stage="..")
        self.expect_commands()
        return self.refuse("code", "'..' cannot be the name of an artifact: it is empty, or a folder")

    def test_a_lost_worker_stays_a_retry(self) -> Any:
        self.upload()
        self.expect_commands(self.expected().error(error.ConnectionLost()))
        self.expect_outcome(RETRY)
        self.expect_no_property("failure_class")
        return self.run_step()

    def test_a_stage_that_may_fail_ends_with_warnings(self) -> None:
        tolerant = upload_artifacts(replace(FRAME, continue_on_error=True), ["x"])
        assert (tolerant.flunkOnFailure, tolerant.warnOnFailure, tolerant.haltOnFailure) == (False, True, True)


class TestDownload(_Steps):
    def test_what_a_stage_left_comes_into_a_folder(self) -> Any:
        wanted = DownloadSettings(stage="build-linux", globs=("*.whl", "*.json"), into="dist")
        self.with_step(download_artifacts(FRAME, wanted), stage="check")
        words = ("download", f"--url={URL}", "--run=3", "--stage=build-linux", "--glob=*.whl", "--glob=*.json")
        grant = Grant(build_id=92, run_id=3, folder="3/check/default/2/92", budget=0)  # it may write nothing
        self.expect_commands(self.command(*words, "--into=dist", grant=grant).exit(0))
        self.expect_outcome(SUCCESS, "download-build-linux")
        return self.run_step()

    def test_an_artifact_that_is_not_there_is_the_codes_fault(self) -> Any:
        self.with_step(
            download_artifacts(FRAME, DownloadSettings(stage="build-linux", globs=("*.whl",))), stage="check"
        )
        words = ("download", f"--url={URL}", "--run=3", "--stage=build-linux", "--glob=*.whl", "--into=.")
        grant = Grant(build_id=92, run_id=3, folder="3/check/default/2/92", budget=0)
        said = "mlc-ci-worker download: error: no artifact of build-linux fits *.whl; there are: none\n"
        self.expect_commands(self.command(*words, grant=grant).stderr(said).exit(1))
        reason = "no artifact of build-linux fits *.whl; there are: none"
        self.expect_outcome(FAILURE, f"download-build-linux failed (code): {reason}")
        return self.run_step()


def test_the_command_that_buildbot_sends_does_not_show_what_goes_to_standard_input() -> None:
    sent = RemoteShellCommand("wkdir", ["mlc-ci-worker", "upload"], initialStdin="token\n", logEnviron=False)
    assert "token" not in repr(sent)
