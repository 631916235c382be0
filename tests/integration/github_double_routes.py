"""Routes of the GitHub double: the App, commits and their statuses, pull requests, comments, people."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import github_double_answers as answers
from github_double_state import LEVELS, Refusal, State, invalid, now
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

Handler = Callable[[Request], Awaitable[Any]]
ROUTES: list[Any] = []
REPO = "/repos/{owner}/{repo}"


class Body(BaseModel):
    """What a request may say: nothing that GitHub does not know, and nothing of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @classmethod
    def of(cls, found: Any) -> Any:
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            fields = [(".".join(map(str, one["loc"])), one["msg"]) for one in error.errors()]
            wrong = [{"resource": "", "field": name, "code": "invalid", "message": said} for name, said in fields]
            raise Refusal(422, "Invalid request.", errors=wrong) from None


def route(
    method: str,
    path: str,
    *needs: str,
    body: type[Body] | None = None,
    as_app: bool = False,
    public: bool = False,
    to: list[Any] = ROUTES,
) -> Callable[[Handler], Handler]:
    """``needs``: permissions, any of which suffices; ``as_app``: the App itself asks; ``public``: anybody may."""

    def placed(handler: Any) -> Any:
        handler.method, handler.path, handler.needs, handler.json_body = method, path, needs, body
        handler.as_app, handler.public = as_app, public
        to.append(handler)
        return handler

    return placed


def github(request: Request) -> State:
    found: State = request.state.github
    return found


# -- the App


class TokenBody(Body):
    repositories: list[str] | None = None
    repository_ids: list[int] | None = None
    permissions: dict[str, Literal["read", "write", "admin"]] | None = None


@route("GET", "/app", as_app=True)
async def app(request: Request) -> Any:
    return 200, answers.app(github(request))


@route("GET", "/app/hook/config", as_app=True)
async def app_hook(request: Request) -> Any:
    return 200, github(request).hook


@route("GET", "/app/installations/{installation_id:int}", as_app=True)
async def installation(request: Request) -> Any:
    if request.path_params["installation_id"] != github(request).installation_id:
        raise Refusal(404, "Not Found")
    return 200, answers.installation(github(request))


@route("GET", REPO + "/installation", as_app=True)
async def repository_installation(request: Request) -> Any:
    _this(request)
    return 200, answers.installation(github(request))


@route("POST", "/app/installations/{installation_id:int}/access_tokens", body=TokenBody, as_app=True)
async def access_token(request: Request) -> Any:
    state, body = github(request), request.state.body
    if request.path_params["installation_id"] != state.installation_id:
        raise Refusal(404, "Not Found")
    asked = state.granted if body.permissions is None else body.permissions
    for name, level in asked.items():
        if LEVELS.index(state.granted.get(name, "none")) < LEVELS.index(level):
            raise Refusal(422, "The permissions requested are not granted to this installation.")
    if body.repositories is not None and [name.lower() for name in body.repositories] != [state.name.lower()]:
        raise Refusal(422, "There is at least one repository that does not exist or is not accessible to the parent")
    token, until = state.new_token(asked)
    expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(until))
    said = {"token": token, "expires_at": expires, "permissions": {"metadata": "read", **asked}}
    return 201, said | {"repository_selection": "selected", "repositories": [answers.repository(state)]}


def _this(request: Request) -> None:
    asked = request.path_params
    if f"{asked['owner']}/{asked['repo']}".lower() != github(request).full_name.lower():
        raise Refusal(404, "Not Found")


# -- the repository, its commits and refs


@route("GET", REPO, "metadata:read")
async def repository(request: Request) -> Any:
    return 200, answers.repository(github(request))


@route("GET", REPO + "/git/ref/{ref:path}", "contents:read")
async def ref(request: Request) -> Any:
    if request.path_params["ref"] not in github(request).refs:
        raise Refusal(404, "Not Found")
    return 200, answers.ref(github(request), request.path_params["ref"])


@route("GET", REPO + "/git/matching-refs/{ref:path}", "contents:read")
async def matching_refs(request: Request) -> Any:
    state = github(request)
    return 200, [answers.ref(state, name) for name in sorted(state.refs) if name.startswith(request.path_params["ref"])]


@route("GET", REPO + "/git/tags/{sha}", "contents:read")
async def tag_object(request: Request) -> Any:
    if request.path_params["sha"] not in github(request).tag_objects:
        raise Refusal(404, "Not Found")
    return 200, answers.tag_object(github(request), request.path_params["sha"])


@route("GET", REPO + "/git/commits/{sha}", "contents:read")
async def git_commit(request: Request) -> Any:
    state = github(request)
    return 200, answers.git_commit(state, state.commit(request.path_params["sha"]))


class StatusBody(Body):
    state: Literal["error", "failure", "pending", "success"]
    target_url: str | None = None
    description: str | None = None
    context: str = Field(default="default", min_length=1, max_length=255)


