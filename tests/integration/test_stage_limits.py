"""Whatever a build does, it is stopped at its limit, all of it is dead, and the worker takes the next build.

The commands that misbehave are bounded by themselves too (a bomb of at most 1023 processes, hogs of at most 600 MiB):
a limit that does not hold must fail these tests, not take the machine down.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pipelines import pipeline
from rig import Rig, Row

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path("/proc/self/smaps_rollup").exists(), reason="the worker watches /proc, which is Linux's"
    ),
]

MIB = 1 << 20
_NUMBERS = itertools.count(1)  # of pull requests: tests share a site
BUILD = "TEST_BUILD"  #: in the environment of everything that a build's commands start

BOMB = """
bomb() { if [ "$1" -gt 0 ]; then bomb $(($1 - 1)) & bomb $(($1 - 1)) & fi; exec sleep 300; }
bomb 9
"""
#: Takes memory of its own, page by page, and keeps it.
HOG = """
cat > hog.py <<'END'
import os, sys, time
size, daemon = int(sys.argv[1]) << 20, "daemon" in sys.argv
if daemon:
    if os.fork(): os._exit(0)
    os.setsid()
    if os.fork(): os._exit(0)
taken = bytearray(size)
taken[::4096] = b"x" * len(range(0, size, 4096))
print("has", sys.argv[1], flush=True)
time.sleep(300)
END
hog() { python3 -S hog.py "$@"; }
"""
SPREAD = HOG + "for i in 1 2 3 4 5 6 7 8; do hog 60 & done; wait\n"
DAEMON = HOG + "hog 400 daemon; sleep 300\n"
SILENT = """
python3 -S -c 'import os, time
if not os.fork():
    os.setsid()
    os.fork() and os._exit(0)
