"""Who may read the API and who may give orders through it: the rules of Buildbot's ``www`` settings, and more.

Buildbot allows what no rule forbids. Orders here also demand, whatever the rules say, a user who is logged in
and has the role ``admins``, and a request that another site's page cannot have a browser make: JSON by its
content type (a form cannot send it, and a script may not without a preflight, which this API never grants)
and, where an ``Origin`` is told, our own.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from buildbot.util import bytes2unicode
from buildbot.www.authz import Forbidden
from twisted.web.server import Request

ROLE = "admins"


async def assert_may_read(master: Any, request: Request, endpoint: tuple[str, ...]) -> None:
    """Raises ``Forbidden`` when a rule of this master keeps this user from reading."""
    await master.www.assertUserAllowed(request, endpoint, "get", {})


async def assert_may_control(master: Any, request: Request, endpoint: tuple[str, ...], action: str) -> None:
    """Raises ``Forbidden`` unless this user may give this order."""
    user = master.www.getUserInfos(request)
    authz = master.www.authz
    if user.get("anonymous") or authz is None or ROLE not in authz.getRolesFromUser(user):
        raise Forbidden(f"you need to be logged in with the role '{ROLE}'".encode())
    await master.www.assertUserAllowed(request, endpoint, action, {})


async def may_control(master: Any, request: Request, endpoint: tuple[str, ...]) -> bool:
    """Whether :func:`assert_may_control` would let this user cancel, repeat and approve."""
    try:
        for action in ("cancel", "repeat", "approve"):
            await assert_may_control(master, request, endpoint, action)
    except Forbidden:
        return False
    return True


def user_name(master: Any, request: Request) -> str:
    """Who asks, for the journal."""
    user = master.www.getUserInfos(request)
    return str(user.get("username") or user.get("full_name") or user.get("email") or "somebody")


def assert_own_page(master: Any, request: Request) -> None:
    """Raises ``Forbidden`` for a request that a page of another site may have caused."""
    content_type = bytes2unicode(request.getHeader(b"content-type") or b"")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise Forbidden(b"orders must be sent as application/json")
    origin = request.getHeader(b"origin")
    if origin is None:  # no browser sends an order without it
        return
    told = bytes2unicode(origin, errors="replace").lower()
    configured = urlsplit(str(master.config.buildbotURL))
    if told == f"{configured.scheme}://{configured.netloc}".lower():
        return
    host = bytes2unicode(request.getHeader(b"host") or b"", errors="replace").lower()
    try:
        their_host = urlsplit(told).netloc
    except ValueError:  # no URL
        their_host = ""
    if their_host != host or not host:
        raise Forbidden(b"orders are taken from this master's own page only")
