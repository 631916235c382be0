"""Settings are read by many and shown on a page: nothing in them may be a secret. This finds what looks like one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from master.settings_problems import Location, Problem, dotted

HIDDEN = "(hidden: it looks like a secret)"

_TOKENS = re.compile(
    r"\b(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{15,}|xox[abprs]-[\w-]{10,}|pypi-[\w-]{30,}"
    r"|(AKIA|ASIA)[A-Z0-9]{16}\b|hv[sb]\.[\w-]{20,}|npm_[A-Za-z0-9]{30,})|-----BEGIN [A-Z ]*PRIVATE KEY",
    re.ASCII,
)
_PASSWORD_IN_URL = re.compile(
    r"[a-z][a-z0-9+.-]*://[^/\s:@?#]*:(?!\{secret:[^}]*\}@)[^/\s@]+@", re.ASCII | re.IGNORECASE
)
_PASSWORD_PARAMETER = re.compile(r"[?&;](password|passwd|pwd|token)=(?!\{secret:)[^&\s]", re.IGNORECASE)


def secret_kind(text: str) -> str:
    """What the text seems to give away; empty when nothing."""
    if _TOKENS.search(text):
        return "an access token or key"
    if _PASSWORD_IN_URL.search(text) or _PASSWORD_PARAMETER.search(text):
        return "a password in a URL"
    return ""


def shown(value: object, limit: int = 80) -> str:
    """A value as text for an error message: short, and without secrets."""
    text = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    if secret_kind(text):
        return HIDDEN
    return text if len(text) <= limit else text[: limit - 1] + "…"


def redacted(problem: Problem) -> Problem:
    """The problem with every secret in its text hidden."""

    def safe(text: str) -> str:
        return HIDDEN if secret_kind(text) else text

    message = problem.message if not secret_kind(problem.message) else "is not allowed here"
    return replace(
        problem, message=message, key=safe(problem.key), found=safe(problem.found), allowed=safe(problem.allowed)
    )


def inline_secrets(data: Mapping[str, Any]) -> list[Problem]:
    """Every value, and every key, that looks like a secret."""
    problems = []
    for location, text in _texts(data, ()):
        if "{secret:" in text and location != ("database", "url"):
            message = "{secret:…} stands for a secret in database.url alone"
            problems.append(
                Problem(key=dotted(location), message=message, found=shown(text), allowed=_instead(location))
            )
        if kind := secret_kind(text):
            problems.append(
                Problem(
                    key=dotted(location),
                    message=f"holds {kind}; secrets are never written in settings",
                    found=HIDDEN,
                    allowed=_instead(location),
                )
            )
    return problems


def _instead(location: Location) -> str:
    if location == ("database", "url"):
        return "{secret:NAME} in its place, and the file NAME in the secrets folder"
    if location[:1] == ("stages",):
        return "a file in the secrets folder, its name listed in the stage's secrets"
    return "nothing secret; where access needs one: the worker's own git credentials or ssh key"


def _texts(value: Any, location: Location) -> Iterator[tuple[Location, str]]:
    if isinstance(value, str):
        yield location, value
    elif isinstance(value, Mapping):
        for key, below in value.items():
            if secret_kind(str(key)):
                yield location, str(key)
            yield from _texts(below, (*location, str(key)))
    elif isinstance(value, list | tuple | set | frozenset):
        for index, below in enumerate(value):
            yield from _texts(below, (*location, index))
