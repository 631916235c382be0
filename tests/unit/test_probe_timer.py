"""The probe on the worker's timer: again and again, never in the worker's way, gone with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from workers.probe.timer import ProbeTimer
from workers.processes import environment, pids

#: A reactor of its own that does nothing else for some seconds, and how late it was at its own work.
PROGRAM = """
import sys, time
from pathlib import Path
from twisted.internet import reactor, task
from twisted.python import log
from workers.probe.timer import ProbeTimer
log.startLogging(sys.stdout, setStdout=False)
folder = Path(sys.argv[1])
timer = ProbeTimer(folder, ["/bin/sh", str(folder / "probe")], period={period}, deadline={deadline})
beats = []
task.LoopingCall(lambda: beats.append(time.monotonic())).start(0.01)
def look(until=time.monotonic() + 60):
    runs = (folder / "runs").read_text().count("x") if (folder / "runs").exists() else 0
    if runs >= {runs} or time.monotonic() > until:
        timer.stopService()
        reactor.callLater(0.2, reactor.stop)
    else:
        reactor.callLater(0.01, look)
reactor.callWhenRunning(timer.startService)
reactor.callWhenRunning(look)
reactor.run()
print("beats", len(beats))
"""


def run(folder: Path, script: str, *, runs: int, period: float = 0.01, deadline: float = 60.0) -> str:
    """What a worker's log says, once the script ran so often; and that none of it is left."""
    (folder / "probe").write_text(f"printf x >>{folder}/runs\n{script}\n", encoding="ascii")
    text = PROGRAM.format(period=period, deadline=deadline, runs=runs)
    more = {"MLC_CI_TEST_MARK": str(folder), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-P", "-c", text, str(folder)]
    said = subprocess.run(command, env=more, check=True, capture_output=True, text=True, timeout=90)
    assert (folder / "runs").read_text(encoding="ascii").count("x") >= runs
    assert [pid for pid in pids() if f"MLC_CI_TEST_MARK={folder}".encode() in environment(pid)] == []
    assert said.stderr == ""
    return said.stdout


def test_it_is_done_again_and_again_and_says_nothing(tmp_path: Path) -> None:
    assert "the probe of this host" not in run(tmp_path, "exit 0", runs=3)


def test_a_failure_is_logged_once_with_its_reason_and_its_end(tmp_path: Path) -> None:
    failing = f"[ -e {tmp_path}/mended ] && exit 0; [ $(wc -c <{tmp_path}/runs) -ge 3 ] && touch {tmp_path}/mended\n"
    said = run(tmp_path, failing + "echo no room >&2; exit 75", runs=6)
    assert said.count("the probe of this host ended with exit code 75: no room") == 1
    assert said.count("the probe of this host works again") == 1


def test_one_that_hangs_is_killed_at_its_deadline_and_the_worker_goes_on(tmp_path: Path) -> None:
    said = run(tmp_path, "trap '' TERM; exec sleep 3600", runs=3, deadline=0.5)
    assert said.count("the probe of this host was killed by signal 9") == 1
    assert int(said.split("beats ")[1]) > 20  # of a hundred, while the two hung


def test_it_ends_with_the_worker(tmp_path: Path) -> None:
    """It is not killed at a deadline here, but by the end of the service."""
    assert "was killed" not in run(tmp_path, "trap '' TERM; exec sleep 3600", runs=1)


def test_what_it_runs_is_the_workers_own_probe(tmp_path: Path) -> None:
    command = [*ProbeTimer(tmp_path).command, "--help"]
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/")
    assert "mlc-ci-worker probe" in said.stdout
    assert command[-3:-1] == ["--worker", str(tmp_path)]
