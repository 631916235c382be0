"""``mlc-ci worker add`` and ``mlc-ci worker list``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from master import client as clients
from master.places import SETTINGS

app = typer.Typer(no_args_is_help=True, help="Provision and see workers.")
_console = Console(highlight=False, width=None if sys.stdout.isatty() else 180)
_Folder = Annotated[
    Path | None, typer.Option(help="The site's folder on this machine; default: ci/up's.", metavar="DIR")
]


class Trust(StrEnum):
    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"


class System(StrEnum):
    LINUX = "linux"
    WINDOWS = "windows"


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="The worker's name.")],
    trust: Annotated[
        Trust | None, typer.Option(help="Whose runs it builds; not needed when the settings have it.")
    ] = None,
    system: Annotated[System, typer.Option("--os", help="Its operating system.")] = System.LINUX,
    provides: Annotated[str, typer.Option(help="Tools it has: python,compiler,cmake,cargo,vulkan-sdk …")] = "python",
    max_builds: Annotated[int, typer.Option(help="Builds at once.", min=1)] = 1,
    master_host: Annotated[str, typer.Option(help="How the worker reaches this master; one of worker_host.")] = "",
    output: Annotated[
        Path | None,
        typer.Option(help="The bundle to write; default: NAME.bundle; '-' for standard output.", metavar="FILE"),
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Add the worker's table to the settings too.")] = False,
    folder: _Folder = None,
) -> None:
    """Make a worker's password and the bundle that it joins with. Run it where the master runs."""
    from master import bundle  # noqa: PLC0415

    basedir = bundle.basedir_of(folder or clients.default_site())
    missing, whole = "", ""
    if not bundle.configured(basedir, name):
        if trust is None:
            raise bundle.CannotAdd(f"the settings have no worker {name!r}", "say --trust trusted or --trust untrusted")
        tools = [tool.strip() for tool in provides.split(",") if tool.strip()]
        missing = bundle.table(name, trust=trust, os_name=system, provides=tools, max_builds=max_builds)
        whole = bundle.would_fit(basedir, missing)
    path = output or Path(f"{name}.bundle")
    made = bundle.make(basedir, name, master_host)
    if path == Path("-"):
        print(json.dumps(made, indent=2))
    else:
        bundle.write(made, path)
    if missing and write:
        bundle.add_table(basedir, whole)
    if path != Path("-"):
        print(_told(name, path, basedir / SETTINGS, missing, written=write))
    elif missing and not write:
        print(f"add to {basedir / SETTINGS}:\n\n{missing}", file=sys.stderr)


def _told(name: str, path: Path, settings: Path, missing: str, *, written: bool) -> str:
    reload = f"kill -HUP $(cat {settings.parent / 'twistd.pid'})"
    said = [f"{path} lets its holder be the worker {name}: copy it there over a safe way, and delete it here."]
    if missing and written:
        said += [f"{settings} has the worker now; have the master read it:\n  {reload}"]
    elif missing:
        said += [f"{settings} does not have the worker yet. Add to it:\n\n{missing}", f"then:  {reload}"]
    said += [
        f"On the worker's host, from a checkout of mlc-ci:\n"
        f"  workers/linux/install.sh --bundle {path.name}      (Debian or Ubuntu, as root: everything)\n"
        f"  mlc-ci-worker join {path.name} DIR && mlc-ci-worker start DIR      (where mlc-ci-worker is installed)"
    ]
    return "\n".join(said)


@app.command(name="list")
def list_workers(
    master: Annotated[str, typer.Option("--master", help="The master's page; default: ci/up's.", metavar="URL")] = "",
    folder: _Folder = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one JSON document.")] = False,
) -> None:
    """Show the workers: whether they are connected, what runs there, what their hosts have, and who holds which GPU."""
    from master import show_fleet  # noqa: PLC0415 - it imports Buildbot, which each of our commands would wait for

    site = folder or clients.default_site()
    asked = FleetClient(master or clients.of_site(site).url)
    told = asked.fleet()
    found = asked.workers(told["workers"], None if master else site)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    show_fleet.fleet(_console, found, told["queue"], time.time())


class FleetClient(clients.Client):
    """Asks a master about its workers."""

    def workers(self, told: Sequence[Mapping[str, Any]], site: Path | None) -> list[dict[str, Any]]:
        """Each configured worker, with what the master has told of it (:meth:`fleet`); with ``site``, the master's own,
        also those that only its settings know so far."""
        trusts = _trusts(site) if site else {}
        probes = {worker["name"]: worker for worker in told}
        running = self._running()
        found = []
        known = self._get("api/v2/workers")["workers"]
        for worker in known:
            if worker["configured_on"]:
                info = worker["workerinfo"] or {}
                found.append(
                    {
                        "name": worker["name"],
                        "connected": bool(worker["connected_to"]),
                        "trust": (probes.get(worker["name"]) or {}).get("trust") or trusts.get(worker["name"], "–"),
                        "version": info.get("version") or "–",
                        "host": info.get("host") or "",
                        "running": running.get(worker["workerid"], []),
                        "probe": probes.get(worker["name"]),
                        "note": f"paused {worker['pause_reason'] or ''}".strip() if worker["paused"] else "",
                    }
                )
        unknown = trusts.keys() - {worker["name"] for worker in found}
        empty = {"connected": False, "version": "–", "host": "", "running": [], "probe": None}
        note = "the master has not read the settings since it was added"
        found += [{"name": name, "trust": trusts[name], **empty, "note": note} for name in unknown]
        return sorted(found, key=lambda worker: str(worker["name"]))

    def _running(self) -> dict[int, list[str]]:
        builders = {each["builderid"]: each["name"] for each in self._get("api/v2/builders")["builders"]}
        running: dict[int, list[str]] = {}
        for build in self._get("api/v2/builds?complete=false")["builds"]:
            running.setdefault(build["workerid"], []).append(
                f"{builders.get(build['builderid'], '?')} {build['number']}"
            )
        return running


def _trusts(site: Path) -> dict[str, str]:
    from master.bundle import basedir_of  # noqa: PLC0415
    from master.settings import load  # noqa: PLC0415

    return {name: worker.trust for name, worker in load(basedir_of(site) / SETTINGS).workers.items()}
