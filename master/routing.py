"""What is known of each worker's host, and why it will not do for a stage: pure.

The settings say which os and tools a worker has, so which stages may come to it at all; its probe says which versions
and which GPUs. A stage that asks for neither is not held up by a probe.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from master import probe_facts
from master.capabilities import GIB, Capabilities, GpuWanted, Wanted, match
from master.durations import format_duration
from master.pipeline import Requires
from master.probe_facts import ProbeSaid, Unreadable

_NOTHING_SAID = Unreadable(reason="has not said yet what it has")
_MANY = 8  # workers whose reasons are told in full


@dataclass(frozen=True, kw_only=True)
class Known:
    """What one worker said. Times are seconds since the epoch, by the master's clock: a worker's may be wrong."""

    said: ProbeSaid | Unreadable
    read_at: float  #: when it was first read
    after: float = 0.0  #: when something else was read last: it was asked of the host after that

    def unknown(self, now: float, stale_after: float) -> str:
        """Why nothing is known of the host; empty when something is."""
        if isinstance(self.said, Unreadable):
            return self.said.reason
        if now - self.read_at > stale_after:
            return f"has said nothing new of what it has for {format_duration(round(now - self.read_at))}"
        return ""


class Hosts:
    """The workers' hosts as the master knows them. Lives as long as the master; the settings may change meanwhile."""

    def __init__(self, clock: Callable[[], float] = lambda: 0.0) -> None:
        self.clock = clock
        self.stale_after = 0.0
        self._known: dict[str, Known] = {}
        self._has: dict[str, Capabilities] = {}
        self._settings: Mapping[str, tuple[str, frozenset[str]]] = {}
        self._answers: dict[str, dict[tuple[Requires, bool], list[str]]] = {}

    def configure(self, workers: Mapping[str, tuple[str, frozenset[str]]], stale_after: float) -> None:
        """``workers``: what the settings say of each, its os and what it provides."""
        self._settings, self.stale_after = dict(workers), stale_after
        known, self._known, self._has, self._answers = self._known, {}, {}, {}
        for name in known.keys() & workers.keys():
            self.note(name, known[name])

    def note(self, name: str, known: Known) -> bool:
        """Remember what a worker said; whether a build may see a difference."""
        before = (self.unknown(name), _coarse(self._has.pop(name, None)))
        self._answers.pop(name, None)
        self._known[name] = known
        if isinstance(known.said, ProbeSaid) and name in self._settings:
            self._has[name] = probe_facts.capabilities(known.said, *self._settings[name])
        return before != (self.unknown(name), _coarse(self._has.get(name)))

    def forget(self, name: str) -> None:
        """It is gone, and may come back as another."""
        self._known.pop(name, None)
        self._has.pop(name, None)
        self._answers.pop(name, None)

    def known(self, name: str) -> Known | None:
        return self._known.get(name)

    def taken(self, name: str) -> float:
        """A time, by the master's clock, after which this worker's host was asked."""
        known = self._known.get(name)
        return known.after if known else 0.0

    def unknown(self, name: str) -> str:
        """Why nothing is known of this worker's host; empty when something is."""
        known = self._known.get(name)
        return known.unknown(self.clock(), self.stale_after) if known else _NOTHING_SAID.reason

    def capabilities(self, name: str) -> Capabilities | None:
        """What it has, where that is known."""
        return None if self.unknown(name) else self._has.get(name)

    def refusals(
        self,
        requires: Requires,
        name: str,
        *,
        lent: Collection[str] = (),
        quarantined: Mapping[str, str] | None = None,
        ever: bool = False,
    ) -> list[str]:
        """Why this worker's host will not do, each to be read after its name; empty when it will.

        ``lent``: GPUs that builds of this master hold, or held since the host was asked: what is in use
        there is theirs.
        ``ever``: leave out what may change by itself, so all that is in use.
        """
        if not requires.of_probe or requires.local:
            return []
        has = self.capabilities(name)
        if has is None:
            return [self.unknown(name) or _NOTHING_SAID.reason]
        if lent or quarantined:
            return refusals(requires, has, lent=lent, quarantined=quarantined, ever=ever)
        known = self._answers.setdefault(name, {})  # asked for every request that waits, under the distributor's lock
        if (requires, ever) not in known:
            known[requires, ever] = refusals(requires, has, ever=ever)
        return known[requires, ever]


def refusals(
    requires: Requires,
    has: Capabilities | str,
    *,
    lent: Collection[str] = (),
    quarantined: Mapping[str, str] | None = None,
    ever: bool = False,
) -> list[str]:
    """As :meth:`Hosts.refusals`; ``has`` is a text where it is not known, and says why."""
    if not requires.of_probe or requires.local:
        return []
    if isinstance(has, str):
        return [has]
    if lent or ever:
        own = tuple(replace(d, memory_free=None) if ever or d.id in lent else d for d in has.devices)
        has = replace(has, devices=own)
    return list(match(wanted(requires), has, quarantined).refusals)


@lru_cache(maxsize=1024)
def wanted(requires: Requires) -> Wanted:
    return Wanted(os=requires.os, tools=(*sorted(requires.tools), *requires.versions), gpu=requires.gpu)


def _coarse(has: Capabilities | None) -> Capabilities | None:
    """With what is free in steps: a desktop's few megabytes are no news."""
    if has is None:
        return None
    steps = tuple(
        replace(d, taken_by=(), memory_free=None if d.memory_free is None else d.memory_free * 16 // GIB)
        for d in has.devices
    )
    return replace(has, devices=steps)


def told(reasons: Mapping[str, Collection[str]]) -> str:
    """The reasons of several workers in one line: ``linux-2 has 6.1 of 8 GiB free; win-1 has no cuda``."""
    said = [f"{name} {', '.join(why)}" for name, why in sorted(reasons.items())]
    return "; ".join(said[:_MANY]) + (f"; and {len(said) - _MANY} more" if len(said) > _MANY else "")


def described(gpu: GpuWanted) -> str:
    """What a stage wants of GPUs, for people: ``2 cuda GPUs, 16 GiB free, compute 8.0``."""
    parts = [f"{gpu.count} {gpu.api} GPUs" if gpu.count > 1 else f"{gpu.api} GPU"]
    if gpu.vendor:
        parts.append(f"of {gpu.vendor}")
    if gpu.min_vram_gib:
        parts.append(f"{gpu.min_vram_gib:g} GiB free")
    if gpu.min_compute:
        parts.append(f"compute {gpu.min_compute}")
    if gpu.min_api:
        parts.append(f"{gpu.api} {gpu.min_api}")
    if gpu.software:
        parts.append("software will do")
    return ", ".join(parts)


def listed(requires: Requires) -> list[str]:
    """All that a stage asks of a worker, for people."""
    gpu = [described(requires.gpu)] if requires.gpu else []
    return [*([requires.os] if requires.os else []), *sorted(requires.tools), *requires.versions, *gpu]