time.sleep(300)'
"""


def limited(stage: Mapping[str, Any] | None = None, **limits: Any) -> dict[str, Any]:
    """The pipeline with a build-a that leaves its mark, within these limits."""
    tables = pipeline(scheduling={"infrastructure_retries": 2})
    tables["stages"]["build-a"].update(stage or {}, limits=limits, environment={BUILD: "a"})
    return tables


MakeLimited = Callable[..., Rig]


@pytest.fixture(scope="module")
def limited_rig(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeLimited]:
    """One site for test after test: it reads new settings for each. A site in which one left something is not used
    again."""
    rigs: list[Rig] = []

    def make(stage: Mapping[str, Any] | None = None, **limits: Any) -> Rig:
        tables = limited(stage, **limits)
        if rigs and not list(marked(rigs[0])) and not rigs[0].rows("select 1 from runs where ended_at is null"):
            rigs[0].configure(tables)
            rigs[0].reload()
            return rigs[0]
        while rigs:
            rigs.pop().stop()
        rigs.append(Rig(tmp_path_factory.mktemp("limits") / "rig", template, tables))
        rigs[0].start(["stranger"])
        return rigs[0]

    yield make
    for rig in rigs:
        rig.stop()


def marked(rig: Rig) -> Iterator[str]:
    """What a build-a of this rig still has running; a zombie is dead."""
    wanted = {f"{BUILD}=a".encode(), f"MLC_CI_WORKER_DIR={rig.site.folder}/workers/stranger".encode()}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                has = set((entry / "environ").read_bytes().split(b"\0"))
            except OSError:
                continue
            if wanted <= has:
                yield f"{entry.name}: {(entry / 'cmdline').read_bytes()!r}"


def misbehaves(rig: Rig, script: str) -> Row:
    """Runs the script in build-a, and gives its attempt once the run has ended and nothing of it is left."""
    run = rig.ended(rig.pull_request(next(_NUMBERS), {"ci/build-a.sh": script}), seconds=120)
    assert list(marked(rig)) == []
    assert run["result"] == "failure"
    attempt = rig.attempt(run["id"], "build-a")
    assert (attempt["state"], attempt["number"]) == ("failure", 1), "the author's fault, and not tried again"
    return attempt


def works_again(rig: Rig, script: str = "echo well\n") -> None:
    """The same worker runs the same stage, and it is green."""
    run = rig.ended(rig.pull_request(next(_NUMBERS), {"ci/build-a.sh": script}), seconds=120)
    assert rig.states(run["id"])["build-a"] == "success"
    assert list(marked(rig)) == []


def test_a_fork_bomb(limited_rig: MakeLimited) -> None:
    rig = limited_rig(processes=60)
    attempt = misbehaves(rig, BOMB)
    assert attempt["reason"].startswith("process limit: 60 processes and threads allowed, ")
    works_again(rig, "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait\n")


@pytest.mark.parametrize("script", [HOG + "hog 400\n", SPREAD, DAEMON], ids=["one", "spread", "daemon"])
def test_a_memory_hog(script: str, limited_rig: MakeLimited) -> None:
    rig = limited_rig(memory="200M")
    attempt = misbehaves(rig, script)
    assert attempt["reason"].startswith("memory limit: 200 MiB allowed, ")
    assert "python3 -S hog.py " in attempt["reason"].partition("; the biggest: ")[2]
    works_again(rig, HOG + "for i in 1 2 3; do timeout 1 python3 -S hog.py 30 & done; wait; true\n")


def test_what_a_build_leaves_running_ends_with_it_though_nothing_is_limited(limited_rig: MakeLimited) -> None:
    rig = limited_rig()
    attempt = misbehaves(rig, "setsid sh -c 'setsid sleep 300 & sleep 300' >/dev/null 2>&1 &\nexit 3\n")
    assert "exit code 3" in attempt["reason"]
    works_again(rig, "setsid sleep 300 >/dev/null 2>&1 &\n")


@pytest.mark.parametrize("limits", [{}, {"processes": 1000}], ids=["without", "within limits"])
def test_a_build_that_is_silent_for_ever(limits: dict[str, int], limited_rig: MakeLimited) -> None:
    rig = limited_rig({"silence_timeout": 2}, **limits)
    attempt = misbehaves(rig, "echo compiling\n" + SILENT)
    assert attempt["reason"] == "silence timeout: no output for 2 seconds; its last line: compiling"
    works_again(rig, "for i in 1 2 3; do sleep 1; echo; done\n")


def test_a_build_that_never_ends(limited_rig: MakeLimited) -> None:
    rig = limited_rig({"timeout": 4})
    attempt = misbehaves(rig, "while sleep 0.5; do echo compiling; done\n")
    assert attempt["reason"] == "time limit: not done after 4 seconds; its last line: compiling"
    works_again(rig)


@pytest.mark.parametrize("requires", [{}, {"os": "linux"}], ids=["bare", "watched"])
def test_a_log_of_ten_gigabytes(requires: dict[str, str], limited_rig: MakeLimited) -> None:
    """The log keeps what came within the limit, and neither disk nor memory of the master hold much more."""
    rig = limited_rig({"requires": requires}, log="8M")
    attempt = misbehaves(rig, "yes 'a line of a log that nobody reads' | head -c 10G\n")
    assert attempt["reason"] == "log limit: more than 8 MiB of output"
    (written,) = rig.rows(
        "select sum(length(content)) size from logchunks c join logs l on l.id = c.logid"
        " join steps s on s.id = l.stepid where s.buildid = ?",
        attempt["build_id"],
    )
    assert written["size"] <= 9 * MIB
    log = rig.rows(
        "select l.id, s.name from logs l join steps s on s.id = l.stepid where s.buildid = ?", attempt["build_id"]
    )
    said = rig.step_log(attempt["build_id"], step=log[-1]["name"])
    assert 7 * MIB < said.count("a line of a log that nobody reads\n") * 34 <= 8 * MIB
    assert said.rpartition("a line of a log that nobody reads\n")[2].startswith(
        "\nlog limit: more than 8 MiB of output, the rest is dropped\n"
    )
    works_again(rig, "yes 'a line of a log that nobody reads' | head -c 4M\n")


def test_artifacts_beyond_their_budget(limited_rig: MakeLimited) -> None:
    """It is the sum that counts, and it is said before a byte is sent."""
    rig = limited_rig({"artifacts": ["*.bin"]}, artifacts="3M")
    attempt = misbehaves(rig, "head -c 2M /dev/zero > a.bin; head -c 2100000 /dev/zero > b.bin\n")
    said = "artifact limit: 3 MiB allowed, 4.003 MiB in 2 files; the biggest: b.bin (2.003 MiB)"
    assert attempt["reason"].startswith(said)
    assert not list((rig.site.basedir / "artifacts").rglob("*.bin"))
    works_again(rig, "rm -f *.bin; head -c 2M /dev/zero > a.bin; head -c 1M /dev/zero > b.bin\n")
