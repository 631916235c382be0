"""Whose fault a failed command is: each line below is what a real tool prints."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steps.classify import FailureClass, Limit, OutputReader, classify

INFRASTRUCTURE_LINES = [
    ("/usr/bin/ld: final link failed: No space left on device", "the disk is full"),
    ("./ccXYZ.s: fatal error: error writing to ./ccXYZ.s: No space left on device", "the disk is full"),
    ("OSError: [Errno 28] No space left on device: '/tmp/x'", "the disk is full"),
    ("fatal: write error: Disk quota exceeded", "the disk is full"),
    ("E: You don't have enough free space in /var/cache/apt/archives/. not enough disk space", "the disk is full"),
    ("touch: cannot touch 'x': Read-only file system", "the disk is broken"),
    ("cp: error reading 'x': Input/output error", "the disk is broken"),
    ("ls: cannot access 'x': Stale file handle", "the disk is broken"),
    ("c++: fatal error: Killed signal terminated program cc1plus", "memory ran out"),
    ("Killed", "memory ran out"),
    ("/bin/sh: line 1: 12345 Killed                  cmake --build .", "memory ran out"),
    ("virtual memory exhausted: Cannot allocate memory", "memory ran out"),
    ("fork: Cannot allocate memory", "memory ran out"),
    ("bash: fork: retry: Resource temporarily unavailable", "a limit of the host was hit"),
    ("OSError: [Errno 24] Too many open files", "a limit of the host was hit"),
    ("RuntimeError: can't start new thread", "a limit of the host was hit"),
    ("Upon execvpe b'mlc-ci-worker' [b'mlc-ci-worker', b'checkout'] in environment id 1", "no program mlc-ci-worker"),
    ("fatal: unable to access 'https://x/y.git/': Could not resolve host: x", "git's network failed"),
    ("fatal: unable to access 'https://x/y.git/': Failed to connect to x port 443", "git's network failed"),
    ("fatal: the remote end hung up unexpectedly", "git's network failed"),
    ("error: RPC failed; curl 56 Recv failure: Connection reset by peer", "git's network failed"),
    ("error: RPC failed; HTTP 502 curl 22 The requested URL returned error: 502", "git's network failed"),
    ("ssh: connect to host x port 22: Connection timed out", "ssh's network failed"),
    ("kex_exchange_identification: Connection closed by remote host", "ssh's network failed"),
    (
        "WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by 'NewConnectionError('<x>: Failed"
        " to establish a new connection: [Errno 111] Connection refused')': /simple/tvm/",
        "pip's network failed",
    ),
    ("ERROR: Could not install packages due to an OSError: HTTPSConnectionPool(host='x'): Read timed out.", "pip's"),
    ("pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool(host='x'): Read timed out.", "pip's"),
    ("curl: (6) Could not resolve host: x", "a download failed"),
    ("curl: (28) Operation timed out", "a download failed"),
    ("  [6] Couldn't resolve host name (Could not resolve host: index.crates.io)", "a download failed"),
    ("E: Failed to fetch http://x/y.deb  Connection failed", "apt failed"),
    ("Temporary failure resolving 'deb.debian.org'", "apt failed"),
    ("CUDA_ERROR_ECC_UNCORRECTABLE: uncorrectable ECC error encountered", "the GPU is sick"),
]

CODE_LINES = [
    "src/add.cc:12:5: error: 'x' was not declared in this scope",
    "src/add.cc:12: fatal error: vulkan/vulkan.h: No such file or directory",
    '/abs/path/kernel.cu(12): error: identifier "x" is undefined',
    "C:\\src\\add.cpp(12,5): error C2065: 'x': undeclared identifier",
    "add.obj : fatal error LNK1120: 1 unresolved externals",
    "cc1plus: fatal error: missing.cc: No such file or directory",
    "error[E0425]: cannot find value `x` in this scope",
    "error: could not compile `tokenizers-c` (lib) due to 1 previous error",
    "CMake Error at CMakeLists.txt:3 (find_package):",
    "CMake Error: The source directory does not exist.",
    "/usr/bin/ld: add.o: undefined reference to `tvm::x()'",
    "add.cc:(.text+0x5): multiple definition of `main'",
    "/usr/bin/ld: cannot find -lvulkan: No such file or directory",
    "E   assert 1 == 2",
    "E   ConnectionRefusedError: [Errno 111] Connection refused",
    "FAILED tests/python/test_a.py::test_b - assert 1 == 2",
    "ERROR tests/python/test_a.py - ImportError: no module",
    "ERROR: Could not find a version that satisfies the requirement tvm==9 (from versions: none)",
    "ninja: error: loading 'build.ninja': No such file or directory",
    "make[2]: *** [Makefile:3: all] Error 1",
    "fatal: not a git repository",
    "ModuleNotFoundError: No module named 'tvm'",
    "tvm.error.InternalError: Check failed: x",
    "/bin/sh: 1: cmak: not found",
    "bash: line 1: cmak: command not found",
    "Segmentation fault (core dumped)",
    "thread 'main' panicked at src/main.rs:2:5:",
    "  src/add.cc:12:5: error: indented by pip",
    "\x1b[0m\x1b[1m\x1b[38;5;9merror\x1b[0m: in colour",
]

HARMLESS_LINES = [
    "-- Performing Test HAVE_ERROR_CODE - Success",
    "[1/2] Building CXX object CMakeFiles/x.dir/src/error.cc.o",
    "test_connection_refused PASSED",
    "WARNING: Retrying (Retry(total=4, connect=None)) after connection broken by 'NewConnectionError'",
    "warning: unused variable 'x'",
    "0 errors, 0 warnings",
    "Installing: /x/include/error.h",
    "server said: Connection refused",
    "WARNING  root:net.py:3 Connection reset by peer",
    "timeout = 30",
]


@pytest.mark.parametrize(("line", "reason"), INFRASTRUCTURE_LINES)
def test_symptoms_of_a_sick_host_or_network_are_infrastructure(line: str, reason: str) -> None:
    verdict = classify(1, ["before", line, "after"])
    assert verdict.failure_class is FailureClass.INFRASTRUCTURE
    assert reason in verdict.reason
    assert verdict.line == 1


def test_git_that_spreads_a_refused_connection_over_lines_is_left_to_its_exit_code() -> None:
    # `mlc-ci-worker checkout` reads git's words whole, and says 75.
    said = ["fatal: unable to connect to x:", "x[0: ::1]: errno=Connection refused"]
    said.append("mlc-ci-worker checkout: error: git://x is unreachable: fatal: unable to connect to x:")
    assert classify(75, said).failure_class is FailureClass.INFRASTRUCTURE


@pytest.mark.parametrize("line", CODE_LINES)
def test_what_tools_say_about_the_code_is_code_and_shown(line: str) -> None:
    verdict = classify(1, ["before", line, "E   something later"])
    assert verdict.failure_class is FailureClass.CODE
    assert verdict.line == 1
    assert verdict.first_error
    assert verdict.first_error.split()[-1] == line.replace("\x1b[0m", "").split()[-1]


@pytest.mark.parametrize("line", HARMLESS_LINES)
def test_harmless_lines_say_nothing(line: str) -> None:
    verdict = classify(1, [line])
    assert (verdict.failure_class, verdict.line) == (FailureClass.CODE, None)


def test_a_full_disk_counts_before_a_compilers_error() -> None:
    verdict = classify(1, ["a.cc:1:1: error: x", "a.cc:2:1: fatal error: No space left on device"])
    assert verdict.failure_class is FailureClass.INFRASTRUCTURE
    assert verdict.line == 1


def test_a_failed_test_about_networks_is_code() -> None:
    said = ["E   requests.exceptions.ConnectionError: Connection refused", "FAILED tests/t.py::test_net - Connection"]
    assert classify(1, said).failure_class is FailureClass.CODE


def test_pip_without_its_network_is_infrastructure_though_it_says_no_version() -> None:
    retries = [f"WARNING: Retrying (Retry(total={n})) after 'NewConnectionError: refused'" for n in (1, 0)]
    verdict = classify(1, [*retries, "ERROR: Could not find a version that satisfies the requirement tvm"])
    assert verdict.failure_class is FailureClass.INFRASTRUCTURE


@pytest.mark.parametrize(
    ("exit_code", "failure_class", "reason"),
    [
        (75, FailureClass.INFRASTRUCTURE, "a tool reported a temporary failure (exit code 75)"),
        (137, FailureClass.INFRASTRUCTURE, "killed by SIGKILL, most likely because memory ran out"),
        (143, FailureClass.INFRASTRUCTURE, "killed by SIGTERM from outside"),
        (130, FailureClass.INFRASTRUCTURE, "killed by SIGINT from outside"),
        (139, FailureClass.CODE, "crashed (SIGSEGV)"),
        (134, FailureClass.CODE, "crashed (SIGABRT)"),
        (1, FailureClass.CODE, "ended with exit code 1"),
        (-1, FailureClass.CODE, "ended with exit code -1"),
        (255, FailureClass.CODE, "ended with exit code 255"),
        (None, FailureClass.CODE, "ended without an exit code"),
    ],
)
def test_an_exit_code_alone_has_a_meaning(exit_code: int | None, failure_class: FailureClass, reason: str) -> None:
    verdict = classify(exit_code, [])
    assert (verdict.failure_class, verdict.reason) == (failure_class, reason)


@pytest.mark.parametrize(
    ("signal", "failure_class"),
    [
        (9, FailureClass.INFRASTRUCTURE),
        (15, FailureClass.INFRASTRUCTURE),
        (11, FailureClass.CODE),
        (6, FailureClass.CODE),
    ],
)
def test_the_signal_that_the_worker_names_counts(signal: int, failure_class: FailureClass) -> None:
    reader = OutputReader()
    reader.read(f"process killed by signal {signal}", header=True)
    assert reader.verdict(-1).failure_class is failure_class


def test_only_the_workers_own_words_name_a_signal() -> None:
    assert classify(1, ["process killed by signal 9"]).failure_class is FailureClass.CODE


def test_our_own_tools_speak_for_themselves() -> None:
    verdict = classify(75, ["mlc-ci-worker checkout: error: https://x is unreachable: fatal: x"])
    assert verdict.reason == "https://x is unreachable: fatal: x"
    assert verdict.failure_class is FailureClass.INFRASTRUCTURE


def test_without_any_error_the_last_line_is_shown() -> None:
    assert classify(3, ["one", "two", ""]).reason == "ended with exit code 3; its last line: two"


@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [
        (Limit.SILENCE, 1200.0, "silence timeout: no output for 1200 seconds; its last line: working"),
        (Limit.TIME, 7200, "time limit: not done after 7200 seconds; its last line: working"),
        (Limit.LOG, 200 << 20, "log limit: more than 200 MiB of output"),
        (Limit.TIME, None, "time limit: not done after the allowed seconds; its last line: working"),
    ],
)
def test_a_limit_is_named_with_its_value_and_is_the_codes_fault(limit: Limit, value: float | None, reason: str) -> None:
    verdict = classify(-1, ["working"], limit=limit, limit_value=value)
    assert (verdict.failure_class, verdict.reason) == (FailureClass.CODE, reason)


def test_a_limit_that_a_dead_network_ran_into_is_infrastructure() -> None:
    verdict = classify(-1, ["curl: (28) Operation timed out"], limit=Limit.SILENCE, limit_value=60)
    assert verdict.failure_class is FailureClass.INFRASTRUCTURE
    assert "no output for 60 seconds" in verdict.reason


HELD = [
    "memory limit: 512 MiB allowed, 540 MiB seen in 3 processes; the biggest: python3 hog.py (process 4711, 520 MiB)",
    "process limit: 1024 processes and threads allowed, 1311 seen; most of them: bash (1290)",
]


@pytest.mark.parametrize("words", HELD)
def test_a_limit_that_the_worker_held_a_command_to_is_the_codes_fault_whatever_that_made_others_say(words: str) -> None:
    said = [
        "bash: fork: retry: Resource temporarily unavailable",
        "Killed",
        f"mlc-ci-worker limit: error: {words}",
        "rest",
    ]
    verdict = classify(1, said)
    assert (verdict.failure_class, verdict.reason) == (FailureClass.CODE, words)


@pytest.mark.parametrize("line", [f"echo {HELD[0]}", f"mlc-ci-worker stamp: error: {HELD[0]}", HELD[1]])
def test_only_the_worker_itself_says_so(line: str) -> None:
    assert classify(1, ["No space left on device", line]).failure_class is FailureClass.INFRASTRUCTURE


def test_a_program_that_the_worker_lacks_is_infrastructure_under_limits_too() -> None:
    verdict = classify(75, ["mlc-ci-worker limit: error: the worker has no program cmake"])
    assert (verdict.failure_class, verdict.reason) == (FailureClass.INFRASTRUCTURE, "the worker has no program cmake")


def test_too_much_output_is_the_codes_fault_whatever_it_said() -> None:
    verdict = classify(-1, ["No space left on device"], limit=Limit.LOG, limit_value=100 << 20)
    assert (verdict.failure_class, verdict.reason) == (FailureClass.CODE, "log limit: more than 100 MiB of output")


@given(st.lists(st.text(max_size=200), max_size=30), st.one_of(st.none(), st.integers(-200, 300)))
def test_any_output_gives_one_short_line(lines: list[str], exit_code: int | None) -> None:
    verdict = classify(exit_code, lines)
    assert verdict.reason
    assert "\n" not in verdict.reason
    assert len(verdict.reason) <= 300


def test_memory_does_not_grow_with_the_output() -> None:
    reader = OutputReader()
    for number in range(10_000):
        reader.read(f"a.cc:{number}:1: error: x")
    kept = [value for value in vars(reader).values() if isinstance(value, list | dict | set)]
    assert (kept, reader.count, reader.error and reader.error.number) == ([], 10_000, 0)
