"""The event that ``mlc-ci plan`` is asked about: from a webhook's payload, or made up from what the caller says."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from master import triggers
from master.errors import UserError
from master.pipeline import EventKind
from master.settings import Settings
from master.triggers import Event, Ignored, InvalidEvent

_SOME_COMMIT = "1" * 40
_GITHUB = {EventKind.PUSH: "push", EventKind.TAG: "push", EventKind.PULL_REQUEST: "pull_request"}


class NoSuchEvent(UserError):
    """The payload cannot be read, or is for another event."""


def planned_event(
    settings: Settings,
    kind: EventKind,
    *,
    payload: Path | None = None,
    ref: str = "",
    stages: Sequence[str] | None = None,
    publish: bool = False,
    changed: Sequence[str] | None = None,
) -> Event:
    """The event to plan for.

    Raises:
        NoSuchEvent: with what is wrong.
    """
    if unknown := sorted(set(stages or ()) - set(settings.stages)):
        raise NoSuchEvent(f"no stage is called {', '.join(unknown)}", f"there are {', '.join(settings.stages)}")
    if kind is not EventKind.MANUAL and (stages or publish):
        raise NoSuchEvent("only a manual run chooses its stages and whether it publishes", "say --event manual")
    event = _told(kind, payload) if payload else _made_up(settings, kind, ref)
    if changed:
        event = replace(event, changed_files=tuple(changed))
    if kind is EventKind.MANUAL:
        event = replace(event, stages=tuple(stages) if stages else None, publish=publish)
    return event


def _told(kind: EventKind, payload: Path) -> Event:
    if kind not in _GITHUB:
        raise NoSuchEvent("GitHub sends no payload for a manual run", "say --ref instead")
    try:
        data = json.loads(sys.stdin.read() if str(payload) == "-" else payload.read_text())
    except (OSError, ValueError) as error:
        raise NoSuchEvent(f"{payload} is no readable JSON: {error}") from None
    try:
        event = triggers.from_github(_GITHUB[kind], data)
    except InvalidEvent as error:
        raise NoSuchEvent(f"{payload} is no {_GITHUB[kind]} payload: {error}") from None
    if isinstance(event, Ignored):
        raise NoSuchEvent(f"{payload}: {event.reason}")
    if event.kind is not kind:
        raise NoSuchEvent(f"{payload} is a {event.kind} event, and --event says {kind}")
    return event


def _made_up(settings: Settings, kind: EventKind, ref: str) -> Event:
    project = settings.project
    default = {
        EventKind.PUSH: f"refs/heads/{project.default_branch}",
        EventKind.MANUAL: f"refs/heads/{project.default_branch}",
        EventKind.TAG: "refs/tags/" + project.tag_pattern.replace("*", "1.0.0"),
        EventKind.PULL_REQUEST: "refs/pull/1/head",
    }[kind]
    where = ref or default
    if not where.startswith("refs/"):
        where = ("refs/tags/" if kind is EventKind.TAG else "refs/heads/") + where
    number = int(where.split("/")[2]) if kind is EventKind.PULL_REQUEST and where.split("/")[2].isdigit() else 0
    return Event(kind=kind, ref=where, head=_SOME_COMMIT, pull_request=number)
