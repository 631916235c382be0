"""One client of GitHub's: githubkit, told to ask once, to fail at once and to show no token.

Importing this takes 0.4 s and, beside what a master has already, 7 MB: :mod:`master.github.access` does so when GitHub
is first asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from githubkit import AppAuthStrategy, GitHub, TokenAuthStrategy
from githubkit.cache import MemCacheStrategy
from githubkit.exception import GitHubException, RequestError, RequestFailed

from master.github.failures import AccessRefused, GitHubError, GitHubUnavailable, of_answer

_TIMEOUT_S = 20.0
_SAID = 200  #: characters of GitHub's own message that are repeated


class _Bearer(TokenAuthStrategy):
    __repr__ = object.__repr__  # that of a dataclass shows the token


class _App(AppAuthStrategy):
    __repr__ = object.__repr__


@contextmanager
def with_token(api: str, token: str, permissions: Mapping[str, str]) -> Iterator[GitHub[Any]]:
    """A client with a token that has these permissions."""
    with _opened(api, _Bearer(token), permissions) as github:
        yield github


@contextmanager
def as_app(api: str, app_id: int, private_key: str) -> Iterator[GitHub[Any]]:
    """A client that asks as the App itself."""
    with _opened(api, _App(app_id, private_key), {}) as github:
        yield github


@contextmanager
def _opened(api: str, auth: Any, permissions: Mapping[str, str]) -> Iterator[GitHub[Any]]:
    github = GitHub(
        auth,
        base_url=api,
        user_agent="mlc-ci",
        timeout=_TIMEOUT_S,
        http_cache=False,
        auto_retry=False,
        rest_api_validate_body=False,  # it drops what it does not know; GitHub itself says what is wrong
        cache_strategy=MemCacheStrategy(),  # of its own: the shared one would keep the signature of a replaced key
    )
    try:
        with github:
            yield github
    except (GitHubException, httpx.HTTPError, ValueError) as error:
        raise translated(error, permissions) from None  # the request with its headers is not carried along


def translated(error: Exception, permissions: Mapping[str, str]) -> GitHubError:
    """What githubkit raised, or httpx while an answer was read block by block, as one of ours."""
    if isinstance(error, httpx.HTTPError):
        return GitHubUnavailable(_unreached(error))
    if isinstance(error, RequestFailed):
        answer = error.response
        asked = f"{error.request.method} {error.request.url.path}"
        return of_answer(asked, answer.status_code, answer.headers, _message(answer), permissions)
    if isinstance(error, RequestError):
        if isinstance(error.exc, httpx.HTTPError):
            return GitHubUnavailable(_unreached(error.exc))
        what = f"{type(error.exc).__name__}, before anything was sent"
        return AccessRefused(f"GitHub cannot be asked ({what}): is the secret a token, or an App's private key in PEM?")
    if isinstance(error, GitHubException):
        return GitHubUnavailable(f"GitHub could not be asked: {type(error).__name__}")
    return GitHubUnavailable(f"GitHub's answer cannot be read ({type(error).__name__})")


def _message(answer: Any) -> str:
    try:
        body = answer.json()
    except ValueError:
        return ""
    said = body.get("message") if isinstance(body, dict) else None
    return "".join(c if c.isprintable() else " " for c in said)[:_SAID] if isinstance(said, str) else ""


def _unreached(error: Exception) -> str:
    """The error of the network, without a proxy's address, which may hold a password."""
    said = str(error) if "://" not in str(error) else ""
    return f"GitHub cannot be reached: {type(error).__name__}" + (f" ({said[:_SAID]})" if said else "")
