"""``mlc-ci github``: whether a master and GitHub can work together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from master import client as clients
from master.command_options import AsJson, print_json
from master.errors import UserError
from master.places import SECRETS, SETTINGS

app = typer.Typer(no_args_is_help=True, help="See whether this master and GitHub can work together.")


@app.callback()
def _group() -> None:
    """A group, also while it has one command."""


@app.command()
def check(
    folder: Annotated[Path | None, typer.Argument(help="What ci/up keeps, or a master's own folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Try credentials, permissions, webhook and addresses; name what to put right. Changes nothing."""
    from master.github.trial import try_github  # noqa: PLC0415
    from master.settings import load  # noqa: PLC0415

    place = folder or clients.default_site()
    basedir = next((each for each in (place / "master", place) if (each / SETTINGS).exists()), None)
    if basedir is None:
        raise UserError(f"{place} is no master's folder: {SETTINGS} is not in it", "name the folder that ci/up keeps")
    found = try_github(load(basedir / SETTINGS), basedir / SECRETS)
    if as_json:
        print_json([each.as_json() for each in found])
    else:
        print("\n".join(map(str, found)))
    if any(each.ok is False for each in found):
        raise typer.Exit(1)
