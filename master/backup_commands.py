"""``mlc-ci backup`` and ``mlc-ci restore``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, Annotated

import typer

from master import client as clients
from master.command_options import Folder
from master.errors import UserError
from master.serve_commands import GivenSecrets, SettingsFile

_STANDARD = Path("-")


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write; '-' for the standard output.", metavar="FILE")],
    without_artifacts: Annotated[
        bool, typer.Option("--without-artifacts", help="Leave out what builds have left, but for what was released.")
    ] = False,
    folder: Folder = None,
) -> None:
    """Copy a master into one file, while it runs: database, settings, secrets, artifacts, releases. Keep it as you keep
    a password."""
    from master import backup as backups  # noqa: PLC0415
    from master.bundle import basedir_of  # noqa: PLC0415

    basedir = basedir_of(folder or clients.default_site())
    if file == _STANDARD:
        if sys.stdout.isatty():
            raise UserError("a backup is no text for a terminal", "name a file")
        taken = backups.take(basedir, sys.stdout.buffer, artifacts=not without_artifacts)
    else:
        with backups.new_file(file) as stream:
            taken = backups.take(basedir, stream, artifacts=not without_artifacts)
    print(f"{file}: the database and {taken.files} files, {taken.size / 2**20:.1f} MiB", file=sys.stderr)


def restore(
    file: Annotated[Path, typer.Argument(help="A backup; '-' for the standard input.", metavar="FILE")],
    settings: SettingsFile = None,
    secrets: GivenSecrets = None,
    folder: Folder = None,
) -> None:
    """Make a master from a backup, where there is none. It goes on when it is started."""
    from master.restore import restore as restored  # noqa: PLC0415

    site = (folder or clients.default_site()).absolute()

    def put(stream: IO[bytes]) -> None:
        head = restored(site, stream, settings=settings, secrets=secrets)
        print(f"restored the backup of {head.get('made_at')} (mlc-ci {head.get('version')}) into {site}")
        if not head.get("artifacts"):
            print("it has no artifacts: those that are listed cannot be fetched, unless they are in a bucket")

    if file == _STANDARD:
        put(sys.stdin.buffer)
        return
    try:
        stream = file.open("rb")
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}", "give a file of mlc-ci backup") from None
    with stream:
        put(stream)