@route("POST", REPO + "/statuses/{sha}", "statuses:write", body=StatusBody)
async def create_status(request: Request) -> Any:
    state, body = github(request), request.state.body
    sha = state.commit(request.path_params["sha"])
    if body.description is not None and len(body.description) > 140:
        invalid("Status", "description", "custom", "description is too long (maximum is 140 characters)")
    if body.target_url and not body.target_url.startswith(("http://", "https://")):
        invalid("Status", "target_url", "custom", "target_url must use http(s) scheme")
    if sum(one["sha"] == sha and one["context"] == body.context for one in state.statuses) >= 1000:
        invalid("Status", "context", "custom", "This SHA and context has reached the maximum number of statuses.")
    kept = {"id": state.next_id(), "sha": sha, **body.model_dump(), "creator": request.state.token.login}
    state.statuses.append(kept | {"created_at": now(), "updated_at": now()})
    return 201, answers.status(state, state.statuses[-1])


@route("GET", REPO + "/commits/{ref:path}/statuses", "statuses:read")
async def statuses(request: Request) -> Any:
    state = github(request)
    sha = state.resolve(request.path_params["ref"])
    return 200, [answers.status(state, one) for one in reversed(state.statuses) if one["sha"] == sha]


@route("GET", REPO + "/commits/{ref:path}/status", "statuses:read")
async def combined_status(request: Request) -> Any:
    state, query = github(request), request.query_params
    sha = state.resolve(request.path_params["ref"])
    newest = {one["context"]: one for one in state.statuses if one["sha"] == sha}
    size, page = min(int(query.get("per_page", 30)), 100), int(query.get("page", 1))
    kept = list(newest.values())
    return 200, answers.combined(state, sha, kept, kept[(page - 1) * size : page * size])


@route("GET", REPO + "/commits/{ref:path}", "contents:read")
async def commit(request: Request) -> Any:
    state = github(request)
    return 200, answers.commit(state, state.resolve(request.path_params["ref"]))


# -- pull requests and their comments


@route("GET", REPO + "/pulls/{number:int}", "pull_requests:read")
async def pull(request: Request) -> Any:
    state = github(request)
    return 200, answers.pull(state, state.pull(request.path_params["number"]))


@route("GET", REPO + "/pulls/{number:int}/files", "pull_requests:read")
async def files(request: Request) -> Any:
    state = github(request)
    found = state.pull(request.path_params["number"])
    return 200, [answers.file(state, name, found["head"]) for name in found["files"][:3000]]


class CommentBody(Body):
    body: str = Field(min_length=1)


def _commented(body: str) -> str:
    if len(body) > 65536:
        invalid("IssueComment", "body", "custom", "body is too long (maximum is 65536 characters)")
    return body


@route("GET", REPO + "/issues/{number:int}/comments", "issues:read", "pull_requests:read")
async def comments(request: Request) -> Any:
    state, number = github(request), request.path_params["number"]
    state.pull(number)
    return 200, [answers.comment(state, one) for one in state.comments if one["number"] == number]


@route("POST", REPO + "/issues/{number:int}/comments", "issues:write", "pull_requests:write", body=CommentBody)
async def create_comment(request: Request) -> Any:
    state, number = github(request), request.path_params["number"]
    state.pull(number)
    kept = {"id": state.next_id(), "number": number, "login": request.state.token.login}
    state.comments.append(
        kept | {"body": _commented(request.state.body.body), "created_at": now(), "updated_at": now()}
    )
    return 201, answers.comment(state, state.comments[-1])


def _comment(request: Request) -> dict[str, Any]:
    for one in github(request).comments:
        if one["id"] == request.path_params["id"]:
            return one
    raise Refusal(404, "Not Found")


@route("GET", REPO + "/issues/comments/{id:int}", "issues:read", "pull_requests:read")
async def comment(request: Request) -> Any:
    return 200, answers.comment(github(request), _comment(request))


@route("PATCH", REPO + "/issues/comments/{id:int}", "issues:write", "pull_requests:write", body=CommentBody)
async def update_comment(request: Request) -> Any:
    found = _comment(request)
    if found["login"] != request.state.token.login:
        raise Refusal(403, "Resource not accessible by integration")
    found |= {"body": _commented(request.state.body.body), "updated_at": now()}
    return 200, answers.comment(github(request), found)


@route("DELETE", REPO + "/issues/comments/{id:int}", "issues:write", "pull_requests:write")
async def delete_comment(request: Request) -> Any:
    github(request).comments.remove(_comment(request))
    return 204, None


# -- people, and the server itself


@route("GET", REPO + "/collaborators/{login}/permission", "metadata:read")
async def permission(request: Request) -> Any:
    state, login = github(request), request.path_params["login"]
    level = state.people.get(login, "read")
    shown = {"maintain": "write", "triage": "read"}.get(level, level)
    allowed = {"admin": level == "admin", "maintain": level in ("admin", "maintain")}
    allowed |= {"push": shown in ("admin", "write"), "triage": level != "read", "pull": level != "none"}
    whole = answers.user(state, login) | {"permissions": allowed, "role_name": level}
    return 200, {"permission": shown, "role_name": level, "user": whole}


@route("GET", "/users/{login}")
async def user(request: Request) -> Any:
    return 200, answers.public_user(github(request), request.path_params["login"])


@route("GET", "/user")
async def own_user(request: Request) -> Any:
    if request.state.token.app:
        raise Refusal(403, "Resource not accessible by integration")
    return 200, answers.public_user(github(request), request.state.token.login)


@route("GET", "/rate_limit")
async def rate_limit(_request: Request) -> Any:
    return 200, answers.rate_limit()


@route("GET", "/meta")
async def meta(request: Request) -> Any:
    return 200, answers.meta(github(request))
