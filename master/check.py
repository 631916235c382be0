"""Whether settings that are well typed also make sense together: ``mlc-ci check``.

Each failure names the two things that disagree. Errors are what would make a run wrong or stop it for good;
warnings are what nobody would write on purpose.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from master.check_containers import container_problems
from master.check_fleet import coverage_problems, gpu_problems
from master.check_github import github_problems
from master.check_stage import stage_problems
from master.check_wire import artifact_problems, wire_problems
from master.pipeline import EventKind, Stage, graph_problems
from master.settings_models import Settings
from master.settings_problems import Problem, did_you_mean, listed
from master.settings_secrets import inline_secrets
from master.settings_types import IDENTIFIER

LONGEST_BUILDER = 64  #: characters, as our tables hold a stage or a variant; Buildbot's own limit is 70
LONGEST_WORKER = 50
_NAMES = "a letter, then letters, digits, - and _"


def check(settings: Settings, *, coverage: bool = True) -> list[Problem]:
    """Everything that is wrong with the settings; without ``coverage``, all but which worker serves which stage."""
    stages = {name: settings.stage(name) for name in settings.stages}
    problems = [
        *_names(settings, stages),
        *(problem for name in stages for problem in stage_problems(settings, stages[name])),
        *_graph(stages),
        *_starved(stages),
        *wire_problems(settings.master),
        *artifact_problems(settings.artifacts, settings.master),
        *_threads(settings),
        *github_problems(settings),
        *gpu_problems(settings),
        *container_problems(settings),
        *inline_secrets(settings.model_dump(mode="json")),
    ]
    return problems + (list(coverage_problems(settings, stages)) if coverage else [])


def rendered(file: str, problems: list[Problem], settings: Settings | None) -> str:
    """What ``mlc-ci check`` prints."""
    errors = sum(problem.severity == "error" for problem in problems)
    counts = f"{_count(errors, 'error')}, {_count(len(problems) - errors, 'warning')}"
    lines = [str(problem) for problem in sorted(problems, key=lambda problem: problem.severity)]
    if settings is None:
        return "\n".join([*lines, f"{file}: {counts}"])
    builders = sum(len(stage.variants) for stage in settings.pipeline().stages)
    sizes = f"{_count(len(settings.stages), 'stage')}, {_count(builders, 'builder')}"
    sizes += f", {_count(len(settings.workers), 'worker')}"
    return "\n".join([*lines, f"{file}: usable: {sizes}; {counts}"])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _names(settings: Settings, stages: dict[str, Stage]) -> Iterator[Problem]:
    for name in settings.workers:
        if not IDENTIFIER.fullmatch(name) or len(name) > LONGEST_WORKER:
            allowed = f"{_NAMES}; at most {LONGEST_WORKER} characters"
            yield Problem(key=f"workers.{name}", message="is no name for a worker", found=name, allowed=allowed)
    for name, stage in stages.items():
        for variant in stage.variants:
            builder = stage.builder(variant)
            if not IDENTIFIER.fullmatch(builder) or len(builder) > LONGEST_BUILDER:
                key = f"stages.{name}.variants" if variant else f"stages.{name}"
                allowed = f"{_NAMES}; at most {LONGEST_BUILDER} characters, variant and hyphen included"
                yield Problem(key=key, message="makes no name for a builder", found=builder, allowed=allowed)
        if twice := sorted({v for v in stage.variants if stage.variants.count(v) > 1}):
            yield Problem(key=f"stages.{name}.variants", message="names a variant twice", found=listed(twice))


def _graph(stages: dict[str, Stage]) -> Iterator[Problem]:
    for name, stage in stages.items():
        for need in stage.needs:
            if need not in stages:
                others = sorted(stages.keys() - {name})
                message = f"stage {name!r} needs {need!r}, which is no stage{did_you_mean(need, others)}"
                yield Problem(key=f"stages.{name}.needs", message=message, found=need, allowed=listed(others))
    known = [replace(stage, needs=tuple(n for n in stage.needs if n in stages)) for stage in stages.values()]
    for problem in graph_problems(known):
        yield Problem(key="stages", message=problem)


def _starved(stages: dict[str, Stage]) -> Iterator[Problem]:
    """Stages that some event starts and a need of theirs never does: it would block them each time."""
    for name, stage in stages.items():
        for need in (stages[need] for need in stage.needs if need in stages and not stage.always):
            missing = stage.when - need.when - {EventKind.MANUAL}
            if missing and not need.continue_on_error:
                kinds = listed(sorted(missing))
                message = f"for {kinds}, {need.name!r} is always skipped and so {name!r} always blocked"
                allowed = f"what stages.{need.name}.when has: {listed(sorted(need.when))}"
                found = listed(sorted(stage.when))
                key = f"stages.{name}.when"
                yield Problem(key=key, message=message, found=found, allowed=allowed, severity="warning")


def _threads(settings: Settings) -> Iterator[Problem]:
    tables = {"environment": settings.environment}
    tables |= {f"stages.{name}.environment": stage.environment for name, stage in settings.stages.items()}
    for key, table in tables.items():
        if "NUM_THREADS" in table:
            allowed = "threads.pull_request and threads.other"
            message = "NUM_THREADS follows the table threads"
            yield Problem(key=f"{key}.NUM_THREADS", message=message, found=table["NUM_THREADS"], allowed=allowed)
