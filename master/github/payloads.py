"""What a GitHub webhook's payload means here. Pure, so that ``mlc-ci plan`` answers with what the master does.

Source: https://docs.github.com/webhooks/webhook-events-and-payloads
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from master.github import commands
from master.github.commands import Approve, Command, NotUnderstood
from master.github.vouching import association_of
from master.pipeline import EventKind
from master.settings import Settings
from master.triggers import NO_SHA, Event, InvalidEvent

T = TypeVar("T")

ACTED_UPON = ("push", "pull_request", "issue_comment", "repository_dispatch")  #: events that may have an effect
DISPATCH = "mlc-ci"  #: the ``event_type`` of a ``repository_dispatch`` that is for us
_RUNS = ("opened", "reopened", "synchronize")
_MOST_THREADS = 1024
_HIGHEST = 2**31 - 1  #: what the tables hold
_COMMITS_LISTED = 20  #: a push's payload tells reliably what changed in fewer commits than these …
_FILES_LISTED = 3000  #: … and in fewer files of one commit


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """A branch or a tag points at a commit."""

    event: Event

    @property
    def subject(self) -> str:
        return self.event.ref


@dataclass(frozen=True, kw_only=True)
class Proposed:
    """A pull request wants its commit tested. ``at``: when it last changed, by GitHub's clock."""

    event: Event
    at: float
    reopened: bool = False

    @property
    def subject(self) -> str:
        return of_pull(self.event.pull_request)


@dataclass(frozen=True, kw_only=True)
class Closed:
    """A pull request was closed, merged or not."""

    number: int
    at: float

    @property
    def subject(self) -> str:
        return of_pull(self.number)


@dataclass(frozen=True, kw_only=True)
class Ordered:
    """Somebody wants something of a pull request's runs. ``head``: the commit meant, where GitHub says so."""

    command: Command
    head: str = ""

    @property
    def subject(self) -> str:
        return of_pull(self.command.pull)


@dataclass(frozen=True, kw_only=True)
class Dispatched:
    """A manual run, wished for through ``repository_dispatch``: where ``ref`` points is still to be asked."""

    ref: str
    by: str
    stages: tuple[str, ...] | None
    threads: int | None
    publish: bool
    reason: str

    @property
    def subject(self) -> str:
        return ""


@dataclass(frozen=True, kw_only=True)
class Meaningless:
    """Nothing that is asked of us, and why."""

    reason: str

    @property
    def subject(self) -> str:
        return ""


Meaning = Pushed | Proposed | Closed | Ordered | Dispatched | Meaningless


def of_pull(number: int) -> str:
    """What the deliveries about one pull request have in common."""
    return f"pull {number}"


def repository_of(payload: Mapping[str, Any]) -> str:
    """``OWNER/NAME`` that the payload is about; empty where it names none."""
    repository = payload.get("repository")
    name = repository.get("full_name") if isinstance(repository, Mapping) else None
    return name if isinstance(name, str) else ""


def meaning(name: str, payload: Any, settings: Settings) -> Meaning:
    """What the payload of an event of this name asks for.

    Raises:
        InvalidEvent: a field that GitHub always sends is missing or of another type, or what a person wrote into
            the payload is not understood.
    """
    if not isinstance(payload, Mapping):
        raise InvalidEvent("the payload is no JSON object")
    match name:
        case "push":
            return _push(payload)
        case "pull_request":
            return _pull_request(payload, settings.github.approve_label if settings.github else "")
        case "issue_comment":
            return _comment(payload)
        case "repository_dispatch":
            return _dispatch(payload, settings)
        case "ping":
            return Meaningless(reason="a ping: GitHub reaches this master, and its signature is right")
    return Meaningless(reason=f"{name} events start no run")


def _push(payload: Mapping[str, Any]) -> Pushed | Meaningless:
    ref = _field(payload, str, "ref")
    after, before = _field(payload, str, "after"), _field(payload, str, "before")
    commit = _optional(payload, "head_commit")
    tag = ref.startswith("refs/tags/")
    if tag and not NO_SHA.match(after):  # an annotated tag's ``after`` is the tag object; its head_commit the commit
        if not commit:
            return Meaningless(reason=f"{ref} points at no commit")
        after = _field(commit, str, "id")
    return Pushed(
        event=Event(
            kind=EventKind.TAG if tag else EventKind.PUSH,
            ref=ref,
            head=after,
            before="" if NO_SHA.match(before) else before,
            message=str(commit.get("message") or "").strip(),
            author=str(_optional(commit, "author").get("name") or ""),
            changed_files=_pushed_files(payload),
        )
    )


