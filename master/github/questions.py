"""What GitHub is asked about pull requests and people. Everything here blocks: call it in a thread.

Raises throughout: ``GitHubUnavailable`` (ask again later) and ``GitHubRefused`` (asking again brings the same).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from twisted.python import log

from master.github.access import Access, GitHubRefused
from master.github.vouching import association_of
from master.triggers import Event, Ignored, Rules, classify

if TYPE_CHECKING:
    from githubkit import GitHub

READ_PULLS = {"pull_requests": "read"}
READ_PEOPLE = {"metadata": "read"}
_A_PAGE = 100
_ALL_PAGES = 30  #: GitHub lists no more files, and does not say that there are
_PAGES_OF_HELD = 3  #: a stranger can push often, and each push costs as many requests


@dataclass(frozen=True, kw_only=True)
class Pull:
    """A pull request as GitHub shows it now. ``updated_at``: seconds since the epoch; ``files``: how many.
    ``association`` is empty where it does not speak for the head, and ``doubt`` says why."""

    number: int
    head: str
    base: str
    base_ref: str
    association: str
    doubt: str
    author: str
    title: str
    updated_at: float
    open: bool
    files: int


def pull(access: Access, number: int) -> Pull:
    with access.client(READ_PULLS) as github:
        return _pull(access, github, number)


def _pull(access: Access, github: GitHub[Any], number: int) -> Pull:
    found: Any = github.rest.pulls.get(access.owner, access.repository, number).json()
    association, doubt = association_of(found)
    return Pull(
        number=number,
        head=found["head"]["sha"],
        base=found["base"]["sha"],
        base_ref=found["base"]["ref"],
        association=association,
        doubt=doubt,
        author=(found["user"] or {}).get("login", ""),
        title=found["title"],
        updated_at=datetime.fromisoformat(found["updated_at"]).timestamp(),
        open=found["state"] == "open",
        files=int(found["changed_files"]),
    )


def files(access: Access, github: GitHub[Any], of: Pull, pages: int = _ALL_PAGES) -> tuple[str, ...] | None:
    """All that a pull request changes, a file that was moved in both places; ``None`` when GitHub does not list all, or
    not in so many ``pages``."""
    most = pages * _A_PAGE
    if of.files >= most:
        return None
    found: set[str] = set()
    listed = 0
    for page in range(1, pages + 1):
        answer: Any = github.rest.pulls.list_files(
            access.owner, access.repository, of.number, per_page=_A_PAGE, page=page
        ).json()
        listed += len(answer)
        found.update(name for file in answer for name in _names(file))
        if len(answer) < _A_PAGE:
            break
    return tuple(sorted(found)) if of.files <= listed < most else None


def _with_files(access: Access, github: GitHub[Any], event: Event, of: Pull, rules: Rules) -> Event:
    """The event with all files of the pull request; of many, only where its run is not held."""
    asked_for = classify(event, rules)
    if isinstance(asked_for, Ignored):
        return event
    pages = _PAGES_OF_HELD if asked_for.context.held else _ALL_PAGES
    return replace(event, changed_files=files(access, github, of, pages))


def _names(file: Mapping[str, Any]) -> list[str]:
    return [file["filename"], *([file["previous_filename"]] if file.get("previous_filename") else [])]


def permission(access: Access, login: str) -> str:
    """GitHub's word for what somebody may do to the repository: admin, write, read or none."""
    try:
        with access.client(READ_PEOPLE) as github:
            answer = github.rest.repos.get_collaborator_permission_level(access.owner, access.repository, login)
            return str(answer.json()["permission"])
    except GitHubRefused as error:
        if error.status == 404:  # nobody of this name, or no longer
            return "none"
        raise


def proposed(access: Access, event: Event, at: float, rules: Rules, with_files: bool) -> Event | Ignored:
    """A pull request's event of a webhook, with its files where these matter; or why it is no longer wanted.

    GitHub delivers again, and out of order: an event is outdated when the pull request has another head now and
    was changed since. Another head without a later change is an answer that GitHub has not caught up with.
    """
    with access.client(READ_PULLS) as github:
        now = _pull(access, github, event.pull_request)
        if now.updated_at > at and not now.open:
            return Ignored("the pull request has been closed since")
        if now.head != event.head:
            if now.updated_at > at:
                return Ignored(f"the pull request has moved on to {now.head[:12]} since")
            return event
        return _with_files(access, github, event, now, rules) if with_files else event


def polled(access: Access, event: Event, rules: Rules, with_files: bool) -> Event | Ignored | None:
    """A pull request's event that the poller found, as a webhook would have told it; as it is when GitHub refuses to
    say anything of it, and ``None`` while git and GitHub's API disagree about its head."""
    try:
        with access.client(READ_PULLS) as github:
            now = _pull(access, github, event.pull_request)
            if not now.open:
                return Ignored("the pull request is closed")
            if now.head != event.head:
                return None
            told = replace(
                event,
                base=now.base,
                base_ref=now.base_ref,
                association=now.association,
                doubt=now.doubt,
                author=now.author,
                message=now.title,
            )
            return _with_files(access, github, told, now, rules) if with_files else told
    except GitHubRefused as error:
        log.msg(f"pull request {event.pull_request} is held, as nothing is known of its author: {error}")
        return event
