"""``mlc-ci-worker start``: the folder, the environment of builds, the lock, and a real master."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workers.cli import main
from workers.errors import UsageError
from workers.start import WorkerConfig, build_environment, locked, read_config, write_info

ROOT = Path(__file__).parents[2]


def write(folder: Path, config: object = None, password: str = "secret", mode: int = 0o600) -> Path:  # noqa: S107
    folder.mkdir(exist_ok=True)
    config = {"name": "w", "host": "127.0.0.1", "port": 9989} if config is None else config
    (folder / "worker.json").write_text(config if isinstance(config, str) else json.dumps(config), encoding="utf-8")
    (folder / "password").write_text(password, encoding="utf-8")
    (folder / "password").chmod(mode)
    return folder


def test_a_folder_is_read(tmp_path: Path) -> None:
    more = {"max_builds": 2, "environment": {"A": "b"}, "pass_environment": ["X_*"]}
    config = read_config(write(tmp_path / "w", {"name": "w", "host": "ci", "port": 1, **more}, "secret\n"))
    assert (config.name, config.host, config.port, config.password) == ("w", "ci", 1, "secret")
    assert (config.max_builds, config.environment, config.pass_environment) == (2, {"A": "b"}, ("X_*",))
    assert "secret" not in repr(config)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("{", "cannot be read"),
        ([], "must hold one JSON object"),
        ({"host": "h", "port": 1}, "name is missing"),
        ({"name": "w", "host": "", "port": 1}, "host is missing"),
        ({"name": "w", "host": "h", "port": "1"}, "port is '1', not a whole number"),
        ({"name": "w", "host": "h", "port": True}, "port is True, not a whole number"),
        ({"name": "w", "host": "h", "port": 70000}, "port is 70000, not 1 … 65535"),
        ({"name": "w", "host": "h", "port": 1, "max_builds": 0}, "max_builds is 0, not 1 or more"),
        ({"name": "w", "host": "h", "port": 1, "pasword": "x"}, "unknown key 'pasword'"),
        ({"name": "w", "host": "h", "port": 1, "environment": {"A": 1}}, "hold text only"),
    ],
)
def test_a_wrong_worker_json_is_said(config: object, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=reason):
        read_config(write(tmp_path / "w", config))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_password_that_others_can_read_is_refused(
    mode: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "w", mode=mode)
    assert main(["start", str(folder)]) == 2
    assert f"chmod 600 {folder / 'password'}" in capfd.readouterr().err


def test_missing_files_are_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["start", str(tmp_path / "nowhere")]) == 2
    assert "worker.json is missing" in capfd.readouterr().err
    folder = write(tmp_path / "w", password="")
    assert main(["start", str(folder)]) == 2
    assert "password is empty" in capfd.readouterr().err
    (folder / "password").unlink()
    assert main(["start", str(folder)]) == 2


def config(folder: Path, **more: object) -> WorkerConfig:
    return WorkerConfig(directory=folder, name="w", host="h", port=1, password="secret", **more)  # type: ignore[arg-type]


def test_builds_see_no_secret_of_the_caller(tmp_path: Path) -> None:
    caller = {
        "PATH": "/usr/bin",
        "HOME": "/home/x",
        "https_proxy": "http://proxy",
        "PIP_INDEX_URL": "https://index",
        "GITHUB_TOKEN": "t",
        "CARGO_REGISTRY_TOKEN": "t",
        "UV_PUBLISH_PASSWORD": "p",
        "AWS_SECRET_ACCESS_KEY": "k",
        "SSH_AUTH_SOCK": "/run/agent",
        "EDITOR": "vi",
    }
    seen = build_environment(config(tmp_path), caller)
    assert {"HOME", "https_proxy", "PIP_INDEX_URL"} <= set(seen)
    assert set(seen) & set(caller) == {"PATH", "HOME", "https_proxy", "PIP_INDEX_URL"}
    assert seen["MLC_CI_WORKER_DIR"] == str(tmp_path)
    assert seen["PATH"] == f"{Path(sys.executable).parent}{os.pathsep}/usr/bin"
    assert seen["CCACHE_DIR"].startswith(str(tmp_path))


def test_worker_json_can_pass_and_set_more(tmp_path: Path) -> None:
    worker = config(
        tmp_path, pass_environment=("EDITOR", "MY_TOKEN"), environment={"CCACHE_DIR": "/big", "PATH": "/opt"}
    )
    seen = build_environment(worker, {"EDITOR": "vi", "MY_TOKEN": "t", "PATH": "/usr/bin"})
    assert (seen["EDITOR"], seen["MY_TOKEN"], seen["CCACHE_DIR"]) == ("vi", "t", "/big")
    assert seen["PATH"].endswith(f"{os.pathsep}/opt")


def test_facts_about_the_host_are_there_for_the_master(tmp_path: Path) -> None:
    write_info(config(tmp_path), "1.2.3")
    facts = {file.name: file.read_text(encoding="utf-8") for file in (tmp_path / "info").iterdir()}
    assert set(facts) == {"admin", "host", "python", "mlc_ci"}
    assert facts["mlc_ci"] == "1.2.3\n"


def test_one_worker_per_folder(tmp_path: Path) -> None:
    with locked(tmp_path):
        started = time.monotonic()
        with (
            pytest.raises(UsageError, match=rf"a worker already runs in .* \(process {os.getpid()}\)"),
            locked(tmp_path),
        ):
            pass
        assert time.monotonic() - started < 1
    with locked(tmp_path):
        assert (tmp_path / "worker.lock").read_text(encoding="utf-8") == f"{os.getpid()}\n"


# With a real master


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not so within {seconds} s"
        time.sleep(0.02)


MASTER = """
    from pathlib import Path
    from buildbot.plugins import schedulers, steps, util, worker

    class Noting(worker.Worker):
        async def attached(self, conn):
            await super().attached(conn)
            Path("attached").write_text(repr(dict(self.info.asDict())))

    c = BuildmasterConfig = {
        "title": "test", "titleURL": "http://localhost/", "buildbotURL": "http://localhost/",
        "buildbotNetUsageData": None,
        "db": {"db_url": "sqlite:///state.sqlite"},
        "protocols": {"pb": {"port": "tcp:%(port)d:interface=127.0.0.1"}},
        "workers": [Noting("w", "secret")],
        "schedulers": [schedulers.Periodic(name="p", builderNames=["b"], periodicBuildTimer=3600)],
        "builders": [util.BuilderConfig(name="b", workernames=["w"], factory=util.BuildFactory([
            steps.ShellCommand(command=["sh", "-c", "%(script)s"], logEnviron=False)]))],
    }
