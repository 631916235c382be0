"""What this machine has for a site: tools for its local workers, and free ports."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console

from master.initialise import TOOLS
from master.settings import Settings, load
from master.site.beside import NOTHING, Beside
from master.site.owners import Owners

_NOT_SEPARATE = (
    "without root, trusted and untrusted builds run as the same user: their folders are apart, but that is no "
    "security boundary. Do not build pull requests of strangers like this."
)


def missing_tools(settings: Settings, has: Callable[[str], object] = shutil.which) -> dict[str, list[str]]:
    """Of each local worker, the tools that the settings say it provides and that are not on this machine."""
    lacking = {tool for tool, (programs, _) in TOOLS.items() if not any(has(program) for program in programs)}
    found = {
        name: sorted(worker.provides & lacking)
        for name, worker in settings.workers.items()
        if worker.local and worker.provides & lacking
    }
    return found


def overrides(
    settings_file: Path, repository: Path | None, *, any_port: bool, beside: Beside = NOTHING
) -> dict[str, str]:
    """``MLC_CI_…`` variables that fit the settings to this machine: the sample's place, free ports, and workers that
    provide only what is here, so that a stage that lacks something is shown as unavailable."""
    settings = load(settings_file)
    ports = {"WEB_PORT": settings.master.web_port, "WORKER_PORT": settings.master.worker_port}
    fitted = {f"MLC_CI_MASTER__{name}": str(free_port(0 if any_port else port)) for name, port in ports.items()}
    fitted["MLC_CI_ARTIFACTS__PORT"] = str(free_port(0 if any_port else settings.artifacts.port))
    if repository is not None:
        fitted["MLC_CI_PROJECT__REPOSITORY"] = str(repository)
    lacking = missing_tools(settings)
    for name in sorted({*lacking, *beside.provides}):
        left = sorted((settings.workers[name].provides - set(lacking.get(name, ()))) | beside.provides.get(name, set()))
        fitted[f"MLC_CI_WORKERS__{name.upper().replace('-', '_')}__PROVIDES"] = json.dumps(left)
    return {**fitted, **beside.overrides}


def advice(missing: Mapping[str, list[str]]) -> list[str]:
    """What to tell the user about tools that are not here."""
    tools = sorted({tool for tools in missing.values() for tool in tools})
    return [
        f"no {tool} here: apt-get install {TOOLS[tool][1]}; its stages are skipped as unavailable" for tool in tools
    ]


def warn(console: Console, settings: Settings, owners: Owners) -> None:
    """Say what a user must know before trusting what runs here."""
    for line in (*advice(missing_tools(settings)), *([] if owners.separate else [_NOT_SEPARATE])):
        console.print(f"! {line}", style="yellow")


def free_port(wanted: int) -> int:
    """The wanted port of the loopback interface if it is free, else another one that is."""
    for port in (wanted, 0):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(listener.getsockname()[1])
    raise OSError("no port of the loopback interface is free")
