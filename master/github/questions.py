"""What GitHub is asked about pull requests and people. Everything here blocks: call it in a thread.

Raises throughout: ``GitHubUnavailable`` (ask again later) and ``GitHubRefused`` (asking again brings the same).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from twisted.python import log

from master.github.access import Access, GitHubRefused
from master.triggers import Event, Ignored

READ_PULLS = {"pull_requests": "read"}
READ_PEOPLE = {"metadata": "read"}
MOST_FILES = 3000  #: GitHub lists no more, and does not say that there are
_A_PAGE = 100


@dataclass(frozen=True, kw_only=True)
class Pull:
    """A pull request as GitHub shows it now. ``updated_at``: seconds since the epoch; ``files``: how many."""

    number: int
    head: str
    base: str
    base_ref: str
    association: str
    author: str
    title: str
    updated_at: float
    open: bool
    files: int


def pull(access: Access, number: int) -> Pull:
    with access.client(READ_PULLS) as github:
        found: Any = github.rest.pulls.get(access.owner, access.repository, number).json()
        return Pull(
            number=number,
            head=found["head"]["sha"],
            base=found["base"]["sha"],
            base_ref=found["base"]["ref"],
            association=found["author_association"],
            author=(found["user"] or {}).get("login", ""),
            title=found["title"],
            updated_at=datetime.fromisoformat(found["updated_at"]).timestamp(),
            open=found["state"] == "open",
            files=int(found["changed_files"]),
        )


def files(access: Access, of: Pull) -> tuple[str, ...] | None:
    """All that a pull request changes, a file that was moved in both places; ``None`` when GitHub does not list all."""
    if of.files >= MOST_FILES:
        return None
    found: set[str] = set()
    listed = 0
    with access.client(READ_PULLS) as github:
        for page in range(1, MOST_FILES // _A_PAGE + 1):
            answer: Any = github.rest.pulls.list_files(
                access.owner, access.repository, of.number, per_page=_A_PAGE, page=page
            ).json()
            listed += len(answer)
            found.update(name for file in answer for name in _names(file))
            if len(answer) < _A_PAGE:
                break
    return tuple(sorted(found)) if of.files <= listed < MOST_FILES else None


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


def proposed(access: Access, event: Event, at: float) -> Event | Ignored:
    """A pull request's event of a webhook, with all files; or why it is no longer wanted.

    GitHub delivers again, and out of order: an event is outdated when the pull request has another head now and
    was changed since. Another head without a later change is an answer that GitHub has not caught up with.
    """
    now = pull(access, event.pull_request)
    if now.updated_at > at and not now.open:
        return Ignored("the pull request has been closed since")
    if now.head != event.head:
        if now.updated_at > at:
            return Ignored(f"the pull request has moved on to {now.head[:12]} since")
        return event
    return replace(event, changed_files=files(access, now))


def polled(access: Access, event: Event) -> Event | Ignored | None:
    """A pull request's event that the poller found, as a webhook would have told it; as it is when GitHub refuses to
    say anything of it, and ``None`` while git and GitHub's API disagree about its head."""
    try:
        now = pull(access, event.pull_request)
        listed = files(access, now) if now.open and now.head == event.head else None
    except GitHubRefused as error:
        log.msg(f"pull request {event.pull_request} is held, as nothing is known of its author: {error}")
        return event
    if not now.open:
        return Ignored("the pull request is closed")
    if now.head != event.head:
        return None
    return replace(
        event,
        base=now.base,
        base_ref=now.base_ref,
        association=now.association,
        author=now.author,
        message=now.title,
        changed_files=listed,
    )
