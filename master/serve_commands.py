"""``mlc-ci serve``: one process of a master, for containers and units that start each by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from master import client as clients
from master.command_options import Folder

app = typer.Typer(no_args_is_help=True, help="Run one process of a master in the foreground, as a container does.")

SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--settings",
        help="The settings, kept outside of the folder: its settings.toml becomes a link to them.",
        metavar="FILE",
        envvar="MLC_CI_SETTINGS",
    ),
]
GivenSecrets = Annotated[
    Path | None,
    typer.Option(
        "--secrets",
        help="A folder of files that become secrets of these names.",
        metavar="DIR",
        envvar="MLC_CI_SECRETS",
    ),
]


@app.command()
def master(
    settings: SettingsFile = None,
    secrets: GivenSecrets = None,
    prepare_only: Annotated[
        bool, typer.Option("--prepare-only", help="Make or upgrade folder and database, and start nothing.")
    ] = False,
    folder: Folder = None,
) -> None:
    """Prepare the master, its database included, and become it. SIGTERM ends it in order, SIGHUP reads the settings."""
    from master import serve  # noqa: PLC0415

    site = (folder or clients.default_site()).absolute()
    if prepare_only:
        serve.prepare(site, settings=settings, secrets=secrets)
    else:
        serve.master(site, settings=settings, secrets=secrets)


@app.command()
def artifacts(folder: Folder = None) -> None:
    """Run the artifact process of a master that was prepared."""
    from master import serve  # noqa: PLC0415

    raise typer.Exit(serve.artifacts((folder or clients.default_site()).absolute()))


@app.command()
def check(
    process: Annotated[str, typer.Argument(help="master or artifacts.", metavar="PROCESS")],
    folder: Folder = None,
) -> None:
    """Ask a process that runs on this machine, or in this container, whether it works; exit code 1 if not."""
    from master import healthy  # noqa: PLC0415

    known = {"master": healthy.master, "artifacts": healthy.artifacts}
    if process not in known:
        raise typer.BadParameter("master or artifacts")
    print(known[process]((folder or clients.default_site()).absolute() / "master"))
