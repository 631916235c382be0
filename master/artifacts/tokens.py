"""What a build may do with artifacts, signed by the master: write its own folder, read what its run has accepted.

A token has no time to live: it dies with its build, which the artifact process asks the database about. So it needs
no clock, and a build that takes long needs no second one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jwt

KEY = "artifact-tokens"  #: the secret that signs them
PASSWORD = "artifact-password"  # noqa: S105 (the name of the secret that lets people read what is not public)
_ALGORITHM = "HS256"
_AUDIENCE = "mlc-ci artifacts"
_LINK = "mlc-ci artifact link"


class InvalidToken(ValueError):
    """A text that this master never signed."""


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What one build may do."""

    build_id: int
    run_id: int  #: whose accepted artifacts it may read
    folder: str  #: where its own go (:func:`master.artifacts.names.build_folder`)
    budget: int  #: bytes that it may upload in all


def sign(key: str, grant: Grant) -> str:
    """The token: goes to the worker and into no log."""
    claims = {
        "aud": _AUDIENCE,
        "build": grant.build_id,
        "run": grant.run_id,
        "folder": grant.folder,
        "budget": grant.budget,
    }
    return jwt.encode(claims, key, _ALGORITHM)


def verify(key: str, token: str) -> Grant:
    """What a token grants, as long as its build runs.

    Raises:
        InvalidToken: it is not ours, or not as we signed it.
    """
    try:
        claims: dict[str, Any] = jwt.decode(token, key, [_ALGORITHM], audience=_AUDIENCE)
        return Grant(
            build_id=_count(claims["build"]),
            run_id=_count(claims["run"]),
            folder=str(claims["folder"]),
            budget=_count(claims["budget"]),
        )
    except (jwt.InvalidTokenError, KeyError, TypeError, ValueError) as error:
        raise InvalidToken(f"no token of this master: {type(error).__name__}") from None


def sign_link(key: str, artifact_id: int, *, until: float) -> str:
    """What lets whoever has it read one artifact until then (seconds since the epoch)."""
    return jwt.encode({"aud": _LINK, "artifact": artifact_id, "exp": int(until)}, key, _ALGORITHM)


def verify_link(key: str, link: str, artifact_id: int) -> None:
    """Raises :class:`InvalidToken` when it is not ours, for another artifact, or too old."""
    try:
        claims: dict[str, Any] = jwt.decode(link, key, [_ALGORITHM], audience=_LINK, options={"require": ["exp"]})
    except jwt.ExpiredSignatureError:
        raise InvalidToken("this link has expired: take a new one from the run's page") from None
    except jwt.InvalidTokenError as error:
        raise InvalidToken(f"no link of this master: {type(error).__name__}") from None
    if claims.get("artifact") != artifact_id:
        raise InvalidToken("this link is for another artifact")


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"{value!r} is no count")
    return value
