"""Whether GitHub and this master can work together: everything is tried that can be without changing anything.

Each thing that must be put right is named, with what to do. No secret is ever in what is said. Everything here blocks.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import httpx

from master.errors import SecretUnreadable
from master.github.access import access_of
from master.github.trial_app import try_app
from master.github.trial_notes import Notes
from master.github.trial_token import try_token
from master.settings import Settings, read_secret
from master.settings_github import OAUTH_SECRET, WEBHOOK_SECRET
from master.tried import Tried

_SHORTEST_SECRET = 16  #: characters; whoever guesses it starts runs
_LOOPBACK = {"", "127.0.0.1", "::1", "localhost", "0.0.0.0"}  # noqa: S104 (nothing is opened there)


def try_github(settings: Settings, secrets: Path) -> list[Tried]:
    """Everything that was tried, in the order of the walk-through (docs/github.md)."""
    github = settings.github
    if github is None:
        hint = f'[github] with repository = "OWNER/NAME"; mlc-ci init writes one for {settings.project.repository}'
        return [Tried(name="settings", ok=False, message="there is no table [github]", hint=hint)]
    access = access_of(settings, secrets)
    notes = Notes(settings, github, secrets)
    if access is None:
        hint = 'docs/github.md, "App or token": statuses, comments, releases and /ci commands need it'
        notes.say("access", None, 'GitHub is told nothing: access is "none"', hint)
    elif access.kind == "app":
        try_app(notes, access)
    else:
        try_token(notes, access)
    if github.webhook:
        _secret(
            notes, "webhook secret", WEBHOOK_SECRET, "a long random text, the same as in the webhook's form on GitHub"
        )
        _address(notes)
    if github.login:
        _secret(notes, "login", OAUTH_SECRET, "the OAuth App's client secret")
    return notes.found


def _secret(notes: Notes, name: str, file: str, what: str) -> None:
    try:
        length = len(read_secret(notes.secrets, file))
    except SecretUnreadable as error:
        notes.say(name, False, error.message, f"{error.hint}  ({what})")
        return
    if length < _SHORTEST_SECRET:
        notes.say(name, False, f"secrets/{file} has only {length} characters", f"it must be {what}")
    else:
        notes.say(name, True, f"secrets/{file} is there, {length} characters")


def _address(notes: Notes) -> None:
    """Whether the page answers where GitHub would send events."""
    url = notes.settings.master.url
    if (urlsplit(url).hostname or "") in _LOOPBACK:
        hint = "master.url = the address of the TLS proxy in front of it; or webhook = false, and a poll_interval"
        notes.say("webhook address", False, f"GitHub cannot reach this master at {url or 'no address'}", hint)
        return
    try:
        status = httpx.get(url, timeout=10, follow_redirects=True).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        hint = "does the master run, and does the proxy in front of it forward to master.web_port?"
        notes.say("webhook address", False, f"{url} does not answer here: {type(error).__name__}", hint)
        return
    if status >= 400:
        hint = "the proxy in front of the master must forward everything to master.web_port"
        notes.say("webhook address", False, f"{url} answers {status}", hint)
    elif not url.startswith("https:"):
        hint = "put a TLS proxy in front of it: payloads of a private repository, and logins, travel readable"
        notes.say("webhook address", None, f"{url} answers, without TLS", hint)
    else:
        notes.say("webhook address", True, f"{url} answers, as seen from this machine")
