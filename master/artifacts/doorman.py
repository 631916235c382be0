"""Who may do what: tokens, and whether the build that one was made for still runs."""

from __future__ import annotations

import base64
import functools
import hmac
import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from anyio import to_thread

from master.artifacts import tokens
from master.artifacts.refusal import Refused
from master.artifacts.tokens import Grant, InvalidToken
from master.database import uploads

_KNOWN_FOR_S = 1.0  #: so long an answer of the database about a running build is good for


class Database:
    """Our tables and Buildbot's, from threads."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    async def do(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call a function of :mod:`master.database` in a transaction of its own."""
        return await to_thread.run_sync(functools.partial(self.call, function, *arguments, **named))

    def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """The same, blocking."""
        with self.engine.begin() as connection:
            return function(connection, *arguments, **named)


class Doorman:
    """Judges requests.

    Args:
        key: what tokens are signed with.
        password: of those who may read everything (HTTP Basic, any user name), where that is not ``public``.
        public: accepted artifacts may be read by everybody.
    """

    def __init__(self, database: Database, key: str, *, password: str, public: bool) -> None:
        self.database = database
        self.key = key
        self.password = password
        self.public = public
        self._runs_until: dict[int, float] = {}

    async def writer(self, authorization: str | None, build_id: int) -> Grant:
        """What a request may do that is about this build's own uploads. Raises :class:`Refused`."""
        grant = await self._bearer(authorization)
        if grant.build_id != build_id:
            raise Refused(403, f"this token is for build {grant.build_id}, not for build {build_id}")
        return grant

    def browser(self, authorization: str | None) -> None:
        """Let a request pass that may read everything that was accepted. Raises :class:`Refused`."""
        if authorization is None:
            if not self.public:
                raise Refused(401, "artifacts of this master are not public: log in, or use a token or a link")
            return
        if not _basic(authorization, self.password):
            raise Refused(401, "this is not the password for reading artifacts")

    async def reader(self, authorization: str | None, run_id: int) -> None:
        """Let a request pass that reads what a run has accepted. Raises :class:`Refused`."""
        if authorization is None or authorization.lower().startswith("basic "):
            self.browser(authorization)
            return
        grant = await self._bearer(authorization)
        if grant.run_id != run_id:
            raise Refused(403, f"this token reads artifacts of run {grant.run_id}, not of run {run_id}")

    async def still_running(self, build_id: int) -> None:
        """Raises :class:`Refused` once the build has ended."""
        now = time.monotonic()
        if self._runs_until.get(build_id, 0.0) > now:
            return
        if not await self.database.do(uploads.runs_still, build_id):
            self._runs_until.pop(build_id, None)
            raise Refused(403, f"build {build_id} is over, and its token with it")
        self._runs_until[build_id] = now + _KNOWN_FOR_S

    def forget(self, build_id: int) -> None:
        """What is known of a build that is over."""
        self._runs_until.pop(build_id, None)

    async def _bearer(self, authorization: str | None) -> Grant:
        kind, _, token = (authorization or "").partition(" ")
        if kind.lower() != "bearer":
            raise Refused(401, "no token: Authorization: Bearer TOKEN is needed")
        try:
            grant = tokens.verify(self.key, token.strip())
        except InvalidToken as error:
            raise Refused(401, str(error)) from None
        await self.still_running(grant.build_id)
        return grant

    def guest(self, link: str, artifact_id: int) -> None:
        """Let a request pass that came by a link to one artifact. Raises :class:`Refused`."""
        try:
            tokens.verify_link(self.key, link, artifact_id)
        except InvalidToken as error:
            raise Refused(403, str(error)) from None


def _basic(authorization: str, password: str) -> bool:
    """Whether these are Basic credentials with this password (RFC 7617)."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        told = base64.b64decode(encoded.strip(), validate=True).partition(b":")[2]
    except ValueError:
        return False
    return hmac.compare_digest(told, password.encode())
