"""From what happened to what should run: one event, one run.

Webhook, poller, force form and command line all end here, as an :class:`Event`; :func:`classify` says what run
it asks for, or why none. Pure, so that ``mlc-ci plan`` answers with the very code that the master uses.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from master.pipeline import EventKind
from master.run_model import HELD, RunContext

SHA = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?\Z")
NO_SHA = re.compile(r"0{40}(0{24})?\Z")
_REF = re.compile(r"refs/[^\x00-\x20\x7f\ud800-\udfff~^:?*\[\\]+\Z")
_LONGEST_REF = 255  #: what the tables hold
_HIGHEST = 2**31 - 1  #: likewise


class InvalidEvent(Exception):
    """Something that claims to be an event and is not; the message says which field."""


@dataclass(frozen=True)
class Ignored:
    """An event that asks for no run, and why."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that may ask for a run, whoever told of it.

    ``head`` is the commit to test; ``base`` the commit a pull request is merged into (empty: the tip of the
    default branch, as the event's source saw it) and ``base_ref`` its branch, if known; ``before`` what the ref
    pointed at, if known.
    ``association`` is what the author is to the repository, in GitHub's words (``MEMBER``, ``NONE`` …); empty when
    the source does not tell, or when it does not speak for ``head``: then ``doubt`` says why. ``changed_files`` is
    ``None`` when the source does not tell.
    """

    kind: EventKind
    ref: str
    head: str
    base: str = ""
    before: str = ""
    base_ref: str = ""
    pull_request: int = 0
    message: str = ""
    author: str = ""
    association: str = ""
    doubt: str = ""
    changed_files: tuple[str, ...] | None = None
    stages: tuple[str, ...] | None = None
    threads: int | None = None
    publish: bool | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Event:
        """What :meth:`to_json` gave.

        Raises:
            InvalidEvent: it is something else, from another version or from a hand in the database.
        """
        try:
            fields = dict(data)
            for name in ("changed_files", "stages"):
                if fields.get(name) is not None:
                    fields[name] = tuple(fields[name])
            event = cls(**{**fields, "kind": EventKind(fields["kind"])})
        except (TypeError, ValueError, KeyError) as error:
            raise InvalidEvent(f"this version cannot read the event: {error}") from None
        for name, kind in _KINDS.items():
            if not isinstance(value := getattr(event, name), kind):
                expected = getattr(kind, "__name__", kind)
                raise InvalidEvent(f"{name}: expected {expected}, found {type(value).__name__}")
        for name in ("changed_files", "stages"):
            if not all(isinstance(element, str) for element in getattr(event, name) or ()):
                raise InvalidEvent(f"{name}: expected texts, found something else")
        return event


_TEXTS = ("ref", "head", "base", "before", "base_ref", "message", "author", "association", "doubt", "reason")
_KINDS: Mapping[str, Any] = {
    **dict.fromkeys(_TEXTS, str),
    "pull_request": int,
    "threads": int | None,
    "publish": bool | None,
}


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """A run that an event asks for. ``key`` is equal for every telling of the same event."""

    key: str
    event: Event
    context: RunContext
    tag: str = ""

    @property
    def supersedes(self) -> bool:
        """Whether older runs of the same ref are no longer wanted."""
        return self.event.kind is EventKind.PULL_REQUEST


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the settings say about events."""

    default_branch: str = "main"
    tag_pattern: str = "v*"
    pull_requests: bool = True
    vouched: frozenset[str] | None = None  #: whose pull requests run at once; ``None``: everybody's
    comments: bool = True  #: whether a comment on a pull request can order anything

    @property
    def default_ref(self) -> str:
        return f"refs/heads/{self.default_branch}"


def classify(event: Event, rules: Rules) -> RunRequest | Ignored:
    """The run that the event asks for, or why it asks for none.

    Raises:
        InvalidEvent: a commit that is no SHA, a ref that is none.
    """
    _validate(event)
    if NO_SHA.match(event.head):
        return Ignored(f"{event.ref} was deleted")
    acts_as = _acts_as(event, rules)
    if isinstance(acts_as, Ignored):
        return acts_as
    trusted = acts_as is not EventKind.PULL_REQUEST
    publish = trusted and (event.publish if event.publish is not None else event.kind is not EventKind.MANUAL)
    context = RunContext(
        kind=event.kind,
        acts_as=acts_as,
        trusted=trusted,
        publish=publish,
        selected=frozenset(event.stages) if event.stages is not None else None,
        changed_files=event.changed_files,
        held=_held(event, rules),
    )
    tag = event.ref.removeprefix("refs/tags/") if acts_as is EventKind.TAG else ""
    return RunRequest(key=f"{event.kind}:{event.ref}@{event.head}", event=event, context=context, tag=tag)


def _held(event: Event, rules: Rules) -> str:
    """Why a pull request waits for a maintainer; empty when it does not."""
    if event.kind is not EventKind.PULL_REQUEST or rules.vouched is None or event.association in rules.vouched:
        return ""
    author = event.author or "its author"
    known = f"{author} is {event.association} here" if event.association else f"GitHub has not said who {author} is"
    how = f"/ci ok {event.head[:12]}" if rules.comments else "on the run's page"
    return f"{HELD} ({how}): {event.doubt or known}"


def threads(request: RunRequest, *, pull_request: int, other: int) -> int:
    """NUM_THREADS of a run: the manual choice, else fewer for pull requests (the document's 2 and 4)."""
    if request.event.threads:
        return request.event.threads
    return pull_request if request.context.acts_as is EventKind.PULL_REQUEST else other


def _acts_as(event: Event, rules: Rules) -> EventKind | Ignored:
    is_tag = event.ref.startswith("refs/tags/")
    matches = is_tag and fnmatch.fnmatchcase(event.ref.removeprefix("refs/tags/"), rules.tag_pattern)
    match event.kind:
        case EventKind.PUSH:
            return event.kind if event.ref == rules.default_ref else Ignored(f"{event.ref} is not the default branch")
        case EventKind.TAG:
            return event.kind if matches else Ignored(f"{event.ref} does not match the tag pattern {rules.tag_pattern}")
        case EventKind.PULL_REQUEST:
            if event.base_ref not in ("", rules.default_branch):
                return Ignored(f"the pull request is for {event.base_ref}, not for {rules.default_branch}")
            return event.kind if rules.pull_requests else Ignored("pull requests are switched off in the settings")
        case EventKind.MANUAL:
            if event.ref == rules.default_ref:
                return EventKind.PUSH
            return EventKind.TAG if matches else EventKind.PULL_REQUEST


def _validate(event: Event) -> None:
    for name in ("head", "base", "before"):
        value = getattr(event, name)
        if value and not SHA.match(value):
            raise InvalidEvent(f"{name}: {value[:60]!r} is no commit SHA")
    if not event.head:
        raise InvalidEvent("head: missing")
    if not _REF.match(event.ref) or ".." in event.ref:
        raise InvalidEvent(f"ref: {event.ref[:60]!r} is no full git ref")
    if len(event.ref) > _LONGEST_REF:
        raise InvalidEvent(f"ref: {event.ref[:60]!r}... is longer than {_LONGEST_REF} characters")
    lowest = 1 if event.kind is EventKind.PULL_REQUEST else 0
    if not lowest <= event.pull_request <= _HIGHEST:
        raise InvalidEvent(f"pull_request: {str(event.pull_request)[:60]} is no pull request number")
    if event.threads is not None and not 0 <= event.threads <= _HIGHEST:
        raise InvalidEvent(f"threads: {str(event.threads)[:60]} is no number of threads")


def from_ref(ref: str, head: str, before: str = "", message: str = "", author: str = "") -> Event:
    """The event of a ref that a poller found moved; pull requests are ``refs/pull/N/head``."""
    if pull := re.match(r"refs/pull/([1-9][0-9]*)/head\Z", ref):
        kind, number = EventKind.PULL_REQUEST, int(pull[1])
    else:
        kind, number = (EventKind.TAG if ref.startswith("refs/tags/") else EventKind.PUSH), 0
    return Event(kind=kind, ref=ref, head=head, before=before, pull_request=number, message=message, author=author)
