"""What would run for an event, and why not: :func:`master.decisions.decide` played forward on an all-green run.

The plan and the run are the same functions, so what ``mlc-ci plan`` says is what happens, as long as nothing
fails and the workers are there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from buildbot.process.properties import Properties
from pydantic import TypeAdapter

import steps
from master import triggers
from master.builders import unavailable
from master.capabilities import Capabilities
from master.decisions import decide
from master.fleet import ConfiguredFleet, eligible
from master.pipeline import Requires, Stage, State
from master.routing import refusals, told
from master.run_model import Attempt, Create, End, Enqueue, Settle, Wait
from master.scheduler import rules_of
from master.settings import Settings
from master.triggers import Event, Ignored, RunRequest
from steps.command import Frame

_NOW = 1.0


@dataclass(frozen=True, kw_only=True)
class LiveWorker:
    """A worker as a running master knows it."""

    connected: bool
    has: Capabilities | str  #: what its host has, or why that is not known
    lent: frozenset[str] = frozenset()  #: GPUs that builds hold


def live_workers(workers: Sequence[Mapping[str, Any]]) -> dict[str, LiveWorker]:
    """From the master's API (``workers``)."""
    found = {}
    for worker in workers:
        has = {**worker, "provides": frozenset(worker["provides"])}
        known = {field: has[field] for field in ("os", "provides", "tools", "devices", "broken")}
        found[worker["name"]] = LiveWorker(
            connected=worker["connected"] or bool(worker.get("container")),
            has=worker["unknown"] or TypeAdapter(Capabilities).validate_python(known),
            lent=frozenset(lease["gpu"] for lease in worker["leases"]),
        )
    return found


@dataclass(frozen=True, kw_only=True)
class PlannedStage:
    """One variant of a stage: what becomes of it, and what it would need and see."""

    stage: str
    variant: str
    what: str  #: run, skip, blocked, wait or fail
    reason: str
    workers: tuple[str, ...]
    requires: Requires
    environment: Mapping[str, str]
    secrets: tuple[str, ...]
    permissions: Mapping[str, str]
    artifacts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an event asks for: a run with these stages, or nothing (``ignored`` says why)."""

    event: Event | None
    ignored: str = ""
    trusted: bool = False
    publish: bool = False
    held: str = ""  #: why nothing starts before a maintainer has approved it; ``stages`` are what would run then
    stages: tuple[PlannedStage, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "event": self.event.kind.value if self.event else None,
            "ref": self.event.ref if self.event else None,
            "head": self.event.head if self.event else None,
            "ignored": self.ignored,
            "trusted": self.trusted,
            "publish": self.publish,
            "held": self.held,
            "stages": [_as_json(stage) for stage in self.stages],
        }


def _as_json(stage: PlannedStage) -> dict[str, Any]:
    told = {key: value for key, value in vars(stage).items() if key != "requires"}
    gpu = stage.requires.gpu
    return {
        **told,
        "os": stage.requires.os or "",
        "tools": [*sorted(stage.requires.tools), *stage.requires.versions],
        "gpu": gpu.model_dump(exclude_defaults=True) if gpu else None,
    }


def plan(settings: Settings, event: Event | Ignored) -> Plan:
    """What would become of the event.

    Raises:
        InvalidEvent: it is none.
    """
    if isinstance(event, Ignored):
        return Plan(event=None, ignored=event.reason)
    request = triggers.classify(event, rules_of(settings))
    if isinstance(request, Ignored):
        return Plan(event=event, ignored=request.reason)
    fleet = ConfiguredFleet(settings.workers, unavailable)
    settled = _play(settings, request, fleet)
    pipeline = settings.pipeline()
    rank = {name: place for place, name in enumerate(pipeline.names())}
    return Plan(
        event=event,
        trusted=request.context.trusted,
        publish=request.context.publish,
        held=request.context.held,
        stages=tuple(
            _planned(settings, request, pipeline[a.slot.stage], a)
            for a in sorted(settled, key=lambda a: (rank[a.slot.stage], a.slot))
        ),
    )


def _play(settings: Settings, request: RunRequest, fleet: ConfiguredFleet) -> list[Attempt]:
    """The attempts of the run, once it is approved, as they stand when it ends or when nothing more can happen."""
    pipeline = settings.pipeline()
    attempts: dict[Any, Attempt] = {}
    approved = replace(request.context, held="")
    while True:
        actions = decide(pipeline, approved, list(attempts.values()), fleet, _NOW)
        if not actions or any(isinstance(action, End) for action in actions):
            return list(attempts.values())
        for action in actions:
            match action:
                case Create():
                    attempts[action.slot] = Attempt(slot=action.slot, state=State.PENDING)
                case Enqueue():
                    attempts[action.slot] = replace(attempts[action.slot], state=State.SUCCESS)
                case Settle():
                    attempts[action.slot] = replace(attempts[action.slot], state=action.state, reason=action.reason)
                case Wait():
                    waiting = replace(attempts[action.slot], waiting_since=_NOW, reason=action.reason)
                    attempts[action.slot] = waiting


_WHAT = {
    State.SUCCESS: "run",
    State.SKIPPED: "skip",
    State.BLOCKED: "blocked",
    State.INFRASTRUCTURE: "fail",
    State.PENDING: "wait",
}


def _planned(settings: Settings, request: RunRequest, stage: Stage, attempt: Attempt) -> PlannedStage:
    runs = attempt.state is State.SUCCESS
    return PlannedStage(
        stage=stage.name,
        variant=attempt.slot.variant,
        what=_WHAT[attempt.state],
        reason=attempt.reason,
        workers=tuple(
            eligible(stage, settings.workers, attempt.slot.variant, trusted=request.context.trusted) if runs else ()
        ),
        requires=stage.requires_for(attempt.slot.variant),
        environment=_environment(settings, request, stage) if runs else {},
        secrets=stage.secrets if runs and request.context.trusted else (),
        permissions=dict(stage.permissions) if runs and request.context.trusted else {},
        artifacts=_artifacts(settings, request, stage) if runs else (),
    )


def _environment(settings: Settings, request: RunRequest, stage: Stage) -> dict[str, str]:
    if stage.uses not in steps.AVAILABLE:
        return {}
    limits = settings.threads
    properties = Properties(
        threads=triggers.threads(request, pull_request=limits.pull_request, other=limits.other),
        builddir="<workspace>",
    )
    return Frame.of(stage, settings).environment.plain(properties)


def _artifacts(settings: Settings, request: RunRequest, stage: Stage) -> tuple[str, ...]:
    own = settings.stages[stage.name]
    match stage.uses:
        case "release" if own.target.kind == "github" and settings.github:
            return (f"{settings.github.web}/{settings.github.repository}/releases/tag/{request.tag}",)
        case "release":
            return (f"{own.target.folder}/{request.tag}/",)
        case "docker" if own.image:
            return (own.image.name,) if request.context.publish else ()
        case "build-linux":
            return ("wheelhouse/*.whl", "wheelhouse/*.manifest.json")
        case _:
            return tuple(own.artifacts)


def waiting(stage: PlannedStage, fleet: Mapping[str, LiveWorker]) -> str:
    """Which live worker would take it, or why it would wait."""
    there = {name: fleet[name] for name in stage.workers if name in fleet and fleet[name].connected}
    against = {name: refusals(stage.requires, worker.has, lent=worker.lent) for name, worker in there.items()}
    fitting = [name for name, why in against.items() if not why]
    if fitting:
        return f"on {' or '.join(fitting)}"
    if there:
        return f"waits: {told(against)}"
    return f"waits: {', '.join(stage.workers)} not connected" if stage.workers else "in the master"
