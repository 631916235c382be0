"""One row of the outbox, told to GitHub. Blocking: for a thread."""

from __future__ import annotations

from typing import Any

from master.database.outbox import COMMENT, STATUS, Row
from master.github.access import Access, GitHubRefused
from master.github.comment import MARKER

#: What telling each kind takes, and no more.
PERMISSIONS = {STATUS: {"statuses": "write"}, COMMENT: {"pull_requests": "write"}}
_PAGES = 30  #: of a pull request's comments, 100 on each, that are searched for ours


class Sender:
    """Tells GitHub what rows want. Telling the same twice leaves GitHub as it was."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._place = (access.owner, access.repository)
        self._login = ""

    def send(self, row: Row) -> str:
        """Have GitHub show what the row wants; a comment's number at GitHub.

        Raises:
            GitHubUnavailable, GitHubRefused: it does not.
        """
        return self._status(row) if row.kind == STATUS else self._comment(row)

    def _status(self, row: Row) -> str:
        wanted = row.wanted
        body: Any = {name: wanted[name] for name in ("state", "target_url", "description", "context")}
        with self._access.client(PERMISSIONS[STATUS]) as github:
            github.rest.repos.create_commit_status(*self._place, wanted["sha"], data=body)
        return ""

    def _comment(self, row: Row) -> str:
        pull, body = row.wanted["pull"], row.wanted["body"]
        if row.remote_id and self._update(row.remote_id, body):
            return row.remote_id
        found = self._find(pull)
        if found and self._update(found, body):
            return found
        with self._access.client(PERMISSIONS[COMMENT]) as github:
            made = github.rest.issues.create_comment(*self._place, pull, body=body)
            return str(made.json()["id"])

    def _update(self, remote_id: str, body: str) -> bool:
        """False when the comment is no longer there."""
        try:
            with self._access.client(PERMISSIONS[COMMENT]) as github:
                github.rest.issues.update_comment(*self._place, int(remote_id), body=body)
        except GitHubRefused as error:
            if error.status not in (404, 410):
                raise
            return False
        return True

    def _find(self, pull: int) -> str:
        """Our comment, made before a master died that had not noted it yet; empty when there is none."""
        with self._access.client(PERMISSIONS[COMMENT]) as github:
            for page in range(1, _PAGES + 1):
                answer = github.rest.issues.list_comments(*self._place, pull, per_page=100, page=page)
                comments: Any = answer.json()
                for comment in comments:
                    marked = (comment.get("body") or "").startswith(MARKER)  # which anybody can write
                    if marked and (comment.get("user") or {}).get("login") == self._name(github):
                        return str(comment["id"])
                if len(comments) < 100:
                    break
        return ""

    def _name(self, github: Any) -> str:
        """Under which GitHub shows what we write; no person's name has brackets."""
        if not self._login and self._access.kind == "app":
            with self._access.app_client() as app:
                about: Any = app.rest.apps.get_authenticated().json()
                self._login = f"{about['slug']}[bot]"
        self._login = self._login or github.rest.users.get_authenticated().json()["login"]
        return self._login
