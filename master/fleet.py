"""Which workers can serve a stage, which of them are there, and which of them is asked first.

One pure matcher (:func:`refusal`) answers for the builders, for ``mlc-ci check`` and ``mlc-ci plan``, and for
the reason a stage is given while it waits. What may start where then, :mod:`master.gate` decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from master.pipeline import Requires, Stage
from master.routing import told
from master.run_model import NOT_USED, WAITING


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


def eligible(
    stage: Stage, workers: Mapping[str, WorkerFacts], variant: str = "", *, trusted: bool | None = None
) -> list[str]:
    """Names of the workers that, by the settings, can serve the stage, sorted; with ``trusted``, only those of that
    trust. What their hosts have then decides: :meth:`master.gate.Gate.why_not`."""
    requires = stage.requires_for(variant)
    return sorted(
        name
        for name, worker in workers.items()
        if (trusted is None or worker.trust == trust_name(trusted)) and not refusal(requires, worker)
    )


def unserved(stage: Stage, workers: Mapping[str, WorkerFacts], trusted: bool, variant: str = "") -> str:
    """Why none of these workers can serve the stage for a run of this trust; empty when one can."""
    if stage.requires.local or eligible(stage, workers, variant, trusted=trusted):
        return ""
    trust, requires = trust_name(trusted), stage.requires_for(variant)
    said = [f"{n} {refusal(requires, w)}" for n, w in sorted(workers.items()) if w.trust == trust]
    detail = "; ".join(said[:3]) + (f"; and {len(said) - 3} more" if len(said) > 3 else "")
    return f"no {trust} worker that can serve it is configured" + (f" ({detail})" if detail else "")


class ConfiguredFleet:
    """The fleet as the settings describe it, with every worker there: what ``mlc-ci plan`` assumes."""

    def __init__(self, workers: Mapping[str, WorkerFacts], unavailable: Callable[[Stage], str]) -> None:
        self.workers = workers
        self.unavailable = unavailable

    def unserved(self, stage: Stage, variant: str, trusted: bool) -> str:
        return self.unavailable(stage) or unserved(stage, self.workers, trusted, variant)

    def last_connected(self, stage: Stage, variant: str, trusted: bool) -> float:
        return float("inf")

    def turned_away(self, stage: Stage, variant: str, trusted: bool) -> str:
        return ""


class WhyNot(Protocol):
    """Why a worker that may serve a stage by the settings cannot now, or with ``ever`` can never, as its host is."""

    def __call__(self, requires: Requires, worker: str, *, ever: bool = False) -> Sequence[str]: ...


def _fits(requires: Requires, worker: str, *, ever: bool = False) -> Sequence[str]:
    return ()


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
        why_not: WhyNot = _fits,
    ) -> None:
        super().__init__(workers, unavailable)
        self._why_not = why_not
        self._fitted: dict[tuple[str, Requires], float] = dict(before._fitted) if before else {}
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
        there = set(self._connected())
        self._seen.update(dict.fromkeys(there, now))
        names, requires = eligible(stage, self.workers, variant, trusted=trusted), stage.requires_for(variant)
        if not requires.of_probe:
            return max((self._seen.get(name, self._since) for name in names), default=self._since)
        for name in there.intersection(names):
            if not self._why_not(requires, name, ever=True):
                self._fitted[name, requires] = now
        return max((self._fitted.get((name, requires), self._since) for name in names), default=self._since)

    def turned_away(self, stage: Stage, variant: str, trusted: bool) -> str:
        names, there = eligible(stage, self.workers, variant, trusted=trusted), set(self._connected())
        if stage.requires.local:
            return ""
        refused: dict[str, Sequence[str]] = {
            name: [f"is not used, as {why}"] for name, why in self._refused().items() if name in names
        }
        against = {name: self._why_not(stage.requires_for(variant), name) for name in names if name in there}
        if not all(against.values()):
            return ""  # one of them will do, once it is free
        if against:
            return WAITING + told(refused | against)
        return NOT_USED + told(refused) if refused else ""


def least_busy(_builder: Any, workers: list[Any], _request: Any) -> Any:
    """Buildbot's ``nextWorker``: orders only (``None`` would stop the builder's whole queue).

    The worker with the fewest running builds first: Buildbot's own choice is random (buildbot#5614).
    """
    return min(workers, key=lambda w: (len(_running(w.worker)), w.worker.workername), default=None)


def _running(worker: Any) -> list[Any]:
    return [builder for builder in worker.workerforbuilders.values() if builder.isBusy()]
