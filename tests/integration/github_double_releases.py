"""Routes of the GitHub double: releases and their assets."""

from __future__ import annotations

import contextlib
import hashlib
import re
from typing import Any, Literal

import github_double_answers as answers
from github_double_routes import REPO, Body, github, route
from github_double_state import Refusal, State, Upload, invalid, now
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, RedirectResponse

ROUTES: list[Any] = []


class ReleaseBody(Body):
    tag_name: str | None = None
    target_commitish: str | None = None
    name: str | None = None
    body: str | None = None
    draft: bool | None = None
    prerelease: bool | None = None
    make_latest: Literal["true", "false", "legacy"] | None = None
    discussion_category_name: str | None = None
    generate_release_notes: bool | None = None


def _uploads(request: Request) -> str:
    return f"http://{request.url.netloc}"  # not through a proxy in between: GitHub's uploads go to another host too


def _said(request: Request, release: dict[str, Any]) -> Any:
    return answers.release(github(request), release, _uploads(request))


def _drafts(request: Request) -> bool:
    return bool(request.state.token.may("contents", "write"))


def _checked(state: State, release: dict[str, Any], body: ReleaseBody) -> None:
    """Take over what was said, and publish when that was."""
    said = body.model_dump(exclude_none=True, exclude={"discussion_category_name", "generate_release_notes"})
    if not {**release, **said}["tag_name"]:
        invalid("Release", "tag_name", "missing_field")
    if len(said.get("body", "")) > 125000:
        invalid("Release", "body", "custom", "body is too long (maximum is 125000 characters)")
    tag, public = {**release, **said}["tag_name"], not {**release, **said}["draft"]
    others = [one for one in state.releases.values() if one["id"] != release["id"]]
    if public and any(one["tag_name"] == tag and not one["draft"] for one in others):
        invalid("Release", "tag_name", "already_exists")
    if public and f"tags/{tag}" not in state.refs:
        commit = {**release, **said}["target_commitish"]
        state.refs[f"tags/{tag}"] = {"type": "commit", "sha": state.resolve(commit)}
    release |= said
    if public and release["published_at"] is None:
        release["published_at"] = now()


@route("POST", REPO + "/releases", "contents:write", body=ReleaseBody, to=ROUTES)
async def create_release(request: Request) -> Any:
    state = github(request)
    release = {"id": state.next_id(), "tag_name": "", "target_commitish": state.default_branch, "name": None}
    release |= {"body": None, "draft": False, "prerelease": False, "make_latest": "true", "assets": []}
    release |= {"created_at": now(), "published_at": None, "login": request.state.token.login}
    _checked(state, release, request.state.body)
    state.releases[release["id"]] = release
    return 201, _said(request, release)


@route("GET", REPO + "/releases", "contents:read", to=ROUTES)
async def releases(request: Request) -> Any:
    found = [one for one in github(request).releases.values() if _drafts(request) or not one["draft"]]
    return 200, [_said(request, one) for one in reversed(found)]


@route("GET", REPO + "/releases/latest", "contents:read", to=ROUTES)
async def latest(request: Request) -> Any:
    found = [one for one in github(request).releases.values() if not one["draft"] and not one["prerelease"]]
    chosen = [one for one in found if one["make_latest"] != "false"]
    if not chosen:
        raise Refusal(404, "Not Found")
    return 200, _said(request, max(chosen, key=lambda one: (one["published_at"], one["id"])))


@route("GET", REPO + "/releases/tags/{tag:path}", "contents:read", to=ROUTES)
async def release_of_tag(request: Request) -> Any:
    for one in github(request).releases.values():
        if one["tag_name"] == request.path_params["tag"] and not one["draft"]:
            return 200, _said(request, one)
    raise Refusal(404, "Not Found")


@route("GET", REPO + "/releases/{id:int}", "contents:read", to=ROUTES)
async def release(request: Request) -> Any:
    return 200, _said(request, github(request).release(request.path_params["id"], drafts=_drafts(request)))


@route("PATCH", REPO + "/releases/{id:int}", "contents:write", body=ReleaseBody, to=ROUTES)
async def update_release(request: Request) -> Any:
    found = github(request).release(request.path_params["id"], drafts=True)
    _checked(github(request), found, request.state.body)
    return 200, _said(request, found)


@route("DELETE", REPO + "/releases/{id:int}", "contents:write", to=ROUTES)
async def delete_release(request: Request) -> Any:
    state = github(request)
    del state.releases[state.release(request.path_params["id"], drafts=True)["id"]]
    return 204, None


@route("GET", REPO + "/releases/{id:int}/assets", "contents:read", to=ROUTES)
async def assets(request: Request) -> Any:
    found = github(request).release(request.path_params["id"], drafts=_drafts(request))
    return 200, [answers.asset(github(request), found, one) for one in found["assets"]]


@route("POST", REPO + "/releases/{id:int}/assets", "contents:write", to=ROUTES)
async def upload(request: Request) -> Any:
    state = github(request)
    found = state.release(request.path_params["id"], drafts=True)
    asked, kind = request.query_params.get("name", ""), request.headers.get("content-type", "")
    if not asked:
        raise Refusal(400, "Bad Request: name wasn't supplied")
    if not kind or "content-length" not in request.headers:
        raise Refusal(400, "Bad Content-Type or Content-Length")
    name = re.sub(r"[^A-Za-z0-9._+@~-]+", ".", asked)  # as GitHub renames
    if any(one.name == name for one in found["assets"]):
        invalid("ReleaseAsset", "name", "already_exists")
    kept = Upload(
        id=state.next_id(), name=name, content_type=kind, state="starter", size=0, sha256="", created_at=now()
    )
    found["assets"].append(kept)
    digest, size = hashlib.sha256(), 0
    with (state.folder / str(kept.id)).open("wb") as file, contextlib.suppress(ClientDisconnect):
        async for block in request.stream():
            digest.update(block)
            size += len(block)
            file.write(block)
    if request.scope.get("fault") == "half":
        raise Refusal(502, "Server Error")
    if size != int(request.headers["content-length"]):
        raise Refusal(400, "the upload was cut short")
    if not size:
        found["assets"].remove(kept)
        invalid("ReleaseAsset", "size", "custom", "size must be greater than or equal to 1")
    kept.state, kept.size, kept.sha256 = "uploaded", size, digest.hexdigest()
    return 201, answers.asset(state, found, kept)


@route("GET", REPO + "/releases/assets/{id:int}", "contents:read", to=ROUTES)
async def asset(request: Request) -> Any:
    state = github(request)
    found, kept = state.asset(request.path_params["id"])
    state.release(found["id"], drafts=_drafts(request))
    if request.headers.get("accept") == "application/octet-stream":
        # the address is as good as a password, as that of GitHub's storage
        secret = state.new_token({"asset": "read"})[0]
        host = f"http://localhost:{request.url.port}"  # another origin, where nobody sends the token
        return RedirectResponse(f"{host}/storage/{secret}/{kept.id}", 302)
    return 200, answers.asset(state, found, kept)


@route("GET", "/storage/{secret}/{id:int}", public=True, to=ROUTES)
async def storage(request: Request) -> Any:
    state = github(request)
    if request.path_params["secret"] not in state.tokens or "authorization" in request.headers:
        raise Refusal(400, "InvalidArgument: Only one auth mechanism allowed")
    return FileResponse(state.folder / str(request.path_params["id"]))


@route("DELETE", REPO + "/releases/assets/{id:int}", "contents:write", to=ROUTES)
async def delete_asset(request: Request) -> Any:
    found, kept = github(request).asset(request.path_params["id"])
    found["assets"].remove(kept)
    return 204, None
