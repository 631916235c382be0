"""Which workers can serve a stage, which of them are there, and which build may start where.

One pure matcher (:func:`refusal`) answers for the builders, for ``mlc-ci check`` and ``mlc-ci plan``, and for
the reason a stage is given while it waits. :class:`Gate` is the one place that lets a build start: Buildbot's
``canStartBuild``, asked under its distributor's lock, so it answers from memory and never waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from master.pipeline import Requires, Stage
from master.run_model import NOT_USED


class WorkerFacts(Protocol):
    """What the matcher reads of a worker (settings' ``WorkerSettings`` is one)."""

    @property
    def trust(self) -> str: ...
    @property
    def os(self) -> str: ...
    @property
    def provides(self) -> frozenset[str]: ...


def refusal(requires: Requires, worker: WorkerFacts) -> str:
    """Why this worker cannot serve a stage with these requirements; empty when it can. Trust is asked elsewhere."""
    if requires.local:
        return "the stage runs in the master"
    if requires.os and worker.os != requires.os:
        return f"is {worker.os}, not {requires.os}"
    if missing := sorted(requires.tools - worker.provides):
        return "has no " + ", ".join(missing)
    return ""


def trust_name(trusted: bool) -> str:
    return "trusted" if trusted else "untrusted"


def eligible(stage: Stage, workers: Mapping[str, WorkerFacts], *, trusted: bool | None = None) -> list[str]:
    """Names of the workers that can serve the stage, sorted; with ``trusted``, only those of that trust."""
    return sorted(
        name
        for name, worker in workers.items()
        if (trusted is None or worker.trust == trust_name(trusted)) and not refusal(stage.requires, worker)
    )


def unserved(stage: Stage, workers: Mapping[str, WorkerFacts], trusted: bool) -> str:
    """Why none of these workers can serve the stage for a run of this trust; empty when one can."""
    if stage.requires.local or eligible(stage, workers, trusted=trusted):
        return ""
    trust = trust_name(trusted)
    said = [f"{n} {refusal(stage.requires, w)}" for n, w in sorted(workers.items()) if w.trust == trust]
    detail = "; ".join(said[:3]) + (f"; and {len(said) - 3} more" if len(said) > 3 else "")
    return f"no {trust} worker that can serve it is configured" + (f" ({detail})" if detail else "")


class ConfiguredFleet:
    """The fleet as the settings describe it, with every worker there: what ``mlc-ci plan`` assumes."""

    def __init__(self, workers: Mapping[str, WorkerFacts], unavailable: Callable[[Stage], str]) -> None:
        self.workers = workers
        self.unavailable = unavailable

    def unserved(self, stage: Stage, variant: str, trusted: bool) -> str:
        return self.unavailable(stage) or unserved(stage, self.workers, trusted)

    def last_connected(self, stage: Stage, variant: str, trusted: bool) -> float:
        return float("inf")

    def turned_away(self, stage: Stage, variant: str, trusted: bool) -> str:
        return ""


class LiveFleet(ConfiguredFleet):
    """The fleet of a running master: knows since when nobody has been there to serve a stage.

    ``before`` is the fleet of the settings that these take the place of: who was missed then is missed since then.
    """

    def __init__(
        self,
        workers: Mapping[str, WorkerFacts],
        unavailable: Callable[[Stage], str],
        connected: Callable[[], Iterable[str]],
        clock: Callable[[], float],
        refused: Callable[[], Mapping[str, str]] = dict,
        before: LiveFleet | None = None,
    ) -> None:
        super().__init__(workers, unavailable)
        self._refused = refused
        self._connected = connected
        self._clock = clock
        self._since = clock()
        self._seen: dict[str, float] = before._seen_of(workers) if before else {}

    def _seen_of(self, workers: Mapping[str, WorkerFacts]) -> dict[str, float]:
        """When each of these workers was last there; one that is new, or is now another, is not missed so far."""
        there = set(self._connected())
        same = [name for name, worker in workers.items() if self.workers.get(name) == worker]
        return {name: self._clock() if name in there else self._seen.get(name, self._since) for name in same}

    def left(self, name: str) -> None:
        """Note that a worker has just disconnected."""
        self._seen[name] = self._clock()

    def last_connected(self, stage: Stage, variant: str, trusted: bool) -> float:
        now = self._clock()
        if stage.requires.local:
            return now
        self._seen.update(dict.fromkeys(self._connected(), now))
        names = eligible(stage, self.workers, trusted=trusted)
        return max((self._seen.get(name, self._since) for name in names), default=self._since)

    def turned_away(self, stage: Stage, variant: str, trusted: bool) -> str:
        names = eligible(stage, self.workers, trusted=trusted)
        refused = self._refused()
        said = [f"{name} is not used, as {refused[name]}" for name in names if name in refused]
        if stage.requires.local or not said or set(names) & set(self._connected()):
            return ""
        return NOT_USED + "; ".join(said)


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """A build request that may start: the run it is for, its builder, and whom it may run on."""

    run_id: int
    builder: str
    trusted: bool
    local: bool


class Gate:
    """Lets a build start only when its attempt is planned, unsettled, wanted, and the worker fits.

    The scheduler issues a ticket for each request it stands behind and takes it back when the attempt ends;
    what has no ticket (a Rebuild, a foreign scheduler's request, a request of a cancelled run) never starts.
    """

    def __init__(self) -> None:
        self.tickets: dict[int, Ticket] = {}
        self.trust: Mapping[str, str] = {}

    def can_start(self, _builder: Any, worker_for_builder: Any, request: Any) -> bool:
        """Buildbot's ``canStartBuild``."""
        ticket = self.tickets.get(request.id)
        return ticket is not None and self._fits(ticket, {self.trust.get(worker_for_builder.worker.workername, "")})

    def startable(self, builder: str, workers: Iterable[str]) -> set[int]:
        """The requests of a builder that may start on one of these workers."""
        trusts = {self.trust.get(name, "") for name in workers}
        return {
            request
            for request, ticket in self.tickets.items()
            if ticket.builder == builder and self._fits(ticket, trusts)
        }

    @staticmethod
    def _fits(ticket: Ticket, trusts: set[str]) -> bool:
        return ticket.local or trust_name(ticket.trusted) in trusts


def least_busy(_builder: Any, workers: list[Any], _request: Any) -> Any:
    """Buildbot's ``nextWorker``: orders only (``None`` would stop the builder's whole queue).

    The worker with the fewest running builds first: Buildbot's own choice is random (buildbot#5614).
    """
    return min(workers, key=lambda w: (len(_running(w.worker)), w.worker.workername), default=None)


def _running(worker: Any) -> list[Any]:
    return [builder for builder in worker.workerforbuilders.values() if builder.isBusy()]
