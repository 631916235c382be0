"""A stage's steps as data: what a build would run, for somebody who runs it elsewhere (``mlc-ci reproduce``).

The steps are the very ones that a build gets, rendered with the run's properties. Two things only a build knows: the
folder that it works in, and the names of the wheels that it has built. They stay holes, to be filled in on the way. No
secret is ever rendered here: they are told by name.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

from buildbot.process.factory import BuildFactory
from buildbot.process.properties import Properties
from buildbot.util import flatten
from pydantic import BaseModel, ConfigDict

from master.settings_tokens import VARIABLE
from steps.build_linux import WheelCommand
from steps.command import Command, StageEnvironment, limited, variable_of
from steps.devices import NONE
from steps.docker import RegistryCommand
from steps.download import DownloadArtifacts
from steps.gpu import CheckGpus
from steps.test import REPORT, Pytest
from steps.upload import StoreCommand


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class Hole(_Model):
    """A place for what is only known on the way."""

    value: Literal["workspace", "wheel"]


Text = str | tuple[str | Hole, ...]  #: a text, or its parts where there are holes in it


class LeavesWheel(_Model):
    """A command that must leave one wheel in a folder of the checkout; its name is the value ``wheel`` from then on."""

    folder: str
    repaired: bool
    tag: str  #: whose version it must have; empty: any


class PassesTests(_Model):
    """A command whose JUnit report must tell of so many tests that passed."""

    report: str
    minimum: int


class Fetches(_Model):
    """What an earlier stage of the run has left, wanted in a folder of the checkout."""

    stage: str
    globs: tuple[str, ...]
    into: str


class StepRecipe(_Model):
    """One step. ``argv`` is empty for a step that only a build can do. Times are in seconds, sizes in bytes."""

    name: str
    argv: tuple[Text, ...] = ()
    folder: str = ""  #: where it runs, below the workspace
    environment: dict[str, Text] = {}
    stdin: str = ""
    silence_timeout: float | None = None
    timeout: float | None = None  #: of the whole stage
    log: int | None = None  #: how much the whole stage may say
    secrets: dict[str, str] = {}  #: that a trusted run's command has besides: variable -> name of the secret
    wheel: LeavesWheel | None = None
    tests: PassesTests | None = None
    fetches: Fetches | None = None


async def rendered(steps: Iterable[Any], properties: Mapping[str, Any]) -> list[StepRecipe]:
    """Steps of Buildbot, not started, as a build with these properties would run them."""
    marks = {name: f"<{name} {secrets.token_hex(16)}>" for name in ("workspace", "wheel")}
    known = Properties()
    known.update(dict(properties), "recipe")
    known.setProperty("builddir", marks["workspace"], "recipe")
    found = []
    theirs: Collection[str] = ()  # variables that name what another machine has
    for step in steps:
        if isinstance(step, CheckGpus):
            theirs = NONE
            found.append(StepRecipe(name=step.name))  # the devices are the build's
            continue
        found.append(await _rendered(step, known, marks, theirs))
        if isinstance(step, WheelCommand):
            known.setProperty("wheel", marks["wheel"], "recipe")
    return found


async def _rendered(step: Any, known: Properties, marks: Mapping[str, str], theirs: Collection[str]) -> StepRecipe:
    if isinstance(step, DownloadArtifacts):
        fetches = Fetches(stage=step.stage, globs=tuple(step.globs), into=step.into)
        return StepRecipe(name=step.name, folder=step.workdir or BuildFactory.workdir, fetches=fetches)
    if not isinstance(step, Command) or isinstance(step, StoreCommand | RegistryCommand):  # open to builds alone
        return StepRecipe(name=step.name)
    environment = step.env
    if not isinstance(environment, StageEnvironment):
        raise TypeError(f"step {step.name} has an environment that may hold secrets: {type(environment).__name__}")
    command = limited(await known.render(step.command), step.bounds, step.watched)
    argv = ["/bin/sh", "-c", command] if isinstance(command, str) else flatten(command, (list, tuple))
    wheel = None
    if isinstance(step, WheelCommand):
        wheel = LeavesWheel(folder=step.folder, repaired=step.repaired, tag=step.wanted_tag(known))
    trusted = known.getProperty("trusted") is True
    hidden = {variable_of(name): name for name in environment.secrets} if trusted else {}
    if environment.token and trusted:
        hidden[VARIABLE] = environment.token.secret
    return StepRecipe(
        name=step.name,
        argv=tuple(_text(str(word), marks) for word in argv),
        folder=step.workdir or BuildFactory.workdir,
        environment={name: _text(text, marks) for name, text in environment.plain(known).items() if name not in theirs},
        stdin=step.initialStdin or "",
        silence_timeout=step.timeout,
        timeout=step.maxTime,
        log=step.bounds.log,
        secrets=hidden,
        wheel=wheel,
        tests=PassesTests(report=REPORT, minimum=step.minimum) if isinstance(step, Pytest) else None,
    )


def _text(text: str, marks: Mapping[str, str]) -> Text:
    names = {mark: name for name, mark in marks.items()}
    pieces = [piece for piece in re.split("(" + "|".join(map(re.escape, names)) + ")", text) if piece]
    if not any(piece in names for piece in pieces):
        return text
    return tuple(Hole.model_validate({"value": names[piece]}) if piece in names else piece for piece in pieces)


def filled(text: Text, values: Mapping[str, str]) -> str:
    """The text with its holes filled. Raises :class:`KeyError` for a value that is not known yet."""
    if isinstance(text, str):
        return text
    return "".join(part if isinstance(part, str) else values[part.value] for part in text)
