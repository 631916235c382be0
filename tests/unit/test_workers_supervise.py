"""Nothing outlives a worker: real processes, really killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workers.processes import descendants
from workers.supervise import sweep

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the supervisor is Linux's")

ROOT = Path(__file__).parents[2]

#: A worker whose build left processes of every kind: a child, a background job, a daemon, one without environment.
WORKER = """
    import ctypes, os, subprocess, sys, time
    from pathlib import Path
    from workers.guard import Patience
    from workers.supervise import run_supervised

    folder = Path(sys.argv[1])

    def note(what):
        (folder / f"{what}.new").write_text(str(os.getpid()))
        (folder / f"{what}.new").rename(folder / what)

    def worker():
        ctypes.CDLL(None).prctl(36, 1)  # a subreaper, as what stands between a worker and its commands is
        for sleeper in ("child", "setsid", "daemon", "bare"):
            command = [sys.executable, __file__, str(folder), sleeper]
            subprocess.Popen(command, start_new_session=True, env={} if sleeper == "bare" else None)
        note(f"worker-{len(list(folder.glob('worker-*')))}")
        if os.environ.get("END"):
            return int(os.environ["END"])
        while True:
            time.sleep(60)

    sleeper = sys.argv[2] if len(sys.argv) > 2 else None
    if sleeper in ("setsid", "daemon", "bare"):
        if os.fork():
            os._exit(0)
        os.setsid()
    if sleeper in ("daemon", "bare") and os.fork():
        os._exit(0)
    if sleeper:
        note(f"sleeper-{sleeper}")
        time.sleep(600)
    note("outer")
    sys.exit(run_supervised(worker, Patience(grace=1.0)))
"""
SLEEPERS = ("child", "setsid", "daemon", "bare")


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not so within {seconds} s"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


class Tree:
    """A supervised worker, and the process numbers of all its parts."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        script = folder / "script.py"
        script.write_text(textwrap.dedent(WORKER), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLC_CI_WORKER_DIR": str(folder), **environment}
        self.process = subprocess.Popen([sys.executable, str(script), str(folder)], env=environment)

    def wait_until_up(self, worker: int = 0) -> None:
        until(lambda: all((self.folder / f"sleeper-{name}").exists() for name in SLEEPERS))
        until((self.folder / f"worker-{worker}").exists)

    def pid(self, what: str) -> int:
        return int((self.folder / what).read_text(encoding="utf-8"))

    @property
    def inner(self) -> int:
        stat = Path(f"/proc/{self.pid('worker-0')}/stat").read_text(encoding="utf-8")
        return int(stat.rpartition(")")[2].split()[1])

    def sleepers(self) -> list[int]:
        return [self.pid(f"sleeper-{name}") for name in SLEEPERS]

    def forget_sleepers(self) -> None:
        for name in SLEEPERS:
            (self.folder / f"sleeper-{name}").unlink()


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    made = Tree(tmp_path)
    try:
        made.wait_until_up()
        yield made
    finally:
        made.process.kill()
        made.process.wait()
        sweep(str(tmp_path))
        for file in tmp_path.glob("sleeper-*"):
            if alive(pid := int(file.read_text(encoding="utf-8"))):
                os.kill(pid, signal.SIGKILL)


def test_the_tree_is_what_the_other_tests_think_it_is(tree: Tree) -> None:
    everything = set(descendants(tree.process.pid))
    assert tree.inner in everything
    assert set(tree.sleepers()) <= everything
    assert len({os.getsid(pid) for pid in tree.sleepers()}) == len(SLEEPERS)
    assert tree.inner != tree.process.pid


def test_the_workers_death_takes_everything_along_and_it_starts_again(tree: Tree) -> None:
    sleepers, worker = tree.sleepers(), tree.pid("worker-0")
    tree.forget_sleepers()
    os.kill(worker, signal.SIGKILL)
    until(lambda: not any(map(alive, sleepers)))
    assert tree.process.poll() is None
    tree.wait_until_up(worker=1)


def test_the_inner_supervisors_death_takes_everything_along_and_it_starts_again(tree: Tree) -> None:
    sleepers, worker = tree.sleepers(), tree.pid("worker-0")
    tree.forget_sleepers()
    os.kill(tree.inner, signal.SIGKILL)
    until(lambda: not any(map(alive, [*sleepers, worker])))
    assert tree.process.poll() is None
    tree.wait_until_up(worker=1)


def test_the_outer_supervisors_death_takes_everything_along(tree: Tree) -> None:
    everything = [*tree.sleepers(), tree.pid("worker-0"), tree.inner]
    tree.process.kill()
    tree.process.wait()
    until(lambda: not any(map(alive, everything)))


def test_the_outer_supervisors_death_is_no_reprieve_for_a_hanging_worker(tree: Tree) -> None:
    everything = [*tree.sleepers(), tree.pid("worker-0"), tree.inner]
    os.kill(tree.pid("worker-0"), signal.SIGSTOP)
    tree.process.kill()
    until(lambda: not any(map(alive, everything)))


def test_when_both_supervisors_die_at_once_the_next_start_sweeps(tree: Tree) -> None:
    inner, worker = tree.inner, tree.pid("worker-0")
    os.kill(inner, signal.SIGSTOP)  # it cannot act on what it is told
    tree.process.kill()
    tree.process.wait()
    os.kill(inner, signal.SIGKILL)
    until(lambda: not alive(worker))
    marked = [tree.pid(f"sleeper-{name}") for name in SLEEPERS if name != "bare"]
    assert all(map(alive, marked))
    assert set(sweep(str(tree.folder))) == set(marked)
    until(lambda: not any(map(alive, marked)))


def test_another_folders_processes_are_never_swept(tree: Tree) -> None:
    assert sweep(str(tree.folder)[:-1]) == []
    assert all(map(alive, tree.sleepers()))


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_everything_cleanly(how: signal.Signals, tree: Tree) -> None:
    everything = [*tree.sleepers(), tree.pid("worker-0"), tree.inner]
    tree.process.send_signal(how)
    assert tree.process.wait(20) == 0
    assert not any(map(alive, everything))


def test_a_worker_that_ignores_the_signal_is_killed_after_its_grace(tree: Tree) -> None:
    os.kill(tree.pid("worker-0"), signal.SIGSTOP)
    tree.process.terminate()
    assert tree.process.wait(20) == 0
    assert not any(map(alive, tree.sleepers()))


@pytest.mark.parametrize("code", ["0", "2"])
def test_a_worker_that_was_told_to_end_or_is_set_up_wrongly_is_not_started_again(code: str, tmp_path: Path) -> None:
    tree = Tree(tmp_path, END=code)
    assert tree.process.wait(20) == int(code)
    assert len(list(tmp_path.glob("worker-*"))) == 1
    assert not any(alive(int(file.read_text(encoding="utf-8"))) for file in tmp_path.glob("sleeper-*"))
