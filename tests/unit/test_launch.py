"""A master's folder, before its start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from master.launch import PIDFILE, TAC, drop_foreign_pidfile


def test_the_number_of_an_earlier_life_that_something_else_has_now_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / PIDFILE).write_text(f"{os.getpid()}\n")
    drop_foreign_pidfile(tmp_path)
    assert not (tmp_path / PIDFILE).exists()


def test_the_number_of_a_master_that_runs_in_this_folder_stays(tmp_path: Path) -> None:
    wait = "import sys; print('up', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", wait, f"--python={tmp_path / TAC}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdout
        assert running.stdout.readline() == b"up\n"
        (tmp_path / PIDFILE).write_text(str(running.pid))
        drop_foreign_pidfile(tmp_path)
        assert (tmp_path / PIDFILE).exists()
        running.communicate(b"")


@pytest.mark.parametrize("text", ["", "x", "-1", "999999999"])
def test_what_names_no_process_is_left_to_twisted(tmp_path: Path, text: str) -> None:
    (tmp_path / PIDFILE).write_text(text)
    drop_foreign_pidfile(tmp_path)
    assert (tmp_path / PIDFILE).read_text() == text