"""
#: Leaves a daemon behind, says who it is, and stays.
SCRIPT = (
    "env > environment; setsid sh -c 'echo $$ > daemon; exec sleep 600' & "
    "echo $$ > new.pid; mv new.pid pid.$$; exec sleep 600"
)


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found: int = free.getsockname()[1]
    return found


@pytest.fixture
def master(tmp_path: Path, port: int) -> Iterator[Path]:
    started = _start_master(tmp_path, port)
    yield tmp_path / "master"
    started.process.kill()
    started.process.wait()


class Running:
    def __init__(self, command: list[str], log: Path, **more: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "GITHUB_TOKEN": "hidden", **more}
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the supervisor is Linux's")
def test_a_real_worker_attaches_and_takes_its_builds_along_when_it_dies(
    tmp_path: Path, port: int, master: Path
) -> None:
    folder = write(tmp_path / "w", {"name": "w", "host": "127.0.0.1", "port": port})
    (folder / "twistd.pid").write_text(f"{os.getpid()}\n", encoding="utf-8")  # stale: this process is no worker
    command = [sys.executable, "-m", "workers.cli", "start", str(folder)]
    worker = Running(command, tmp_path / "worker.log")
    try:
        build = folder / "b" / "build"
        until(lambda: (build / "daemon").exists() and list(build.glob("pid.*")))
        assert "mlc_ci" in (master / "attached").read_text(encoding="utf-8")
        environment = (build / "environment").read_text(encoding="utf-8")
        assert f"MLC_CI_WORKER_DIR={folder}\n" in environment
        assert "GITHUB_TOKEN" not in environment
        assert folder.stat().st_mode & 0o777 == 0o700

        second = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=30,
        )
        assert second.returncode == 2
        assert "a worker already runs in" in second.stderr

        # The worker itself dies: the daemon of its build dies too, and the retry runs alone.
        (first,) = (int(file.name.partition(".")[2]) for file in build.glob("pid.*"))
        daemon = int((build / "daemon").read_text(encoding="utf-8"))
        attached = next(
            pid for pid in _parents(first) if Path(f"/proc/{pid}/cmdline").read_bytes().endswith(f"{folder}\0".encode())
        )
        os.kill(attached, signal.SIGKILL)
        until(lambda: not alive(first) and not alive(daemon))
        until(lambda: [pid for file in build.glob("pid.*") if alive(pid := int(file.name.partition(".")[2]))])

        # Its supervisor dies: a new start of the same folder works, at once.
        again = [pid for file in build.glob("pid.*") if alive(pid := int(file.name.partition(".")[2]))]
        worker.process.kill()
        worker.process.wait()
        worker = Running(command, tmp_path / "worker.log")
        until(lambda: not any(map(alive, again)))
        known = set(again) | {first}
        until(lambda: any(int(file.name.partition(".")[2]) not in known for file in build.glob("pid.*")))

        worker.process.terminate()
        assert worker.process.wait(20) == 0
        assert not any(alive(int(file.name.partition(".")[2])) for file in build.glob("pid.*"))
    finally:
        worker.process.kill()
        worker.process.wait()
        print((tmp_path / "worker.log").read_text(encoding="utf-8")[-5000:])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize("passed", [[], ["CANARY_*"]])
def test_no_process_of_a_worker_shows_what_its_caller_had(tmp_path: Path, port: int, passed: list[str]) -> None:
    """Builds run as the worker's user and can read the environment that each of its processes began with."""
    folder = write(tmp_path / "w", {"name": "w", "host": "127.0.0.1", "port": port, "pass_environment": passed})
    command = [sys.executable, "-m", "workers.cli", "start", str(folder)]
    worker = Running(command, tmp_path / "worker.log", CANARY_TOKEN="canary-1", MLC_CI_DATABASE__URL="canary-2")
    try:
        until(lambda: "cannot be reached" in worker.said())  # outer, inner and the worker itself are there
        tree = dict(_tree(worker.process.pid))
        assert len(tree) >= 3  # and its probe, for a moment
        canaries = ("canary-1", "canary-2")
        shown = {(pid, canary) for pid, began in tree.items() for canary in canaries if canary in began}
        assert shown == {(pid, "canary-1") for pid in tree if passed}, "only what worker.json passes on"
    finally:
        worker.process.terminate()
        worker.process.wait(30)


