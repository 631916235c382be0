"""A backup's archive: whole and unchanged, or refused; and nothing of it lands outside."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from master.archive import DATABASE, HEAD, SUMS, NoBackup, Writer, extract

HEADER = {"version": "0.1.0", "made_at": "2026-01-01T00:00:00Z", "database": "sqlite", "artifacts": True}


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    file = tmp_path / "file"
    stream = io.BytesIO()
    writer = Writer(stream, HEADER)
    for name, content in (
        (DATABASE, b"tables"),
        ("master/settings.toml", b"[project]"),
        ("master/a/b.whl", b"w" * 5000),
    ):
        file.write_bytes(content)
        writer.add(name, file)
    writer.finish()
    return stream.getvalue()


def archive(*members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    """One with anything in it; the first member is what it must be."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        head = json.dumps({"format": 1, **HEADER}).encode()
        for place, (name, content) in enumerate([(HEAD, head), *members]):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.type = kind if place else tarfile.REGTYPE
            info.linkname = "/etc/passwd"
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def test_what_was_put_in_comes_out_for_its_owner_alone(whole: bytes, tmp_path: Path) -> None:
    target = tmp_path / "out"
    told = extract(io.BytesIO(whole), target)
    assert told == {"format": 1, **HEADER}
    assert (target / "master/a/b.whl").read_bytes() == b"w" * 5000
    files = [path for path in target.rglob("*") if path.is_file()]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert len(files) == 4


def test_an_archive_that_was_cut_off_anywhere_is_refused(whole: bytes, tmp_path: Path) -> None:
    last = whole.rindex(b"  master/a/b.whl\n")  # of the sums; what follows is padding
    for end in range(0, last, 512):
        with pytest.raises(NoBackup):
            extract(io.BytesIO(whole[:end]), tmp_path / str(end))


@pytest.mark.parametrize("changed", [b"tables", b"[project]", b"wwwwwwww", b"2026-01-01"])
def test_a_changed_byte_is_noticed(whole: bytes, changed: bytes, tmp_path: Path) -> None:
    assert changed in whole
    with pytest.raises(NoBackup, match="does not hold what was put into it"):
        extract(io.BytesIO(whole.replace(changed, changed[:-1] + b"X", 1)), tmp_path / "out")


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/cron.d/x", "master/../../x", "elsewhere/x", "master", "database/x"]
)
def test_a_name_that_leads_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(NoBackup, match="has no place in a backup"):
        extract(io.BytesIO(archive((name, b"x"))), tmp_path / "out")
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_what_is_no_file_is_refused(kind: bytes, tmp_path: Path) -> None:
    with pytest.raises(NoBackup, match="is no file"):
        extract(io.BytesIO(archive(("master/x", b""), kind=kind)), tmp_path / "out")


def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises((NoBackup, OSError)):
        extract(io.BytesIO(archive(("master/x", b"1"), ("master/x", b"2"))), tmp_path / "out")


def test_what_is_none_is_refused(tmp_path: Path) -> None:
    for content, said in (
        (b"", "cannot be read|too early"),
        (b"no tar at all" * 100, "cannot be read"),
        (archive((SUMS, b"")), "too early"),
        (archive((SUMS, b"0" * 64 + b"  database\n")), "does not hold what was put into it"),
        (archive((SUMS, b"x"), (DATABASE, b"x")), "something follows"),
    ):
        with pytest.raises(NoBackup, match=said):
            extract(io.BytesIO(content), tmp_path / "out")
        (tmp_path / "out" / HEAD).unlink(missing_ok=True)


def test_a_backup_of_a_later_format_says_which_version_reads_it(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        head = json.dumps({"format": 2, "version": "9.1.0"}).encode()
        info = tarfile.TarInfo(HEAD)
        info.size = len(head)
        tar.addfile(info, io.BytesIO(head))
    with pytest.raises(NoBackup) as refused:
        extract(io.BytesIO(stream.getvalue()), tmp_path / "out")
    assert "mlc-ci 9.1.0" in str(refused.value)
