"""Steps with upstream's harness: what each sends to the worker, and what each answer makes of the build."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from buildbot.process.results import CANCELLED, FAILURE, RETRY, SUCCESS, WARNINGS, computeResultAndTermination
from buildbot.test.reactor import TestReactorMixin
from buildbot.test.steps import ExpectShell, TestBuildStepMixin
from twisted.internet import defer, error
from twisted.python.failure import Failure
from twisted.trial import unittest

from master.pipeline import Limits
from steps.command import Command, Frame, StageEnvironment
from steps.source import checkout

CANARY = "canary-0123456789"
FRAME = Frame(environment=StageEnvironment({}), silence_timeout=60, timeout=600, continue_on_error=False)
PROPERTIES = {
    "repository": "https://example.org/x.git",
    "head_sha": "a" * 40,
    "base_sha": "",
    "pull_request": 0,
    "ref": "refs/heads/main",
    "tag": "",
    "threads": 4,
    "builddir": "/w/bldr",
}
EXPECTED_ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "PYTHONUNBUFFERED": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "CUDA_VISIBLE_DEVICES": "-1",
    "NVIDIA_VISIBLE_DEVICES": "void",
    "NUM_THREADS": "4",
    "CMAKE_BUILD_PARALLEL_LEVEL": "4",
}


class StepCase(TestBuildStepMixin, TestReactorMixin, unittest.TestCase):  # type: ignore[misc]
    @defer.inlineCallbacks
    def setUp(self) -> Generator[Any, Any, None]:
        self.setup_test_reactor()
        yield self.setup_test_build_step()

    def with_step(self, step: Any, **properties: Any) -> Any:
        made = self.setup_step(step)
        for name, value in {**PROPERTIES, **properties}.items():
            self.build.setProperty(name, value, "test")
        return made

    def shell(self, command: Any, *, max_time: float = 600, env: dict[str, str] | None = None, **more: Any) -> Any:
        return ExpectShell(
            workdir="wkdir",
            command=command,
            env=EXPECTED_ENVIRONMENT if env is None else env,
            timeout=60,
            max_time=max_time,
            log_environ=False,
            **more,
        )


class TestCommand(StepCase):
    def command(self, frame: Frame = FRAME, **more: Any) -> Command:
        return Command(name="make", command=["make"], **{**frame.limits(), **more})

    def test_runs_within_limits_and_with_the_builds_threads(self) -> Any:
        self.with_step(self.command())
        self.expect_commands(self.shell(["make"]).exit(0))
        self.expect_outcome(SUCCESS, "make")
        self.expect_no_property("failure_class")
        return self.run_step()

    def test_settings_variables_are_filled_in_and_win(self) -> Any:
        environment = StageEnvironment({"CCACHE_DIR": "{workspace}/.ccache", "LC_ALL": "C"}, {"X": "1"})
        frame = Frame(environment=environment, silence_timeout=60, timeout=600, continue_on_error=False)
        self.with_step(self.command(frame))
        expected = {**EXPECTED_ENVIRONMENT, "CCACHE_DIR": "/w/bldr/.ccache", "LC_ALL": "C", "X": "1"}
        self.expect_commands(self.shell(["make"], env=expected).exit(0))
        self.expect_outcome(SUCCESS)
        return self.run_step()

    def test_a_failure_of_the_code_is_classed_and_shown(self) -> Any:
        self.with_step(self.command())
        self.expect_commands(self.shell(["make"]).stdout("all well\n").stderr("a.cc:1:2: error: bad\n").exit(2))
        self.expect_outcome(FAILURE, "make failed (code): a.cc:1:2: error: bad")
        self.expect_property("failure_class", "code")
        self.expect_property("failure_reason", "a.cc:1:2: error: bad")
        self.expect_property("failure_line", 1)
        return self.run_step()

    def test_a_full_disk_is_infrastructure(self) -> Any:
        self.with_step(self.command())
        self.expect_commands(self.shell(["make"]).stderr("ld: No space left on device\n").exit(1))
        self.expect_outcome(FAILURE)
        self.expect_property("failure_class", "infrastructure")
        return self.run_step()

    def test_a_killed_command_is_infrastructure(self) -> Any:
        self.with_step(self.command())
        self.expect_commands(self.shell(["make"]).log("stdio", header="process killed by signal 9\n").exit(-1))
        self.expect_outcome(FAILURE)
        self.expect_property("failure_class", "infrastructure")
        self.expect_property("failure_reason", "killed by SIGKILL, most likely because memory ran out")
        return self.run_step()

    def test_silence_names_its_limit_and_value(self) -> Any:
        self.with_step(self.command())
        answer = self.shell(["make"]).stdout("hm\n").update("failure_reason", "timeout_without_output").exit(-1)
        self.expect_commands(answer)
        self.expect_outcome(FAILURE)
        self.expect_property("failure_class", "code")
        self.expect_property("failure_reason", "silence timeout: no output for 60 seconds; its last line: hm")
        return self.run_step()

    def test_too_long_names_its_limit_and_value(self) -> Any:
        self.with_step(self.command())
        self.expect_commands(self.shell(["make"]).update("failure_reason", "timeout").exit(-1))
        self.expect_outcome(FAILURE, "make failed (code): time limit: not done after 600 seconds")
        return self.run_step()

    def test_limits_of_memory_and_processes_are_the_workers_to_hold(self) -> Any:
        self.with_step(self.command(replace(FRAME, bounds=Limits(memory=8 << 30, processes=1024))))
        piped = replace(FRAME, bounds=Limits(processes=1024))
        self.with_step(Command(name="make", command="make | tail", **piped.limits()))
        whole = ["mlc-ci-worker", "limit", "--memory=8589934592", "--processes=1024", "--", "make"]
        line = ["mlc-ci-worker", "limit", "--processes=1024", "--", "/bin/sh", "-c", "make | tail"]
        self.expect_commands(self.shell(whole).exit(0), self.shell(line, max_time=599).exit(0))
        self.expect_outcome(SUCCESS)
        self.expect_outcome(SUCCESS)
        return self.run_step()

    def test_without_limits_a_command_that_is_watched_leaves_nothing_running(self) -> Any:
        self.with_step(self.command(replace(FRAME, watched=True)))
        self.expect_commands(self.shell(["mlc-ci-worker", "limit", "--", "make"]).exit(0))
        self.expect_outcome(SUCCESS)
        return self.run_step()

    def test_a_limit_that_the_worker_held_it_to_is_the_codes_fault(self) -> Any:
        self.with_step(self.command(replace(FRAME, bounds=Limits(processes=9))))
        words = "process limit: 9 processes and threads allowed, 12 seen; most of them: sh (12)"
        said = f"sh: 1: Cannot fork: Resource temporarily unavailable\nmlc-ci-worker limit: error: {words}\n"
        command = ["mlc-ci-worker", "limit", "--processes=9", "--", "make"]
        self.expect_commands(self.shell(command).stderr(said).exit(1))
        self.expect_outcome(FAILURE, f"make failed (code): {words}")
        self.expect_property("failure_class", "code")
        self.expect_property("failure_reason", words)
        return self.run_step()

    def talking(self, *said: tuple[str, str], interrupted: bool = False, **more: Any) -> Any:
        """A command whose output arrives as it does from a worker."""

        @defer.inlineCallbacks
        def say(command: Any) -> Generator[Any, Any, None]:
            for stream, text in said:
                yield command.remoteUpdate(stream, text, False)
            self.assertEqual(command.interrupted, interrupted)

        return self.shell(["make"], **more).behavior(say)

    def telling(self, *said: tuple[str, str], shown: str, secret: str = CANARY) -> Any:
        """A command that says a secret of its build in pieces."""
        self.with_step(self.command())
        self.build.properties.useSecret(secret, "deploy-key")
        self.expect_commands(self.talking(*said).exit(0))
        self.expect_outcome(SUCCESS)
        self.expect_log_file("stdio", shown)
        return self.run_step()

    def test_a_secret_is_struck_out_where_a_long_line_was_cut(self) -> Any:
        line = "x" * 4090 + "canary\n-0123456789 and so on\n"
        return self.telling(("stdout", line), shown="x" * 4090 + "<deploy-key> and so on\n")

    def test_a_secret_is_struck_out_over_two_updates_also_between_words_of_another_stream(self) -> Any:
        said = [("stdout", "a\nb canary-0\n"), ("stderr", "hm\n"), ("stdout", "123456789\nc\n")]
        return self.telling(*said, shown="a\nb <deploy-key>\nc\n")

    def test_a_secret_of_many_lines_is_struck_out_line_by_line(self) -> Any:
        key = "-----BEGIN KEY-----\nMIIEabcdef\nghijklmnop\n-----END KEY-----"
        said = [("stdout", f"{line}\n") for line in key.split("\n")]
        return self.telling(*said, ("stdout", "well\n"), shown="<deploy-key>\nwell\n", secret=key)

    def test_what_only_begins_like_a_secret_is_shown_at_the_latest_at_the_end(self) -> Any:
        return self.telling(("stdout", "one can\n"), ("stdout", "do\nthis c\n"), shown="one can\ndo\nthis c\n")

    def test_what_is_held_back_is_shown_when_the_worker_is_lost(self) -> Any:
        self.with_step(self.command())
        self.build.properties.useSecret(CANARY, "deploy-key")
        self.expect_commands(self.talking(("stdout", "this c\n")).error(error.ConnectionLost()))
        self.expect_outcome(RETRY)
        self.expect_log_file("stdio", "this c\n")
        return self.run_step()

    def test_too_much_output_ends_the_command_and_the_log_keeps_what_came_before(self) -> Any:
        self.with_step(self.command(replace(FRAME, bounds=Limits(log=1 << 20))))
        before = "x" * 99 + "\n"
        said = [("stdout", before), ("stderr", "é" * 524_288), ("stdout", "after\n"), ("stderr", "after\n"), ("rc", -1)]
        self.expect_commands(self.talking(*said, interrupted=True))
        self.expect_outcome(FAILURE, "make failed (code): log limit: more than 1 MiB of output")
        self.expect_property("failure_class", "code")
        self.expect_property("failure_reason", "log limit: more than 1 MiB of output")
        self.expect_log_file("stdio", before)
        self.expect_log_file_stderr("stdio", "")
        return self.run_step()

    def test_all_commands_of_a_build_share_one_log_limit(self) -> Any:
        for _ in range(2):
            self.with_step(self.command(replace(FRAME, bounds=Limits(log=1 << 20))))
        half = ("stdout", "x" * ((1 << 19) - 1) + "\n")
        first = self.talking(half).exit(0)
        self.expect_commands(first, self.talking(half, ("stdout", "\n"), interrupted=True, max_time=599))
        self.expect_outcome(SUCCESS)
        self.expect_outcome(FAILURE, "make_1 failed (code): log limit: more than 1 MiB of output")
        return self.run_step()

    def test_what_stays_within_the_log_limit_is_left_alone(self) -> Any:
        self.with_step(self.command(replace(FRAME, bounds=Limits(log=1 << 20))))
        self.expect_commands(self.talking(("stdout", "x" * ((1 << 20) - 1) + "\n")).exit(0))
        self.expect_outcome(SUCCESS)
        return self.run_step()

    def test_all_commands_of_a_build_share_one_time_limit(self) -> Any:
        self.with_step(self.command())
        self.with_step(self.command())
        first = self.shell(["make"]).behavior(lambda _command: self.reactor.advance(100)).exit(0)
        self.expect_commands(first, self.shell(["make"], max_time=499).exit(0))  # the harness adds a second
        self.expect_outcome(SUCCESS)
        self.expect_outcome(SUCCESS)
        return self.run_step()

    def test_a_lost_worker_stays_a_retry(self) -> Any:
        self.with_step(self.command())
        self.expect_commands(self.shell(["make"]).error(error.ConnectionLost()))
        self.expect_outcome(RETRY)
        self.expect_no_property("failure_class")
        return self.run_step()

    def test_a_lost_worker_while_a_command_runs_stays_a_retry(self) -> Any:
        self.with_step(self.command())

        def lose(command: Any) -> None:
            command.interrupt(Failure(error.ConnectionLost()))

        self.expect_commands(self.shell(["make"]).behavior(lose).break_connection())
        self.expect_outcome(RETRY)
        self.expect_no_property("failure_class")
        return self.run_step()

    def test_a_cancelled_command_has_no_failure(self) -> Any:
        self.with_step(self.command())
        self.interrupt_nth_remote_command(0)
        expected = self.shell(["make"]).exit(-1)
        expected.interrupted = True
        self.expect_commands(expected)
        self.expect_outcome(CANCELLED)
        self.expect_no_property("failure_class")
        return self.run_step()

    def test_a_failed_step_fails_its_build_and_halts_it(self) -> None:
        step = self.with_step(self.command())
        assert computeResultAndTermination(step, FAILURE, SUCCESS) == (FAILURE, True)

    def test_a_stage_that_may_fail_halts_too_and_ends_with_warnings(self) -> None:
        frame = Frame(environment=StageEnvironment({}), silence_timeout=60, timeout=600, continue_on_error=True)
        step = self.with_step(self.command(frame))
        assert computeResultAndTermination(step, FAILURE, SUCCESS) == (WARNINGS, True)

    def test_steps_of_the_same_settings_are_equal(self) -> None:
        # Buildbot rebuilds a builder at each reconfig whose factory differs.
        same = Frame(environment=StageEnvironment({}), silence_timeout=60, timeout=600, continue_on_error=False)
        assert self.command() == self.command(same)
        assert checkout(FRAME, submodules=True) == checkout(same, submodules=True)
        assert checkout(FRAME, submodules=True) != checkout(same, submodules=False)


class TestCheckout(StepCase):
    def test_a_push_checks_out_its_head(self) -> Any:
        self.with_step(checkout(FRAME, submodules=True))
        command = ["mlc-ci-worker", "checkout", "--url=https://example.org/x.git", f"--head={'a' * 40}"]
        self.expect_commands(self.shell([*command, "--ref=refs/heads/main", "--submodules", "--directory=."]).exit(0))
        self.expect_outcome(SUCCESS, "checkout")
        return self.run_step()

    def test_a_pull_request_is_merged_into_its_base(self) -> Any:
        self.with_step(
            checkout(FRAME, submodules=False), base_sha="b" * 40, pull_request=7, ref="refs/pull/7/head; rm -rf /"
        )
        command = ["mlc-ci-worker", "checkout", "--url=https://example.org/x.git", f"--head={'a' * 40}"]
        command += [f"--base={'b' * 40}", "--pull-request=7", "--ref=refs/pull/7/head; rm -rf /", "--directory=."]
        self.expect_commands(self.shell(command).exit(0))
        self.expect_outcome(SUCCESS)
        return self.run_step()

    def test_an_unreachable_repository_is_infrastructure(self) -> Any:
        self.with_step(checkout(FRAME, submodules=False))
        command = ["mlc-ci-worker", "checkout", "--url=https://example.org/x.git", f"--head={'a' * 40}"]
        said = "fatal: unable\nmlc-ci-worker checkout: error: https://example.org/x.git is unreachable: why\n"
        self.expect_commands(
            self.shell([*command, "--ref=refs/heads/main", "--directory=."]).stderr(said.split("\n", 1)[1]).exit(75)
        )
        self.expect_outcome(FAILURE, "checkout failed (infrastructure): https://example.org/x.git is unreachable: why")
        self.expect_property("failure_class", "infrastructure")
        return self.run_step()
