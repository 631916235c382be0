"""One builder for each variant of each stage that some configured worker can serve."""

from __future__ import annotations

from functools import partial
from typing import Any

from buildbot.config import BuilderConfig
from buildbot.process.factory import BuildFactory

import steps
from master.artifacts.stores import store_of
from master.build import ResumableBuild
from master.fleet import eligible, least_busy
from master.gate import Gate
from master.github.access import Access
from master.github.releases import GitHubTarget
from master.pipeline import Pipeline, Stage
from master.places import Places
from master.releases import FolderTarget, ReleaseTarget
from master.settings import Settings
from master.settings_stages import IN_MASTER, TargetSettings
from master.workers import LOCAL
from steps.release import PublishRelease
from steps.summary import Summarise


def unavailable(stage: Stage) -> str:
    """Why this version has no steps for the stage; empty when it has."""
    if stage.uses in IN_MASTER or stage.uses in steps.AVAILABLE:
        return ""
    return f"this version of mlc-ci has no steps for {stage.uses} yet"


def configured_builders(settings: Settings, gate: Gate, places: Places, access: Access | None) -> list[BuilderConfig]:
    """The builders. A stage that no worker can serve has none: the scheduler settles it."""
    pipeline = settings.pipeline()
    found = []
    for stage in pipeline.stages:
        for variant in stage.variants:
            workers = [LOCAL] if stage.requires.local else eligible(stage, settings.workers, variant)
            if not workers or unavailable(stage):
                continue
            gate.serving[stage.builder(variant)] = frozenset(workers)
            found.append(
                BuilderConfig(
                    name=stage.builder(variant),
                    description=f"the {stage.name} stage" + (f", variant {variant}" if variant else ""),
                    workernames=workers,
                    factory=_factory(_steps(stage, variant, pipeline, settings, places, access), gate),
                    tags=[stage.name],
                    nextWorker=least_busy,
                    canStartBuild=gate.can_start,
                    collapseRequests=False,
                )
            )
    return found


def _factory(steps_of_build: list[Any], gate: Gate) -> BuildFactory:
    factory = BuildFactory(steps_of_build)
    factory.buildClass = partial(ResumableBuild, gate=gate)
    return factory


def _steps(
    stage: Stage, variant: str, pipeline: Pipeline, settings: Settings, places: Places, access: Access | None
) -> list[Any]:
    if stage.uses == "summary":
        tolerated = [stage.name for stage in pipeline.stages if stage.continue_on_error]
        return [Summarise(order=pipeline.names(), tolerated=tolerated, url=places.url)]
    if stage.uses == "release":
        target = settings.stages[stage.name].target or TargetSettings()
        step = PublishRelease(
            target=_target(target, places, access),
            needs=stage.needs,
            builds=[s.name for s in pipeline.stages if s.uses.startswith("build-") or s.name in stage.needs],
            project=settings.project.name,
            store=store_of(settings, places.basedir),
            manifests=target.manifests,
            template=places.basedir / target.notes if target.notes else None,
        )
        return [step]
    return steps.build_steps(stage, variant, settings)


def _target(target: TargetSettings, places: Places, access: Access | None) -> ReleaseTarget:
    if target.kind == "folder":
        return FolderTarget(places.basedir / target.folder)
    if access is None:
        raise ValueError("a release on GitHub needs [github] access")  # mlc-ci check says so first
    return GitHubTarget(access)