@pytest.mark.slow
def test_a_worker_waits_for_its_master_for_ever_and_says_what_is_wrong(tmp_path: Path, port: int) -> None:
    address = {"host": "127.0.0.1", "port": port}
    right = write(tmp_path / "right", {"name": "w", **address})
    wrong = write(tmp_path / "wrong", {"name": "w", **address}, password="wrong")
    command = [sys.executable, "-m", "workers.cli", "start"]
    waiting = Running([*command, str(right)], tmp_path / "right.log")
    refused = Running([*command, str(wrong)], tmp_path / "wrong.log")
    running = [waiting, refused]
    try:
        until(lambda: f"127.0.0.1:{port} cannot be reached: Connection was refused" in waiting.said())
        master = _start_master(tmp_path, port)
        running.append(master)
        until(lambda: "worker is ready" in waiting.said())
        until(lambda: "does not know this worker, or not this password" in refused.said())
        master.process.kill()
        master.process.wait()
        (tmp_path / "master" / "twistd.pid").unlink(missing_ok=True)
        running.append(_start_master(tmp_path, port))
        until(lambda: waiting.said().count("worker is ready") == 2)
        assert [worker.process.poll() for worker in (waiting, refused)] == [None, None]
    finally:
        for each in reversed(running):
            each.process.terminate()
            each.process.wait(30)


def _start_master(tmp_path: Path, port: int) -> Running:
    folder = tmp_path / "master"
    folder.mkdir(exist_ok=True)
    (folder / "master.cfg").write_text(textwrap.dedent(MASTER) % {"port": port, "script": SCRIPT}, encoding="utf-8")
    buildbot = Path(sys.executable).parent / "buildbot"
    if not (folder / "buildbot.tac").exists():
        subprocess.run([buildbot, "create-master", folder], check=True, capture_output=True)
    return Running([str(buildbot), "start", "--nodaemon", str(folder)], tmp_path / "master.log")


def _tree(pid: int) -> Iterator[tuple[int, str]]:
    """The process and all below it, each with the environment that it began with."""
    with contextlib.suppress(OSError):  # it has just ended
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
        yield pid, Path(f"/proc/{pid}/environ").read_text(encoding="utf-8")
        for child in children:
            yield from _tree(int(child))


def _parents(pid: int) -> Iterator[int]:
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
        yield pid
