"""What a backup is: a tar archive, written and read in one go, that says at its end what must have been in it.

| member | holds |
|---|---|
| ``mlc-ci-backup.json`` | first: ``format``, ``version``, ``made_at``, kind of ``database``, ``artifacts`` (or not) |
| ``database`` | a copy of the database: see :mod:`master.database.copies` |
| ``master/…`` | files of the master's folder |
| ``SHA256SUMS`` | last: every other member's hash, as ``sha256sum`` writes them |

An archive that was cut off, or changed on its way, lacks the last member, or it does not fit.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from master.errors import UserError

FORMAT = 1
HEAD, DATABASE, FOLDER, SUMS = "mlc-ci-backup.json", "database", "master", "SHA256SUMS"
_BLOCK = 1 << 20


class NoBackup(UserError):
    """It is no backup, not a whole one, or none that this version can read."""

    exit_code = 10


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class _Hashing:
    """Hashes what passes through."""

    def __init__(self, source: _Readable) -> None:
        self._source = source
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self._source.read(size)
        self.digest.update(block)
        return block


class Writer:
    """Writes an archive to a stream, which need not be a file."""

    def __init__(self, stream: IO[bytes], head: Mapping[str, Any]) -> None:
        self._tar = tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed by finish
        self._sums: dict[str, str] = {}
        self._add(HEAD, json.dumps({"format": FORMAT, **head}, indent=2).encode() + b"\n")

    def add(self, name: str, path: Path) -> int:
        """One file, with its mode and time. Returns its size. Raises ``OSError``."""
        with path.open("rb") as file:
            info = self._tar.gettarinfo(arcname=name, fileobj=file)
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            self._put(info, file)
        return info.size

    def finish(self) -> None:
        """The end, by which a whole archive is known."""
        self._add(SUMS, "".join(f"{digest}  {name}\n" for name, digest in self._sums.items()).encode())
        self._tar.close()

    def _add(self, name: str, content: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = len(content), 0o600, int(time.time())
        self._put(info, io.BytesIO(content))

    def _put(self, info: tarfile.TarInfo, file: IO[bytes]) -> None:
        hashing: Any = _Hashing(file)
        self._tar.addfile(info, hashing)
        self._sums[info.name] = hashing.digest.hexdigest()


def extract(stream: IO[bytes], target: Path) -> dict[str, Any]:
    """Unpack an archive below a new folder, whole and unchanged or not at all. Returns what its first member says.

    Raises:
        NoBackup: it is none, or damaged. What was unpacked until then is the caller's to remove.
        OSError: the folder cannot be written.
    """
    sums: dict[str, str] = {}
    head: dict[str, Any] = {}
    told = ""
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for info in tar:
                if told:
                    raise NoBackup(f"something follows {SUMS}, which is the end of a backup", "take another one")
                content = _Hashing(_content(tar, info))
                if info.name == SUMS:
                    told = content.read().decode()
                    continue
                _unpack(info, content, target)
                sums[info.name] = content.digest.hexdigest()
                head = head or _head(target)
    except (tarfile.TarError, EOFError, UnicodeDecodeError) as error:
        raise NoBackup(f"the archive cannot be read: {error}", "it was cut off or changed; take another one") from None
    if not told:
        raise NoBackup("the archive ends too early", "it was cut off; take another one")
    if told != "".join(f"{digest}  {name}\n" for name, digest in sums.items()):
        raise NoBackup("the archive does not hold what was put into it", "it was changed; take another one")
    return head


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    place = PurePosixPath(info.name)
    below = place.parts[:1] == (FOLDER,) and len(place.parts) > 1
    safe = ".." not in place.parts and not place.is_absolute()
    if not (safe and (below or info.name in (HEAD, DATABASE, SUMS))):
        raise NoBackup(f"{info.name!r} has no place in a backup", "is it one of mlc-ci backup?")
    content = tar.extractfile(info) if info.isreg() else None
    if content is None:
        raise NoBackup(f"{info.name!r} is no file", "is it one of mlc-ci backup?")
    return content


def _unpack(info: tarfile.TarInfo, content: _Hashing, target: Path) -> None:
    """A new file for its owner alone, with the time that it had."""
    place = target / info.name
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with place.open("xb") as file:
        place.chmod(0o700 if info.mode & 0o100 else 0o600)
        while block := content.read(_BLOCK):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    os.utime(place, (info.mtime, info.mtime))


def _head(target: Path) -> dict[str, Any]:
    """What the first member says."""
    try:
        found = json.loads((target / HEAD).read_bytes())
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise NoBackup(f"it does not begin with {HEAD}", "is it one of mlc-ci backup?")
    if found.get("format") != FORMAT:
        raise NoBackup(
            f"it is a backup of format {found.get('format')!r}, and this version reads {FORMAT}",
            f"restore it with mlc-ci {found.get('version', '')}, then upgrade",
        )
    return found
