"""The whole database in one file, and back: SQLite by its own online backup, PostgreSQL by its ``pg_dump``.

Either is the state of one moment, taken while the master goes on writing.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import sqlalchemy as sa

from master.errors import UserError


class CannotCopy(UserError):
    """The database could not be copied, or the copy not be put in its place."""

    exit_code = 10


def kind(url: str) -> str:
    """``sqlite`` or ``postgresql``: a copy goes back only into a database of the same kind."""
    return sa.make_url(url).get_backend_name()


def file_name(url: str) -> str:
    """What the names of SQLite's files begin with; of PostgreSQL, which has none, nothing that a file is called."""
    return Path(sa.make_url(url).database or "").name if kind(url) == "sqlite" else "/"


def dump(url: str, basedir: Path, target: Path) -> None:
    """Copy the database into a new file, for its owner alone.

    Raises:
        CannotCopy: with what the database, or ``pg_dump``, said.
    """
    if kind(url) == "postgresql":
        _client("pg_dump", url, ["--format=custom", f"--file={target}"])
        return
    source = _file(url, basedir)
    if not source.is_file():
        raise CannotCopy(f"there is no database at {source}", "start the master once: it makes it")
    try:
        with (
            contextlib.closing(sqlite3.connect(source, timeout=60)) as database,
            contextlib.closing(sqlite3.connect(target)) as copy,
        ):
            database.backup(copy)  # in one step: what is written meanwhile waits in the write-ahead log
    except sqlite3.Error as error:
        raise CannotCopy(f"{source} could not be copied: {error}") from None


def load(url: str, basedir: Path, source: Path) -> None:
    """Make an empty database what a copy holds; whole or not at all.

    Raises:
        CannotCopy: it is not empty, or with what the database, or ``pg_restore``, said.
    """
    if kind(url) == "postgresql":
        _assert_empty(url)
        _client("pg_restore", url, ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction"], source)
        return
    target = _file(url, basedir)
    if target.exists():
        raise CannotCopy(f"there is a database at {target} already", "move it away first")
    source.replace(target)


def absolute(url: str, basedir: Path) -> str:
    """The URL for whoever does not stand in the master's folder."""
    found = sa.make_url(url)
    if kind(url) == "sqlite":
        found = found.set(database=str(_file(url, basedir).absolute()))
    return found.render_as_string(hide_password=False)


def _file(url: str, basedir: Path) -> Path:
    """SQLite's; its path is told from the master's folder."""
    return basedir / (sa.make_url(url).database or "")


def _assert_empty(url: str) -> None:
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    try:
        with engine.connect() as connection:
            tables = sa.inspect(connection).get_table_names()
    except sa.exc.DBAPIError as error:
        raise CannotCopy(f"the database cannot be used: {error.orig}") from None
    finally:
        engine.dispose()
    if tables:
        raise CannotCopy(f"the database has {len(tables)} tables already", "give it an empty one: drop it, create it")


def _client(program: str, url: str, options: Sequence[str], source: Path | None = None) -> None:
    """Run a program of PostgreSQL on a database; its password goes by a file, seen by its owner alone."""
    with _password(url) as file:
        known = sa.make_url(url)
        place = sa.URL.create(
            "postgresql",
            username=known.username,
            host=known.host,
            port=known.port,
            database=known.database,
            query=known.query,
        ).render_as_string()
        command = [program, *options, f"--dbname={place}", "--no-password", *([str(source)] if source else [])]
        environment = {**os.environ, "PGPASSFILE": str(file)}
        try:
            done = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
        except FileNotFoundError:
            raise CannotCopy(
                f"{program} is not installed here", "it comes with PostgreSQL's client (Debian: postgresql-client)"
            ) from None
    if done.returncode != 0:
        raise CannotCopy(f"{program} failed: {done.stderr.strip()}", "its version may not be older than the server's")


@contextlib.contextmanager
def _password(url: str) -> Iterator[Path]:
    """As libpq reads it."""
    password = (sa.make_url(url).password or "").replace("\\", "\\\\").replace(":", "\\:")
    with tempfile.NamedTemporaryFile("w", prefix="pgpass-") as file:  # mode 0600
        file.write(f"*:*:*:*:{password}\n")
        file.flush()
        yield Path(file.name)
