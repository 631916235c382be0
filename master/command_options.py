"""What several commands of ``mlc-ci`` have in common: which master they talk to, and how they answer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from master import client as clients
from master.errors import UserError

console = Console(highlight=False, width=None if sys.stdout.isatty() else 180)

AsJson = Annotated[bool, typer.Option("--json", help="For programs: one JSON document.")]
Master = Annotated[
    str, typer.Option("--master", help="The master's page; default: the one ci/up runs here.", metavar="URL")
]
Password = Annotated[
    Path | None, typer.Option("--password-file", help="File with the administrator's password.", metavar="FILE")
]
Folder = Annotated[Path | None, typer.Option(help="Where that ci/up keeps everything.", metavar="DIR")]


def client_of(master: str, password: Path | None, folder: Path | None) -> clients.Client:
    """The master that these options name.

    Raises:
        UserError: a file that cannot be read, or no master that runs here.
    """
    if not master:
        return clients.of_site(folder or clients.default_site())
    try:
        return clients.Client(master, password.read_text().strip() if password else "")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{password} cannot be read: {error}", "give the file that holds the password") from None


def print_json(data: Any) -> None:
    print(json.dumps(data, indent=2, default=str))
