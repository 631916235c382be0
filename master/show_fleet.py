"""Workers as a table on a terminal: who is there, what their hosts have, and who holds which GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from master.capabilities import GIB
from master.durations import format_duration
from master.show import named

_TURN = "waits for its turn"


def fleet(
    console: Console, workers: Sequence[Mapping[str, Any]], queue: Sequence[Mapping[str, Any]], now: float
) -> None:
    """``workers``: as :meth:`master.worker_commands.FleetClient.workers` tells them, ``queue`` as the API does; ``now``
    in seconds since the epoch."""
    table = Table("worker", "connected", "trust", "version", "runs there", box=None, pad_edge=False)
    for worker in workers:
        on_demand = (worker.get("probe") or {}).get("container")
        connected = "yes" if worker["connected"] else "on demand" if on_demand else "no"
        runs = ", ".join(worker["running"]) or worker["note"]
        table.add_row(worker["name"], connected, worker["trust"], worker["version"], runs)
    console.print(table)
    for worker in workers:
        for line in lines(worker, now):
            # a worker's words are a stranger's: no markup
            console.print(line, markup=False)
    for place, each in enumerate(queue):
        console.print(("" if place else "\nqueue\n") + f"  {queued(each, now)}", markup=False)


def queued(each: Mapping[str, Any], now: float) -> str:
    """One that waits for a worker, and why."""
    since = format_duration(max(1, round(now - each["since"])))
    return f"run {each['run']}, {named({'name': each['stage'], **each})}, for {since}: {each['reason'] or _TURN}"


def lines(worker: Mapping[str, Any], now: float) -> Iterator[str]:
    """What the host of one worker has."""
    probe = worker.get("probe")
    if probe is None:
        return
    age = "" if probe["read_at"] is None else f", probed {format_duration(max(1, round(now - probe['read_at'])))} ago"
    yield ""
    yield f"{worker['name']}{age}" + (f": {probe['unknown']}" if probe["unknown"] else "")
    if image := probe.get("container"):
        yield f"  image    {image}, a container for each build"
    if why := probe.get("refused"):
        yield f"  not used {why}"
    leases: dict[str, list[Mapping[str, Any]]] = {}
    for lease in probe["leases"]:
        leases.setdefault(lease["gpu"], []).append(lease)
    for device in probe["devices"]:
        yield f"  gpu      {device['id']}  {_device(device)}"
        if why := probe["quarantined"].get(device["id"]):
            yield f"           quarantined: {why}"
        for lease in leases.pop(device["id"], []):
            yield f"           {_lease(lease, now)}"
    for gpu, rest in leases.items():
        for lease in rest:
            yield f"  gpu      {gpu}, which it no longer has, {_lease(lease, now)}"
    if probe["tools"]:
        yield "  tools    " + ", ".join(f"{name} {version}" for name, version in sorted(probe["tools"].items()))
    for problem in probe["problems"]:
        yield f"  problem  {problem['part']}: {problem['what']}"


def _device(device: Mapping[str, Any]) -> str:
    apis = ", ".join(f"{api} {version or ''}".rstrip() for api, version in device["apis"].items()) or "no api"
    parts = [f"{device['name']}: {apis}"]
    if device["compute"]:
        parts.append(f"compute {device['compute']}")
    total, free = device["memory_total"], device["memory_free"]
    if total is not None:
        parts.append(f"{total / GIB:.1f} GiB" if free is None else f"{free / GIB:.1f} of {total / GIB:.1f} GiB free")
    parts += ["software"] if device["software"] else []
    parts += ["split by MIG"] if device["mig"] else []
    return "; ".join([", ".join(parts), *device["ailing"]])


def _lease(lease: Mapping[str, Any], now: float) -> str:
    what = "held" if lease["memory"] is None else f"{lease['memory'] / GIB:.1f} GiB held"
    who = f"run {lease['run']}, {lease['stage']}" if lease["run"] else "a build"
    return f"{what} by {who} for {format_duration(max(1, round(now - lease['since'])))}"
