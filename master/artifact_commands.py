"""``mlc-ci artifacts``: what retention would remove, or removes, on the master's machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from master import client as clients
from master.command_options import Folder, console

if TYPE_CHECKING:
    from master.artifacts.retention import Removable

app = typer.Typer(no_args_is_help=True, help="Look after what builds have left.")


@app.command()
def sweep(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
    folder: Folder = None,
) -> None:
    """Remove what is past its time or was never accepted. The artifact process does so by itself, every hour."""
    from master.artifacts.housekeeping import told  # noqa: PLC0415
    from master.artifacts.upkeep import Upkeep  # noqa: PLC0415

    upkeep = Upkeep.of((folder or clients.default_site()) / "master")
    print(upkeep.told_policy())
    gone = upkeep.rehearse(time.time()) if dry_run else upkeep.sweep(time.time())
    _show(gone)
    print(f"would have {told(gone)}" if dry_run and gone else told(gone) if gone else "there is nothing to remove")


def _show(gone: Sequence[Removable]) -> None:
    table = Table("file", "bytes", "why", box=None)
    for file in gone:
        table.add_row(Text(file.path), str(file.size), file.why)
    if gone:
        console.print(table)