def _pushed_files(payload: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The files of a push, when the payload is sure to list them all: not for a forced push or a new branch."""
    commits = payload.get("commits") or []
    if not isinstance(commits, list):
        raise InvalidEvent(f"commits: expected list, found {type(commits).__name__}")
    if payload.get("forced") or payload.get("created") or not 0 < len(commits) < _COMMITS_LISTED:
        return None
    found: set[str] = set()
    for commit in commits:
        files = [f for kind in ("added", "modified", "removed") for f in _field(commit, list, kind)]
        if not all(isinstance(file, str) for file in files):
            raise InvalidEvent("commits: expected names of files, found something else")
        if len(files) >= _FILES_LISTED:
            return None
        found.update(files)
    return tuple(sorted(found))


def _pull_request(payload: Mapping[str, Any], approve_label: str) -> Proposed | Closed | Ordered | Meaningless:
    action = _field(payload, str, "action")
    if action == "labeled":
        return _label(payload, approve_label)
    if action not in (*_RUNS, "closed"):
        return Meaningless(reason=f"pull_request {action[:60]} starts no run (only {', '.join(_RUNS)})")
    number = _number(payload, "number")
    pull = _field(payload, Mapping, "pull_request")  # type: ignore[type-abstract]
    at = _time(_field(payload, str, "pull_request", "updated_at"), "pull_request.updated_at")
    if action == "closed":
        return Closed(number=number, at=at)
    # one who reopens it need not have pushed what was pushed while it was closed
    pusher = "" if action == "reopened" else str(_optional(payload, "sender").get("login") or "")
    association, doubt = association_of(pull, pusher=pusher)
    event = Event(
        kind=EventKind.PULL_REQUEST,
        ref=f"refs/pull/{number}/head",
        head=_field(payload, str, "pull_request", "head", "sha"),
        base=_field(payload, str, "pull_request", "base", "sha"),
        base_ref=_field(payload, str, "pull_request", "base", "ref"),
        before=str(payload.get("before") or ""),
        pull_request=number,
        message=str(pull.get("title") or ""),
        author=str(_optional(pull, "user").get("login") or ""),
        association=association,
        doubt=doubt,
    )
    return Proposed(event=event, at=at, reopened=action == "reopened")


def _label(payload: Mapping[str, Any], approve_label: str) -> Ordered | Meaningless:
    label = _optional(payload, "label").get("name")
    if not approve_label or label != approve_label:
        return Meaningless(reason="the label says nothing to mlc-ci")
    approve = Approve(
        pull=_number(payload, "number"),
        sha="",
        at=_time(_field(payload, str, "pull_request", "updated_at"), "pull_request.updated_at"),
        by=_field(payload, str, "sender", "login"),
    )
    return Ordered(command=approve, head=_field(payload, str, "pull_request", "head", "sha"))


def _comment(payload: Mapping[str, Any]) -> Ordered | Meaningless:
    action = _field(payload, str, "action")
    if action != "created":
        return Meaningless(reason=f"a comment that was {action[:60]} orders nothing: only a new one does")
    issue = _field(payload, Mapping, "issue")  # type: ignore[type-abstract]
    if not isinstance(issue.get("pull_request"), Mapping):
        return Meaningless(reason="a comment on an issue, not on a pull request")
    command = commands.parse(
        str(_field(payload, Mapping, "comment").get("body") or ""),  # type: ignore[type-abstract]
        pull=_number(payload, "issue", "number"),
        by=_field(payload, str, "comment", "user", "login"),
        at=_time(_field(payload, str, "comment", "created_at"), "comment.created_at"),
    )
    if command is None:
        return Meaningless(reason="a comment without an order to mlc-ci")
    if isinstance(command, NotUnderstood):
        raise InvalidEvent(command.text)
    return Ordered(command=command)


def _dispatch(payload: Mapping[str, Any], settings: Settings) -> Dispatched | Meaningless:
    action = _field(payload, str, "action")
    if action != DISPATCH:
        return Meaningless(reason=f"a repository_dispatch of type {action[:60]!r}: only {DISPATCH!r} is for mlc-ci")
    wish = _optional(payload, "client_payload")
    if unknown := sorted(set(wish) - {"ref", "stages", "threads", "publish", "reason"}):
        known = "ref, stages, threads, publish, reason"
        raise InvalidEvent(f"client_payload: nothing is called {unknown[0][:60]!r} (only {known})")
    stages = wish.get("stages") or []
    if not isinstance(stages, Sequence) or isinstance(stages, str) or not all(isinstance(s, str) for s in stages):
        raise InvalidEvent("client_payload.stages: expected a list of stages")
    if strange := [name for name in stages if name not in settings.stages]:
        there = ", ".join(settings.stages)
        raise InvalidEvent(f"client_payload.stages: no stage is called {strange[0][:60]!r}; there are {there}")
    threads = wish.get("threads", 0)
    if not isinstance(threads, int) or isinstance(threads, bool) or not 0 <= threads <= _MOST_THREADS:
        raise InvalidEvent(f"client_payload.threads: must be 0 to {_MOST_THREADS}")
    publish = wish.get("publish", False)
    if not isinstance(publish, bool):
        raise InvalidEvent(f"client_payload.publish: expected true or false, found {type(publish).__name__}")
    ref, reason = wish.get("ref") or settings.project.default_branch, wish.get("reason") or ""
    if not isinstance(ref, str) or not isinstance(reason, str):
        raise InvalidEvent("client_payload: ref and reason are texts")
    return Dispatched(
        ref=ref.strip(),
        by=str(_optional(payload, "sender").get("login") or ""),
        stages=tuple(stages) or None,
        threads=threads or None,
        publish=publish,
        reason=reason,
    )


def _time(text: str, field: str) -> float:
    """Seconds since the epoch; GitHub writes ``2026-01-01T00:00:00Z``."""
    if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", text, re.ASCII):
        try:
            return datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError):
            pass
    raise InvalidEvent(f"{field}: expected a time, found {text[:40]!r}")


def _number(payload: Mapping[str, Any], *path: str) -> int:
    number = _field(payload, int, *path)
    if not 0 < number <= _HIGHEST:
        raise InvalidEvent(f"{'.'.join(path)}: {str(number)[:60]} is no pull request number")
    return number


def _field(payload: Mapping[str, Any], kind: type[T], *path: str) -> T:
    value: Any = payload
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InvalidEvent(f"{'.'.join(path)}: expected {kind.__name__}, found {type(value).__name__}")
    return value


def _optional(payload: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object that may be missing or null: empty then."""
    return {} if payload.get(key) is None else _field(payload, Mapping, key)  # type: ignore[type-abstract]
