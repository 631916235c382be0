"""Copies of the database: PostgreSQL's programs are told where and by which password, and nobody else reads it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from master.database import copies

SPY = """\
#!/bin/sh
{ printf '%s\\n' "$@"; env; } > "$SPY_TOLD"
printf 'file: %s %s\\n' "$(stat -c %a "$PGPASSFILE")" "$(cat "$PGPASSFILE")" >> "$SPY_TOLD"
echo "no such server" >&2
exit 1
"""


def test_the_password_goes_by_a_file_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = tmp_path / "pg_dump"
    spy.write_text(SPY)
    spy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SPY_TOLD", str(tmp_path / "told"))
    url = "postgresql+psycopg2://ci:a%3Ab%5Cc%40d@db.example:5433/ci?sslmode=require"
    with pytest.raises(copies.CannotCopy, match="no such server"):
        copies.dump(url, tmp_path, tmp_path / "copy")
    told = (tmp_path / "told").read_text().splitlines()
    assert "--dbname=postgresql://ci@db.example:5433/ci?sslmode=require" in told
    (file,) = [line for line in told if line.startswith("file: ")]
    assert file == r"file: 600 *:*:*:*:a\:b\\c@d"
    elsewhere = [line for line in told if line != file]
    assert [line for line in elsewhere if "c@d" in line or "%40d" in line or "***" in line] == []
    (passfile,) = [line.partition("=")[2] for line in told if line.startswith("PGPASSFILE=")]
    assert not Path(passfile).exists(), "it is gone afterwards"


def test_without_the_program_it_says_where_it_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(copies.CannotCopy, match="postgresql-client"):
        copies.dump("postgresql://ci@db/ci", tmp_path, tmp_path / "copy")


def test_a_database_that_is_not_there_is_no_empty_backup(tmp_path: Path) -> None:
    with pytest.raises(copies.CannotCopy, match="there is no database"):
        copies.dump("sqlite:///state.sqlite", tmp_path, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_nothing_is_put_over_a_database_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "state.sqlite").write_text("kept")
    with pytest.raises(copies.CannotCopy, match="already"):
        copies.load("sqlite:///state.sqlite", tmp_path, tmp_path / "copy")
    assert (tmp_path / "state.sqlite").read_text() == "kept"
