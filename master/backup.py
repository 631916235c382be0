"""A backup of a site's master, taken while it runs: all that another one needs to go on from there.

The database is copied first. A file is in its place before its row is committed, so every file that the copy names is
there when the files are taken, but for those whose time was over in between.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO

from master import launch
from master.archive import DATABASE, FOLDER, Writer
from master.artifacts import announced
from master.database import copies
from master.errors import UserError
from master.places import PORTS, SECRETS, SETTINGS
from master.settings import load

ARTIFACTS = "artifacts"
_OF_A_LIFE = (launch.TAC, launch.PIDFILE, PORTS, announced.FILE, "twistd.log", "http.log")  #: beginnings of names


class CannotBackUp(UserError):
    """The backup could not be taken."""

    exit_code = 10


@dataclass
class Taken:
    """What went into a backup."""

    files: int = 0
    size: int = 0  #: bytes


def take(basedir: Path, stream: IO[bytes], *, artifacts: bool = True) -> Taken:
    """Write a backup of the master in this folder to a stream.

    Args:
        artifacts: with what builds have left; what was released always goes along.

    Raises:
        CannotBackUp, CannotCopy, SettingsError: with what was in the way.
    """
    settings = load(basedir / SETTINGS)
    url = settings.database_url(basedir / SECRETS)
    artifacts = artifacts and settings.artifacts.s3 is None  # a bucket is its own keeper
    head = {
        "version": metadata.version("mlc-ci"),
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "database": copies.kind(url),
        "artifacts": artifacts,
    }
    taken = Taken()
    try:
        with tempfile.TemporaryDirectory(prefix=".backup-", dir=basedir) as folder:
            copy = Path(folder) / DATABASE
            copies.dump(url, basedir, copy)
            writer = Writer(stream, head)
            taken.size += writer.add(DATABASE, copy)
            copy.unlink()
            for file in _files(basedir, database=copies.file_name(url), artifacts=artifacts):
                with contextlib.suppress(FileNotFoundError):  # its time was over
                    taken.size += writer.add(f"{FOLDER}/{file.relative_to(basedir).as_posix()}", file)
                    taken.files += 1
            writer.finish()
    except OSError as error:
        raise CannotBackUp(f"the backup was not taken: {error}", "run it as the master's user") from None
    return taken


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file for its owner alone, in its place once it is whole and on the disk.

    Raises:
        CannotBackUp: it is there already, or cannot be written.
    """
    draft = path.with_name(f".{path.name}.new")
    try:
        if path.exists():
            raise CannotBackUp(f"{path} is there already", "name another file")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise CannotBackUp(f"{path} cannot be written: {error.strerror}", "name another file") from None
    finally:
        draft.unlink(missing_ok=True)


def _files(basedir: Path, *, database: str, artifacts: bool) -> Iterator[Path]:
    """All that the folder holds, but for what every life of a master makes for itself, and what nobody lists."""
    for top in sorted(basedir.iterdir()):
        if top.name.startswith((".", database, *_OF_A_LIFE)) or (top.name == ARTIFACTS and not artifacts):
            continue
        if top.is_file():  # the settings may be a link: what they say is kept
            yield top
        for folder, folders, files in os.walk(top):
            folders[:] = sorted(each for each in folders if not each.startswith("."))
            for file in sorted(files):
                if (path := Path(folder) / file).is_file() and not path.is_symlink() and not file.startswith("."):
                    yield path
