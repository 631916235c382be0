"""What a build left behind is ended when its build has; what only looks like it is left alone. Real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_workers_supervise import alive, until

from workers.supervise import sweep

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the supervisor is Linux's")

ROOT = Path(__file__).parents[2]

#: A worker that has one build: commands in their wrapper, one after the other, as the test asks for them.
WORKER = """
    import subprocess, sys, time
    from pathlib import Path
    from workers.supervise import run_supervised

    folder = Path(sys.argv[1])

    def worker():
        (folder / "worker").touch()
        number = 0
        while True:
            asked = folder / f"command-{number}"
            if asked.exists():
                command = asked.read_text().split()
                subprocess.run([sys.executable, "-m", "workers.cli", "limit", "--", sys.executable, *command])
                (folder / f"ended-{number}").touch()
                number += 1
            time.sleep(0.02)

    sys.exit(run_supervised(worker))
"""

#: Leaves a daemon: a session of its own, twice forked, nothing open, nothing in its environment, nobody above it that
#: could end it. With "guards", both of the wrapper's processes are killed at one instant, as by a build that means it.
ESCAPES = """
    import os, signal, sys, time
    folder, how = sys.argv[1:]
    guards = [os.getppid()]
    guards.append(int(open(f"/proc/{guards[0]}/stat").read().rpartition(")")[2].split()[1]))
    if os.fork():
        time.sleep(600)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.closerange(0, 1024)
    if how != "deep":
        os.execve(sys.executable, [sys.executable, __file__ + ".daemon", folder, how, *map(str, guards)], {})
    if os.fork():
        os.wait()
    os.execve(sys.executable, [sys.executable, __file__ + ".daemon", folder, "guards", *map(str, guards)], {})
"""
DAEMON = """
    import os, signal, sys, time
    folder, how, inner, outer = sys.argv[1:]
    note = f"{folder}/stray-{os.getpid()}"
    open(note + ".new", "w").close()
    os.rename(note + ".new", note)
    if how == "guards":
        for sign in (signal.SIGSTOP, signal.SIGKILL):
            for pid in (int(outer), int(inner)):
                try:
                    os.kill(pid, sign)
                except ProcessLookupError:
                    pass
    time.sleep(600)
"""


class Site:
    """A supervised worker in a folder, and what its builds left: each notes its own number."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, 0
        for name, text in (("worker.py", WORKER), ("escapes.py", ESCAPES), ("escapes.py.daemon", DAEMON)):
            (folder / name).write_text(textwrap.dedent(text), encoding="utf-8")
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLC_CI_WORKER_DIR": str(folder)}
        self.said = folder / "said"
        with self.said.open("w") as said:
            argv = [sys.executable, str(folder / "worker.py"), str(folder)]
            self.process = subprocess.Popen(argv, env=self.environment, stdout=said)
        until((folder / "worker").exists)

    def command(self, *words: str) -> None:
        """One command of the build, until its end."""
        new = self.folder / "new"
        new.write_text(" ".join(words))
        new.rename(self.folder / f"command-{self.asked}")
        until((self.folder / f"ended-{self.asked}").exists)
        self.asked += 1

    def escapes(self, how: str) -> list[int]:
        self.command(str(self.folder / "escapes.py"), str(self.folder), how)
        return [int(file.name.removeprefix("stray-")) for file in self.folder.glob("stray-*[0-9]")]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    try:
        yield made
    finally:
        made.process.terminate()
        made.process.wait()
        sweep(str(tmp_path))


@pytest.mark.parametrize(("how", "left"), [("guards", 1), ("deep", 2)])
def test_what_killed_its_commands_guards_is_ended_once_the_command_has(site: Site, how: str, left: int) -> None:
    strays = site.escapes(how)
    assert 1 <= len(strays) <= left
    until(lambda: not any(map(alive, strays)))
    until(lambda: "has outlived its build: killed" in site.said.read_text())
    site.command("-c", "pass")  # the worker is there, and builds


@pytest.fixture
def stranger(site: Site) -> Iterator[subprocess.Popen[bytes]]:
    """Of the same user, with the environment of a build, and in a session of its own."""
    argv = [sys.executable, "-c", "import time; time.sleep(600)", str(site.folder / "escapes.py")]
    process = subprocess.Popen(argv, env=site.environment, start_new_session=True)
    yield process
    process.kill()
    process.wait()


def test_what_only_looks_like_it_is_left_alone(site: Site, stranger: subprocess.Popen[bytes]) -> None:
    strays = site.escapes("guards")
    until(lambda: not any(map(alive, strays)))
    assert stranger.poll() is None
    assert str(stranger.pid) not in site.said.read_text()


def test_a_command_that_still_runs_keeps_what_it_started(site: Site) -> None:
    """Its daemons too: below its guards nothing is a stray."""
    (site.folder / "starts.py").write_text(
        "import os, sys, time\n"
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork():\n        os._exit(0)\n"
        "    open(sys.argv[1] + '/daemon-' + str(os.getpid()), 'w').close()\n    time.sleep(600)\n"
        "while not os.path.exists(sys.argv[1] + '/go'):\n    time.sleep(0.02)\n"
    )
    (site.folder / "command-0").write_text(f"{site.folder}/starts.py {site.folder}")
    until(lambda: list(site.folder.glob("daemon-*")))
    (daemon,) = (int(file.name.removeprefix("daemon-")) for file in site.folder.glob("daemon-*"))
    site_looks = time.monotonic() + 2.5  # it looks about once a second
    until(lambda: time.monotonic() > site_looks)
    assert alive(daemon)
    (site.folder / "go").touch()
    until((site.folder / "ended-0").exists)
    assert not alive(daemon)


def test_without_the_supervisor_such_a_process_stays(tmp_path: Path) -> None:
    """The negative control: the wrapper alone is not enough."""
    for name, text in (("escapes.py", ESCAPES), ("escapes.py.daemon", DAEMON)):
        (tmp_path / name).write_text(textwrap.dedent(text), encoding="utf-8")
    wrapper = [sys.executable, "-m", "workers.cli", "limit", "--", sys.executable]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([*wrapper, str(tmp_path / "escapes.py"), str(tmp_path), "guards"], env=environment, check=False)
    until(lambda: list(tmp_path.glob("stray-*[0-9]")))
    (stray,) = (int(file.name.removeprefix("stray-")) for file in tmp_path.glob("stray-*[0-9]"))
    assert alive(stray)
    os.kill(stray, signal.SIGKILL)
