"""``mlc-ci``: everything a user types. Each command is a thin shell around one module."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from master import (
    artifact_commands,
    backup_commands,
    github_commands,
    release_commands,
    serve_commands,
    worker_commands,
)
from master import client as clients
from master.command_options import AsJson, Folder, Master, Password, client_of, console, print_json
from master.errors import UserError
from master.places import SETTINGS
from master.site.sample import source

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A self-hosted CI master for people who ship GPU software.",
)
app.add_typer(worker_commands.app, name="worker")
app.add_typer(release_commands.app, name="release")
app.add_typer(artifact_commands.app, name="artifacts")
app.add_typer(github_commands.app, name="github")
app.add_typer(serve_commands.app, name="serve")
app.command()(backup_commands.backup)
app.command()(backup_commands.restore)

_Settings = Annotated[Path | None, typer.Option("--settings", help="The settings file.", metavar="FILE")]
_QUICKSTART = source() / "ci" / "quickstart.toml"


def _default_settings() -> Path:
    """The settings of the master that ci/up runs here, if there is one; else the quickstart's."""
    kept = clients.default_site() / "master" / SETTINGS
    return kept if os.access(kept, os.R_OK) else _QUICKSTART


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
    github: Annotated[
        str, typer.Option(help="GitHub's own address, where it is another.", metavar="URL")
    ] = "https://github.com",
    app_id: Annotated[int, typer.Option(help="Number of the GitHub App to ask GitHub as.", min=0)] = 0,
    secrets: Annotated[
        Path | None, typer.Option(help="A folder of secrets that are there: GitHub is tried with them.", metavar="DIR")
    ] = None,
) -> None:
    """Write working settings for a repository, and say what is missing on this machine and on GitHub."""
    from master.initialise import initialise  # noqa: PLC0415
    from master.initialise_github import GitHubAnswers  # noqa: PLC0415

    report = initialise(repository, output, github=GitHubAnswers(web=github, app_id=app_id, secrets=secrets))
    print(report)
    print(f"\nNext: mlc-ci check {output}, then ci/up --settings {output}")


@app.command()
def plan(
    event: Annotated[
        str, typer.Option(help="push, pull_request, tag or manual; with a payload, GitHub's name of any event.")
    ],
    payload: Annotated[
        Path | None, typer.Option(help="A GitHub webhook's payload; '-' for standard input.", metavar="FILE")
    ] = None,
    settings: _Settings = None,
    ref: Annotated[str, typer.Option(help="The ref, instead of a payload.")] = "",
    stage: Annotated[list[str] | None, typer.Option(help="Manual runs: only these stages.")] = None,
    publish: Annotated[bool, typer.Option(help="Manual runs: publish.")] = False,
    changed: Annotated[list[str] | None, typer.Option(help="A changed file, for path filters.")] = None,
    master: Annotated[str, typer.Option(help="Ask this master which workers are there.", metavar="URL")] = "",
    as_json: AsJson = False,
) -> None:
    """Say what would run for an event, on which workers, and why not."""
    from master import plan as plans  # noqa: PLC0415
    from master import show  # noqa: PLC0415
    from master.planned_event import planned_event  # noqa: PLC0415
    from master.settings import load  # noqa: PLC0415

    loaded = load(settings or _default_settings())
    told = planned_event(loaded, event, payload=payload, ref=ref, stages=stage, publish=publish, changed=changed)
    planned = plans.plan(loaded, told)
    fleet = plans.live_workers(clients.Client(master).fleet()["workers"]) if master else None
    if as_json:
        connected = {} if fleet is None else {"connected": [name for name, worker in fleet.items() if worker.connected]}
        print_json({**planned.as_json(), **connected})
    else:
        show.plan(console, planned, fleet)


@app.command()
def run(
    ref: Annotated[str, typer.Option(help="Branch, tag or full ref.")],
    stage: Annotated[list[str] | None, typer.Option(help="Only these stages (and what gates them).")] = None,
    threads: Annotated[int, typer.Option(help="Threads of each build; 0: as the settings say.", min=0)] = 0,
    publish: Annotated[bool, typer.Option(help="Publish (default branch and tags only).")] = False,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    master: Master = "",
    password_file: Password = None,
    folder: Folder = None,
) -> None:
    """Dispatch a run by hand."""
    talking = client_of(master, password_file, folder)
    talking.dispatch(ref=ref, stages=stage or [], threads=threads, publish=publish, reason=reason)
    newest = talking.runs(limit=1)[0]
    print(f"run {newest['id']}: {talking.url}#/pipelines/{newest['id']}")


