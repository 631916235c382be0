"""Whether what GitHub says of a pull request's author also holds for the commit that it proposes. Pure.

GitHub tells who opened a pull request, and not whose commit is its head: whoever may push to the head's branch decides
what would run. So an author's association counts for what only people who may write here, or the author, have brought.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def association_of(pull: Mapping[str, Any], *, pusher: str = "") -> tuple[str, str]:
    """The author's association to the repository, where it speaks for the head; else empty, and why it does not.

    Args:
        pull: a pull request as GitHub's payloads and answers have it.
        pusher: who made this commit its head; empty where nobody says.
    """
    head, base = _repository(pull, "head"), _repository(pull, "base")
    author, theirs = _text(pull.get("user"), "login"), _text(head.get("owner"), "login")
    here = bool(name := _text(head, "full_name")) and name == _text(base, "full_name")
    doubt = ""
    if not name:
        doubt = "its head's repository is gone"
    elif not here and (not author or theirs != author):
        doubt = f"it comes from the fork of {theirs or 'somebody'}"
    elif not here and not pusher:
        doubt = "who pushed to its fork is not known"
    elif not here and pusher != author:
        doubt = f"{pusher} pushed to it"
    return ("", doubt) if doubt else (_text(pull, "author_association"), "")


def _repository(pull: Mapping[str, Any], side: str) -> Mapping[str, Any]:
    """Null once a fork was deleted."""
    of_side = pull.get(side)
    found = of_side.get("repo") if isinstance(of_side, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _text(of: Any, key: str) -> str:
    found = of.get(key) if isinstance(of, Mapping) else None
    return found if isinstance(found, str) else ""
