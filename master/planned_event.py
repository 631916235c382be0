"""The event that ``mlc-ci plan`` is asked about: from a webhook's payload, or made up from what the caller says."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from master.errors import UserError
from master.github.payloads import Closed, Dispatched, Meaning, Meaningless, Ordered, meaning, repository_of
from master.pipeline import EventKind
from master.settings import Settings
from master.triggers import Event, Ignored, InvalidEvent

_SOME_COMMIT = "1" * 40
_WRITTEN_BY_PEOPLE = ("issue_comment", "repository_dispatch")


class NoSuchEvent(UserError):
    """The payload cannot be read, or is for another event."""


def planned_event(
    settings: Settings,
    name: str,
    *,
    payload: Path | None = None,
    ref: str = "",
    stages: Sequence[str] | None = None,
    publish: bool = False,
    changed: Sequence[str] | None = None,
) -> Event | Ignored:
    """The event to plan for, or why the payload asks for no run.

    Args:
        name: with a payload, GitHub's name of the event (or ``tag``: a push that must be one); else the kind.

    Raises:
        NoSuchEvent: with what is wrong.
    """
    if unknown := sorted(set(stages or ()) - set(settings.stages)):
        raise NoSuchEvent(f"no stage is called {', '.join(unknown)}", f"there are {', '.join(settings.stages)}")
    if name != EventKind.MANUAL and (stages or publish):
        raise NoSuchEvent("only a manual run chooses its stages and whether it publishes", "say --event manual")
    event = _told(settings, name, payload) if payload else _made_up(settings, _kind(name), ref)
    if changed and isinstance(event, Event):
        event = replace(event, changed_files=tuple(changed))
    if name == EventKind.MANUAL and isinstance(event, Event):
        event = replace(event, stages=tuple(stages) if stages else None, publish=publish)
    return event


def _kind(name: str) -> EventKind:
    try:
        return EventKind(name)
    except ValueError:
        raise NoSuchEvent(
            f"without a payload there is no event {name!r}", f"there are {', '.join(EventKind)}; or say --payload"
        ) from None


def _told(settings: Settings, name: str, payload: Path) -> Event | Ignored:
    if name == EventKind.MANUAL:
        raise NoSuchEvent("GitHub calls a manual run repository_dispatch", "say --event repository_dispatch, or --ref")
    try:
        data = json.loads(sys.stdin.read() if str(payload) == "-" else payload.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise NoSuchEvent(f"{payload} is no readable JSON: {error}") from None
    github_name = "push" if name == EventKind.TAG else name
    try:
        wanted = meaning(github_name, data, settings)
    except InvalidEvent as error:
        if github_name in _WRITTEN_BY_PEOPLE:
            return Ignored(f"refused: {error}")
        raise NoSuchEvent(f"{payload} is no {github_name} payload: {error}") from None
    if settings.github and (about := repository_of(data)) and about.lower() not in settings.github.repositories:
        return Ignored(f"it is about {about}, which [github] repository and formerly do not name")
    event = _event(settings, wanted)
    if name == EventKind.TAG and isinstance(event, Event) and event.kind is not EventKind.TAG:
        raise NoSuchEvent(f"{payload} is a {event.kind} event, and --event says {name}")
    return event


def _event(settings: Settings, wanted: Meaning) -> Event | Ignored:
    match wanted:
        case Meaningless():
            return Ignored(wanted.reason)
        case Closed():
            return Ignored(f"what runs for pull request {wanted.number} would be cancelled")
        case Ordered():
            return Ignored(f"an order to the run of pull request {wanted.command.pull}: {wanted.command}")
        case Dispatched():
            made_up = _made_up(settings, EventKind.MANUAL, wanted.ref)
            return replace(made_up, stages=wanted.stages, threads=wanted.threads, publish=wanted.publish)
        case _:
            return wanted.event


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
