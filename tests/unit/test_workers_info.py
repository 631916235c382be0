"""What lies in a worker's info/ is its own, whatever a build has put there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workers.info import FACTS, tidied
from workers.probe.facts import FILE, WITHIN


@pytest.fixture
def info(tmp_path: Path) -> Path:
    folder = tmp_path / "info"
    folder.mkdir()
    for name in (*FACTS, FILE):
        (folder / name).write_text(f"{name}\n", encoding="utf-8")
    return folder


def left(info: Path) -> set[str]:
    assert tidied(info.parent) == info
    return {file.name for file in info.iterdir()}


OWN = {*FACTS, FILE}


def test_what_is_the_workers_own_stays(info: Path) -> None:
    (info / FILE).write_text("x" * WITHIN.size + "\n", encoding="ascii")
    assert left(info) == OWN
    assert (info / "admin").read_text(encoding="utf-8") == "admin\n"


def test_what_is_not_goes(info: Path) -> None:
    (info / "large").write_bytes(b"x" * 700_000)
    (info / "small").write_bytes(b"x")
    (info / "folder" / "below").mkdir(parents=True)
    os.mkfifo(info / "pipe")
    os.close(os.open(os.fsencode(info) + b"/\xff\xfe", os.O_CREAT | os.O_WRONLY))
    assert left(info) == OWN


def test_what_only_has_the_name_of_a_fact_goes(info: Path, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("secret", encoding="ascii")
    for name in ("admin", "host", "python", FILE):
        (info / name).unlink()
    (info / "admin").mkdir()
    (info / "host").symlink_to(secret)
    os.mkfifo(info / "python")
    (info / FILE).write_bytes(b"x" * (WITHIN.size + 2))
    assert left(info) == {"mlc_ci"}
    assert secret.read_text(encoding="ascii") == "secret"


@pytest.mark.parametrize("instead", ["a file", "a link"])
def test_the_folder_itself_is_made_again(info: Path, tmp_path: Path, instead: str) -> None:
    info.rename(tmp_path / "elsewhere")
    if instead == "a file":
        info.write_text("x", encoding="ascii")
    else:
        info.symlink_to(tmp_path / "elsewhere")
    assert left(info) == set()
    assert not info.is_symlink()
    assert {file.name for file in (tmp_path / "elsewhere").iterdir()} == OWN
