"""``[github]``: which repository's events are taken in, how GitHub is asked, and whose pull requests run at once."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from master.settings_types import Count, Switch, Table, Text, Texts, refused, web_url

WEBHOOK_SECRET = "github-webhook-secret"  # noqa: S105 (the name of the secret that GitHub signs deliveries with)
APP_KEY = "github-app-key"  #: the secret that holds the App's private key, PEM
TOKEN = "github-token"  # noqa: S105 (the name of the secret that holds a personal access token)
OAUTH_SECRET = "github-oauth-secret"  # noqa: S105 (the name of the secret of the page's login)
OWN_SECRETS = (WEBHOOK_SECRET, APP_KEY, TOKEN, OAUTH_SECRET)

_ADMIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,38}(?:/[A-Za-z0-9_-][A-Za-z0-9._-]{0,99})?", re.ASCII)
_REPOSITORY = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?/[A-Za-z0-9._-]{1,100}", re.ASCII)

#: GitHub's words for what an author is to a repository (``author_association``).
Association = Literal[
    "OWNER", "MEMBER", "COLLABORATOR", "CONTRIBUTOR", "FIRST_TIME_CONTRIBUTOR", "FIRST_TIMER", "MANNEQUIN", "NONE"
]


def _repository(value: object) -> object:
    if isinstance(value, str) and (not _REPOSITORY.fullmatch(value) or value.endswith(("/.", "/.."))):
        raise refused("is no repository", "OWNER/NAME, as in the repository's address")
    return value


def _admins(value: object) -> object:
    for name in value if isinstance(value, list | tuple) else ():
        if isinstance(name, str) and not _ADMIN.fullmatch(name):
            message = f"holds {name!r}, which is neither a user nor a team"
            raise refused(message, "users' logins, and ORGANISATION/TEAM as in the team's address")
    return value


Repository = Annotated[str, BeforeValidator(_repository)]


class LoginSettings(Table):
    """Login to the page with GitHub (OAuth); left out: the password in ``secrets/admin-password``."""

    client_id: Text  #: of the OAuth App, or of the GitHub App's user authorisation
    admins: Annotated[
        Texts, Field(min_length=1), BeforeValidator(_admins)
    ]  #: users (``name``) and teams (``organisation/team``)


class GitHubSettings(Table):
    """Everything about GitHub. Its secrets are files: ``github-webhook-secret``, ``github-app-key`` or
    ``github-token``, ``github-oauth-secret``."""

    repository: Repository
    formerly: tuple[Repository, ...] = ()  #: further names under which events of this repository may come
    webhook: Switch = True  #: take in deliveries at ``change_hook/github``
    access: Literal["none", "token", "app"] = "none"  #: how GitHub is asked and told
    app_id: Count = 0
    installation_id: Count = 0  #: 0: asked of GitHub
    api: Annotated[str, BeforeValidator(web_url)] = "https://api.github.com"
    web: Annotated[str, BeforeValidator(web_url)] = "https://github.com"
    statuses: Switch = True
    comment: Switch = True  #: one comment on each pull request, with the summary
    vouched: frozenset[Association] = frozenset({"OWNER", "MEMBER", "COLLABORATOR"})  #: whose pull requests run at once
    approve_label: str = ""  #: put on a pull request, it approves its commit; empty: no label does
    login: LoginSettings | None = None

    @model_validator(mode="after")
    def _app_has_its_number(self) -> Any:
        if self.access == "app" and not self.app_id:
            raise refused('access = "app" needs the App\'s number', "app_id, from the App's settings page on GitHub")
        return self

    @property
    def takes_orders(self) -> bool:
        """Whether a comment on a pull request comes in, and GitHub can be asked whose it is."""
        return self.webhook and self.access != "none"

    @property
    def repositories(self) -> frozenset[str]:
        """Lower-cased names of the repository whose events are taken in."""
        return frozenset(name.lower() for name in (self.repository, *self.formerly))
