"""The GitHub double's process: who may do what, faults on order, a log of all requests, and the test's own entrance.

    python github_double_server.py    (prints its port; what it is, it is told)

The test's entrance is ``/_control``; the test uses it through :class:`github_double.GitHubDouble`.
"""

from __future__ import annotations

import dataclasses
import json
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import github_double_releases
import github_double_routes
import jwt
import uvicorn
from github_double_faults import Faults
from github_double_state import Refusal, State, Token
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

ROUTES = (*github_double_routes.ROUTES, *github_double_releases.ROUTES)


class Double:
    """Carries requests to their routes; one at a time changes the state, since no route waits while it does."""

    def __init__(self) -> None:
        self.state: State
        self.log: list[dict[str, Any]] = []

    def forget(self, configuration: dict[str, Any]) -> None:
        """Begin anew."""
        self.state = State(**{**configuration, "folder": Path(configuration["folder"])})
        self.log.clear()

    def answers(self, handler: Any) -> Any:
        async def endpoint(request: Request) -> Response:
            entry = {"method": request.method, "path": request.url.path, "query": dict(request.query_params)}
            entry |= {"at": time.time(), "permissions": None, "as": None, "body": None, "status": 0, "fault": ""}
            entry["fault"] = request.scope.get("fault", "")
            self.log.append(entry)
            try:
                answer = await self._answer(handler, request, entry)
            except Refusal as refusal:
                answer = JSONResponse(refusal.body, refusal.status)
            entry["status"] = answer.status_code
            answer.headers["x-ratelimit-limit"] = "5000"
            answer.headers["x-ratelimit-remaining"] = "4999"
            answer.headers["x-ratelimit-reset"] = str(int(time.time()) + 3600)
            return answer

        return endpoint

    async def _answer(self, handler: Any, request: Request, entry: dict[str, Any]) -> Response:
        request.state.github = self.state
        request.state.token = self._permitted(handler, request, entry)
        if handler.json_body is not None:
            entry["body"] = body = await _json(request)
            request.state.body = handler.json_body.of(body)
        found = await handler(request)
        if isinstance(found, Response):
            return found
        status, body = found
        if isinstance(body, list):
            return _page(request, body, status)
        return Response(status_code=status) if body is None else JSONResponse(body, status)

    def _permitted(self, handler: Any, request: Request, entry: dict[str, Any]) -> Token | None:
        """The token, which allows this; ``None`` where it is the App itself that asks, or anybody may."""
        if handler.public:
            return None
        kind, _, text = request.headers.get("authorization", "").partition(" ")
        if kind.lower() not in ("bearer", "token") or not text:
            raise Refusal(401, "Requires authentication")
        if handler.as_app:
            self._app(text)
            entry["as"] = "app"
            return None
        token = self.state.tokens.get(text)
        if token is None or token.until < time.time():
            raise Refusal(401, "Bad credentials")
        entry |= {"permissions": token.permissions, "as": token.login}
        asked = request.path_params
        if "repo" in asked and f"{asked['owner']}/{asked['repo']}".lower() not in token.repositories:
            raise Refusal(404, "Not Found")
        if handler.needs and not any(token.may(*need.split(":")) for need in handler.needs):
            by = "integration" if token.app else "personal access token"
            raise Refusal(403, f"Resource not accessible by {by}")
        return token

    def _app(self, text: str) -> None:
        try:
            claims = jwt.decode(text, self.state.app_key, algorithms=["RS256"], options={"verify_iss": False})
        except jwt.InvalidTokenError as error:
            raise Refusal(401, f"A JSON web token could not be decoded: {error}") from None
        if str(claims.get("iss")) != str(self.state.app_id):
            raise Refusal(401, "'Issuer' claim ('iss') must be an Integer")
        if not isinstance(claims.get("exp"), int) or claims["exp"] > time.time() + 600:
            raise Refusal(401, "'Expiration time' claim ('exp') is too far in the future")


async def _json(request: Request) -> Any:
    try:
        raw = await request.body()
    except ClientDisconnect:
        raise Refusal(400, "the request was cut short") from None
    if not raw:
        return {}
    try:
        return json.loads(raw)
    except ValueError:
        raise Refusal(400, "Problems parsing JSON") from None


def _page(request: Request, whole: list[Any], status: int) -> Response:
    """One page of a list, with the ``Link`` header of GitHub's lists."""
    query = request.query_params
    try:
        size, number = min(int(query.get("per_page", 30)), 100), max(int(query.get("page", 1)), 1)
    except ValueError:
        raise Refusal(422, "page and per_page are numbers") from None
    last = max(1, -(-len(whole) // size))
    pages = {"prev": number - 1, "next": number + 1, "last": last, "first": 1}
    if number >= last:
        del pages["next"], pages["last"]
    if number == 1:
        del pages["prev"], pages["first"]
    base = str(request.url.replace(query=""))
    links = [f'<{base}?{urlencode({**query, "page": page})}>; rel="{rel}"' for rel, page in pages.items()]
    headers = {"link": ", ".join(links)} if links else {}
    return JSONResponse(whole[(number - 1) * size : number * size], status, headers)


def control(double: Double, faults: Faults) -> list[Route]:
    """The test's entrance."""

    async def read(_request: Request) -> Response:
        return Response(json.dumps(dataclasses.asdict(double.state), default=str), media_type="application/json")

    async def write(request: Request) -> Response:
        """Set (``set``) an attribute, or merge (``merge``) into one that is a table."""
        orders = await request.json()
        for name, value in orders.get("set", {}).items():
            setattr(double.state, name, value)
        for name, value in orders.get("merge", {}).items():
            getattr(double.state, name).update(value)
        double.state.revive()
        return JSONResponse({})

    async def forget(request: Request) -> Response:
        faults.clear()
        double.forget(await request.json())
        return JSONResponse({})

    async def log(_request: Request) -> Response:
        return JSONResponse(double.log)

    async def order(request: Request) -> Response:
        faults.add(await request.json())
        return JSONResponse({})

    async def mend(_request: Request) -> Response:
        faults.clear()
        return JSONResponse({})

    return [
        Route("/_control/state", read, methods=["GET"]),
        Route("/_control/state", write, methods=["POST"]),
        Route("/_control/forget", forget, methods=["POST"]),
        Route("/_control/requests", log, methods=["GET"]),
        Route("/_control/faults", order, methods=["POST"]),
        Route("/_control/faults", mend, methods=["DELETE"]),
    ]


def main() -> None:
    double = Double()
    faults = Faults()
    routes = [Route(handler.path, double.answers(handler), methods=[handler.method]) for handler in ROUTES]
    application = faults.before(Starlette(routes=[*control(double, faults), *routes]), double.log)
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(application, log_level="warning", proxy_headers=False, server_header=False, lifespan="off")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
