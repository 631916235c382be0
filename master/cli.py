"""``mlc-ci``: everything a user types. Each command is a thin shell around one module."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from master import client as clients
from master import worker_commands
from master.errors import UserError
from master.pipeline import EventKind
from master.places import SETTINGS
from master.site.sample import source

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A self-hosted CI master for people who ship GPU software.",
)
app.add_typer(worker_commands.app, name="worker")
console = Console(highlight=False, width=None if sys.stdout.isatty() else 180)

_Settings = Annotated[Path | None, typer.Option("--settings", help="The settings file.", metavar="FILE")]
_Json = Annotated[bool, typer.Option("--json", help="For programs: one JSON document.")]
_Master = Annotated[
    str, typer.Option("--master", help="The master's page; default: the one ci/up runs here.", metavar="URL")
]
_Password = Annotated[
    Path | None, typer.Option("--password-file", help="File with the administrator's password.", metavar="FILE")
]
_Folder = Annotated[Path | None, typer.Option(help="Where that ci/up keeps everything.", metavar="DIR")]
_QUICKSTART = source() / "ci" / "quickstart.toml"


def _client(master: str, password: Path | None, folder: Path | None) -> clients.Client:
    if not master:
        return clients.of_site(folder or clients.default_site())
    try:
        return clients.Client(master, password.read_text().strip() if password else "")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{password} cannot be read: {error}", "give the file that holds the password") from None


def _default_settings() -> Path:
    """The settings of the master that ci/up runs here, if there is one; else the quickstart's."""
    kept = clients.default_site() / "master" / SETTINGS
    return kept if os.access(kept, os.R_OK) else _QUICKSTART


def _print_json(data: Any) -> None:
    print(json.dumps(data, indent=2, default=str))


@app.command()
def check(settings: Annotated[Path | None, typer.Argument(help="The settings file.")] = None) -> None:
    """Validate settings, without starting anything."""
    from master.check import rendered  # noqa: PLC0415
    from master.settings import examine  # noqa: PLC0415

    examined = examine(settings or _default_settings())
    print(rendered(examined.file, examined.problems, examined.settings))
    if examined.errors:
        raise typer.Exit(3)


@app.command()
def init(
    repository: Annotated[str, typer.Argument(help="URL or path of the git repository.")],
    output: Annotated[Path, typer.Option(help="The settings file to write.", metavar="FILE")] = Path("mlc-ci.toml"),
) -> None:
    """Write working settings for a repository, and say what is missing on this machine."""
    from master.initialise import initialise  # noqa: PLC0415

    report = initialise(repository, output)
    print(report)
    print(f"\nNext: mlc-ci check {output}, then ci/up --settings {output}")


@app.command()
def plan(
    event: Annotated[EventKind, typer.Option(help="What happens.")],
    payload: Annotated[
        Path | None, typer.Option(help="A GitHub webhook's payload; '-' for standard input.", metavar="FILE")
    ] = None,
    settings: _Settings = None,
    ref: Annotated[str, typer.Option(help="The ref, instead of a payload.")] = "",
    stage: Annotated[list[str] | None, typer.Option(help="Manual runs: only these stages.")] = None,
    publish: Annotated[bool, typer.Option(help="Manual runs: publish.")] = False,
    changed: Annotated[list[str] | None, typer.Option(help="A changed file, for path filters.")] = None,
    master: Annotated[str, typer.Option(help="Ask this master which workers are there.", metavar="URL")] = "",
    as_json: _Json = False,
) -> None:
    """Say what would run for an event, on which workers, and why not."""
    from master import plan as plans  # noqa: PLC0415
    from master import show  # noqa: PLC0415
    from master.planned_event import planned_event  # noqa: PLC0415
    from master.settings import load  # noqa: PLC0415

    loaded = load(settings or _default_settings())
    told = planned_event(loaded, event, payload=payload, ref=ref, stages=stage, publish=publish, changed=changed)
    planned = plans.plan(loaded, told)
    connected = clients.Client(master).connected_workers() if master else None
    if as_json:
        _print_json({**planned.as_json(), **({} if connected is None else {"connected": connected})})
    else:
        show.plan(console, planned, connected)


@app.command()
def run(
    ref: Annotated[str, typer.Option(help="Branch, tag or full ref.")],
    stage: Annotated[list[str] | None, typer.Option(help="Only these stages (and what gates them).")] = None,
    threads: Annotated[int, typer.Option(help="Threads of each build; 0: as the settings say.", min=0)] = 0,
    publish: Annotated[bool, typer.Option(help="Publish (default branch and tags only).")] = False,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    master: _Master = "",
    password_file: _Password = None,
    folder: _Folder = None,
) -> None:
    """Dispatch a run by hand."""
    talking = _client(master, password_file, folder)
    talking.dispatch(ref=ref, stages=stage or [], threads=threads, publish=publish, reason=reason)
    newest = talking.runs(limit=1)[0]
    print(f"run {newest['id']}: {talking.url}#/pipelines/{newest['id']}")


@app.command()
def runs(limit: int = 20, master: _Master = "", folder: _Folder = None, as_json: _Json = False) -> None:
    """List the newest runs."""
    from master import show  # noqa: PLC0415

    talking = _client(master, None, folder)
    found = talking.runs(limit)
    if as_json:
        _print_json(found)
        return
    if trouble := talking.trouble():
        console.print(f"! {trouble}", style="yellow")
    show.runs(console, found)


@app.command(name="show")
def show_run(run_id: int, master: _Master = "", folder: _Folder = None, as_json: _Json = False) -> None:
    """Show one run: its stages, why they stand where they do, and what they left."""
    from master import show  # noqa: PLC0415

    found = _client(master, None, folder).run(run_id)
    if as_json:
        _print_json(found)
    else:
        show.run(console, found)


@app.command()
def retry(
    run_id: int,
    stage: Annotated[str, typer.Option(help="Only this stage; default: all that did not end well.")] = "",
    master: _Master = "",
    password_file: _Password = None,
    folder: _Folder = None,
) -> None:
    """Run again what did not end well, keeping what did."""
    _client(master, password_file, folder).repeat(run_id, stage)
    print(f"run {run_id} runs again")


@app.command()
def cancel(run_id: int, master: _Master = "", password_file: _Password = None, folder: _Folder = None) -> None:
    """End a run."""
    _client(master, password_file, folder).cancel(run_id)
    print(f"run {run_id} is cancelled")


@app.command()
def up(
    once: Annotated[bool, typer.Option("--once", help="A throwaway site: push, pull request, tag; then gone.")] = False,
    settings: _Settings = None,
    folder: Annotated[Path | None, typer.Option(help="Where everything is kept.", metavar="DIR")] = None,
    as_json: _Json = False,
) -> None:
    """Run everything on this machine: master, workers, page, and a sample repository to play with."""
    from master.site import once as once_command  # noqa: PLC0415
    from master.site import up as up_command  # noqa: PLC0415

    if once:
        raise typer.Exit(once_command.main(console, settings or _QUICKSTART, as_json=as_json))
    if as_json:
        raise UserError("--json goes with --once: a site that keeps running has no last word")
    raise typer.Exit(up_command.main(console, settings or _QUICKSTART, folder or clients.default_site()))


def main() -> None:
    """The entry point: a user's mistake ends in a message, never in a traceback."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except UserError as error:
        print(f"mlc-ci: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
