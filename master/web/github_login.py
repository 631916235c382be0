"""Login to the page with GitHub.

Buildbot's ``GitHubAuth`` asks GraphQL for all organisations of a user and all their teams: it fails on an organisation
whose name begins with a digit and on any partial answer, sees 100 organisations, no member of a child team, and ends in
a traceback where GitHub says that a login was not completed. Here GitHub is asked about exactly the teams that count.
"""

from __future__ import annotations

import hmac
from typing import Any
from urllib.parse import quote

import requests
from buildbot.plugins import util
from buildbot.www.oauth2 import OAuth2LoginResource
from twisted.python import log
from twisted.web.error import Error
from twisted.web.server import Request

from master.places import ADMIN
from master.settings_github import OAUTH_SECRET
from master.web.login import GITHUB

_TIMEOUT_S = 20.0


class GitHubLogin(util.GitHubAuth):
    """Login with GitHub. ``teams``: ``organisation/team``, in lower case, whose members are told apart."""

    def __init__(self, web: str, api: str, *, client_id: str, teams: list[str], password: str) -> None:
        super().__init__(client_id, util.Secret(OAUTH_SECRET))
        self.authUri = f"{web.rstrip('/')}/login/oauth/authorize"
        self.tokenUri = f"{web.rstrip('/')}/login/oauth/access_token"
        self.resourceEndpoint = api.rstrip("/")
        self.authUriAdditionalParams = {"scope": "read:org"} if teams else {}
        self._teams = teams
        self._password = password

    def getLoginResource(self) -> _LoginResource:
        return _LoginResource(self.master, self)

    def is_administrator(self, user: bytes, password: bytes) -> bool:
        """Whether these are the local administrator's."""
        same = hmac.compare_digest(password, self._password.encode())
        return user == ADMIN.encode() and same

    def createSessionFromToken(self, token: dict[str, Any]) -> requests.Session:
        if "access_token" not in token:  # GitHub says so with status 200
            said = str(token.get("error_description") or token.get("error") or "no access token")
            raise Error(403, f"GitHub did not complete the login: {said}; begin again".encode())
        session: requests.Session = super().createSessionFromToken(token)
        return session

    def getUserInfoFromOAuthClient(self, c: requests.Session) -> dict[str, Any]:
        """What a session says of its user. Runs in a thread."""
        answer = self._ask(c, "/user")
        answer.raise_for_status()
        user = answer.json()
        name = user["login"]
        return {
            "provider": GITHUB,
            "username": name,
            "full_name": user.get("name") or name,
            "email": user.get("email") or name,
            "groups": [team for team in self._teams if self._has_member(c, team, name)],
        }

    async def verifyCode(self, code: bytes) -> dict[str, Any]:
        try:
            details: dict[str, Any] = await super().verifyCode(code)
        except (requests.RequestException, KeyError, TypeError) as error:
            log.msg(f"login with GitHub failed: {type(error).__name__}: {error}")
            raise Error(503, b"GitHub could not be asked who you are: try again, or see the master's log") from None
        return details

    def _has_member(self, session: requests.Session, team: str, name: str) -> bool:
        organisation, _, slug = team.partition("/")
        answer = self._ask(session, f"/orgs/{quote(organisation)}/teams/{quote(slug)}/memberships/{quote(name)}")
        if answer.status_code == 403:  # the organisation has not let this OAuth App in, or asks for single sign-on
            log.msg(f"login with GitHub: {organisation} does not tell whether {name} is in {slug}")
        if answer.status_code in (403, 404):
            return False
        answer.raise_for_status()
        return bool(answer.json()["state"] == "active")  # "pending": invited, and not a member yet

    def _ask(self, session: requests.Session, path: str) -> requests.Response:
        return session.get(self.resourceEndpoint + path, timeout=_TIMEOUT_S)


class _LoginResource(OAuth2LoginResource):
    """Sends a browser to GitHub; takes the local password of whoever sends it by itself, as programs do."""

    async def renderLogin(self, request: Request) -> None:
        if not request.getHeader(b"authorization"):
            await super().renderLogin(request)
            return
        if not self.auth.is_administrator(request.getUser(), request.getPassword()):
            raise Error(401, b"this is not the administrator's password")
        session = request.getSession()
        session.user_info = {"username": ADMIN, "email": ADMIN}
        session.updateSession(request)
