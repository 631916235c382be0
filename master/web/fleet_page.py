"""The workers, as the API tells them: what their hosts have, what is wrong with them, and who holds which GPU."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from master.database.probes import Row
from master.leases import Lease, Ledger
from master.probe_facts import ProbeSaid, Unreadable, capabilities
from master.routing import Hosts
from master.settings import WorkerSettings
from master.web.views import Json


def workers_page(
    workers: Mapping[str, WorkerSettings],
    connected: Collection[str],
    hosts: Hosts,
    before: Mapping[str, Row],
    ledger: Ledger,
    holders: Mapping[int, tuple[int, str]],
    now: float,
    refused: Mapping[str, str] | None = None,
) -> Json:
    """``before``: what each worker said last, for those that are not there. ``holders``: the run and stage of each
    request that holds a GPU. ``refused``: why workers are not used, as far as that is known. Times are seconds since
    the epoch."""
    leases = ledger.held()
    return {
        "workers": [
            {
                "name": name,
                "trust": worker.trust,
                "os": worker.os,
                "provides": sorted(worker.provides),
                "connected": name in connected,
                "container": worker.container.image if worker.container else None,
                "refused": (refused or {}).get(name, ""),
                **_host(name, worker, hosts, before.get(name)),
                "leases": [_lease(lease, holders) for lease in leases if lease.worker == name],
                "quarantined": ledger.quarantined(name, now),
            }
            for name, worker in sorted(workers.items())
        ]
    }


def _host(name: str, worker: WorkerSettings, hosts: Hosts, before: Row | None) -> Json:
    known = hosts.known(name)
    said: ProbeSaid | Unreadable | None = known.said if known else before.said if before else None
    read_at = known.read_at if known else before.read_at if before else None
    told: dict[str, Any] = {"unknown": hosts.unknown(name), "read_at": read_at, "host": None, "problems": []}
    if not isinstance(said, ProbeSaid):
        return {**told, "tools": {}, "devices": [], "broken": {}}
    has = capabilities(said, worker.os, worker.provides)
    return {
        **told,
        "host": said.host.model_dump(mode="json"),
        "tools": dict(has.tools),
        "devices": [asdict(device) for device in has.devices],
        "broken": dict(has.broken),
        "problems": [problem.model_dump(mode="json") for problem in said.problems],
    }


def _lease(lease: Lease, holders: Mapping[int, tuple[int, str]]) -> Json:
    run, stage = holders.get(lease.request, (None, ""))
    told = {"gpu": lease.gpu, "memory": lease.memory, "since": lease.since}
    return {**told, "request": lease.request, "run": run, "stage": stage}
