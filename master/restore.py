"""From a backup to a master that goes on where the backup was taken."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa
from buildbot.db.model import Model
from buildbot.util.sautils import hash_columns

from master import archive
from master.database import copies
from master.errors import UserError
from master.places import SECRETS, SETTINGS
from master.serve import take_over
from master.settings import load
from master.site.processes import claimed, make_folder


class CannotRestore(UserError):
    """The backup was not restored; nothing of it is there."""

    exit_code = 10


def restore(folder: Path, stream: IO[bytes], *, settings: Path | None, secrets: Path | None) -> dict[str, Any]:
    """Make a site's master from a backup. Returns what the backup says of itself (:mod:`master.archive`).

    Args:
        settings, secrets: what the master will be given (:func:`master.serve.complete`); they count here too, and not
            what is in the backup.

    Raises:
        CannotRestore: there is a master already.
        UserError: the backup is damaged, or does not fit; the database cannot be used, or is not empty.
    """
    os.umask(0o077)
    make_folder(folder)
    basedir = folder / "master"
    with claimed(folder):
        if basedir.exists() and any(basedir.iterdir()):
            raise CannotRestore(f"there is a master in {folder} already", "restore into a new folder")
        try:
            stage = Path(tempfile.mkdtemp(prefix=".restore-", dir=folder))
        except OSError as error:
            raise CannotRestore(f"{folder} cannot be written: {error.strerror}", "run it as its owner") from None
        try:
            head = archive.extract(stream, stage)
            new = stage / archive.FOLDER
            if not (new / SETTINGS).is_file():
                raise CannotRestore("the backup has no settings", "is it one of mlc-ci backup?")
            take_over(new, settings=settings, secrets=secrets)
            _load(new, stage / archive.DATABASE, str(head.get("database")), basedir)
            new.replace(basedir)  # onto nothing, or an empty folder
        except OSError as error:
            raise CannotRestore(f"the backup was not restored: {error}", "is there room?") from None
        finally:
            shutil.rmtree(stage, ignore_errors=True)
    return head


def _load(new: Path, copy: Path, kind: str, basedir: Path) -> None:
    url = load(new / SETTINGS).database_url(new / SECRETS)
    if copies.kind(url) != kind:
        raise CannotRestore(
            f"the backup is one of {kind}, and the settings name {copies.kind(url)}",
            "restore it with [database] url as it was",
        )
    copies.load(url, new, copy)
    engine = sa.create_engine(copies.absolute(url, new), poolclass=sa.pool.NullPool)
    try:
        with engine.begin() as connection:
            _adopt(connection, f"{os.uname().nodename}:{basedir.absolute()}")
    finally:
        engine.dispose()


def _adopt(connection: sa.Connection, name: str) -> None:
    """Have the master that starts here take itself for the one that was backed up: Buildbot knows a master by host and
    folder, and what another one had claimed it would never run again."""
    masters = Model.masters
    newest = connection.execute(sa.select(masters.c.id).order_by(masters.c.last_active.desc()).limit(1)).scalar()
    known = connection.execute(sa.select(masters.c.id).where(masters.c.name == name)).scalar()
    if newest is not None and known is None:
        changed = {"name": name, "name_hash": hash_columns(name)}
        connection.execute(masters.update().where(masters.c.id == newest).values(**changed))
