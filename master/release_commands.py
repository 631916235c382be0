"""``mlc-ci release``: what was released, and what should no longer be chosen."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from master.command_options import AsJson, Folder, Master, Password, client_of, console, print_json

app = typer.Typer(no_args_is_help=True, help="See releases, and take one back.")
_Tag = Annotated[str, typer.Argument(help="The release's tag, as v1.2.3.")]


@app.command(name="list")
def list_releases(master: Master = "", folder: Folder = None, as_json: AsJson = False) -> None:
    """What was released, newest first."""
    found = client_of(master, None, folder).releases()
    if as_json:
        print_json(found)
        return
    table = Table("tag", "run", "published (UTC)", "yanked", box=None)
    for release in found:
        at = datetime.fromtimestamp(release["published_at"], UTC).strftime("%Y-%m-%d %H:%M")
        table.add_row(Text(release["tag"]), str(release["run_id"]), at, Text(release["yanked"] or ""))
    console.print(table if found else "nothing was released yet")


@app.command()
def yank(
    tag: _Tag,
    reason: Annotated[str, typer.Option(help="Why, for those who have it installed.")],
    master: Master = "",
    password_file: Password = None,
    folder: Folder = None,
) -> None:
    """Have pip and uv pass a release by, unless somebody asks for exactly this one (PEP 592)."""
    client_of(master, password_file, folder).yank(tag, reason)
    print(f"{tag} is yanked: {reason}")


@app.command()
def unyank(tag: _Tag, master: Master = "", password_file: Password = None, folder: Folder = None) -> None:
    """Let a yanked release be chosen again."""
    client_of(master, password_file, folder).yank(tag, None)
    print(f"{tag} may be chosen again")
