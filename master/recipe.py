"""How to do a stage of a run again elsewhere: its steps from this master's own builders, and how it went here."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from master.database import failures
from master.database.failures import Failure, StepLog
from master.database.records import AttemptRow, RunRow
from master.handover import build_properties
from master.pipeline import Pipeline, Stage
from master.versions import ours
from steps.recipe import StepRecipe, Text, rendered

_HEADER_LINES = 8  # of a command's log: its argv is among them
_NUMBERED = re.compile(r"_\d+$")  # Buildbot's way to tell steps of one name apart
_ARGV = re.compile(r"h argv: (.+)")


class NoRecipe(Exception):
    """There is nothing to do again; the message says why, and what there is."""


@dataclass(frozen=True)
class Wanted:
    """A stage and a variant of it; ``None`` is the only one that there is."""

    stage: str
    variant: str | None = None


class Pinned(BaseModel):
    """What a run is about, and what does not change however often it is run again."""

    model_config = ConfigDict(frozen=True)

    event: str
    acts_as: str
    ref: str
    head_sha: str
    base_sha: str  #: merged with the head; empty unless a pull request
    pull_request: int
    tag: str
    trusted: bool
    threads: int
    repository: str


class RunFailure(BaseModel):
    """How the stage failed in the run."""

    model_config = ConfigDict(frozen=True)

    failure_class: str
    reason: str
    step: str


class Recipe(BaseModel):
    """A stage of a run, to be done again."""

    model_config = ConfigDict(frozen=True)

    run: int
    stage: str
    variant: str
    attempt: int
    state: str
    pinned: Pinned
    os: str  #: what its workers run; empty: any
    version: str  #: of the master's mlc-ci; empty where it is not installed as a package
    steps: tuple[StepRecipe, ...]
    failure: RunFailure | None
    changed: tuple[str, ...]  #: steps that are not what the run executed, for the settings have changed since

    @property
    def title(self) -> str:
        return f"{self.stage} ({self.variant})" if self.variant else self.stage


async def recipe(
    master: Any, pipeline: Pipeline, repository: str, run: RunRow, attempts: Sequence[AttemptRow], wanted: Wanted
) -> Recipe:
    """The recipe of what is wanted of a run.

    Args:
        attempts: all of the run.

    Raises:
        NoRecipe: no such stage in the run, or none that runs commands.
    """
    attempt = _newest(run, attempts, wanted)
    if attempt.stage not in pipeline:
        raise NoRecipe(
            f"stage {attempt.stage} is no longer in the pipeline: the settings have changed since run {run.id}"
        )
    stage = pipeline[attempt.stage]
    properties = build_properties(run, attempt, repository)
    steps = await rendered(_steps(master, stage, attempt.variant), properties)
    if not any(step.argv for step in steps):
        raise NoRecipe(f"stage {stage.name} runs in the master itself: it has no commands to run elsewhere")
    failure, logs = None, list[StepLog]()
    if attempt.build_id is not None:
        failure, logs = await master.db.pool.do(failures.of_build, attempt.build_id)
    return Recipe(
        run=run.id,
        stage=attempt.stage,
        variant=attempt.variant,
        attempt=attempt.number,
        state=attempt.state.value,
        pinned=Pinned.model_validate(properties),
        os=stage.requires.os or "",
        version=ours().get("mlc_ci", ""),
        steps=tuple(steps),
        failure=_failure(failure, attempt),
        changed=tuple(await _changed(master, steps, logs)),
    )


def _newest(run: RunRow, attempts: Sequence[AttemptRow], wanted: Wanted) -> AttemptRow:
    """The newest attempt that had a build, else the newest."""
    stages = sorted({attempt.stage for attempt in attempts})
    if wanted.stage not in stages:
        raise NoRecipe(f"run {run.id} has no stage {wanted.stage}; it has {', '.join(stages) or 'none yet'}")
    of_stage = [attempt for attempt in attempts if attempt.stage == wanted.stage]
    variants = sorted({attempt.variant for attempt in of_stage})
    if wanted.variant is None and len(variants) > 1:
        raise NoRecipe(f"stage {wanted.stage} has the variants {', '.join(variants)}: say which")
    variant = variants[0] if wanted.variant is None else wanted.variant
    found = [attempt for attempt in of_stage if attempt.variant == variant]
    if not found:
        there = f"it has {', '.join(variants)}" if any(variants) else "it has none"
        raise NoRecipe(f"stage {wanted.stage} of run {run.id} has no variant {variant}: {there}")
    return max(found, key=lambda attempt: (attempt.build_id is not None, attempt.number))


def _steps(master: Any, stage: Stage, variant: str) -> list[Any]:
    """The steps that this master's own builder gives to each of its builds."""
    name = stage.builder(variant)
    for builder in master.config.builders:
        if builder.name == name:
            return [factory.buildStep() for factory in builder.factory.steps]
    raise NoRecipe(f"this master has no builder {name}: none of its workers can serve stage {stage.name}")


def _failure(failure: Failure | None, attempt: AttemptRow) -> RunFailure | None:
    if failure is None:
        return None
    return RunFailure(
        failure_class=failure.failure_class,
        reason=failure.reason or attempt.reason,
        step=failure.log.step if failure.log else "",
    )


async def _changed(master: Any, steps: Sequence[StepRecipe], logs: Sequence[StepLog]) -> list[str]:
    """What the run executed otherwise than the steps would now, by the command lines in its logs."""
    found = []
    silent = {step.name for step in steps if not step.argv}
    now = [step for step in steps if step.argv]
    silent -= {step.name for step in now}
    then = [log for log in logs if log.slug == "stdio" and not {log.step, _NUMBERED.sub("", log.step)} & silent]
    for step, log in zip(now, then, strict=False):
        ran = await _argv(master, log)
        if ran and not _fits(step.argv, ran):
            found.append(f"step {step.name} was {log.step}: {' '.join(ran)}")
    return found


async def _argv(master: Any, log: StepLog) -> list[str]:
    """What a step ran, as the worker noted it on top of the log; empty where that cannot be read."""
    if log.deleted or not log.lines:
        return []
    chunk = await master.data.get(("logs", str(log.log_id), "contents"), offset=0, limit=_HEADER_LINES)
    noted = next(filter(None, map(_ARGV.fullmatch, chunk["content"].split("\n"))), None)
    try:
        words = ast.literal_eval(noted[1]) if noted else []
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return []
    if isinstance(words, str | bytes):
        words = ["/bin/sh", "-c", words]
    return [word.decode(errors="replace") if isinstance(word, bytes) else str(word) for word in words]


def _fits(argv: Sequence[Text], ran: Sequence[str]) -> bool:
    if len(argv) != len(ran):
        return False
    return all(re.fullmatch(_pattern(text), word, re.DOTALL) for text, word in zip(argv, ran, strict=True))


def _pattern(text: Text) -> str:
    if isinstance(text, str):
        return re.escape(text)
    return "".join(re.escape(part) if isinstance(part, str) else ".+" for part in text)
