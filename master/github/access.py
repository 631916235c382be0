"""How GitHub is asked: as an App, with a token for exactly what is to be done, or with somebody's personal token.

Everything here blocks: call it in a thread. ``githubkit`` takes 0.4 s to import, so it is imported by the
first who asks GitHub anything.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from master.errors import SecretUnreadable
from master.github.failures import AccessRefused, GitHubError, GitHubRefused, GitHubUnavailable
from master.settings import Settings, read_secret
from master.settings_github import APP_KEY, TOKEN, GitHubSettings

if TYPE_CHECKING:
    from githubkit import GitHub

__all__ = ["Access", "GitHubError", "GitHubRefused", "GitHubUnavailable", "Permissions", "access_of"]

Permissions = Mapping[str, str]  #: GitHub's names of permissions, each with ``read`` or ``write``

_SPARE_S = 300.0  #: a token is not handed out in its last minutes: what is begun with it must not outlive it


def access_of(settings: Settings, secrets_folder: Path) -> Access | None:
    """The way to GitHub that the settings name; ``None`` where they name none."""
    github = settings.github
    return None if github is None or github.access == "none" else Access(github, secrets_folder)


class Access:
    """Asks GitHub about one repository. Safe to use from many threads.

    Secrets are read from their files when they are needed, so that a new one is used without a restart.
    """

    def __init__(self, settings: GitHubSettings, secrets_folder: Path) -> None:
        self.kind: Literal["token", "app"] = "app" if settings.access == "app" else "token"
        self.app_id = settings.app_id
        self.owner, _, self.repository = settings.repository.partition("/")
        self._settings = settings
        self._folder = secrets_folder
        self._lock = threading.Lock()
        self._minted: dict[frozenset[tuple[str, str]], tuple[str, float]] = {}  # token, when it expires
        self._installation = settings.installation_id

    def __repr__(self) -> str:
        return f"Access({self.kind}, {self.owner}/{self.repository})"

    def token(self, permissions: Permissions, *, lasts: float = _SPARE_S) -> str:
        """A token: an App's has exactly these permissions and this repository, a personal one what it was given.

        ``lasts``: it is good for so many seconds at least; GitHub makes them for an hour.

        Raises:
            GitHubUnavailable, GitHubRefused: none could be had; with what to do about it.
        """
        if self.kind == "token":
            return self._secret(TOKEN)
        wanted = frozenset(permissions.items())
        with self._lock:
            token, until = self._minted.get(wanted, ("", 0.0))
            if not token or time.time() + lasts >= until:
                token, until = self._mint(permissions)
                self._minted[wanted] = token, until
        return token

    @contextmanager
    def client(self, permissions: Permissions, *, lasts: float = _SPARE_S) -> Iterator[GitHub[Any]]:
        """A client with such a token, which asks once and fails at once.

        Raises:
            GitHubUnavailable, GitHubRefused: in place of everything that githubkit raises inside.
        """
        from master.github import client  # noqa: PLC0415

        token = self.token(permissions, lasts=lasts)
        try:
            with client.with_token(self._settings.api, token, permissions) as github:
                yield github
        except GitHubRefused as error:
            if error.status == 401:
                self._forget(token)
            raise

    @contextmanager
    def app_client(self) -> Iterator[GitHub[Any]]:
        """A client that asks as the App itself: about its installation, its permissions and its webhook."""
        from master.github import client  # noqa: PLC0415

        if self.kind != "app":
            raise GitHubRefused('there is no App to ask as: [github] access is "token"')
        with client.as_app(self._settings.api, self._settings.app_id, self._secret(APP_KEY)) as github:
            yield github

    def _mint(self, permissions: Permissions) -> tuple[str, float]:
        wanted = ", ".join(f"{name}: {level}" for name, level in sorted(permissions.items()))
        if not wanted:
            raise AccessRefused("a token without a permission named would have all that the App has")
        try:
            with self.app_client() as github:
                if not self._installation:
                    found = github.rest.apps.get_repo_installation(self.owner, self.repository)
                    self._installation = int(found.json()["id"])
                body: Any = {"repositories": [self.repository], "permissions": dict(permissions)}
                answer = github.rest.apps.create_installation_access_token(self._installation, data=body).json()
                return str(answer["token"]), datetime.fromisoformat(answer["expires_at"]).timestamp()
        except GitHubRefused as error:
            if error.status == 404:
                self._installation = self._settings.installation_id  # it may be installed anew, under another number
            raise AccessRefused(f"the App gets no token for {wanted}. {error}", error.status) from None
        except (LookupError, TypeError):
            raise GitHubUnavailable("GitHub's answer holds no token for the App") from None

    def _forget(self, token: str) -> None:
        with self._lock:
            self._minted = {key: value for key, value in self._minted.items() if value[0] != token}

    def _secret(self, name: str) -> str:
        try:
            return read_secret(self._folder, name)
        except SecretUnreadable as error:
            raise AccessRefused(str(error)) from None
