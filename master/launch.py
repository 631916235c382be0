"""A master's folder: made from nothing, brought to this version, started in the foreground.

In it: ``settings.toml``, ``secrets/``, ``buildbot.tac``, the SQLite database (unless settings name another),
``artifacts/``, ``releases/``, ``twistd.log``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import sqlalchemy as sa
from buildbot.db import enginestrategy
from buildbot.db.model import Model

from master.artifacts import tokens
from master.database import migrate
from master.errors import UserError
from master.places import ADMIN_PASSWORD, SECRETS, SETTINGS, password_name
from master.secret_files import ensure
from master.settings import Settings, load
from master.settings_github import WEBHOOK_SECRET

PIDFILE = "twistd.pid"
LOG = "MLC_CI_LOG"  #: with the value ``stdout``, a master says all that its log says there, too
TAC = "buildbot.tac"
_TAC = """\
# Made by mlc-ci; the settings are in settings.toml.
import os
import sys
from pathlib import Path

from buildbot.master import BuildMaster
from twisted.application import service
from twisted.python.log import FileLogObserver, ILogObserver
from twisted.python.logfile import LogFile

import master
from master.launch import LOG, expect_a_crash

basedir = str(Path(__file__).resolve().parent)
configfile = str(Path(master.__file__).parent / "master.cfg")
expect_a_crash(Path(basedir))
umask = 0o077
application = service.Application('buildmaster')  # in Buildbot's spelling: its commands look for it
logfile = LogFile.fromFullPath(str(Path(basedir) / "twistd.log"), rotateLength=10_000_000, maxRotatedFiles=10)
logs = [logfile, *([sys.stdout] if os.environ.get(LOG) == "stdout" else [])]
observers = [FileLogObserver(log).emit for log in logs]
application.setComponent(ILogObserver, lambda event: [observer(event) for observer in observers])
buildmaster = BuildMaster(basedir, configfile, umask)
buildmaster.setServiceParent(application)
"""


class CannotPrepare(UserError):
    """The master's folder could not be made or migrated."""


def prepare(basedir: Path) -> None:
    """Complete a master's folder that has its ``settings.toml``: secrets, database, start file.

    Raises:
        SettingsError: with everything that is wrong in the settings.
        CannotPrepare: no permission, or the database could not be migrated.
    """
    try:
        settings = load(basedir / SETTINGS)
        made_up = [ADMIN_PASSWORD, tokens.KEY, tokens.PASSWORD, *_passwords(settings)]
        if settings.github and settings.github.webhook:
            made_up.append(WEBHOOK_SECRET)  # to be copied into the webhook's form at GitHub
        for name in made_up:
            ensure(basedir / SECRETS, name)
        _write_if_changed(basedir / TAC, _TAC)
    except OSError as error:
        raise CannotPrepare(f"{basedir} cannot be prepared: {error}", "choose a folder that you may write to") from None
    drop_foreign_pidfile(basedir)
    url = settings.database_url(basedir / SECRETS)
    _upgrade(basedir)
    _migrate(url, basedir)


def _passwords(settings: Settings) -> list[str]:
    """Of the workers that connect by themselves."""
    return [password_name(name) for name, worker in settings.workers.items() if not worker.container]


def drop_foreign_pidfile(basedir: Path) -> None:
    """Forget the process number of an earlier life that a process of something else has now: Twisted only asks whether
    any has it, and would not start."""
    pidfile = basedir / PIDFILE
    try:
        pid = int(pidfile.read_text())
        running = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):  # none, or Twisted's to judge
        return
    if running and str(basedir / TAC).encode() not in running:  # empty: just being born, or a zombie
        pidfile.unlink(missing_ok=True)


def command(basedir: Path) -> list[str]:
    """The command that runs the prepared master in the foreground; its log is ``twistd.log``."""
    pidfile = f"--pidfile={basedir / PIDFILE}"
    return [script("twistd"), "--nodaemon", "--no_save", pidfile, f"--python={basedir / TAC}"]


def expect_a_crash(basedir: Path) -> None:
    """Have Buildbot clean up behind an earlier life of this master, whatever became of it. Called by ``buildbot.tac``.

    Buildbot frees the builds, requests, pollers and schedulers of a life that had counted as active, and only then:
    one that was killed while it started, or while it cleaned up, would leave them claimed for good.
    """
    settings = load(basedir / SETTINGS)
    engine = enginestrategy.create_engine(settings.database_url(basedir / SECRETS), basedir=str(basedir))
    ours = Model.masters.c.name.endswith(f":{basedir.resolve()}", autoescape=True)
    try:
        with engine.begin() as connection:
            if sa.inspect(connection).has_table(
                Model.masters.name
            ):  # Buildbot reads the file before it makes them, too
                connection.execute(Model.masters.update().where(ours).values(active=1))
    finally:
        engine.dispose()


def script(name: str) -> str:
    """A command of the environment that this runs in, whatever the PATH says."""
    return str(Path(sys.executable).with_name(name))


def _write_if_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def _upgrade(basedir: Path) -> None:
    """Buildbot's own tables."""
    upgrade = [script("buildbot"), "upgrade-master", "--quiet", str(basedir)]
    done = subprocess.run(upgrade, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()
        raise CannotPrepare(f"Buildbot's database in {basedir} could not be brought to this version:\n{said}", "")


def _migrate(url: str, basedir: Path) -> None:
    """Our tables, in the same database."""
    engine = enginestrategy.create_engine(url, basedir=str(basedir))
    try:
        with engine.begin() as connection:
            migrate.upgrade(connection)
    except migrate.DatabaseNewer as error:
        raise CannotPrepare(str(error)) from None
    finally:
        engine.dispose()


def main() -> int:
    """``python -m master.launch FOLDER``: what :class:`master.site.processes.Site` runs as the master's user."""
    os.umask(0o077)
    try:
        prepare(Path(sys.argv[1]))
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
