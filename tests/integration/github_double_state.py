"""What the GitHub double remembers, and how it refuses: plain data, changed by the routes and by the test."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

LEVELS = ("none", "read", "write", "admin")
DOCS = "https://docs.github.com/rest"
_SHA = re.compile(r"[0-9a-f]{40}")


class Refusal(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"message": message, "documentation_url": DOCS, "status": str(status), **more}


def invalid(resource: str, field_name: str, code: str, message: str = "") -> NoReturn:
    """GitHub's 422."""
    error = {"resource": resource, "field": field_name, "code": code} | ({"message": message} if message else {})
    raise Refusal(422, "Validation Failed", errors=[error])


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@dataclass(kw_only=True)
class Token:
    permissions: dict[str, str]
    repositories: list[str]  #: lower-cased full names
    login: str
    until: float
    app: bool

    def may(self, permission: str, level: str) -> bool:
        return LEVELS.index(self.permissions.get(permission, "none")) >= LEVELS.index(level)


@dataclass(kw_only=True)
class Upload:
    """An asset of a release; ``starter``: its upload was not completed."""

    id: int
    name: str
    content_type: str
    state: str
    size: int
    sha256: str
    created_at: str


@dataclass(kw_only=True)
class State:
    """One repository, one App with one installation, and people. ``folder`` holds the contents of assets."""

    owner: str
    name: str
    folder: Path
    app_id: int
    app_slug: str
    app_key: str  #: public, PEM
    installation_id: int
    granted: dict[str, str]
    asked_for: dict[str, str] = field(default_factory=dict)  #: what the App wants and nobody has accepted yet
    #: that the App gets
    events: list[str] = field(default_factory=lambda: ["push", "pull_request", "issue_comment", "repository_dispatch"])
    hook: dict[str, str] = field(default_factory=dict)  #: the App's webhook, as its form says
    token_life: float = 3600.0
    digests: bool = True  #: assets carry ``digest``
    known: list[str] | None = None  #: the only commits there are; ``None``: any that looks like one
    default_branch: str = "main"
    tokens: dict[str, Token] = field(default_factory=dict)
    people: dict[str, str] = field(default_factory=dict)  #: login to permission on the repository
    refs: dict[str, dict[str, str]] = field(default_factory=dict)  #: ``tags/v1`` to type and SHA
    tag_objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    pulls: dict[int, dict[str, Any]] = field(default_factory=dict)
    statuses: list[dict[str, Any]] = field(default_factory=list)
    comments: list[dict[str, Any]] = field(default_factory=list)
    releases: dict[int, dict[str, Any]] = field(default_factory=dict)
    last_id: int = 1000

    @property
    def full_name(self) -> str:
        return f"{self.owner}/{self.name}"

    @property
    def bot(self) -> str:
        return f"{self.app_slug}[bot]"

    def next_id(self) -> int:
        self.last_id += 1
        return self.last_id

    def new_token(self, permissions: dict[str, str]) -> tuple[str, float]:
        """For an installation of the App."""
        text = f"ghs_{secrets.token_hex(18)}"
        until = time.time() + self.token_life
        granted = {"metadata": "read", **permissions}
        repositories = [self.full_name.lower()]
        self.tokens[text] = Token(permissions=granted, repositories=repositories, login=self.bot, until=until, app=True)
        return text, until

    def revive(self) -> None:
        """After the test has written JSON into it."""
        self.pulls = {int(number): pull for number, pull in self.pulls.items()}
        self.releases = {int(number): release for number, release in self.releases.items()}
        for release in self.releases.values():
            release["assets"] = [one if isinstance(one, Upload) else Upload(**one) for one in release["assets"]]
        for text, token in self.tokens.items():
            self.tokens[text] = token if isinstance(token, Token) else Token(**token)

    def commit(self, sha: str) -> str:
        """The commit, which exists; 422 as GitHub answers for one that does not."""
        if not _SHA.fullmatch(sha) or (self.known is not None and sha not in self.known):
            raise Refusal(422, f"No commit found for SHA: {sha}")
        return sha

    def resolve(self, revision: str) -> str:
        """The commit of a branch, a tag or a SHA."""
        found = self.refs.get(f"heads/{revision}") or self.refs.get(f"tags/{revision}")
        if found is None:
            return self.commit(revision)
        while found["type"] == "tag":
            found = self.tag_objects[found["sha"]]["object"]
        return found["sha"]

    def pull(self, number: int) -> dict[str, Any]:
        if number not in self.pulls:
            raise Refusal(404, "Not Found")
        return self.pulls[number]

    def release(self, number: int, *, drafts: bool) -> dict[str, Any]:
        release = self.releases.get(number)
        if release is None or (release["draft"] and not drafts):
            raise Refusal(404, "Not Found")
        return release

    def asset(self, number: int) -> tuple[dict[str, Any], Upload]:
        for release in self.releases.values():
            for asset in release["assets"]:
                if asset.id == number:
                    return release, asset
        raise Refusal(404, "Not Found")
