"""A recipe's steps on this machine, in a folder that plays the worker's."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from master import local_command
from master.client import Client
from master.recipe import Recipe
from master.show import files
from steps.build_linux import wheel_problem
from steps.classify import FailureClass, Verdict
from steps.junit import Ended, InvalidReport, parse
from steps.recipe import Fetches, StepRecipe, Text, filled
from workers.download import wanted
from workers.errors import ToolError
from workers.start import WorkerConfig, build_environment

TOOL = "mlc-ci-worker"
UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")  #: what a file's name should not have
_NOT_ACCEPTED = 1  # the exit code where the command itself ended well


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The step that failed here."""

    number: int
    step: StepRecipe
    verdict: Verdict
    exit_code: int
    log: Path | None = None  #: what its command printed


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """Where, and with whom."""

    master: Client
    folder: Path
    screen: BinaryIO  #: what commands print
    say: Callable[[str], None]  #: what we do


def secrets_of(recipe: Recipe) -> dict[str, str]:
    """Variables that the run's commands had besides, and the names of the secrets in them."""
    return {variable: name for step in recipe.steps for variable, name in step.secrets.items()}


def run_steps(recipe: Recipe, place: Workplace) -> Failed | None:
    """Runs them in their order, up to the first that fails."""
    folder = place.folder
    host = environment(recipe, folder)
    values = {"workspace": str(folder)}
    started, said = time.monotonic(), 0
    for number, step in enumerate(recipe.steps, 1):
        told = step.name if step.argv or step.fetches else f"{step.name}: left out"
        place.say(f"== {number}/{len(recipe.steps)} {told}")
        log = folder / "logs" / f"{number:02}-{UNSAFE.sub('-', step.name)}.log"
        if step.fetches and (problem := _fetched(place.master, recipe.run, step.fetches, folder / step.folder)):
            lacks = Verdict(failure_class=FailureClass.CODE, reason=problem)
            return Failed(number=number, step=step, verdict=lacks, exit_code=_NOT_ACCEPTED)
        if not step.argv:
            continue
        command = local_command.Command(
            argv=[filled(word, values) for word in step.argv],
            folder=folder / step.folder,
            environment={**host, **_agent(step), **{n: filled(text, values) for n, text in step.environment.items()}},
            stdin=step.stdin,
            silence_timeout=step.silence_timeout,
            timeout=step.timeout,
            time_left=None if step.timeout is None else max(1.0, step.timeout - (time.monotonic() - started)),
            log=step.log,
            log_left=None if step.log is None else step.log - said,
        )
        ended = local_command.run(command, log=log, screen=place.screen)
        said += log.stat().st_size
        verdict, exit_code = ended.verdict, ended.exit_code
        if verdict is None and (problem := _unaccepted(step, folder / step.folder, values)):
            verdict, exit_code = Verdict(failure_class=FailureClass.CODE, reason=problem), _NOT_ACCEPTED
        if verdict is not None:
            return Failed(number=number, step=step, verdict=verdict, exit_code=exit_code, log=log)
    return None


def _fetched(master: Client, run_id: int, wants: Fetches, checkout: Path) -> str:
    """Fetches artifacts of the run; says which there are not."""
    listed = [
        {**file, "id": file["link"], "stage": stage["name"], "variant": stage["variant"]}
        for stage in master.run(run_id)["stages"]
        for file in files(stage)
    ]
    try:
        found = wanted(listed, wants.stage, wants.globs)
    except ToolError as error:
        return str(error)
    into = (checkout / wants.into).resolve()
    if not into.is_relative_to(checkout):
        return f"{wants.into} leads out of the checkout"
    into.mkdir(parents=True, exist_ok=True)
    for file in found:
        master.fetch(file, into / file["name"])
    return ""


def environment(recipe: Recipe, folder: Path) -> dict[str, str]:
    """What a worker here would give to every command, and the secrets that the caller has set."""
    host = WorkerConfig(
        directory=folder, name="reproduce", host="", port=0, password="", pass_environment=tuple(secrets_of(recipe))
    )
    return build_environment(host, os.environ)


def _agent(step: StepRecipe) -> Mapping[str, str]:
    """The caller's keys, for the checkout alone: it runs nobody's code."""
    agent = os.environ.get("SSH_AUTH_SOCK")
    return {"SSH_AUTH_SOCK": agent} if agent and checks_out(step) else {}


def checks_out(step: StepRecipe) -> bool:
    """Whether this step is the checkout."""
    return any(argv[:2] == (TOOL, "checkout") for argv in nested(step.argv))


def nested(argv: tuple[Text, ...]) -> Iterator[tuple[Text, ...]]:
    """A command, and those that a tool of ours is to run within it."""
    while argv:
        yield argv
        argv = argv[argv.index("--") + 1 :] if argv[0] == TOOL and "--" in argv else ()


def _unaccepted(step: StepRecipe, checkout: Path, values: dict[str, str]) -> str:
    """What the stage finds wrong with a command that ended well; takes the name of the wheel that it left."""
    if step.wheel:
        names = [path.name for path in (checkout / step.wheel.folder).glob("*.whl")]
        if problem := wheel_problem(names, step.wheel.folder, step.wheel.tag, repaired=step.wheel.repaired):
            return problem
        values["wheel"] = names[0]
    if step.tests:
        try:
            cases = parse((checkout / step.tests.report).read_bytes())
        except (OSError, InvalidReport) as error:
            return f"the report of the tests cannot be read: {error}"
        passed = sum(case.ended is Ended.PASSED for case in cases)
        if passed < step.tests.minimum:
            return f"{passed} tests passed, at least {step.tests.minimum} have to"
    return ""
