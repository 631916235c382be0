"""The suite's step: counts, the report, and which suite is no success."""

from __future__ import annotations

import json
from typing import Any

from buildbot.process.remotetransfer import StringFileWriter
from buildbot.process.results import FAILURE, SUCCESS
from buildbot.test.steps import ExpectRemoteRef, ExpectUploadFile
from test_steps_command import FRAME, StepCase

from master.settings_stages import PytestSettings
from steps import junit
from steps.test import Pytest


class TestPytest(StepCase):
    def suite(self, minimum: int = 10) -> None:
        self.command = ["../test-environment/bin/python", "-m", "pytest", "tests/python", "-m", "unittest"]
        self.command += ["-ra", "--color=no", "--junitxml=../pytest.xml", "-x"]
        settings = PytestSettings(paths=("tests/python",), marker="unittest", minimum_passed=minimum, arguments=("-x",))
        self.with_step(Pytest(settings, name="pytest", **FRAME.limits()))

    def report(self, text: str | None = None) -> Any:
        """The report that the step asks for; none was written unless given."""
        asked = ExpectUploadFile(
            workdir="wkdir",
            workersrc="../pytest.xml",
            maxsize=junit.MOST_BYTES,
            blocksize=64 * 1024,
            writer=ExpectRemoteRef(StringFileWriter),
        )
        return asked.exit(1) if text is None else asked.upload_string(text).exit(0)

    def test_the_report_becomes_test_results_and_what_the_page_shows(self) -> Any:
        self.suite(1)
        xml = """<testsuites><testsuite name="pytest"><testcase classname="t" name="a" time="0.5"/>
            <testcase classname="t" name="b"><failure message="1 is not 2"/></testcase></testsuite></testsuites>"""
        said = "=== 1 failed, 1 passed in 1.00s ===\n"
        self.expect_commands(self.shell(self.command).stdout(said).exit(1), self.report(xml))
        self.expect_outcome(FAILURE)
        self.expect_test_result_sets([("pytest", "pass_fail", "boolean")])
        self.expect_test_results([(1000, "1", "t.a", None, None, 500_000_000), (1000, "0", "t.b", None, None, 0)])
        failed = [{"name": "t.b", "ended": "failed", "seconds": 0.0, "message": "1 is not 2"}]
        page = {"counts": {"passed": 1, "failed": 1, "error": 0, "skipped": 0}, "failed": failed}
        self.expect_build_data("tests", json.dumps(page).encode(), "pytest")
        return self.run_step()

    def test_a_report_that_is_none_changes_nothing(self) -> Any:
        self.suite(1)
        self.expect_commands(
            self.shell(self.command).stdout("=== 12 passed in 1.00s ===\n").exit(0), self.report("<html>")
        )
        self.expect_outcome(SUCCESS, "12 passed in 1.00s")
        self.expect_log_file("report", "the report is no XML: no element found: line 1, column 6\n")
        return self.run_step()

    def test_enough_passed(self) -> Any:
        self.suite()
        said = "tests/python/test_a.py ....\n==== 12 passed, 9 skipped, 1 warning in 2.51s ====\n"
        self.expect_commands(self.shell(self.command).stdout(said).exit(0), self.report())
        self.expect_outcome(SUCCESS, "12 passed, 9 skipped, 1 warning in 2.51s")
        self.expect_property("tests", {"passed": 12, "skipped": 9, "warning": 1})
        return self.run_step()

    def test_all_skipped_is_a_failure(self) -> Any:
        self.suite(1)
        self.expect_commands(
            self.shell(self.command).stdout("===== 29 skipped in 0.50s =====\n").exit(0), self.report()
        )
        self.expect_outcome(FAILURE)
        self.expect_property("failure_class", "code")
        self.expect_property("failure_reason", "0 tests passed, at least 1 have to (29 skipped in 0.50s)")
        return self.run_step()

    def test_too_few_passed_is_a_failure(self) -> Any:
        self.suite()
        self.expect_commands(
            self.shell(self.command).stdout("= 9 passed, 20 skipped in 61.00s (0:01:01) =\n").exit(0), self.report()
        )
        self.expect_outcome(FAILURE)
        self.expect_property("failure_class", "code")
        return self.run_step()

    def test_no_summary_is_a_failure(self) -> Any:
        self.suite(1)
        self.expect_commands(self.shell(self.command).stdout("12 passed, they say\n").exit(0), self.report())
        self.expect_outcome(FAILURE)
        return self.run_step()

    def test_nothing_collected_says_so(self) -> Any:
        self.suite()
        self.expect_commands(self.shell(self.command).stdout("=== no tests ran in 0.01s ===\n").exit(5), self.report())
        self.expect_outcome(FAILURE, "pytest failed (code): pytest collected no test")
        return self.run_step()

    def test_a_failed_test_shows_the_counts_and_the_first_error(self) -> Any:
        self.suite()
        said = "E   assert 1 == 2\nFAILED tests/t.py::test_a - assert 1 == 2\n=== 1 failed, 11 passed in 1.00s ===\n"
        self.expect_commands(self.shell(self.command).stdout(said).exit(1), self.report())
        self.expect_outcome(FAILURE)
        self.expect_property("failure_reason", "1 failed, 11 passed in 1.00s; first: E assert 1 == 2")
        self.expect_property("tests", {"failed": 1, "passed": 11})
        return self.run_step()

    def test_a_crash_of_the_interpreter_says_so(self) -> Any:
        self.suite()
        self.expect_commands(
            self.shell(self.command).log("stdio", header="process killed by signal 11\n").exit(-1), self.report()
        )
        self.expect_outcome(FAILURE, "pytest failed (code): crashed (SIGSEGV)")
        return self.run_step()
