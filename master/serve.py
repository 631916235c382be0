"""One process of a master, in the foreground: what a container or a unit of one's own runs (``mlc-ci serve``).

``mlc-ci up`` supervises all processes of a site itself. Here something else does: it starts the master and the artifact
process by themselves, reads their output, and ends them with SIGTERM. What the site is made of is the same, so that
the one may take over from the other.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import NoReturn

from master import launch
from master.artifacts.__main__ import main as artifact_process
from master.errors import UserError
from master.places import PORTS, SECRETS, SETTINGS
from master.settings_types import SECRET_NAME
from master.site.processes import claimed, make_folder
from master.tls import write_private


class CannotTake(UserError):
    """What the process was given from outside cannot be taken over."""

    exit_code = 9


def prepare(folder: Path, *, settings: Path | None, secrets: Path | None) -> None:
    """Make or upgrade a site's master, without starting it: folder, secrets, database.

    Raises:
        NotStarted: a master, or ``mlc-ci up``, already runs there.
        UserError: what was given cannot be used; or the database cannot be reached or migrated.
    """
    _run_ahead(folder)
    with claimed(folder):
        complete(folder / "master", settings=settings, secrets=secrets)


def master(folder: Path, *, settings: Path | None, secrets: Path | None) -> NoReturn:
    """Become the master of a site, prepared first; its log goes to ``twistd.log`` and to the standard output.

    The lock on the site passes over to it: two masters never run in one folder, not even in two containers.

    Raises:
        UserError: as of :func:`prepare`.
    """
    _run_ahead(folder)
    with claimed(folder) as lock:
        basedir = folder / "master"
        complete(basedir, settings=settings, secrets=secrets)
        # Nobody else runs here, so the number is of an earlier life; in a container it may be our own.
        (basedir / launch.PIDFILE).unlink(missing_ok=True)
        (basedir / PORTS).unlink(missing_ok=True)
        os.set_inheritable(lock, True)
        os.chdir(basedir)
        command = launch.command(basedir)
        os.execve(command[0], command, {**os.environ, launch.LOG: "stdout"})  # noqa: S606 - of this environment
    raise AssertionError("unreachable")


def artifacts(folder: Path) -> int:
    """Run the artifact process of a site until SIGTERM. Returns its exit code."""
    return artifact_process([str(folder / "master")])


def complete(basedir: Path, *, settings: Path | None, secrets: Path | None) -> None:
    """Take over what was given, and complete the master's folder (:func:`master.launch.prepare`).

    Args:
        settings: a file outside that the master's ``settings.toml`` becomes a link to; ``None``: it has its own.
        secrets: a folder whose files become secrets of these names.

    Raises:
        UserError: as of :func:`prepare`.
    """
    take_over(basedir, settings=settings, secrets=secrets)
    if not (basedir / SETTINGS).exists():
        raise CannotTake(f"{basedir / SETTINGS} is not there", "put the settings there, or name them with --settings")
    launch.prepare(basedir)


def take_over(basedir: Path, *, settings: Path | None, secrets: Path | None) -> None:
    """The first half of :func:`complete`. Raises :class:`CannotTake`."""
    try:
        basedir.mkdir(mode=0o700, exist_ok=True)
        if settings:
            _link(settings.absolute(), basedir / SETTINGS)
        if secrets:
            take_secrets(secrets, basedir / SECRETS)
    except OSError as error:
        raise CannotTake(
            f"{basedir} cannot be prepared: {error}", "it must belong to the user that runs this"
        ) from None


def take_secrets(given: Path, folder: Path) -> list[str]:
    """Copy each file of a folder into a master's secrets, where it is another than the one that is there. Returns the
    names of those that changed.

    The files may be readable by all, as those that containers are given are; the copies are for their owner alone.

    Raises:
        CannotTake: a file has no secret's name, or cannot be read.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    changed = []
    try:
        for file in sorted(given.iterdir()):
            if file.name.startswith(".") or not file.is_file():
                continue
            if not SECRET_NAME.fullmatch(file.name):
                raise CannotTake(f"{file} has no secret's name", "letters, digits, _, - and .; rename it")
            content = file.read_bytes()
            own = folder / file.name
            if not own.exists() or own.read_bytes() != content:
                write_private(own, content)
                changed.append(file.name)
    except OSError as error:
        raise CannotTake(f"the secrets in {given} cannot be read: {error}", "let this user read them") from None
    return changed


def _link(settings: Path, own: Path) -> None:
    """Make a master's settings a link; what was there, unless it was one, stays beside it."""
    if not settings.is_file():
        raise CannotTake(f"there are no settings at {settings}", "put them there")
    if own.is_symlink():
        if own.readlink() == settings:
            return
        own.unlink()
    with contextlib.suppress(FileNotFoundError):
        own.replace(own.with_name(f"{SETTINGS}.before"))
    own.symlink_to(settings)


def _run_ahead(folder: Path) -> None:
    """What every process of a master begins with."""
    os.umask(0o077)
    sys.stdout.flush()
    make_folder(folder)
