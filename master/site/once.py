"""``ci/up --once``: a throwaway site, a push, a pull request and a tag, and whether each did what it should."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from master import show
from master.client import of_site
from master.errors import UserError
from master.settings import load
from master.site import host, judge
from master.site.beside import NOTHING
from master.site.owners import owners
from master.site.processes import NotStarted, Site, running
from master.site.sample import SampleRepository
from master.site.stopping import interruptible, told_to_stop
from master.site.with_docker import docker_beside

_PATIENCE_S = 25 * 60.0
_POLL_S = 0.5
TAG = "v0.2.0"


class Interrupted(UserError):
    """Told to stop before the end."""


def main(console: Console, settings_file: Path, *, as_json: bool, with_docker: bool = False) -> int:
    """Run everything once and print what became of it. Returns 0 only when all three runs did what they should.

    Raises:
        UserError: the site could not be started.
    """
    progress = Console(stderr=True, highlight=False, width=console.width) if as_json else console
    stopping = told_to_stop()
    return interruptible(
        progress,
        stopping,
        lambda: _run(console, progress, settings_file.absolute(), stopping, as_json=as_json, with_docker=with_docker),
    )


def _run(
    console: Console,
    progress: Console,
    settings_file: Path,
    stopping: threading.Event,
    *,
    as_json: bool,
    with_docker: bool,
) -> int:
    with _throwaway() as folder, contextlib.ExitStack() as stack:
        users = owners(lasting=False)
        users.let_through(folder)
        sample = SampleRepository(folder / "repositories")
        sample.create()
        settings = load(settings_file)
        beside, registry = NOTHING, None
        if with_docker:
            progress.print("starting a Docker engine and a registry …")
            beside, registry = stack.enter_context(docker_beside(folder / "docker", settings, users, any_port=True))
        fitted = {
            **host.overrides(settings_file, sample.path, any_port=True, beside=beside),
            "MLC_CI_PROJECT__POLL_INTERVAL": "1s",
        }
        site = Site(folder, settings_file, overrides=fitted, owners=users, beside=beside)
        host.warn(progress, settings, site.owners)
        progress.print("starting a master and its workers …")
        with running(site):
            found = _drive(progress, site, sample, stopping)
            problems = judge.problems(found, folder / "master", settings, TAG, progress, registry=registry)
    if as_json:
        print(json.dumps({"ok": not problems, "problems": problems, "runs": found}, indent=2))
    else:
        for run in found:
            console.print()
            console.print(
                show.stages(run["stages"], f"{run['event']} {run['ref']} {run['head'][:12]}: {run['result']}")
            )
        console.print()
        for problem in problems:
            console.print(f"✗ {problem}", style="red")
        if not problems:
            console.print("✓ push, pull request and tag did what they should", style="green")
    return 1 if problems else 0


@contextmanager
def _throwaway() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="mlc-ci-once-"))
    folder.chmod(0o711)  # the site's other users pass through it to what is theirs
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            print(f"{folder} could not be deleted", file=sys.stderr)


def _drive(
    progress: Console, site: Site, sample: SampleRepository, stopping: threading.Event
) -> list[Mapping[str, Any]]:
    client = of_site(site.folder)
    wanted = set(site.local_workers())
    _wait(site, stopping, "the workers to connect", lambda: wanted <= set(client.connected_workers()))
    _wait(site, stopping, "the first look at the repository", lambda: _looked(site))
    progress.print(f"ready at {site.url}: pushing a commit, opening a pull request, pushing the tag {TAG} …")
    heads = {
        "push": sample.push("Change something")["after"],
        "pull_request": sample.pull_request(1, "Propose something")["head"],
        "tag": sample.tag(TAG)["commit"],
    }
    said: dict[Any, str] = {}

    def done() -> bool:
        runs = client.runs()
        _report(progress, runs, said)
        return len(runs) >= len(heads) and not any(run["live"] for run in runs)

    _wait(site, stopping, "the runs to end", done)
    return [client.run(run["id"]) for run in sorted(client.runs(), key=lambda run: run["id"])]


def _looked(site: Site) -> bool:
    return bool(judge.rows(site.basedir, "select 1 from polled_refs limit 1"))


def _report(progress: Console, runs: list[dict[str, Any]], said: dict[Any, str]) -> None:
    """Tell each state of each stage once."""
    for run in reversed(runs):
        for stage in run["stages"]:
            key = (run["id"], stage["name"], stage["variant"])
            if stage["state"] not in ("pending", said.get(key)):
                said[key] = stage["state"]
                reason = f"  {stage['reason']}" if stage["reason"] else ""
                progress.print(f"  run {run['id']} {run['event']:<12} {stage['name']:<14} {stage['state']}{reason}")


def _wait(site: Site, stopping: threading.Event, what: str, condition: Any) -> None:
    until = time.monotonic() + _PATIENCE_S
    while not condition():
        if stopping.wait(_POLL_S):
            raise Interrupted("told to stop")
        if dead := site.failed():
            raise NotStarted(f"{dead.name} ended with {dead.exit_code}:\n{dead.last_words()}")
        if time.monotonic() > until:
            raise NotStarted(f"gave up waiting for {what} after {_PATIENCE_S / 60:g} minutes")
