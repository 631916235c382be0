"""What can go wrong with GitHub, told apart by what helps: waiting, or somebody who puts it right.

The messages name what was asked and what GitHub said; no token is ever in them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

_SECONDARY_S = 60.0  #: GitHub's own advice when it names no time: at least one minute
_LONGEST_S = 2 * 3600.0  #: limits of GitHub's are over within an hour; a longer wait is somebody's mistake


class GitHubError(Exception):
    """GitHub did not do what it was asked."""


class GitHubUnavailable(GitHubError):
    """Not now: the network, GitHub itself, or a rate limit. ``retry_after``: seconds, where GitHub says."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class GitHubRefused(GitHubError):
    """Not like this: asking again brings the same answer. ``status`` is HTTP's, 0 when nothing was asked."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class AccessRefused(GitHubRefused):
    """Whoever asks may not, whatever is asked: a key, a token or a permission is missing or wrong."""


def of_answer(
    asked: str, status: int, headers: Mapping[str, str], said: str, permissions: Mapping[str, str]
) -> GitHubError:
    """What an answer of HTTP that is an error means. ``asked`` is method and path, ``said`` GitHub's own message."""
    words = f": {said}" if said else ""
    if status == 429 or (status == 403 and _limited(headers, said)):
        return GitHubUnavailable(f"GitHub limits how often it is asked ({status} to {asked}{words})", _pause(headers))
    if status >= 500:
        return GitHubUnavailable(f"GitHub answers {status} to {asked}{words}", _retry_after(headers))
    if status == 403 and "is locked" in said.lower():
        return GitHubRefused(
            f"GitHub refuses {asked} with {status}{words.rstrip('.')}. Unlock the conversation there", status
        )
    advice = _advice(status, headers, permissions)
    refused = AccessRefused if status in (401, 403) else GitHubRefused
    return refused(f"GitHub refuses {asked} with {status}{words}. {advice}", status)


def _advice(status: int, headers: Mapping[str, str], permissions: Mapping[str, str]) -> str:
    wanted = ", ".join(f"{name}: {level}" for name, level in sorted(permissions.items()))
    wanted = headers.get("x-accepted-github-permissions", "").replace("=", ": ") or wanted
    match status:
        case 401:
            return "The token or the App's key is wrong or was revoked: put a new one in the secrets folder"
        case 403:
            return f"The App or token lacks {wanted}: grant it on GitHub, and accept it for the installation"
        case 404:
            return f"Either it is not there, or the App or token may not see it: it needs {wanted}"
        case _:
            return "Nothing was changed"


def _limited(headers: Mapping[str, str], said: str) -> bool:
    lowered = said.lower()
    return (
        "retry-after" in headers
        or headers.get("x-ratelimit-remaining") == "0"
        or "rate limit" in lowered
        or "abuse detection" in lowered
    )


def _pause(headers: Mapping[str, str]) -> float:
    """Seconds until a limit is over."""
    after = _retry_after(headers)
    if after is None and headers.get("x-ratelimit-remaining") == "0":
        reset = headers.get("x-ratelimit-reset", "")
        after = float(reset) - time.time() if reset.isdecimal() else None
    return _SECONDARY_S if after is None else min(max(after, 1.0), _LONGEST_S)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        return min(float(text), _LONGEST_S)
    try:
        return min(max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0), _LONGEST_S) if text else None
    except ValueError:
        return None
