"""What is read from a request: numbers and texts of its query, its body; and how it is told that something is wrong."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from twisted.web import http
from twisted.web.server import Request

from master.web.views import Json

_LARGEST_BODY = 64 * 1024
_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)
_LARGEST_ID = 2**31 - 1  # PostgreSQL's integer; beyond it there is no row, and asking would be an error


@dataclass
class Failed(Exception):
    """An answer that is an error; ``text`` is for the reader."""

    status: int
    text: str


def whole(text: str) -> int | None:
    """A number from 1 that a row can have; ``None`` when it is none."""
    return int(text) if _NUMBER.fullmatch(text) and 0 < int(text) <= _LARGEST_ID else None


def number(request: Request, name: bytes) -> int | None:
    """A whole number of the query, from 1; ``None`` when it is not there."""
    values = (request.args or {}).get(name, [])
    if not values:
        return None
    found = whole(values[0].decode(errors="replace"))
    if len(values) > 1 or found is None:
        raise Failed(http.BAD_REQUEST, f"{name.decode()}: expected one whole number from 1")
    return found


def text(request: Request, name: bytes) -> str | None:
    """A text of the query; ``None`` when it is not there."""
    values = (request.args or {}).get(name, [])
    if len(values) > 1:
        raise Failed(http.BAD_REQUEST, f"{name.decode()}: expected once")
    return values[0].decode(errors="replace") if values else None


def allow(request: Request, *methods: bytes) -> None:
    if request.method not in methods:
        request.setHeader(b"allow", b", ".join(methods))
        raise Failed(http.NOT_ALLOWED, f"only {' or '.join(m.decode() for m in methods)} is understood here")


def body(request: Request) -> Json:
    raw = request.content.read(_LARGEST_BODY + 1) if request.content else b""
    if len(raw) > _LARGEST_BODY:
        raise Failed(http.BAD_REQUEST, "the body is too large")
    try:
        found = json.loads(raw or b"{}")
    except (ValueError, RecursionError):
        raise Failed(http.BAD_REQUEST, "the body is no JSON") from None
    if not isinstance(found, dict):
        raise Failed(http.BAD_REQUEST, "the body must be a JSON object")
    return found


def only(order: Json, *names: str) -> None:
    """Refuse an order that holds anything else."""
    if unknown := sorted(set(order) - set(names)):
        raise Failed(http.BAD_REQUEST, f"{unknown[0][:60]!r}: nothing of this name is understood here")
