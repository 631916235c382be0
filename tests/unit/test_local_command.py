"""A command on this machine: shown, kept, judged, and gone when it is over."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from master.local_command import NOT_FOUND, Command, Ended, run
from steps.classify import FailureClass

ROOT = Path(__file__).parents[2]


@pytest.fixture
def screen() -> io.BytesIO:
    return io.BytesIO()


def ran(folder: Path, screen: io.BytesIO, line: str, **more: Any) -> Ended:
    environment = {"PATH": os.environ["PATH"], **more.pop("environment", {})}
    command = Command(argv=["/bin/sh", "-c", line], folder=folder, environment=environment, **more)
    return run(command, log=folder / "log", screen=screen)


def test_what_it_prints_is_shown_and_kept_and_it_has_only_the_environment_it_is_given(
    tmp_path: Path, screen: io.BytesIO
) -> None:
    ended = ran(tmp_path, screen, "pwd; echo $WHAT >&2; env | grep -c HOME", environment={"WHAT": "it is"})
    assert (tmp_path / "log").read_text() == f"{tmp_path}\nit is\n0\n"
    assert screen.getvalue() == (tmp_path / "log").read_bytes()
    assert ended.exit_code == 1, "grep found nothing"


def test_one_that_ends_well_has_no_verdict(tmp_path: Path, screen: io.BytesIO) -> None:
    assert ran(tmp_path, screen, "echo 'error: not really'") == Ended(exit_code=0)


def test_a_failure_is_judged_by_the_line_that_says_it(tmp_path: Path, screen: io.BytesIO) -> None:
    ended = ran(tmp_path, screen, "echo one; echo 'a.c:1:2: error: bad'; echo three; printf unfinished; exit 4")
    assert ended.exit_code == 4
    assert ended.verdict
    assert (ended.verdict.failure_class, ended.verdict.line) == (FailureClass.CODE, 1)
    assert ended.verdict.reason == "a.c:1:2: error: bad"


def test_a_tool_of_ours_has_the_last_word_on_its_own_failure(tmp_path: Path, screen: io.BytesIO) -> None:
    said = "echo 'fatal: not a git repository'; echo 'mlc-ci-worker checkout: error: no such commit'; exit 1"
    ended = ran(tmp_path, screen, said)
    assert ended.verdict
    assert (ended.verdict.reason, ended.verdict.line) == ("no such commit", 0)


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("kill -SEGV $$", 139, "crashed (SIGSEGV)"),
        ("echo 'no newline at the end' | tr -d '\\n'; exit 9", 9, "no newline at the end"),
        ("head -c 3000000 /dev/zero | tr '\\0' x; exit 5", 5, "exit code 5"),
        ("printf '\\377\\376 error: odd bytes\\n'; exit 6", 6, "exit code 6"),
    ],
)
def test_whatever_it_says_and_however_it_ends(
    tmp_path: Path, screen: io.BytesIO, line: str, code: int, said: str
) -> None:
    ended = ran(tmp_path, screen, line)
    assert ended.exit_code == code
    assert ended.verdict
    assert said in ended.verdict.reason


def test_standard_input_is_what_it_is_given_and_else_nothing(tmp_path: Path, screen: io.BytesIO) -> None:
    text = "line\n" * 100_000
    assert ran(tmp_path, screen, "wc -c", stdin=text).exit_code == 0
    assert (tmp_path / "log").read_text().strip() == str(len(text))
    assert ran(tmp_path, screen, "true", stdin=text).exit_code == 0, "it need not read it"
    ran(tmp_path, screen, "wc -c")
    assert (tmp_path / "log").read_text().strip() == "0"


def test_a_program_that_is_not_there_fails_as_a_shell_would_tell_it(tmp_path: Path, screen: io.BytesIO) -> None:
    command = Command(argv=["no-such-program"], folder=tmp_path, environment={"PATH": "/bin"})
    ended = run(command, log=tmp_path / "log", screen=screen)
    assert ended.exit_code == NOT_FOUND
    assert ended.verdict
    assert "no-such-program" in ended.verdict.reason


@pytest.mark.parametrize(
    ("line", "limits", "said"),
    [
        ("sleep 60", {"silence_timeout": 0.3}, "silence timeout: no output for 0.3 seconds"),
        ("while :; do echo on; sleep 0.05; done", {"timeout": 9.0, "time_left": 0.5}, "not done after 9 seconds"),
        ("sleep 60", {"silence_timeout": 50.0, "timeout": 9.0, "time_left": 0.3}, "not done after 9 seconds"),
        ("yes", {"log": 1 << 20, "log_left": 1000}, "log limit: more than 1 MiB"),
    ],
    ids=["silence", "time, though it speaks", "time, and it is silent", "output"],
)
def test_a_limit_ends_it_with_all_that_it_has_started(
    tmp_path: Path, screen: io.BytesIO, line: str, limits: dict[str, float], said: str
) -> None:
    marker = f"{os.getpid()}.{time.monotonic_ns() % 10**6:06}"  # seconds that nobody else sleeps
    ended = ran(tmp_path, screen, f"sleep {marker} & {line}", **limits)
    assert ended.exit_code == 124
    assert ended.verdict
    assert said in ended.verdict.reason
    assert not running(marker)


def test_what_it_leaves_behind_ends_with_it(tmp_path: Path, screen: io.BytesIO) -> None:
    marker = f"{os.getpid()}.{time.monotonic_ns() % 10**6:06}"
    assert ran(tmp_path, screen, f"sleep {marker} >/dev/null 2>&1 & echo done").exit_code == 0
    assert not running(marker)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_what_ends_us_ends_it(tmp_path: Path, number: signal.Signals) -> None:
    marker = f"{os.getpid()}.{time.monotonic_ns() % 10**6:06}"
    program = f"""
import pathlib, sys
from master.local_command import Command, run
argv = ["/bin/sh", "-c", "sleep {marker} & echo started; wait"]
command = Command(argv=argv, folder=pathlib.Path("."), environment={{}})
run(command, log=pathlib.Path(sys.argv[1]), screen=sys.stdout.buffer)
"""
    us = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "log")], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert us.stdout
    try:
        assert us.stdout.readline() == b"started\n"
        us.send_signal(number)
        us.communicate(timeout=20)
        assert us.returncode in (128 + number, -number)
        assert not running(marker)
    finally:
        us.kill()
        for pid in running(marker):
            os.kill(int(pid), signal.SIGKILL)


def running(word: str) -> list[str]:
    """Processes that live with this word in their command line; those just killed may take a moment to go."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_bytes().split(b"\0")
            except OSError:
                continue
            if words[:2] == [b"sleep", word.encode()]:
                found.append(entry.parent.name)
        if not found:
            return []
        time.sleep(0.02)
    return found
