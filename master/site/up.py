"""``ci/up``: everything on this machine, until Ctrl-C; the next start goes on where this one was."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from rich.console import Console

from master.client import default_site, of_site
from master.places import ADMIN, ADMIN_PASSWORD, SECRETS, SETTINGS
from master.settings import load
from master.site import host
from master.site.beside import NOTHING
from master.site.owners import owners
from master.site.processes import NotStarted, Site, make_folder, running
from master.site.sample import SampleRepository, source
from master.site.stopping import interruptible, told_to_stop
from master.site.with_docker import docker_beside

_WATCH_S = 1.0


def main(console: Console, settings_file: Path, folder: Path, *, with_docker: bool = False) -> int:
    """Run a site until it is interrupted, or one of its processes dies. Returns the exit code.

    Raises:
        UserError: it could not be started.
    """
    stopping = told_to_stop()
    return interruptible(
        console,
        stopping,
        lambda: _run(console, settings_file.absolute(), folder.absolute(), stopping, with_docker=with_docker),
    )


def _run(console: Console, settings_file: Path, folder: Path, stopping: threading.Event, *, with_docker: bool) -> int:
    kept = folder / "master" / SETTINGS
    with_sample = settings_file == source() / "ci" / "quickstart.toml"
    sample = SampleRepository(folder / "repositories") if with_sample else None
    settings = load(kept if kept.exists() else settings_file)
    first = not kept.exists()
    users = owners(lasting=True)
    host.warn(console, settings, users)
    make_folder(folder)
    users.let_through(folder)
    with contextlib.ExitStack() as stack:
        beside, registry = NOTHING, None
        if with_docker:
            console.print("starting a Docker engine and a registry …")
            beside, registry = stack.enter_context(docker_beside(folder / "docker", settings, users, any_port=False))
        source_file = kept if kept.exists() else settings_file
        fitted = host.overrides(source_file, sample.path if sample else None, any_port=False, beside=beside)
        site = Site(folder, settings_file, overrides=fitted, owners=users, beside=beside)
        workers = ", ".join(name for name, worker in settings.workers.items() if worker.local)
        console.print(f"starting in {folder}: master, then {workers} …")
        if sample and sample.create():
            console.print(f"made the sample repository {sample.path}")
        stack.enter_context(running(site))
        _wait_for_workers(site, stopping)
        if first and sample and not stopping.is_set():
            sample.push("A first commit to look at")
        _invite(console, site, sample, first)
        if registry:
            console.print(
                f"Images are pushed to {registry.address}; its user is {registry.user}, "
                f"the password in {registry.folder / 'password'}"
            )
        return _watch(console, site, stopping)


def _wait_for_workers(site: Site, stopping: threading.Event) -> None:
    client = of_site(site.folder)
    wanted = set(site.local_workers())
    while not stopping.is_set() and not wanted <= set(client.connected_workers()):
        if dead := site.failed():
            raise NotStarted(f"{dead.name} ended with {dead.exit_code}:\n{dead.last_words()}", f"see {dead.log}")
        stopping.wait(0.2)


def _invite(console: Console, site: Site, sample: SampleRepository | None, first: bool) -> None:
    place = sample.path if sample else site.settings.project.repository
    console.print()
    console.print(f"Ready. Three things to try:\n  1. open {site.url}#/pipelines")
    console.print(f"  2. push a commit:  git clone {place} && cd {Path(str(place)).stem} && …  (a branch named "
                  f"{site.settings.project.default_branch}, a tag {site.settings.project.tag_pattern})")  # fmt: skip
    console.print(f"  3. log in and press Run the pipeline, or type  mlc-ci run --ref main{_where(site)}")
    secret = site.basedir / SECRETS / ADMIN_PASSWORD
    if first:
        console.print(
            f"Log in as {ADMIN} with the password {secret.read_text().strip()} (shown once; kept in {secret})"
        )
    else:
        console.print(f"Log in as {ADMIN}; the password is in {secret}")
    console.print("Ctrl-C stops everything.")


def _where(site: Site) -> str:
    """What ``mlc-ci`` has to be told to find this site."""
    return "" if site.folder == default_site() else f" --folder {site.folder}"


def _watch(console: Console, site: Site, stopping: threading.Event) -> int:
    while not stopping.wait(_WATCH_S):
        if dead := site.failed():
            console.print(f"{dead.name} ended with {dead.exit_code}; stopping. See {dead.log}", style="red")
            console.print(dead.last_words())
            return 1
    console.print("stopping …")
    return 0
