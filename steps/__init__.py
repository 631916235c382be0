"""What a build of each stage does on its worker: one module per ``uses``, and what they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from master.pipeline import Stage
from master.settings import Settings
from steps import build_linux, commands, docker, test
from steps.command import Frame
from steps.gpu import check_gpus

_BUILDERS: Mapping[str, Callable[[Stage, str, Settings], list[Any]]] = {
    "test": test.build_steps,
    "build-linux": build_linux.build_steps,
    "commands": commands.build_steps,
    "docker": docker.build_steps,
}

AVAILABLE = frozenset(_BUILDERS)  #: what :func:`build_steps` knows


class UnavailableStage(Exception):
    """No steps are known for what a stage uses: it is served by no worker."""


def build_steps(stage: Stage, variant: str, settings: Settings) -> list[Any]:
    """The Buildbot steps of one stage and variant.

    ``release`` and ``summary`` are the master's own. Raises :class:`UnavailableStage`.
    """
    try:
        build = _BUILDERS[stage.uses]
    except KeyError:
        raise UnavailableStage(f"stage {stage.name} uses {stage.uses!r}, which no worker can do yet") from None
    steps_of = build(stage, variant, settings)
    if stage.requires_for(variant).gpu:
        return [check_gpus(Frame.of(stage, settings)), *steps_of]
    return steps_of
