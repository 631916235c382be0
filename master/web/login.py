"""Who may log in to the page, and who of them is an administrator: a local password, or GitHub.

With ``[github.login]`` a browser is sent to GitHub, and ``mlc-ci`` on the command line goes on using the local
password. What a session says of its user stands in a signed cookie until that expires, so what was true at the login
(a team's member) is true for :data:`SESSION`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from buildbot.plugins import util
from buildbot.www.authz.roles import RolesFromBase

from master.places import ADMIN, ADMIN_PASSWORD
from master.settings import read_secret
from master.settings_github import OAUTH_SECRET, GitHubSettings
from master.web.authority import ROLE

SESSION = timedelta(hours=12)  #: of a login with GitHub
GITHUB = "github"  #: a session's ``provider``; a session of the local password has none


def login(github: GitHubSettings | None, secrets: Path) -> dict[str, Any]:
    """The part of Buildbot's ``www`` settings about users.

    Raises:
        SecretUnreadable: a password or the OAuth App's secret is not where it must be.
    """
    password = read_secret(secrets, ADMIN_PASSWORD)
    chosen = github.login if github else None
    rules = util.Authz(
        allowRules=[util.AnyControlEndpointMatcher(role=ROLE)],
        roleMatchers=[Administrators(chosen.admins if chosen else ())],
    )
    if github is None or chosen is None:
        return {"auth": util.UserPasswordAuth({ADMIN: password}), "authz": rules}
    read_secret(secrets, OAUTH_SECRET)  # that it is missing is said now, and not to the first who logs in
    from master.web.github_login import GitHubLogin  # noqa: PLC0415 (it imports much)

    auth = GitHubLogin(
        github.web, github.api, client_id=chosen.client_id, teams=_teams(chosen.admins), password=password
    )
    return {"auth": auth, "authz": rules, "cookie_expiration_time": SESSION}


def _teams(admins: Iterable[str]) -> list[str]:
    return [name.lower() for name in admins if "/" in name]


class Administrators(RolesFromBase):
    """The role for the local administrator, and for users and teams of GitHub, whatever their case.

    A session is of one of both: nobody becomes the local administrator by that name on GitHub.
    """

    def __init__(self, admins: Iterable[str]) -> None:
        super().__init__()
        self._admins = {name.lower() for name in admins}

    def getRolesFromUser(self, userDetails: dict[str, Any]) -> list[str]:
        name = userDetails.get("username")
        if userDetails.get("provider") != GITHUB:
            return [ROLE] if name == ADMIN else []
        return [ROLE] if self._admins & {str(name).lower(), *userDetails.get("groups", ())} else []
