"""The door for GitHub's webhooks: Buildbot's handler, less what it lets through.

Buildbot's own accepts unsigned deliveries, checks SHA-1 alone and knows no repeated delivery. Here a delivery gets
its 2xx once it is kept in the database, and what it means is found out after (:mod:`master.github.deliveries`).
Source: https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import parse_qs

from buildbot.process.properties import Properties
from buildbot.util.twisted import async_to_deferred
from buildbot.www.hooks.github import GitHubEventHandler
from twisted.internet.threads import deferToThread
from twisted.python import log
from twisted.web.server import Request

from master.github.deliveries import SERVICE, Deliveries
from master.github.payloads import ACTED_UPON, repository_of
from master.settings import Settings
from master.settings_github import GitHubSettings

LARGEST = 25 * 1024 * 1024  #: bytes; GitHub sends no more
_LARGE = 1 << 20  #: bytes; a megabyte is parsed in about 20 ms
_SIGNATURE = re.compile(r"sha256=([0-9a-f]{64})", re.ASCII)
_DELIVERY = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{7,63}", re.ASCII)
#: Events of which no two have the same body. GitHub's signature leaves the delivery's number out, so a body that
#: somebody has got hold of would count again under another one. (Two equal ``repository_dispatch`` may both be meant.)
_NEVER_EQUAL = ("issue_comment",)
_EVENT = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)


class Refused(ValueError):
    """A delivery that is not taken in; Buildbot answers 400 with the message."""


class GitHubHook(GitHubEventHandler):
    """Takes in what GitHub has signed. Buildbot never gets a change of it."""

    @async_to_deferred
    async def process(self, request: Request) -> tuple[list[dict[str, Any]], str]:
        """Buildbot's hook: keep one delivery.

        Raises:
            Refused: it is not GitHub's, or not for this master.
        """
        try:
            await self._take_in(request)
        except Refused as why:
            log.msg(f"a delivery to the webhook was refused: {why}")
            raise
        return [], "git"

    async def _take_in(self, request: Request) -> None:
        if request.method != b"POST":
            raise Refused("GitHub delivers by POST")
        signature = _signature(request)  # who has none is not worth reading what he sends
        body = _body(request)
        secret = Properties()
        secret.master = self.master
        _assert_signed(body, await secret.render(self._secret), signature)
        delivery, name = _header(request, "X-GitHub-Delivery"), _header(request, "X-GitHub-Event")
        if not _DELIVERY.fullmatch(delivery):
            raise Refused("X-GitHub-Delivery: missing, or no number of a delivery")
        if not _EVENT.fullmatch(name):
            raise Refused("X-GitHub-Event: missing, or no name of an event")
        kind = _header(request, "Content-Type")
        if len(body) > _LARGE:  # it takes so long that all else would wait
            payload = await deferToThread(_payload, body, kind)
        else:
            payload = _payload(body, kind)
        service: Deliveries = self.master.service_manager.namedServices[SERVICE]
        _assert_ours(name, payload, service.settings)
        digest = hashlib.sha256(body).hexdigest() if name in _NEVER_EQUAL else ""
        await service.keep(delivery=delivery, name=name, payload=payload, digest=digest)


def _header(request: Request, name: str) -> str:
    return (request.getHeader(name) or "").strip()


def _body(request: Request) -> bytes:
    length = _header(request, "Content-Length")
    if length.isdecimal() and int(length) > LARGEST:
        raise Refused(f"the delivery is larger than {LARGEST} bytes")
    if request.content is None:
        raise Refused("the delivery has no body")
    request.content.seek(0)
    body: bytes = request.content.read(LARGEST + 1)
    if len(body) > LARGEST:
        raise Refused(f"the delivery is larger than {LARGEST} bytes")
    return body


def _signature(request: Request) -> str:
    """The 64 digits that the body should have."""
    signature = _header(request, "X-Hub-Signature-256")
    if not signature:
        raise Refused("X-Hub-Signature-256: missing; the webhook needs the secret github-webhook-secret (SHA-256 only)")
    found = _SIGNATURE.fullmatch(signature)
    if found is None:
        raise Refused("X-Hub-Signature-256: expected sha256= and 64 hexadecimal digits")
    return found[1]


def _assert_signed(body: bytes, secret: str, signature: str) -> None:
    """Compared over the body's very bytes, in constant time, before anything is made of them."""
    if not secret:
        raise Refused("this master has no webhook secret")
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, signature):
        raise Refused("X-Hub-Signature-256 is not this body's: is the webhook's secret that of the master?")


def _payload(body: bytes, content_type: str) -> Mapping[str, Any]:
    kind = content_type.partition(";")[0].strip().lower()
    try:
        if kind == "application/x-www-form-urlencoded":
            (text,) = parse_qs(body.decode("utf-8"), strict_parsing=True, max_num_fields=10).get("payload", [""])
        elif kind == "application/json":
            text = body.decode("utf-8")
        else:
            raise Refused("Content-Type: expected application/json or application/x-www-form-urlencoded")
        payload = json.loads(text, parse_constant=_no_number)
    except Refused:
        raise
    except (ValueError, RecursionError):
        raise Refused("the body is no JSON payload") from None
    if not isinstance(payload, dict):
        raise Refused("the payload is no JSON object")
    return payload


def _no_number(_text: str) -> NoReturn:
    raise ValueError("NaN and Infinity are no JSON")


def _assert_ours(event: str, payload: Mapping[str, Any], settings: Settings) -> None:
    """What happens to an organisation or an installation names no repository, and starts nothing."""
    github: GitHubSettings | None = settings.github
    name = repository_of(payload)
    if not name and event in ACTED_UPON:
        raise Refused("the payload names no repository")
    if name and (github is None or name.lower() not in github.repositories):
        raise Refused("the delivery is about a repository that [github] repository and formerly do not name")


def dialects(secret: Any) -> dict[str, Any]:
    """Buildbot's ``change_hook_dialects`` with this hook at ``change_hook/github``."""
    return {"github": {"class": GitHubHook, "secret": secret, "strict": True}}
