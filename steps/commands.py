"""``uses = "commands"``: a checkout, the settings' own commands, and their artifacts."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from master.pipeline import Stage
from master.settings import Settings
from steps.command import Command, Frame
from steps.download import download_artifacts
from steps.source import checkout
from steps.upload import upload_artifacts

_LONGEST_NAME = 50  # Buildbot's limit


def build_steps(stage: Stage, variant: str, settings: Settings) -> list[Any]:
    frame = Frame.of(stage, settings)
    own = settings.stages[stage.name]
    frame = frame.with_environment({"MLC_CI_VARIANT": variant}) if variant else frame
    steps: list[Any] = [checkout(frame, submodules=settings.project.submodules)]
    steps += [download_artifacts(frame, wanted) for wanted in own.downloads]
    for command in own.commands:
        argv = command if isinstance(command, str) else list(command)
        steps.append(Command(name=step_name(command), command=argv, **frame.limits()))
    if own.artifacts:
        steps.append(upload_artifacts(frame, own.artifacts))
    return steps


def step_name(command: str | tuple[str, ...]) -> str:
    """What a command is called on the page: the line itself, or the program and its first arguments."""
    words = command.split() if isinstance(command, str) else [PurePath(command[0]).name, *command[1:]]
    name = " ".join(words)
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
