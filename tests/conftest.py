"""What all tests may ask for: a PostgreSQL server of their own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa

with warnings.catch_warnings():
    # Buildbot imports names that Twisted deprecates, and importing ``buildbot.test`` makes every warning an error
    warnings.simplefilter("ignore", DeprecationWarning)
    import buildbot.util.ssl  # noqa: F401

pytest_plugins = ["pytester"]


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Callable[[], str]]:
    """Starts a throwaway PostgreSQL cluster on a Unix socket; each call makes an empty database and says its URL.

    As root, the server runs as the user ``postgres``, whom Debian's package makes: it refuses to run as root.
    """
    found = [*Path("/usr/lib/postgresql").glob("*/bin"), *filter(None, [_folder_of(shutil.which("postgres"))])]
    if not found:
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    binaries = max(found, key=lambda folder: folder.parent.name)
    user: str | None = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # short: a socket's path has at most 107 characters
    if user:
        try:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        except KeyError:
            folder.rmdir()
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    quick = ["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]
    create = [binaries / "initdb", "-D", folder / "data", "-U", "ci", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
    subprocess.run(create, check=True, user=user, cwd=folder, capture_output=True)
    serve = [binaries / "postgres", "-D", folder / "data", "-k", folder, "-c", "listen_addresses=", *quick]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(serve, user=user, cwd=folder, stdout=log, stderr=log)
    try:
        yield _databases(server, folder)
    finally:
        server.send_signal(signal.SIGQUIT)  # "immediate": nothing in it is worth a checkpoint
        server.wait(30)
        shutil.rmtree(folder)


def _databases(server: subprocess.Popen[bytes], folder: Path) -> Callable[[], str]:
    engine = sa.create_engine(f"postgresql+psycopg2://ci@/postgres?host={folder}", isolation_level="AUTOCOMMIT")
    numbers = count()

    def create() -> str:
        name = f"test{next(numbers)}"
        with engine.connect() as connection:
            connection.execute(sa.text(f"create database {name}"))
        return f"postgresql+psycopg2://ci@/{name}?host={folder}"

    for _ in range(300):
        try:
            engine.connect().close()
            return create
        except sa.exc.OperationalError:
            if server.poll() is not None:
                break
            time.sleep(0.1)
    raise RuntimeError(f"PostgreSQL did not start: {(folder / 'log').read_text(errors='replace')}")


def _folder_of(program: str | None) -> Path | None:
    return Path(program).parent if program else None


@pytest.fixture(scope="session")
def postgresql_database(postgresql_server: Callable[[], str]) -> str:
    """The URL of a database that tests share, one after the other."""
    return postgresql_server()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind that we support."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state.sqlite"
    url: str = request.getfixturevalue("postgresql_database")
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("drop schema public cascade"))
        connection.execute(sa.text("create schema public"))
    return url
