"""``mlc-ci serve``: each process of a master by itself, as containers and units run it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pipelines import pipeline
from sites import free_port, toml

from master.launch import PIDFILE, script

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A site of which there are only settings, kept outside, and a given secret."""
    tables = pipeline() | {
        "project": {"name": "sample", "repository": str(tmp_path / "none.git"), "poll_interval": 0},
        "master": {"web_port": free_port(), "worker_port": free_port()},
        "artifacts": {"port": free_port(), "reserve": "1M"},
    }
    (tmp_path / "settings.toml").write_text(toml(tables))
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "deploy-key").write_text("hunter2\n")
    return tmp_path / "site"


def command(folder: Path, *arguments: str) -> list[str]:
    return [script("mlc-ci"), "serve", *arguments, "--folder", str(folder)]


def given(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "MLC_CI_SETTINGS": str(folder.parent / "settings.toml"),
        "MLC_CI_SECRETS": str(folder.parent / "given"),
    }


@contextlib.contextmanager
def serving(folder: Path, process: str) -> Iterator[subprocess.Popen[bytes]]:
    """Started, and healthy."""
    with (folder.parent / f"{process}.log").open("ab") as log:
        running = subprocess.Popen(command(folder, process), env=given(folder), stdout=log, stderr=log)
    try:
        until = time.monotonic() + 90
        while check(folder, process).returncode != 0:
            assert running.poll() is None, (folder.parent / f"{process}.log").read_text()
            assert time.monotonic() < until, check(folder, process).stderr
        yield running
    finally:
        if running.poll() is None:
            running.kill()
        running.wait()


def check(folder: Path, process: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(folder, "check", process), capture_output=True, text=True, check=False)


def test_each_process_by_itself(folder: Path) -> None:
    assert check(folder, "master").returncode == 1, "nothing is there yet"
    with serving(folder, "master") as master:
        assert master.pid == int((folder / "master" / PIDFILE).read_text()), "it became the master, and watches none"
        assert "BuildMaster is running" in (folder.parent / "master.log").read_text()
        assert (folder / "master" / "secrets" / "deploy-key").read_text() == "hunter2\n"
        second = subprocess.run(
            command(folder, "master"), env=given(folder), capture_output=True, text=True, check=False
        )
        assert (second.returncode, "another master already runs" in second.stderr) == (2, True)
        assert check(folder, "artifacts").returncode == 1
        with serving(folder, "artifacts") as artifacts:
            artifacts.send_signal(signal.SIGTERM)
            assert artifacts.wait(30) in (0, -signal.SIGTERM)
        assert check(folder, "artifacts").returncode == 1
        master.send_signal(signal.SIGTERM)
        assert master.wait(60) == 0
    assert check(folder, "master").returncode == 1


def test_a_number_of_an_earlier_life_is_in_nobodys_way(folder: Path) -> None:
    with serving(folder, "master") as master:
        master.kill()
    (folder / "master" / PIDFILE).write_text(str(os.getpid()))  # as in a container, where it may be anybody's
    with serving(folder, "master") as master:
        assert master.pid == int((folder / "master" / PIDFILE).read_text())


def test_only_preparing_starts_nothing(folder: Path) -> None:
    done = subprocess.run(
        command(folder, "master", "--prepare-only"), env=given(folder), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "master" / "state.sqlite").exists()
    assert not (folder / "master" / PIDFILE).exists()