@app.command()
def runs(limit: int = 20, master: Master = "", folder: Folder = None, as_json: AsJson = False) -> None:
    """List the newest runs."""
    from master import show  # noqa: PLC0415

    talking = client_of(master, None, folder)
    found = talking.runs(limit)
    if as_json:
        print_json(found)
        return
    if trouble := talking.trouble():
        console.print(f"! {trouble}", style="yellow")
    show.runs(console, found)


@app.command(name="show")
def show_run(run_id: int, master: Master = "", folder: Folder = None, as_json: AsJson = False) -> None:
    """Show one run: its stages, why they stand where they do, and what they left."""
    from master import show  # noqa: PLC0415

    found = client_of(master, None, folder).run(run_id)
    if as_json:
        print_json(found)
    else:
        show.run(console, found)


@app.command()
def reproduce(
    run_id: int,
    stage: str,
    variant: Annotated[str | None, typer.Option(help="Which of the stage's variants, where it has several.")] = None,
    into: Annotated[Path | None, typer.Option(help="A new folder to work in.", metavar="DIR")] = None,
    as_script: Annotated[
        bool, typer.Option("--print", help="Only print the commands, as a shell script for another machine.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Run a stranger's code without being asked.")] = False,
    master: Master = "",
    password_file: Password = None,
    folder: Folder = None,
) -> None:
    """Do a stage of a run again on this machine, from the same commits, and say whether it fails as it did."""
    from master import reproduce as again  # noqa: PLC0415
    from master.reproduce_script import script  # noqa: PLC0415

    talking = client_of(master, password_file, folder)
    recipe = again.read(talking.recipe(run_id, stage, variant))
    if as_script:
        print(script(recipe), end="")
        return
    again.assert_possible(recipe, into)
    again.assert_wanted(console, recipe, yes=yes)
    where = again.new_folder(recipe, into)
    raise typer.Exit(again.reproduce(console, talking, recipe, where, sys.stdout.buffer))


@app.command()
def retry(
    run_id: int,
    stage: Annotated[str, typer.Option(help="Only this stage; default: all that did not end well.")] = "",
    master: Master = "",
    password_file: Password = None,
    folder: Folder = None,
) -> None:
    """Run again what did not end well, keeping what did."""
    client_of(master, password_file, folder).repeat(run_id, stage)
    print(f"run {run_id} runs again")


@app.command()
def approve(
    run_id: int,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    master: Master = "",
    password_file: Password = None,
    folder: Folder = None,
) -> None:
    """Let a stranger's pull request run, at the commit that is shown."""
    from master import show  # noqa: PLC0415

    talking = client_of(master, password_file, folder)
    held = talking.run(run_id)
    show.commit(console, held)
    if show.waits_for_approval(held) and not (yes or typer.confirm("let its code run on the untrusted workers?")):
        raise UserError("then it goes on waiting", f"mlc-ci cancel {run_id} ends it")
    talking.approve(run_id, held["head"])
    print(f"run {run_id} is approved")


@app.command()
def cancel(run_id: int, master: Master = "", password_file: Password = None, folder: Folder = None) -> None:
    """End a run."""
    client_of(master, password_file, folder).cancel(run_id)
    print(f"run {run_id} is cancelled")


@app.command()
def up(
    once: Annotated[bool, typer.Option("--once", help="A throwaway site: push, pull request, tag; then gone.")] = False,
    settings: _Settings = None,
    folder: Annotated[Path | None, typer.Option(help="Where everything is kept.", metavar="DIR")] = None,
    as_json: AsJson = False,
    with_docker: Annotated[
        bool,
        typer.Option(
            "--with-docker", help="With a Docker engine and a registry for the docker stage; as root its own."
        ),
    ] = False,
) -> None:
    """Run everything on this machine: master, workers, page, and a sample repository to play with."""
    from master.site import once as once_command  # noqa: PLC0415
    from master.site import up as up_command  # noqa: PLC0415

    if once:
        raise typer.Exit(once_command.main(console, settings or _QUICKSTART, as_json=as_json, with_docker=with_docker))
    if as_json:
        raise UserError("--json goes with --once: a site that keeps running has no last word")
    place = folder or clients.default_site()
    raise typer.Exit(up_command.main(console, settings or _QUICKSTART, place, with_docker=with_docker))


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
