"""Faults of the GitHub double, on order: errors, storms of limits, connections that hang or are cut."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: What a fault may be. ``secondary``: GitHub's 403 for too many requests; ``primary``: the hour's quota is used up.
#: ``half``: GitHub lost an upload on its way to its storage, and keeps an empty asset, as its documentation says.
KINDS = ("error", "hang", "cut", "limit", "secondary", "primary", "half")
SECONDARY = (
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again. If you reach out to"
    " GitHub Support for help, please include the request ID."
)


class Faults:
    """The orders, oldest first; the first that wants a request has it.

    An order: ``kind``; ``status`` of an ``error``; ``match``, a pattern of ``METHOD PATH``; ``skip`` so many that
    match, then befall ``count`` of them (0: all), until ``until`` (seconds of the clock, 0: no end);
    ``acted``: GitHub does what was asked, and only its answer is lost or wrong; ``retry_after`` seconds, as GitHub
    names them (``None``: it names none).
    """

    def __init__(self) -> None:
        self.orders: list[dict[str, Any]] = []
        self.mended = asyncio.Event()

    def add(self, order: dict[str, Any]) -> None:
        assert order["kind"] in KINDS, order
        self.orders.append(order)
        self.mended = asyncio.Event()

    def clear(self) -> None:
        self.orders.clear()
        self.mended.set()

    def wanting(self, request: str) -> dict[str, Any] | None:
        for order in list(self.orders):
            if order["until"] and order["until"] < time.time():
                self.orders.remove(order)
            elif re.search(order["match"], request):
                if order["skip"] > 0:
                    order["skip"] -= 1
                    continue
                if order["count"]:
                    order["count"] -= 1
                    if not order["count"]:
                        self.orders.remove(order)
                return order
        return None

    def before(self, application: ASGIApp, log: list[dict[str, Any]]) -> ASGIApp:
        """The application, with the faults in front of it."""

        async def faulty(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or scope["path"].startswith("/_control/"):
                return await application(scope, receive, send)
            order = self.wanting(f"{scope['method']} {scope['path']}")
            if order is None:
                return await application(scope, receive, send)
            if order["kind"] == "half":
                return await application({**scope, "fault": "half"}, receive, send)
            if order["acted"]:
                await application({**scope, "fault": order["kind"]}, receive, _nowhere)
            else:
                entry = {"method": scope["method"], "path": scope["path"], "query": {}, "at": time.time()}
                log.append(
                    {**entry, "permissions": None, "as": None, "body": None, "status": 0, "fault": order["kind"]}
                )
            await self._befall(order, send)

        return faulty

    async def _befall(self, order: dict[str, Any], send: Send) -> None:
        kind = order["kind"]
        if kind == "hang":
            await self.mended.wait()
        if kind in ("hang", "cut"):
            send.__self__.transport.abort()  # type: ignore[attr-defined]  # uvicorn's connection
            return
        status = {"error": order["status"], "limit": 429}.get(kind, 403)
        message = {"error": "Server Error", "primary": "API rate limit exceeded for installation ID 1."}
        headers = {"content-type": "application/json; charset=utf-8"}
        if kind == "primary":
            headers |= {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(time.time() + order["retry_after"]))}
        elif order["retry_after"] is not None and kind != "error":
            headers["retry-after"] = str(order["retry_after"])
        body = json.dumps({"message": message.get(kind, SECONDARY), "documentation_url": "https://docs.github.com"})
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body.encode()})


async def _nowhere(_message: Message) -> None:
    """Takes an answer that nobody gets."""
