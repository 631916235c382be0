"""Which stages no configured worker can serve, and which workers no stage can use."""

from __future__ import annotations

from collections.abc import Iterator

from master.durations import format_duration
from master.fleet import eligible
from master.pipeline import EventKind, Requires, Stage
from master.settings_models import Settings
from master.settings_problems import Problem, did_you_mean, listed
from workers.probe.facts import PERIOD

_TRUSTED = frozenset({EventKind.PUSH, EventKind.TAG, EventKind.MANUAL})
_UNTRUSTED = frozenset({EventKind.PULL_REQUEST, EventKind.MANUAL})
_AWAITED = ("docker", "build-windows")  #: hosts for these come later in many a fleet, and ``wait`` says so


def gpu_problems(settings: Settings) -> Iterator[Problem]:
    gpus = settings.gpus
    shortest = PERIOD + gpus.probe_interval
    if gpus.stale_after < shortest:
        message = "a worker probes its host this rarely, and would be taken for unknown in between"
        allowed = f"from {format_duration(shortest)} on (five minutes and probe_interval)"
        yield Problem(key="gpus.stale_after", message=message, found=format_duration(gpus.stale_after), allowed=allowed)


def coverage_problems(settings: Settings, stages: dict[str, Stage]) -> Iterator[Problem]:
    for stage in stages.values():
        if not stage.requires.local:
            yield from _unserved(settings, stage)
    yield from _idle(settings, stages)


def reached_by(stage: Stage) -> list[bool]:
    """The trust of the runs that can reach a stage. A run that is not trusted publishes nothing."""
    trusts = [True] if stage.when & _TRUSTED else []
    return trusts + ([False] if stage.when & _UNTRUSTED and (not stage.publishes or stage.validates) else [])


def _unserved(settings: Settings, stage: Stage) -> Iterator[Problem]:
    """A problem that all variants share is the stage's own."""
    by_requires = dict[Requires, str]()
    for variant in stage.variants:
        by_requires.setdefault(stage.requires_for(variant), variant if variant in stage.variant_requires else "")
    for requires, variant in by_requires.items():
        yield from _unserved_variant(settings, stage, requires, variant)


def _unserved_variant(settings: Settings, stage: Stage, requires: Requires, variant: str) -> Iterator[Problem]:
    """``variant``: the one that asks for this, where that is not the whole stage."""
    workers = settings.workers
    without = [trusted for trusted in reached_by(stage) if not eligible(stage, workers, variant, trusted=trusted)]
    if not without:
        return
    wanted = [_trust(trusted) for trusted in without]
    missing = _missing(settings, requires, without)
    own, scheduling = settings.stages[stage.name], settings.scheduling
    chosen = own.no_worker is not None or "no_worker" in scheduling.model_fields_set
    tolerated = chosen or stage.uses in _AWAITED  # said to be so; else it is a mistake more often than a plan
    outcome = {
        "skip": "it will be skipped",
        "wait": f"it would wait {stage.queue_timeout:g} s and fail",
        "fail": "it would fail",
    }[stage.no_worker]
    yield Problem(
        key=f"stages.{stage.name}.requires" + (f".variants.{variant}" if variant else ""),
        message=f"no {' and no '.join(wanted)} worker can serve stage {stage.name!r}: {outcome}{missing}",
        found=listed([requires.os or "any os", *sorted(requires.tools)]),
        allowed="what one worker of that trust is and provides"
        + ("" if tolerated else ', or no_worker = "wait", "skip" or "fail"'),
        severity="warning" if tolerated else "error",
    )


def _trust(trusted: bool) -> str:
    return "trusted" if trusted else "untrusted"


def _missing(settings: Settings, requires: Requires, without: list[bool]) -> str:
    """What the nearest worker lacks, and whether that looks like a slip of the pen."""
    trusts = {_trust(trusted) for trusted in without}
    fitting = {
        name: worker
        for name, worker in settings.workers.items()
        if worker.trust in trusts and requires.os in (None, worker.os)
    }
    if not fitting:
        return ""
    nearest = min(fitting, key=lambda name: (len(requires.tools - fitting[name].provides), name))
    lacking = sorted(requires.tools - fitting[nearest].provides)
    spare = sorted(fitting[nearest].provides - requires.tools)
    hints = [near for tool in lacking if (near := did_you_mean(tool, spare))]
    return f"; {nearest!r} lacks {listed(lacking)}{hints[0] if hints else ''}"


def _idle(settings: Settings, stages: dict[str, Stage]) -> Iterator[Problem]:
    used: set[str] = set()
    for stage in stages.values():
        for trusted in reached_by(stage):
            for variant in stage.variants:
                used.update(eligible(stage, settings.workers, variant, trusted=trusted))
    for name, worker in settings.workers.items():
        if name not in used:
            yield Problem(
                key=f"workers.{name}",
                message=f"no stage can use worker {name!r}",
                found=listed([worker.trust, worker.os, *sorted(worker.provides)]),
                allowed="what some stage requires (os, tools), in runs of that trust",
                severity="warning",
            )
